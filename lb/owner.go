// Addresses have one owner.

package lb

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
)

// owned returns the addresses and prefixes of c, which is at path.
func (c *Config) owned(path string) []owners.Owned {
	all := make([]owners.Owned, 0, len(c.FrontendIPConfigurations)+3*len(c.Backends))
	add := func(p netip.Prefix, owner owners.Owner, field string, index int) {
		if p.IsValid() {
			all = append(all, owners.Owned{Prefix: p.Masked(), Owner: owner, Field: field, Index: index})
		}
	}
	for i := range c.FrontendIPConfigurations {
		f, owner := &c.FrontendIPConfigurations[i], owners.Owner{Path: path, List: "FrontendIPConfigurations", Index: i}
		add(owners.Host(f.PublicIPAddress), owner, "PublicIPAddress", -1)
		add(f.PublicIPPrefix, owner, "PublicIPPrefix", -1)
		add(owners.Host(f.PrivateIPAddress), owner, "PrivateIPAddress", -1)
	}
	for i := range c.Backends {
		b, owner := &c.Backends[i], owners.Owner{Path: path, List: "Backends", Index: i}
		for j, a := range b.Addrs {
			add(owners.Host(a), owner, "Addrs", j)
		}
		for j, p := range b.Inside {
			add(p, owner, "Inside", j)
		}
		owner.Part = "PublicIPAddresses"
		for j, a := range b.PublicIPAddresses {
			add(owners.Host(a), owner, "", j)
		}
	}
	return all
}
