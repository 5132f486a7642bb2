// Resources of Azure that az names by their id, and what stands for them where no file says
// more: addresses, prefixes and subnets.

package manifest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// What stands for addresses that no file gives: our choice.
var (
	placeholderIPs    = netip.MustParsePrefix("20.51.0.0/16")
	placeholderBlocks = netip.MustParsePrefix("20.52.0.0/16") // a /28 for each prefix
)

// mostPlaceholders is how many resources of a kind placeholders are made for.
const mostPlaceholders = 4000

// lastOf returns the last part of an id, which is the name of the resource.
func lastOf(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// partOf returns what follows a part of an id: the name of the resource of that kind.
func partOf(id, kind string) string {
	parts := strings.Split(id, "/")
	for i := range parts[:len(parts)-1] {
		if strings.EqualFold(parts[i], kind) {
			return parts[i+1]
		}
	}
	return ""
}

// resource returns the address or range that a file gives for a resource: by its id, else by its name.
func (r *reader) resource(id string) (string, bool) {
	text, ok := r.addresses[strings.ToLower(id)]
	if !ok {
		text, ok = r.addresses[strings.ToLower(lastOf(id))]
	}
	return text, ok
}

// asPrefix reads a prefix, or that of one address.
func asPrefix(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	return p, err == nil
}

// address returns the address of the n-th public IP, which is at a Go path.
func (r *azureReader) address(id, from string, n int) netip.Addr {
	if text, ok := r.resource(id); ok {
		a, ok := parseAddress(text)
		if !ok {
			r.badAt(r.place(from, "id"), text, flow.ErrAddress, "a public IP has one address")
		}
		return a
	}
	a := placeholderIPs.Addr()
	for range min(n, mostPlaceholders) + 1 {
		a = a.Next()
	}
	r.omit(r.place(from, "id"), lastOf(id), "the address of the public IP is in no file, such as az network public-ip list prints; %v stands for it", a)
	return a
}

// prefix returns the range of the n-th public IP prefix, which is at a Go path. What stands for an unknown one has a
// length in bits, 28 or more.
func (r *azureReader) prefix(id, from string, n, bits int) (netip.Prefix, bool) {
	if text, ok := r.resource(id); ok {
		return asPrefix(text)
	}
	a := placeholderBlocks.Addr().As4()
	n = min(n, mostPlaceholders)
	a[2], a[3] = byte(n>>4), byte(n<<4)
	p := netip.PrefixFrom(netip.AddrFrom4(a), bits)
	r.omit(r.place(from, "id"), lastOf(id), "the range of the prefix is in no file, such as az network public-ip prefix list prints; %v stands for it", p)
	return p, true
}

// effective returns the addresses of managed outbound IPs, if files give all of them.
func (r *azureReader) effective(ids []azureID) (addrs []netip.Addr, ok bool) {
	for _, id := range ids {
		text, _ := r.resource(id.ID)
		a, ok := parseAddress(text)
		if !ok {
			return nil, false
		}
		addrs = append(addrs, a)
	}
	return addrs, len(addrs) > 0
}

// subnet notes the subnet of a pool, and what its id says of the virtual network.
func (r *azureReader) subnet(id string) {
	if id == "" {
		return
	}
	v := &r.cluster.Config.VNet
	v.Name, v.ResourceGroup = partOf(id, "virtualNetworks"), partOf(id, "resourceGroups")
}

// network makes up the virtual network if pools name subnets and no file says which ranges they
// have: a /16 and a /64 for each, in the order of the pools.
func (r *reader) network() {
	c := &r.cluster.Config
	if len(c.VNet.Subnets) > 0 || len(c.VNet.AddressSpaces) > 0 {
		return
	}
	var names []string
	for i, p := range c.NodePools {
		if p.Subnet == "" || slices.Contains(names, p.Subnet) {
			continue
		}
		n := len(names)
		if n > 15 {
			r.badAt(r.nearest(path("NodePools", i, "Subnet")), p.Subnet, flow.ErrMissing, "the ranges of more than 16 subnets have to be in a file, such as az network vnet show prints")
			return
		}
		names = append(names, p.Subnet)
		s := overlay.Subnet{Name: p.Subnet, AddressPrefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 224 + byte(n)}), 16)}}
		if c.IPFamilies == "ipv4,ipv6" {
			s.AddressPrefixes = append(s.AddressPrefixes, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x12, 0x34, 0x56, 0x78, 0x9b, 0, byte(n)}), 64))
		}
		r.places[path("VNet.Subnets", n, "Name")] = r.nearest(path("NodePools", i, "Subnet"))
		c.VNet.Subnets = append(c.VNet.Subnets, s)
		r.omit(r.nearest(path("NodePools", i, "Subnet")), p.Subnet, "the ranges of the subnet are in no file, such as az network vnet show prints; %v stands for them", s.AddressPrefixes)
	}
	if len(names) > 0 {
		c.VNet.AddressSpaces = []netip.Prefix{netip.MustParsePrefix("10.224.0.0/12")}
		if c.IPFamilies == "ipv4,ipv6" {
			c.VNet.AddressSpaces = append(c.VNet.AddressSpaces, netip.MustParsePrefix("fd12:3456:789b::/48"))
		}
	}
}
