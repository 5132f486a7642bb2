// The cluster's load balancer: what AKS makes of the configuration.

package overlay

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// platformRanges are reached with the node address, never through an outbound
// IP: link-local addresses with the instance metadata service, and the platform's
// virtual address for DNS, DHCP and probes. IPv6 has none; package snat drops its
// link-local addresses.
var platformRanges = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("168.63.129.16/32"),
}

// compile describes the load balancer of a valid configuration with defaults,
// whose nodes are given: backend i is node i.
func (c *ClusterConfig) compile(nodes []Node) lb.Config {
	profile := &c.LoadBalancerProfile
	rule := lb.OutboundRule{
		Name:                   OutboundRuleName,
		BackendAddressPool:     OutboundBackendPoolName,
		Protocol:               snat.All,
		AllocatedOutboundPorts: profile.AllocatedOutboundPorts,
		IdleTimeout:            profile.IdleTimeout,
		EnableTCPReset:         !profile.DisableTCPReset,
	}
	frontends := c.frontends()
	for _, f := range frontends {
		rule.FrontendIPConfigurations = append(rule.FrontendIPConfigurations, f.Name)
	}
	pool := lb.BackendAddressPool{Name: OutboundBackendPoolName}
	backends := make([]lb.Backend, len(nodes))
	for i, n := range nodes {
		backends[i] = lb.Backend{Name: n.Name, Addrs: n.Addrs, Inside: n.PodBlocks}
		pool.Backends = append(pool.Backends, n.Name)
	}
	return lb.Config{
		Name:                     LoadBalancerName,
		SKU:                      lb.Standard,
		FrontendIPConfigurations: frontends,
		Backends:                 backends,
		BackendAddressPools:      []lb.BackendAddressPool{pool},
		OutboundRules:            []lb.OutboundRule{rule},
		FrontendMode:             profile.FrontendMode,
		Layout:                   profile.Layout,
		Strict:                   profile.Strict,
		OwnRanges:                profile.OwnRanges,
		Routes:                   c.routes(),
		Timeouts:                 c.Timeouts,
		TCP:                      c.TCP,
		UDP:                      c.UDP,
		Dataplane:                c.Dataplane,
	}
}

// routes says by destination what happens to a packet of a pod or node. Pod and
// service CIDRs win where the VNet claims the same addresses: a host there is
// out of reach for pods.
func (c *ClusterConfig) routes() []snat.Route {
	var routes []snat.Route
	seen := make(map[netip.Prefix]bool)
	add := func(p netip.Prefix, a snat.RouteAction) {
		inUse := int(familyOf(p.Addr())) < len(c.families())
		if inUse && !seen[p] {
			seen[p] = true
			routes = append(routes, snat.Route{Prefix: p, Action: a})
		}
	}
	for _, p := range c.PodCIDRs {
		add(p, snat.PassThrough)
	}
	for _, p := range c.ServiceCIDRs {
		add(p, snat.Blackhole)
	}
	for _, p := range platformRanges {
		add(p, snat.NodeAddress)
	}
	for _, vnet := range [][]netip.Prefix{c.VNet.AddressSpaces, c.VNet.PeeredPrefixes} {
		for _, p := range vnet {
			if !within(p, c.PodCIDRs) && !within(p, c.ServiceCIDRs) {
				add(p, snat.NodeAddress)
			}
		}
	}
	return routes
}
