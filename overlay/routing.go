// Routing: what a node does with a packet, by its destination. Read the ip-masq-agent-v2
// README and "Azure CNI Overlay networking" first.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Masquerade is what ip-masq-agent does on every node, as far as AKS lets it be configured.
type Masquerade struct {
	// NonMasqueradeCIDRs are destinations that pods reach with their own address,
	// besides the pod CIDRs, at most 64 (our bound). Nothing else of the network knows
	// where pods are, so hosts there need a route back. What they begin the cluster's security group
	// refuses, unless they are of VNet.
	NonMasqueradeCIDRs []netip.Prefix

	// KeepLinkLocal lets pods reach 169.254.0.0/16 with their own address: masqLinkLocal
	// false. The default is true, for without it the metadata service does not answer
	// pods of an overlay (our choice; the agent's own default is false).
	KeepLinkLocal bool
}

const maxNonMasquerade = 64

// Addresses of the platform. Link-local addresses and the virtual address of DNS, DHCP and
// probes are reached with the node address, never through an outbound IP. IPv6 has none;
// package snat drops its link-local addresses.
var (
	linkLocal   = netip.MustParsePrefix("169.254.0.0/16")
	wireServer  = admission.WireServer
	localDNS    = [...]netip.Addr{netip.MustParseAddr("169.254.10.10"), netip.MustParseAddr("169.254.10.11")}
	everything4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everything6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// localRoutes says by destination what a node does with what does not go to the Internet.
// Pod and service CIDRs win where the VNet claims the same addresses: a host there is
// out of reach for pods. What their security group lets come from there may reach nodes and pods unasked.
func (c *ClusterConfig) localRoutes() []snat.Route {
	var routes []snat.Route
	seen := make(map[netip.Prefix]bool)
	add := func(a snat.RouteAction, all ...netip.Prefix) {
		for _, p := range all {
			if inUse := int(familyOf(p.Addr())) < len(c.families()); inUse && !seen[p] {
				seen[p] = true
				routes = append(routes, snat.Route{Prefix: p, Action: a, BothWays: a != snat.Blackhole})
			}
		}
	}
	add(snat.PassThrough, c.unmasked()...)
	add(snat.Blackhole, c.ServiceCIDRs...)
	if c.Masquerade.KeepLinkLocal {
		add(snat.PassThrough, linkLocal)
	}
	add(snat.NodeAddress, linkLocal, netip.PrefixFrom(wireServer, 32))
	for _, connected := range [][]netip.Prefix{c.VNet.AddressSpaces, c.VNet.PeeredPrefixes, c.VNet.ServiceEndpoints} {
		for _, p := range connected {
			if !ranges.Within(p, c.PodCIDRs) && !ranges.Within(p, c.ServiceCIDRs) {
				add(snat.NodeAddress, p)
			}
		}
	}
	return routes
}

// balancerRoutes are the routes of the load balancer: to it, what a node keeps from it is
// not the Internet. Hosts in the ranges of service endpoints may be clients of public addresses, too: what
// answers those goes back as it came.
func (c *ClusterConfig) balancerRoutes() []snat.Route {
	routes := c.localRoutes()
	for i := range routes {
		routes[i].BothWays = false
		if r := &routes[i]; slices.Contains(c.VNet.ServiceEndpoints, r.Prefix) {
			r.Action, r.PassOn = snat.PassThrough, true
		}
	}
	return routes
}

// serviceRoutes are those of localRoutes to the ranges of service endpoints.
func (c *ClusterConfig) serviceRoutes() []snat.Route {
	return slices.DeleteFunc(c.localRoutes(), func(r snat.Route) bool { return !slices.Contains(c.VNet.ServiceEndpoints, r.Prefix) })
}

// checkMasquerade checks the destinations that are not masqueraded, and the service
// endpoints.
func (v *validation) checkMasquerade() {
	for _, r := range append(ranges.In("Masquerade.NonMasqueradeCIDRs", v.Masquerade.NonMasqueradeCIDRs), ranges.In("VNet.ServiceEndpoints", v.VNet.ServiceEndpoints)...) {
		switch {
		case r.IsValid() && r.Bits() == 0:
			v.Add(r.Field, r.Value, flow.ErrPrefix, "must not be everything")
		case !ranges.Check(&v.List, r, ErrReserved):
		case int(familyOf(r.Addr())) >= len(v.families()):
			v.Add(r.Field, r.Value, ErrFamily, "IPFamilies is %q", v.IPFamilies)
		default:
			ranges.Disjoint(&v.List, r, ranges.In("ServiceCIDRs", v.ServiceCIDRs))
		}
	}
	if len(v.Masquerade.NonMasqueradeCIDRs) > maxNonMasquerade {
		v.Add("Masquerade.NonMasqueradeCIDRs", problems.Rawf("has %d elements", len(v.Masquerade.NonMasqueradeCIDRs)), flow.ErrTooMany, "at most %d", maxNonMasquerade)
	}
}
