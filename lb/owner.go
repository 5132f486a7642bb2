// Addresses have one owner.

package lb

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/owners"
)

// owned returns the addresses and prefixes of c, which is at path.
func (c *Config) owned(path string) (all []owners.Owned) {
	add := func(p netip.Prefix, owner, field string) {
		if p.IsValid() {
			all = append(all, owners.Owned{Prefix: p.Masked(), Owner: owner, Path: problems.Field(owner, field)})
		}
	}
	for i, f := range c.FrontendIPConfigurations {
		owner := problems.Field(path, problems.Index("FrontendIPConfigurations", i))
		add(owners.Host(f.PublicIPAddress), owner, "PublicIPAddress")
		add(f.PublicIPPrefix, owner, "PublicIPPrefix")
		add(owners.Host(f.PrivateIPAddress), owner, "PrivateIPAddress")
	}
	for i, b := range c.Backends {
		owner := problems.Field(path, problems.Index("Backends", i))
		for j, a := range b.Addrs {
			add(owners.Host(a), owner, problems.Index("Addrs", j))
		}
		for j, a := range b.PublicIPAddresses {
			add(owners.Host(a), owner+".PublicIPAddresses", problems.Index("", j))
		}
		for j, p := range b.Inside {
			add(p, owner, problems.Index("Inside", j))
		}
	}
	return all
}
