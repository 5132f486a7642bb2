// Load-balancing rules: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// LoadBalancingRule opens a frontend port. Without outbound rule its frontend
// also translates outbound flows of its pool: on Standard those of its own
// protocol, unless DisableOutboundSNAT; on Basic always and both. Such flows idle
// out after 4 minutes without reset, whatever the rule says.
type LoadBalancingRule struct {
	Name                      string        // unique, not empty
	FrontendIPConfiguration   string        // name of the one whose port is opened
	BackendAddressPool        string        // name of the pool that serves the port
	Protocol                  snat.Protocol // zero is All
	FrontendPort, BackendPort uint16        // 1..65535
	IdleTimeout               time.Duration // of inbound flows: 4..30 whole minutes, 0 means 4
	DisableOutboundSNAT       bool          // Standard only
}

// checkLoadBalancingRules checks the load-balancing rules and notes their ports.
func (r *resolved) checkLoadBalancingRules() {
	problems.AtMost(&r.List, "LoadBalancingRules", len(r.LoadBalancingRules)+len(r.InboundNATRules), "elements with InboundNATRules", maxRules)
	index(r, "LoadBalancingRules", r.LoadBalancingRules, func(l LoadBalancingRule) string { return l.Name })

	for i, l := range r.LoadBalancingRules {
		path := fmt.Sprintf("LoadBalancingRules[%d]", i)
		r.checkName(path+".BackendAddressPool", l.BackendAddressPool, r.pools, "BackendAddressPools")
		r.checkPort(path+".FrontendPort", l.FrontendPort)
		r.checkRule(path, l.FrontendIPConfiguration, l.Protocol, l.FrontendPort, l.FrontendPort, l.BackendPort, l.IdleTimeout)
		if l.DisableOutboundSNAT {
			if r.SKU == Basic {
				r.Add(path+".DisableOutboundSNAT", true, ErrUnsupported, "on SKU Basic load-balancing rules always translate")
			}
			continue
		}
		if f, ok := r.frontends[l.FrontendIPConfiguration]; ok {
			if o, used := r.outboundFrontends[f]; used {
				r.Add(path+".DisableOutboundSNAT", false, flow.ErrConflict, "must be true, because OutboundRules[%d] uses frontend %q too", o, l.FrontendIPConfiguration)
			}
		}
	}
}

// covers reports whether a rule for protocol rule applies to p, TCP or UDP.
func covers(rule, p snat.Protocol) bool { return rule == snat.All || rule == p }
