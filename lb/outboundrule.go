// Outbound rules: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// OutboundRule gives the backends of a pool SNAT ports of its frontends.
type OutboundRule struct {
	Name                     string        // unique, not empty
	FrontendIPConfigurations []string      // one or more names; consumed in this order
	BackendAddressPool       string        // name of the pool whose backends get ports
	Protocol                 snat.Protocol // zero is All

	// AllocatedOutboundPorts is what each backend gets from all frontends of one
	// family together, for TCP and for UDP each: 8..64,000, a multiple of 8. 0 is
	// automatic: the pool size decides, see AutomaticPorts.
	AllocatedOutboundPorts int

	// IdleTimeout ends flows without packets: 4..120 whole minutes, 0 means 4.
	// Rules may differ by pool and by protocol. Those that serve the same backend
	// and protocol must agree, whatever the family: a flow's timers are those of its
	// backend, not of its port.
	IdleTimeout time.Duration

	// EnableTCPReset sends a RST to both ends of an established TCP flow that
	// reaches IdleTimeout. Rules for TCP that serve the same backend must agree.
	EnableTCPReset bool
}

// CheckAllocatedOutboundPorts returns nil if ports is a value that an outbound rule
// accepts: 0 for automatic, or 8..64,000 in steps of 8 (outbound rules document).
// Otherwise it wraps flow.ErrOutOfRange or ErrNotBlockMultiple; the message begins with
// "AllocatedOutboundPorts", so that a caller can put the rest of the path before it.
func CheckAllocatedOutboundPorts(ports int) error {
	const valid = "valid are 0 (automatic) and 8..64000 in steps of 8"
	switch {
	case ports < 0 || ports > PortsPerFrontend:
		return problems.New("AllocatedOutboundPorts", ports, flow.ErrOutOfRange, valid)
	case ports%snat.BlockSize != 0:
		return problems.New("AllocatedOutboundPorts", ports, ErrNotBlockMultiple, valid)
	}
	return nil
}

func (r *resolved) checkOutboundRules() {
	problems.AtMost(&r.List, "OutboundRules", len(r.OutboundRules), "elements", maxOutboundRules)
	index(r, "OutboundRules", r.OutboundRules, func(o OutboundRule) string { return o.Name })
	for i, o := range r.OutboundRules {
		path := fmt.Sprintf("OutboundRules[%d]", i)
		if r.SKU == Basic {
			r.Add(path, o.Name, ErrUnsupported, "SKU Basic has no outbound rules")
		}
		if len(o.FrontendIPConfigurations) == 0 {
			r.Add(path+".FrontendIPConfigurations", o.FrontendIPConfigurations, flow.ErrMissing, "give one or more")
		}
		if r.internal {
			r.Add(path, o.Name, ErrUnsupported, "an internal load balancer has no outbound rules")
		}
		r.checkNames(path+".FrontendIPConfigurations", o.FrontendIPConfigurations, r.frontends, "FrontendIPConfigurations")
		for _, name := range o.FrontendIPConfigurations {
			f, known := r.frontends[name]
			if _, seen := r.outboundFrontends[f]; known && !seen {
				r.outboundFrontends[f] = i
			}
		}
		r.checkName(path+".BackendAddressPool", o.BackendAddressPool, r.pools, "BackendAddressPools")
		problems.Constant(&r.List, path+".Protocol", o.Protocol, snat.UDP+1)
		r.Include(path, CheckAllocatedOutboundPorts(o.AllocatedOutboundPorts))
		r.Include(path, CheckIdleTimeout(o.IdleTimeout, r.MaxOutboundIdleTimeout))
	}
}
