// Public IPs that there are beside those that AKS makes, for Services to choose by name. Read the
// document "LoadBalancer annotations" of cloud-provider-azure first.

package overlay

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/overlay/internal/publicips"
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

// publicIPs are those of the configuration as their room has them.
func (c *ClusterConfig) publicIPs() *publicips.Named {
	n := new(publicips.Named)
	for _, p := range c.PublicIPs {
		n.Addresses = append(n.Addresses, publicips.Address(p))
	}
	for _, p := range c.PublicIPPrefixes {
		n.Prefixes = append(n.Prefixes, publicips.Prefix(p))
	}
	return n
}

// checkPublicIPs checks the public IPs and prefixes that Services may choose.
func (v *validation) checkPublicIPs() {
	cut(v, "PublicIPs", &v.PublicIPs, publicips.Max)
	cut(v, "PublicIPPrefixes", &v.PublicIPPrefixes, publicips.Max)
	v.publicIPs().Check(&v.List, v.publicFamilies(), v.insideRanges(), v.LoadBalancerProfile.OwnRanges)
}

// chosenAddr returns the address of a family that a Service has by its annotations, or the zero
// Addr if they leave it open. taken are addresses that Services have already.
func (c *ClusterConfig) chosenAddr(e *serviceEntry, f family, taken map[netip.Addr]bool, l *problems.List) netip.Addr {
	i, suffix := f, [numFamilies]string{"", "-ipv6"}[f]
	if len(e.families()) == 1 {
		i, suffix = ipv4, "" // the annotation without suffix
	}
	return c.publicIPs().Choose(&publicips.Choice{
		Family: int(f), Taken: taken, Families: publicips.Families{Text: e.IPFamilies, Reason: ErrFamily},
		Given: e.settings.Addrs[f], GivenPath: annotations.Path([numFamilies]string{"azure-load-balancer-ipv4", "azure-load-balancer-ipv6"}[f]),
		Name: e.settings.PublicIPNames[i], NamePath: annotations.Path("azure-pip-name" + suffix),
		ID: e.settings.PublicIPPrefixIDs[i], IDPath: annotations.Path("azure-pip-prefix-id" + suffix),
	}, l)
}
