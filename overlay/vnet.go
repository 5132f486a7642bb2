// The virtual network of the nodes, and what is checked of it.

package overlay

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/overlay/internal/vnet"
)

// VNet is the virtual network of the nodes.
type VNet struct {
	Name          string // "" means "aks-vnet"; at most 63 characters
	ResourceGroup string // for reports only; at most 63 characters

	// AddressSpaces are the ranges of the VNet. Pods reach all of it with the
	// address of their node. None means the ranges of the default subnet:
	// 10.224.0.0/12 and, with two families, fd12:3456:789b::/48 (our choice). At most
	// 1,000 ranges, which is our bound, like 10,000 PeeredPrefixes.
	AddressSpaces []netip.Prefix

	// Subnets are the node subnets, inside the address spaces and disjoint, at most
	// 3,000 (Azure subscription limits) with at most 100 prefixes each (our bound).
	// None means one subnet "aks-subnet" with 10.224.0.0/16 and, with two
	// families, fd12:3456:789b::/64 (our choice); it is only possible to leave
	// them out together with AddressSpaces.
	Subnets []Subnet

	// PeeredPrefixes are directly connected networks: peered VNets and what
	// lies behind ExpressRoute and VPN gateways. Pods reach them with the
	// address of their node.
	PeeredPrefixes []netip.Prefix

	// ServiceEndpoints are the public ranges of Azure services that the node subnets have
	// a service endpoint for: nodes reach them with their private address, and pods
	// with that of their node, without SNAT port. TCP connections that are open when a range
	// comes or goes are reset at both ends, as Azure closes them. What answers a client in such a range goes
	// back as it came, by a frontend or a node's public address. A private endpoint needs nothing, for its
	// address is one of the VNet. At most 10,000, which is our bound.
	ServiceEndpoints []netip.Prefix
}

// Subnet is a part of a VNet that nodes get addresses from: at least one prefix
// per family of the cluster, of which the first of each family is used. Azure
// keeps the first four addresses and the last, so a /24 has room for 251 nodes.
type Subnet struct {
	Name            string         // unique, 1 to 63 characters
	AddressPrefixes []netip.Prefix // without host bits, inside the address spaces
}

// subnet returns the subnet of that name, or nil.
func (c *ClusterConfig) subnet(name string) *Subnet {
	for i := range c.VNet.Subnets {
		if s := &c.VNet.Subnets[i]; s.Name == name {
			return s
		}
	}
	return nil
}

// prefix returns the prefix that nodes get their address of family f from.
func (s *Subnet) prefix(f family) (netip.Prefix, bool) { return (*vnet.Subnet)(s).Prefix(int(f)) }
