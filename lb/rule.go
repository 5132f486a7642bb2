// Load-balancing rules: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// LoadDistribution says which flows go to the same backend as long as the eligible
// ones stay the same (distribution modes document).
type LoadDistribution uint8

// The distributions, by what is hashed.
const (
	DefaultDistribution LoadDistribution = iota // addresses, ports and protocol
	SourceIP                                    // source and destination address; "client IP"
	SourceIPProtocol                            // addresses and protocol
	numLoadDistributions
)

var loadDistributionNames = [...]string{"Default", "SourceIP", "SourceIPProtocol"}

var _ = [1]struct{}{}[len(loadDistributionNames)-int(numLoadDistributions)] // one name per distribution

// String returns Azure's name of the distribution.
func (d LoadDistribution) String() string { return enum.Name(d, loadDistributionNames[:]) }

// distribution returns what the translator calls d.
func (d LoadDistribution) distribution() snat.Distribution {
	switch d {
	case SourceIP:
		return snat.SourceIP
	case SourceIPProtocol:
		return snat.SourceIPProtocol
	}
	return snat.FiveTuple
}

// LoadBalancingRule sends what comes to a frontend port to the backends of a pool.
// Without outbound rule its frontend, if it is public, also translates outbound flows
// of its pool: on Standard those of its own protocol, unless DisableOutboundSNAT; on
// Basic always and both. Such flows idle out after 4 minutes without reset, whatever
// the rule says.
type LoadBalancingRule struct {
	Name                    string        // unique, not empty
	FrontendIPConfiguration string        // name of the one whose port is opened
	BackendAddressPool      string        // name of the pool that serves the port
	Protocol                snat.Protocol // zero is All

	// FrontendPort and BackendPort are 1..65535. Both 0, with Protocol All, are HA
	// ports: all ports, which stay as they are. HA ports need an internal Standard load
	// balancer. A backend that has HA ports without EnableFloatingIP has no other rule of the same
	// load balancer, and one that has them with EnableFloatingIP has none of it without (HA ports
	// document); of those on the same frontend, the rule for one port precedes. Rules of a public
	// load balancer may lead to the backend besides; see EgressConfig.InternalLoadBalancers.
	FrontendPort, BackendPort uint16

	// IdleTimeout ends TCP flows without packets: 4..30 whole minutes, 0 means 4. That
	// of UDP flows is always 4 minutes, which is our choice.
	IdleTimeout time.Duration

	// EnableTCPReset sends a RST to both ends of an established TCP flow that reaches
	// IdleTimeout. Standard only, and with HA ports only if Config.HAPortsTCPReset.
	EnableTCPReset bool

	// EnableFloatingIP leaves the destination of packets alone: the backend has the
	// frontend's address on an interface of its own. BackendPort must be FrontendPort
	// then. Two rules may use one port of a backend only so (floating IP document).
	EnableFloatingIP bool

	// Probe names the probe that decides which backends get new flows, of
	// Config.Probes; empty is none, and then all do.
	Probe string

	LoadDistribution    LoadDistribution // zero is DefaultDistribution
	DisableOutboundSNAT bool             // Standard only
}

// isHAPorts reports whether the rule is for all ports.
func (l LoadBalancingRule) isHAPorts() bool {
	return l.Protocol == snat.All && l.FrontendPort == 0 && l.BackendPort == 0
}

// checkLoadBalancingRules checks the load-balancing rules and notes what they open.
func (r *resolved) checkLoadBalancingRules() {
	problems.AtMost(&r.List, "LoadBalancingRules", len(r.LoadBalancingRules)+len(r.InboundNATRules), "elements with InboundNATRules", r.limits().rules)
	index(r, "LoadBalancingRules", r.LoadBalancingRules, func(l LoadBalancingRule) string { return l.Name })

	for i, l := range r.LoadBalancingRules {
		path := fmt.Sprintf("LoadBalancingRules[%d]", i)
		r.checkName(path+".BackendAddressPool", l.BackendAddressPool, r.pools, "BackendAddressPools")
		if l.Probe != "" {
			r.checkName(path+".Probe", l.Probe, r.probes, "Probes")
		}
		problems.Constant(&r.List, path+".LoadDistribution", l.LoadDistribution, numLoadDistributions)
		o := opening{
			path: path, protocol: l.Protocol, first: l.FrontendPort, last: l.FrontendPort, backendPort: l.BackendPort,
			floating: l.EnableFloatingIP, haPorts: l.isHAPorts(), idle: l.IdleTimeout, reset: l.EnableTCPReset,
			rule: i, distribution: l.LoadDistribution.distribution(), target: target{pool: l.BackendAddressPool},
		}
		if o.haPorts {
			o.last = lastPort
			if r.SKU != Standard || !r.internal {
				r.Add(path+".FrontendPort", l.FrontendPort, ErrUnsupported, "HA ports need an internal load balancer with SKU Standard; else valid are 1..65535")
			}
		} else {
			r.checkPort(path+".FrontendPort", l.FrontendPort)
		}
		r.checkOpening(o, l.FrontendIPConfiguration)
		r.checkDisableOutboundSNAT(path+".DisableOutboundSNAT", l)
	}
}

// checkDisableOutboundSNAT checks that field, which is at path.
func (r *resolved) checkDisableOutboundSNAT(path string, l LoadBalancingRule) {
	if l.DisableOutboundSNAT {
		if r.SKU == Basic {
			r.Add(path, true, ErrUnsupported, "on SKU Basic load-balancing rules always translate")
		}
		return
	}
	if f, ok := r.frontends[l.FrontendIPConfiguration]; ok {
		if o, used := r.outboundFrontends[f]; used {
			r.Add(path, false, flow.ErrConflict, "must be true, because OutboundRules[%d] uses frontend %q too", o, l.FrontendIPConfiguration)
		}
	}
}

// covers reports whether a rule for protocol rule applies to p, TCP or UDP.
func covers(rule, p snat.Protocol) bool { return rule == snat.All || rule == p }
