// Which option is in force for a machine of an egress.

package lb

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// EgressDecision is the option that is in force for a machine.
type EgressDecision struct {
	Decision
	Addrs []netip.Addr // the addresses that its flows leave with, in the order of consumption
}

// Decide returns the option in force for a backend, a protocol, TCP or UDP, and a
// family, and false if there is no such backend. It speaks for all destinations that
// no route names: of Config.Routes only those for a whole family count.
func (e *Egress) Decide(backend string, p snat.Protocol, is6 bool) (EgressDecision, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	remote := netip.IPv4Unspecified()
	if is6 {
		remote = netip.IPv6Unspecified()
	}
	rows := slices.DeleteFunc(slices.Clone(e.state.config.LoadBalancer.Routes), func(r snat.Route) bool { return r.Prefix.Bits() > 0 })
	return e.decide(backend, p, is6, snat.RouteTo(rows, p, netip.AddrPortFrom(remote, 0)))
}

// DecideTo returns the option in force for flows of a backend and protocol, TCP or
// UDP, to a remote, and false if there is no such backend. All routes count.
func (e *Egress) DecideTo(backend string, p snat.Protocol, remote netip.AddrPort) (EgressDecision, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.decide(backend, p, remote.Addr().Unmap().Is6(), snat.RouteTo(e.state.config.LoadBalancer.Routes, p, remote))
}

// decide returns the option in force where routes say what they do. e.mu must be held.
func (e *Egress) decide(backend string, p snat.Protocol, is6 bool, route snat.RouteAction) (EgressDecision, bool) {
	i, ok := e.state.resolved.backends[backend]
	if !ok {
		return EgressDecision{}, false
	}
	if route != snat.Translate {
		return EgressDecision{Decision: ChooseSNAT(NIC{NonInternetRoute: true}, p)}, true
	}
	d := EgressDecision{Decision: e.state.config.choose(e.state.resolved, i, p, is6)}
	switch d.Option {
	case NATGatewaySNAT:
		d.Addrs = slices.DeleteFunc(e.state.config.NATGateway.Addrs(), func(a netip.Addr) bool { return a.Is6() != is6 })
		return d, true
	case InstancePublicIP:
		d.Addrs = []netip.Addr{e.state.resolved.Backends[i].publicIP(is6)}
	}
	for _, rng := range e.state.inForce.plan[i].Ports {
		if covers(rng.Protocol, p) && rng.Frontend.Is6() == is6 && !slices.Contains(d.Addrs, rng.Frontend) {
			d.Addrs = append(d.Addrs, rng.Frontend)
		}
	}
	return d, true
}

// choose decides for a backend, a protocol and a family.
func (c *EgressConfig) choose(r *resolved, backend int, p snat.Protocol, is6 bool) Decision {
	nic := NIC{
		NATGateway:      c.NATGateway.serves(is6),
		PublicIPAddress: r.Backends[backend].publicIP(is6),
		PrivateSubnet:   c.PrivateSubnet, FlexibleScaleSet: c.FlexibleScaleSet, GroupHasStandardSKU: c.GroupHasStandardSKU,
	}
	for _, b := range r.balancers() {
		of := b.memberships(backend, is6)
		if len(of) == 0 && b.SKU == Standard && b.hasNICs() {
			nic.GroupHasStandardSKU = true
		}
		nic.LoadBalancers = append(nic.LoadBalancers, of...)
	}
	d := ChooseSNAT(nic, p)
	if is6 && d.Option == DefaultOutboundAccess {
		return Decision{Option: NoOutbound, Reason: "Default outbound access is for IPv4 only."}
	}
	return d
}

// hasMembers reports whether any pool has a backend.
func (c *Config) hasMembers() bool {
	return slices.ContainsFunc(c.BackendAddressPools, func(p BackendAddressPool) bool { return len(p.Backends) > 0 })
}

// hasNICs reports whether any pool has a backend by its network interface.
func (c *Config) hasNICs() bool {
	return slices.ContainsFunc(c.BackendAddressPools, func(p BackendAddressPool) bool { return len(p.Backends) > 0 && !p.IPBased })
}

// members says which pools of a load balancer backends are in. Those in the same ones are of one
// kind.
type members struct {
	kind  []int             // by backend
	pools []map[string]bool // by kind: names
}

// indexMembers prepares r for memberships.
func (r *resolved) indexMembers() {
	r.kinds = members{make([]int, len(r.Backends)), []map[string]bool{{}}}
	m := &r.kinds
	for i := range r.BackendAddressPools {
		pool := &r.BackendAddressPools[i]
		with := map[int]int{} // kind of those that are in this pool besides, by kind
		for _, name := range pool.Backends {
			kind := &m.kind[r.backends[name]]
			more, known := with[*kind]
			if !known {
				more = len(m.pools)
				with[*kind] = more
				pools := maps.Clone(m.pools[*kind])
				pools[pool.Name] = true
				m.pools = append(m.pools, pools)
			}
			*kind = more
		}
	}
}

// memberships returns the load balancer as a backend sees it in one family: once for
// its pools of network interfaces and once for those of addresses, if it is in such.
func (r *resolved) memberships(backend int, is6 bool) (all []Membership) {
	for _, ipBased := range []bool{false, true} {
		in := func(pool string) bool {
			return r.kinds.pools[r.kinds.kind[backend]][pool] && r.BackendAddressPools[r.pools[pool]].IPBased == ipBased
		}
		if !slices.ContainsFunc(r.BackendAddressPools, func(p BackendAddressPool) bool { return in(p.Name) }) {
			continue
		}
		m := r.newMembership(ipBased)
		for _, o := range r.OutboundRules {
			if in(o.BackendAddressPool) && r.hasFrontend(is6, o.FrontendIPConfigurations...) {
				m.OutboundRules = append(m.OutboundRules, o)
			}
		}
		for _, l := range r.LoadBalancingRules {
			if in(l.BackendAddressPool) && r.hasFrontend(is6, l.FrontendIPConfiguration) {
				m.LoadBalancingRules = append(m.LoadBalancingRules, l)
			}
		}
		all = append(all, m)
	}
	return all
}

// newMembership returns the load balancer as a member of some pool sees it, without rules.
func (r *resolved) newMembership(ipBased bool) Membership {
	return Membership{SKU: r.SKU, Internal: r.internal, IPBasedPool: ipBased, BasicFrontend: r.BasicFrontend, Seed: r.Seed}
}
