// Addresses have one owner.

package lb

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// owned is an address or prefix and whose it is.
type owned struct {
	prefix      netip.Prefix
	owner, path string
}

// owned returns the addresses and prefixes of c, which is at path.
func (c *Config) owned(path string) (all []owned) {
	add := func(p netip.Prefix, owner, field string) {
		if p.IsValid() {
			all = append(all, owned{p.Masked(), owner, problems.Field(owner, field)})
		}
	}
	for i, f := range c.FrontendIPConfigurations {
		owner := problems.Field(path, problems.Index("FrontendIPConfigurations", i))
		add(hostPrefix(f.PublicIPAddress), owner, "PublicIPAddress")
		add(f.PublicIPPrefix, owner, "PublicIPPrefix")
		add(hostPrefix(f.PrivateIPAddress), owner, "PrivateIPAddress")
	}
	for i, b := range c.Backends {
		owner := problems.Field(path, problems.Index("Backends", i))
		for j, a := range b.Addrs {
			add(hostPrefix(a), owner, problems.Index("Addrs", j))
		}
		for j, a := range b.PublicIPAddresses {
			add(hostPrefix(a), owner+".PublicIPAddresses", problems.Index("", j))
		}
		for j, p := range b.Inside {
			add(p, owner, problems.Index("Inside", j))
		}
	}
	return all
}

// hostPrefix returns the prefix of one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// checkOwners finds addresses that belong to two owners. Prefixes nest or are
// disjoint, so in sorted order an overlap shows against the enclosing prefix.
func checkOwners(l *problems.List, all []owned) {
	slices.SortStableFunc(all, func(a, b owned) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	for i, outer := 1, 0; i < len(all); i++ {
		o, c := all[outer], all[i]
		if !o.prefix.Overlaps(c.prefix) {
			outer = i
		} else if o.owner != c.owner {
			l.Add(c.path, c.prefix, flow.ErrOverlap, "with %s %v", o.path, o.prefix)
		}
	}
}
