// Inbound NAT rules: what they are, and what is wrong with them.

package lb

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// InboundNATRule opens a frontend port for one backend, or a range of them, one
// per member of a pool. It never translates outbound flows, and no probe decides about
// it. Of a range each member has one port for as long as it is in the pool, whoever else
// comes and goes: a new one gets the lowest port that is free, and the n-th of a new
// range the n-th port, which is our choice. A pool with more members than ports is
// refused (inbound NAT rules document).
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

	BackendPort      uint16        // 1..65535
	IdleTimeout      time.Duration // as that of a load-balancing rule
	EnableTCPReset   bool          // likewise; Standard only
	EnableFloatingIP bool          // likewise; not with a range
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
			r.checkFamily(path+".Backend", n.Backend, n.FrontendIPConfiguration)
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
			if n.EnableFloatingIP {
				r.Add(path+".EnableFloatingIP", true, ErrUnsupported, "the members of a pool have one backend port and several frontend ports")
			}
			if n.Backend != "" || n.FrontendPort != 0 {
				r.Add(path+".BackendAddressPool", n.BackendAddressPool, flow.ErrConflict, "excludes Backend and FrontendPort")
			}
		}
		o := opening{
			path: path, protocol: n.Protocol, first: first, last: last, backendPort: n.BackendPort,
			floating: n.EnableFloatingIP, idle: n.IdleTimeout, reset: n.EnableTCPReset, rule: -1, natRule: n.Name, target: target{pool: n.BackendAddressPool},
		}
		if o.target.pool == "" {
			o.target.backend = n.Backend
		}
		r.checkOpening(o, n.FrontendIPConfiguration)
	}
}

// checkFamily checks that a backend has an address of the family of a frontend, if both
// are known.
func (r *resolved) checkFamily(path, backend, frontend string) {
	b, known := r.backends[backend]
	f, ok := r.frontends[frontend]
	if known && ok && len(r.Backends[b].Addrs) > 0 && !r.Backends[b].hasFamily(r.FrontendIPConfigurations[f].is6()) {
		r.Add(path, backend, flow.ErrMissing, "has no address of the family of frontend %q", frontend)
	}
}

// checkNATRanges finds ranges that are smaller than their pools. It must come when all
// names are known.
func (r *resolved) checkNATRanges() {
	for i := range r.openings {
		o := &r.openings[i]
		if n := len(r.served(o)); o.natRule != "" && n > o.ports() {
			r.Add(o.path+".FrontendPortRangeEnd", o.last, flow.ErrTooMany, "pool %q has %d backends for %d ports", o.target.pool, n, o.ports())
		}
	}
}
