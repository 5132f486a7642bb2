// Inbound NAT rules: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// InboundNATRule opens a frontend port for one backend, or a range of them, one
// per member of a pool. It never translates outbound flows.
type InboundNATRule struct {
	Name                    string        // unique, not empty
	FrontendIPConfiguration string        // name of the one whose ports are opened
	Protocol                snat.Protocol // zero is All

	// Either Backend and FrontendPort, or BackendAddressPool and a range of
	// frontend ports, both ends included.
	Backend                                      string
	FrontendPort                                 uint16 // 1..65535, with Backend
	BackendAddressPool                           string // name of a pool; excludes Backend
	FrontendPortRangeStart, FrontendPortRangeEnd uint16 // 1..65535, with BackendAddressPool

	BackendPort uint16        // 1..65535
	IdleTimeout time.Duration // of inbound flows: 4..30 whole minutes, 0 means 4
}

// frontendPorts returns the first and the last frontend port of the rule.
func (r InboundNATRule) frontendPorts() (first, last uint16) {
	if r.BackendAddressPool != "" {
		return r.FrontendPortRangeStart, r.FrontendPortRangeEnd
	}
	return r.FrontendPort, r.FrontendPort
}

// checkInboundNATRules checks the inbound NAT rules and notes their ports.
func (r *resolved) checkInboundNATRules() {
	index(r, "InboundNATRules", r.InboundNATRules, func(n InboundNATRule) string { return n.Name })
	for i, n := range r.InboundNATRules {
		path := fmt.Sprintf("InboundNATRules[%d]", i)
		first, last := n.frontendPorts()
		if n.BackendAddressPool == "" {
			r.checkName(path+".Backend", n.Backend, r.backends, "Backends")
			r.checkPort(path+".FrontendPort", n.FrontendPort)
			if n.FrontendPortRangeStart != 0 || n.FrontendPortRangeEnd != 0 {
				r.Add(path+".FrontendPortRangeStart", n.FrontendPortRangeStart, flow.ErrConflict, "a range needs BackendAddressPool")
			}
		} else {
			r.checkName(path+".BackendAddressPool", n.BackendAddressPool, r.pools, "BackendAddressPools")
			r.checkPort(path+".FrontendPortRangeStart", first)
			if last < first {
				r.Add(path+".FrontendPortRangeEnd", last, flow.ErrOutOfRange, "valid are %d..65535, not below the start", first)
			}
			if n.Backend != "" || n.FrontendPort != 0 {
				r.Add(path+".BackendAddressPool", n.BackendAddressPool, flow.ErrConflict, "excludes Backend and FrontendPort")
			}
		}
		r.checkRule(path, n.FrontendIPConfiguration, n.Protocol, first, last, n.BackendPort, n.IdleTimeout)
	}
}
