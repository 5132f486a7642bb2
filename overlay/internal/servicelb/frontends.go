package servicelb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Frontends are those of load balancers, for packets to and from them. They never change; nil has none.
type Frontends struct {
	addrs     map[netip.Addr]bool
	rewritten map[socket]bool // what nodes answer from, where there is no floating IP
	haPorts   bool            // a rule is for all ports
}

// socket is a port of a node's address, of whatever node.
type socket struct {
	is6      bool
	protocol snat.Protocol
	port     uint16
}

// NewFrontends returns the frontends of internal load balancers, or nil if there are none.
func NewFrontends(balancers []lb.InternalLoadBalancer) *Frontends {
	if len(balancers) == 0 {
		return nil
	}
	fs := &Frontends{addrs: make(map[netip.Addr]bool), rewritten: make(map[socket]bool)}
	for _, b := range balancers {
		fs.add(b.FrontendIPConfigurations, b.LoadBalancingRules)
	}
	return fs
}

// NewPublicFrontends returns those of the public load balancer that rules lead to.
func NewPublicFrontends(balancer *lb.Config) *Frontends {
	fs := &Frontends{addrs: make(map[netip.Addr]bool), rewritten: make(map[socket]bool)}
	fs.add(balancer.FrontendIPConfigurations, balancer.LoadBalancingRules)
	return fs
}

// add adds the frontends of a load balancer that rules lead to.
func (fs *Frontends) add(frontends []lb.FrontendIPConfiguration, rules []lb.LoadBalancingRule) {
	addrs := make(map[string]netip.Addr)
	for _, f := range frontends {
		if addrs[f.Name] = f.PrivateIPAddress; !f.PrivateIPAddress.IsValid() {
			addrs[f.Name] = f.PublicIPAddress
		}
	}
	for _, r := range rules {
		a := addrs[r.FrontendIPConfiguration]
		fs.addrs[a] = true
		fs.haPorts = fs.haPorts || r.FrontendPort == 0
		if !r.EnableFloatingIP {
			fs.rewritten[socket{a.Is6(), r.Protocol, r.BackendPort}] = true
		}
	}
}

// Has reports whether an address is a frontend's.
func (fs *Frontends) Has(a netip.Addr) bool { return fs != nil && fs.addrs[a] }

// HasHAPorts reports whether a frontend is open at all ports, also those that no Service has.
func (fs *Frontends) HasHAPorts() bool { return fs != nil && fs.haPorts }

// Answers reports whether a packet of a node, whose source is the node's own address, may be the
// answer to a client of a frontend. Fragments are none: load balancers carry them by HA ports only, and
// those have floating IP.
func (fs *Frontends) Answers(pkt []byte) bool {
	var p wire.Packet
	if fs == nil || len(fs.rewritten) == 0 || wire.Parse(pkt, &p) != wire.OK || p.Flags&wire.Fragmented != 0 {
		return false
	}
	return fs.rewritten[socket{p.Flags&wire.V6 != 0, snat.ProtocolOf(p.Proto), uint16(p.Ports() >> 16)}]
}

// RuleOf returns the rule of the public or an internal load balancer for a socket.
func RuleOf(c *lb.EgressConfig, proto uint8, to netip.AddrPort) (r lb.LoadBalancingRule, ok bool) {
	is := snat.ProtocolOf(proto)
	find := func(rules []lb.LoadBalancingRule, frontends []lb.FrontendIPConfiguration) bool {
		i := slices.IndexFunc(rules, func(r lb.LoadBalancingRule) bool {
			return (r.FrontendPort == to.Port() && r.Protocol == is || r.FrontendPort == 0) && slices.ContainsFunc(frontends, func(f lb.FrontendIPConfiguration) bool {
				return f.Name == r.FrontendIPConfiguration && (f.PublicIPAddress == to.Addr() || f.PrivateIPAddress == to.Addr())
			})
		})
		if i >= 0 {
			r = rules[i]
		}
		return i >= 0
	}
	ok = find(c.LoadBalancer.LoadBalancingRules, c.LoadBalancer.FrontendIPConfigurations)
	for i := 0; !ok && i < len(c.InternalLoadBalancers); i++ {
		b := &c.InternalLoadBalancers[i]
		ok = find(b.LoadBalancingRules, b.FrontendIPConfigurations)
	}
	return r, ok
}
