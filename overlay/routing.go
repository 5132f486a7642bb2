// Routing: what a node does with a packet, by its destination. Read the ip-masq-agent-v2
// README and "Azure CNI Overlay networking" first.

package overlay

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Masquerade is what ip-masq-agent does on every node, as far as AKS lets it be configured.
type Masquerade struct {
	// NonMasqueradeCIDRs are destinations that pods reach with their own address,
	// besides the pod CIDRs, at most 64 (our bound). Nothing else of the network knows
	// where pods are, so hosts there need a route back.
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
	metadata    = netip.MustParseAddr("169.254.169.254")
	wireServer  = netip.MustParseAddr("168.63.129.16")
	localDNS    = [...]netip.Addr{netip.MustParseAddr("169.254.10.10"), netip.MustParseAddr("169.254.10.11")}
	everything4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	everything6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// localRoutes says by destination what a node does with what does not go to the Internet.
// Pod and service CIDRs win where the VNet claims the same addresses: a host there is
// out of reach for pods. What comes from there may reach nodes and pods unasked.
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
	add(snat.PassThrough, c.PodCIDRs...)
	add(snat.Blackhole, c.ServiceCIDRs...)
	add(snat.PassThrough, c.Masquerade.NonMasqueradeCIDRs...)
	if c.Masquerade.KeepLinkLocal {
		add(snat.PassThrough, linkLocal)
	}
	add(snat.NodeAddress, linkLocal, netip.PrefixFrom(wireServer, 32))
	for _, connected := range [][]netip.Prefix{c.VNet.AddressSpaces, c.VNet.PeeredPrefixes, c.VNet.ServiceEndpoints} {
		for _, p := range connected {
			if !within(p, c.PodCIDRs) && !within(p, c.ServiceCIDRs) {
				add(snat.NodeAddress, p)
			}
		}
	}
	return routes
}

// balancerRoutes are the routes of the load balancer: to it, what a node keeps from it is
// not the Internet.
func (c *ClusterConfig) balancerRoutes() []snat.Route {
	routes := c.localRoutes()
	for i := range routes {
		routes[i].BothWays = false
	}
	return routes
}

// checkMasquerade checks the destinations that are not masqueraded, and the service
// endpoints.
func (v *validation) checkMasquerade() {
	for _, r := range append(named("Masquerade.NonMasqueradeCIDRs", v.Masquerade.NonMasqueradeCIDRs), named("VNet.ServiceEndpoints", v.VNet.ServiceEndpoints)...) {
		switch {
		case !r.IsValid():
			v.Add(r.field, r.value, flow.ErrPrefix, "must be a valid prefix")
		case r.Prefix != r.Masked():
			v.Add(r.field, r.value, flow.ErrPrefix, "has host bits set, write %v", r.Masked())
		case r.Bits() == 0:
			v.Add(r.field, r.value, flow.ErrPrefix, "must not be everything")
		case int(familyOf(r.Addr())) >= len(v.families()):
			v.Add(r.field, r.value, ErrFamily, "IPFamilies is %q", v.IPFamilies)
		default:
			v.disjoint(r, named("ServiceCIDRs", v.ServiceCIDRs))
		}
	}
	if len(v.Masquerade.NonMasqueradeCIDRs) > maxNonMasquerade {
		v.Add("Masquerade.NonMasqueradeCIDRs", problems.Rawf("has %d elements", len(v.Masquerade.NonMasqueradeCIDRs)), flow.ErrTooMany, "at most %d", maxNonMasquerade)
	}
}

// locality tells which destinations are not the Internet's. It is compiled once and
// asked per packet: first whether any prefix has something of the address's first 16
// bits, which of the Internet's few do, and only then the prefixes. It never changes.
type locality struct {
	some   [flow.NumFamilies][1 << 16 / 64]uint64 // by the first 16 bits
	ranges *prefixes.Table
}

// newLocality compiles the routes of a node.
func newLocality(routes []snat.Route) *locality {
	l := &locality{}
	rows := make([]prefixes.Row, len(routes))
	for i, r := range routes {
		rows[i].Prefix = r.Prefix
		b, f := r.Prefix.Addr().AsSlice(), familyOf(r.Prefix.Addr())
		first := uint32(b[0])<<8 | uint32(b[1])
		last := first | (1<<16-1)>>min(16, r.Prefix.Bits())
		for k := first; k <= last; k++ {
			l.some[f][k/64] |= 1 << (k % 64)
		}
	}
	l.ranges = prefixes.New(rows)
	return l
}

// misses reports whether an IPv4 packet has at a place, 12 or 16, an address that its first
// 16 bits tell to be the Internet's. It is small enough to be inlined.
func (l *locality) misses(pkt []byte, at int) bool {
	if len(pkt) < 20 || pkt[0]>>4 != 4 {
		return false
	}
	k := uint(pkt[at])<<8 | uint(pkt[at+1])
	return l.some[ipv4][k/64]>>(k%64)&1 == 0
}

// has4 reports whether an IPv4 address is not the Internet's.
func (l *locality) has4(a uint32) bool {
	k := a >> 16
	return l.some[ipv4][k/64]>>(k%64)&1 != 0 && l.ranges.Match(false, prefixes.V4(a), 0, prefixes.AnyPort) >= 0
}

// has6 is has4 for an IPv6 address.
func (l *locality) has6(a prefixes.Addr) bool {
	k := a[0] >> 48
	return l.some[ipv6][k/64]>>(k%64)&1 != 0 && l.ranges.Match(true, a, 0, prefixes.AnyPort) >= 0
}
