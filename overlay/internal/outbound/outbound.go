// Package outbound knows the outbound IPs of a cluster's load balancer: the user's own, or managed ones, which
// are the first addresses of a range.
//
// It refuses to know ports, rules and what else leaves by which address.
package outbound

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// Field paths.
const (
	RangesPath   = "LoadBalancerProfile.ManagedOutboundIPRanges"
	IPsPath      = "LoadBalancerProfile.OutboundIPs"
	PrefixesPath = "LoadBalancerProfile.OutboundIPPrefixes"
)

var countPath = [flow.NumFamilies]string{"LoadBalancerProfile.ManagedOutboundIPCount", "LoadBalancerProfile.ManagedOutboundIPCountIPv6"}

// MaxManaged is how many managed IPs of a family there are at most.
const MaxManaged = 100

// defaultRange is where managed IPs come from unless said otherwise.
var defaultRange = [flow.NumFamilies]netip.Prefix{netip.MustParsePrefix("20.50.1.0/24"), netip.MustParsePrefix("2001:db8:50:1::/64")}

// IPs are outbound IPs as a configuration describes them.
type IPs struct {
	Families   int    // of the cluster, IPv4 first
	IPFamilies string // as the configuration says it

	Own         []netip.Addr
	OwnPrefixes []netip.Prefix
	OwnRanges   bool                  // see lb.Config
	Managed     [flow.NumFamilies]int // how many
	Ranges      []netip.Prefix        // of managed ones
}

// AreOwn reports whether they are the user's own.
func (o *IPs) AreOwn() bool { return len(o.Own) > 0 || len(o.OwnPrefixes) > 0 }

// Range returns where managed ones of a family come from.
func (o *IPs) Range(family int) netip.Prefix {
	for _, r := range o.Ranges {
		if flow.Family(r.Addr()) == family {
			return r
		}
	}
	return defaultRange[family]
}

// Frontends returns them in the order in which their ports are used.
func (o *IPs) Frontends() (all []lb.FrontendIPConfiguration) {
	add := func(f lb.FrontendIPConfiguration) {
		f.Name = fmt.Sprintf("outbound-%d", len(all)+1)
		all = append(all, f)
	}
	for _, a := range o.Own {
		add(lb.FrontendIPConfiguration{PublicIPAddress: a})
	}
	for _, p := range o.OwnPrefixes {
		add(lb.FrontendIPConfiguration{PublicIPPrefix: p})
	}
	for f := range o.Families {
		for i := range o.Managed[f] {
			add(lb.FrontendIPConfiguration{PublicIPAddress: addressing.At(o.Range(f), uint64(i)+1)})
		}
	}
	return all
}

// Count returns how many there are of a family. A prefix counts for at most 65,536; package lb
// refuses much smaller ones.
func (o *IPs) Count(family int) (n int) {
	for _, fe := range o.Frontends() {
		if p := fe.PublicIPPrefix; p.IsValid() && flow.Family(p.Addr()) == family {
			n += min(1<<16, addressing.Size(p))
		} else if a := fe.PublicIPAddress; a.IsValid() && flow.Family(a) == family {
			n++
		}
	}
	return n
}

// Check is what IPs are checked against, and the owner's sentinels.
type Check struct {
	Inside           []ranges.Named // what means something in the cluster's network
	Rule             bool           // an outbound rule has them
	Gateway          bool           // a NAT gateway has its own instead,
	GatewayCounts    [flow.NumFamilies]int
	Family, Reserved error
}

// Managed reports what is wrong with how many there are of each family, and where they come from.
func (c *Check) Managed(l *problems.List, o *IPs) {
	var have [flow.NumFamilies]bool
	for _, r := range ranges.In(RangesPath, o.Ranges) {
		if !ranges.Check(l, r, c.Reserved) {
			continue
		}
		f := flow.Family(r.Addr())
		if have[f] {
			l.Add(r.Field, r.Value, flow.ErrConflict, "at most one range per family")
		}
		have[f] = true
		if n := o.Managed[f]; !o.AreOwn() && addressing.Size(r.Prefix)-1 < n {
			l.Add(r.Field, r.Value, flow.ErrOutOfRange, "is too small for %d managed outbound IPs", n)
		}
	}
	for f := range flow.NumFamilies {
		n, inUse, from := o.Managed[f], f < o.Families, o.Range(f)
		switch {
		case o.AreOwn() && n != 0:
			l.Add(countPath[f], n, flow.ErrConflict, "managed outbound IPs exclude OutboundIPs and OutboundIPPrefixes")
		case o.AreOwn():
		case !inUse && n != 0:
			l.Add(countPath[f], n, c.Family, "IPFamilies is %q", o.IPFamilies)
		case c.Gateway:
			if n := c.GatewayCounts[f]; n > 0 && addressing.Size(from)-1 < n {
				l.Add(RangesPath, from, flow.ErrOutOfRange, "is too small for %d managed outbound IPs", n)
			}
		case inUse && c.Rule:
			problems.Between(l, countPath[f], n, 1, MaxManaged)
			ranges.Disjoint(l, ranges.One(RangesPath, from), c.Inside)
		}
	}
}

// Own reports what is wrong with the user's own, and whether they are apart.
func (c *Check) Own(l *problems.List, o *IPs) {
	if !o.AreOwn() {
		return
	}
	var own []ranges.Named
	for i, a := range o.Own {
		r := ranges.Host(problems.Index(IPsPath, i), a)
		if !flow.IsHost(a) {
			l.Add(r.Field, a, flow.ErrAddress, "must be the public address of a single host, not link-local or with a zone")
			continue
		}
		own = append(own, r)
	}
	for _, r := range ranges.In(PrefixesPath, o.OwnPrefixes) {
		if !ranges.Check(l, r, c.Reserved) {
			continue
		}
		if err := lb.CheckPublicIPPrefix(r.Prefix, o.OwnRanges); err != nil {
			l.Include(r.Field, err)
		}
		own = append(own, r)
	}
	var have [flow.NumFamilies]bool
	ranges.Apart(l, own)
	for _, r := range own {
		f := flow.Family(r.Addr())
		have[f] = true
		if f >= o.Families {
			l.Add(r.Field, r.Value, c.Family, "IPFamilies is %q", o.IPFamilies)
		}
		ranges.Disjoint(l, r, c.Inside)
	}
	for f := range o.Families {
		if !have[f] {
			l.Add(IPsPath, o.Own, flow.ErrMissing, "no %v address, IPFamilies is %q", [...]string{"IPv4", "IPv6"}[f], o.IPFamilies)
		}
	}
}
