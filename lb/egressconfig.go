// What decides how a group of machines reaches the Internet, as a plain struct.

package lb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
)

// EgressConfig describes everything that decides how a group of virtual machines
// reaches the Internet: one availability set or scale set, such as the nodes of a
// cluster.
type EgressConfig struct {
	// LoadBalancer is the public load balancer and the backends, which are the
	// group. Without rules it translates nothing, and without members in its pools
	// it is as if it did not exist: an AKS cluster with SKU Basic has neither until
	// the first Service of type LoadBalancer. Its load-balancing rules are in the
	// order of creation. Its Routes, its NetworkSecurity and its Dataplane are those of
	// NATGateway, too.
	//
	// On SKU Basic with BasicFrontend SeededRule, a rule that was drawn stays until
	// it is deleted, whatever else comes and goes: our choice, as the documents only
	// say that the choice is random.
	LoadBalancer Config

	// NATGateway is the gateway of the group's subnet, or nil. It precedes everything
	// but routes: new flows switch to it at once, and those that other options have
	// begun, or that come in by public IPs, go on (NAT document). It excludes Basic load balancers. What has come in
	// by a public IP is forgotten after 4 minutes without a packet ([snat.Config].RememberEntries). Limit, November
	// 2026: a later fragment that overtakes the first of its datagram is not known to answer; when anything else of the gateway than its backends, routes, Hooks and Admit
	// changes, it is made anew and its flows end; it gets no ping unless
	// LoadBalancer.ICMP carries them, nor ever an ICMP error of a machine.
	NATGateway *NATGateway

	// InternalLoadBalancers are internal load balancers in front of the same backends, and of the
	// same SKU, as Standard and Basic do not mix in a group. They never translate, but a Standard
	// one excludes default outbound access. Rules of two internal load balancers that lead to one
	// port of a backend need EnableFloatingIP, one of them at least; one of them and one of the
	// public load balancer do not. Limit, November 2026: these two need the same Protocol,
	// IdleTimeout and EnableTCPReset.
	InternalLoadBalancers []InternalLoadBalancer

	// What else excludes default outbound access; see NIC.
	PrivateSubnet       bool
	FlexibleScaleSet    bool // the group is a scale set with flexible orchestration
	GroupHasStandardSKU bool // a member has a Standard load balancer or public IP that is not described here

	// DefaultOutboundRange is the IPv4 prefix that addresses of default outbound
	// access are drawn from; the zero Prefix is the package's DefaultOutboundRange.
	DefaultOutboundRange netip.Prefix
}

// clone returns a copy of c that the caller of this package does not share, as far
// as an Egress keeps it.
func (c EgressConfig) clone() EgressConfig {
	c.LoadBalancer = c.LoadBalancer.clone()
	if c.NATGateway != nil {
		c.NATGateway = new(c.NATGateway.clone())
	}
	c.InternalLoadBalancers = slices.Clone(c.InternalLoadBalancers)
	for i := range c.InternalLoadBalancers {
		c.InternalLoadBalancers[i] = c.InternalLoadBalancers[i].clone()
	}
	if !c.DefaultOutboundRange.IsValid() {
		c.DefaultOutboundRange = DefaultOutboundRange
	}
	return c
}

// clone returns a copy of c that shares no memory with it, as far as this package keeps it.
func (c Config) clone() Config {
	l := &c
	l.FrontendIPConfigurations, l.Backends = cloneFrontends(l.FrontendIPConfigurations), cloneBackends(l.Backends)
	l.BackendAddressPools = clonePools(l.BackendAddressPools)
	l.LoadBalancingRules, l.InboundNATRules, l.OutboundRules = slices.Clone(l.LoadBalancingRules), slices.Clone(l.InboundNATRules), slices.Clone(l.OutboundRules)
	for i := range l.OutboundRules {
		o := &l.OutboundRules[i]
		o.FrontendIPConfigurations = slices.Clone(o.FrontendIPConfigurations)
	}
	l.Routes, l.Probes = slices.Clone(l.Routes), slices.Clone(l.Probes)
	l.ICMP.RouterAddrs = slices.Clone(l.ICMP.RouterAddrs)
	if l.NetworkSecurity != nil {
		l.NetworkSecurity = new(l.NetworkSecurity.Clone())
	}
	return c
}

// clone returns a copy of g that shares no memory with it.
func (g NATGateway) clone() NATGateway {
	g.PublicIPAddresses, g.PublicIPPrefixes = slices.Clone(g.PublicIPAddresses), slices.Clone(g.PublicIPPrefixes)
	return g
}

// cloneBackends returns a copy of backends that shares no memory with them.
func cloneBackends(all []Backend) []Backend {
	all = slices.Clone(all)
	for i := range all {
		b := &all[i]
		b.Addrs, b.PublicIPAddresses, b.Inside = slices.Clone(b.Addrs), slices.Clone(b.PublicIPAddresses), slices.Clone(b.Inside)
		b.PublicIPSKU = clonePointer(b.PublicIPSKU)
	}
	return all
}

// cloneFrontends returns a copy of frontend IP configurations that shares no memory with them.
func cloneFrontends(all []FrontendIPConfiguration) []FrontendIPConfiguration {
	all = slices.Clone(all)
	for i := range all {
		all[i].PublicIPSKU = clonePointer(all[i].PublicIPSKU)
	}
	return all
}

// clonePools returns a copy of pools that shares no memory with them.
func clonePools(all []BackendAddressPool) []BackendAddressPool {
	all = slices.Clone(all)
	for i := range all {
		p := &all[i]
		p.Backends, p.AdminStates = slices.Clone(p.Backends), slices.Clone(p.AdminStates)
	}
	return all
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// resolve validates c, except for capacity, and looks all names up. The result is usable
// only without error.
func (c *EgressConfig) resolve() (*resolved, error) {
	var p problems.List
	r, _ := c.LoadBalancer.resolve()
	for i := range c.InternalLoadBalancers {
		r.beside = append(r.beside, c.internal(i).lookUp(r))
	}
	r.checkBeside(&p)
	if q := c.DefaultOutboundRange; !q.Addr().Is4() || q != q.Masked() || !flow.IsHost(q.Addr()) {
		p.Add("DefaultOutboundRange", q, flow.ErrPrefix, "want an IPv4 prefix of host addresses, without host bits")
	}
	r.report(&p)
	before := p.Len()
	if c.NATGateway != nil {
		c.validateGateway(&p)
	}
	if p.Len() == before && r.Len() == 0 { // else there may be no end of addresses
		owners.Check(&p, c.owned())
	}
	if p.Len() == 0 {
		r.checkTogether(&p)
	}
	return r, p.Err()
}

// owned returns the addresses and prefixes of all resources.
func (c *EgressConfig) owned() []owners.Owned {
	all := c.LoadBalancer.owned("LoadBalancer")
	for i := range c.InternalLoadBalancers {
		frontends := Config{FrontendIPConfigurations: c.InternalLoadBalancers[i].FrontendIPConfigurations}
		all = append(all, frontends.owned(internalPath(i))...)
	}
	if c.NATGateway != nil {
		all = append(all, c.NATGateway.owned("NATGateway")...)
	}
	return all
}
