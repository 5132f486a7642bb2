// Public IPs that there are beside those that AKS makes, for Services to choose by name. Read the
// document "LoadBalancer annotations" of cloud-provider-azure first.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
)

// PublicIP is a public IP address resource, which Services choose with the annotation
// azure-pip-name, or azure-pip-name-ipv6 for the second family of a Service with two.
type PublicIP struct {
	Name    string     // unique, not empty
	Address netip.Addr // a public address, nobody else's
}

// PublicIPPrefix is a public IP prefix resource. A Service with the annotation azure-pip-prefix-id
// or azure-pip-prefix-id-ipv6 gets the lowest address of it that is free.
type PublicIPPrefix struct {
	ID     string       // unique, not empty; that of ARM, or any other name
	Prefix netip.Prefix // of the sizes of LoadBalancerProfile.OutboundIPPrefixes
}

// maxPublicIPs is the most public IPs and the most prefixes of a configuration: our bound.
const maxPublicIPs = 10_000

// checkPublicIPs checks the public IPs and prefixes that Services may choose.
func (v *validation) checkPublicIPs() {
	cut(v, "PublicIPs", &v.PublicIPs, maxPublicIPs)
	cut(v, "PublicIPPrefixes", &v.PublicIPPrefixes, maxPublicIPs)
	var own []ranges.Named
	names, ids := make(map[string]bool), make(map[string]bool)
	name := func(seen map[string]bool, path, name string) {
		switch {
		case name == "":
			v.Add(path, name, flow.ErrMissing, "Services choose by it")
		case seen[name]:
			v.Add(path, name, flow.ErrDuplicateName, "another has it")
		}
		seen[name] = true
	}
	for i, p := range v.PublicIPs {
		at := problems.Index("PublicIPs", i)
		name(names, at+".Name", p.Name)
		if !flow.IsHost(p.Address) {
			v.Add(at+".Address", p.Address, flow.ErrAddress, "must be the public address of a single host")
			continue
		}
		own = append(own, ranges.Host(at+".Address", p.Address))
	}
	for i, p := range v.PublicIPPrefixes {
		at := problems.Index("PublicIPPrefixes", i)
		name(ids, at+".ID", p.ID)
		if err := lb.CheckPublicIPPrefix(p.Prefix, v.LoadBalancerProfile.OwnRanges); err != nil {
			v.Include(at+".Prefix", err)
			continue
		}
		own = append(own, ranges.One(at+".Prefix", p.Prefix))
	}
	ranges.Apart(&v.List, own)
	inside := v.insideRanges()
	for _, r := range own {
		if int(familyOf(r.Addr())) >= len(v.families()) {
			v.Add(r.Field, r.Value, ErrFamily, "IPFamilies is %q", v.IPFamilies)
		}
		ranges.Disjoint(&v.List, r, inside)
	}
}

// chosenAddr returns the address of a family that a Service has by its annotations, or the zero
// Addr if they leave it open. taken are addresses that Services have already.
func (c *ClusterConfig) chosenAddr(e *serviceEntry, f family, taken map[netip.Addr]bool, l *problems.List) netip.Addr {
	i, suffix := f, [numFamilies]string{"", "-ipv6"}[f]
	if len(e.families()) == 1 {
		i, suffix = ipv4, "" // the annotation without suffix
	}
	namePath, idPath := annotations.Path("azure-pip-name"+suffix), annotations.Path("azure-pip-prefix-id"+suffix)
	given, name, id := e.settings.Addrs[f], e.settings.PublicIPNames[i], e.settings.PublicIPPrefixIDs[i]
	switch {
	case name != "":
		at := slices.IndexFunc(c.PublicIPs, func(p PublicIP) bool { return p.Name == name })
		if at < 0 {
			l.Add(namePath, name, flow.ErrUnknownName, "no such name in PublicIPs")
			return given
		}
		a := c.PublicIPs[at].Address
		if familyOf(a) != f {
			l.Add(namePath, name, ErrFamily, "it is %v, IPFamilies is %q", a, e.IPFamilies)
		} else if given.IsValid() && given != a {
			l.Add(annotations.Path("azure-load-balancer-"+[...]string{"ipv4", "ipv6"}[f]), given, flow.ErrConflict, "public IP %q is %v", name, a)
		}
		return a
	case id != "":
		at := slices.IndexFunc(c.PublicIPPrefixes, func(p PublicIPPrefix) bool { return p.ID == id })
		if at < 0 {
			l.Add(idPath, id, flow.ErrUnknownName, "no such ID in PublicIPPrefixes")
			return given
		}
		p := c.PublicIPPrefixes[at].Prefix
		switch {
		case familyOf(p.Addr()) != f:
			l.Add(idPath, id, ErrFamily, "it is %v, IPFamilies is %q", p, e.IPFamilies)
		case given.IsValid() && !p.Contains(given):
			l.Add(annotations.Path("azure-load-balancer-"+[...]string{"ipv4", "ipv6"}[f]), given, flow.ErrConflict, "public IP prefix %q is %v", id, p)
		case !given.IsValid():
			for n := range uint64(size(p)) {
				if a := addressing.At(p, n); !taken[a] {
					return a
				}
			}
			l.Add(idPath, id, flow.ErrTooMany, "no free address in %v", p)
		}
	}
	return given
}
