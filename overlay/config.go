// The configuration of a cluster, with the names of the AKS API, and its defaults.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Values that AKS uses when a cluster is created without saying otherwise.
const (
	DefaultMaxPods                = 250              // pods per node; "Azure CNI Overlay networking"
	DefaultIdleTimeout            = 30 * time.Minute // of the outbound rule; "Use a public standard load balancer in AKS"
	DefaultManagedOutboundIPCount = 1                // same document
)

// Names of the objects that AKS creates for the egress of a cluster ("Use a
// public standard load balancer in AKS").
const (
	LoadBalancerName        = "kubernetes"
	OutboundRuleName        = "aksOutboundRule"
	OutboundBackendPoolName = "aksOutboundBackendPool"
)

// ClusterConfig describes a cluster on Azure CNI Overlay with outbound type
// loadBalancer and a Standard load balancer. The zero value of every field is a
// documented default, but at least one node must be asked for. New copies what
// it keeps.
type ClusterConfig struct {
	// Name of the cluster, used in errors and reports. "" means "aks".
	Name string

	// IPFamilies is "ipv4" or "ipv4,ipv6"; "" means "ipv4". Other orders and
	// IPv6 alone do not exist on Azure CNI Overlay.
	IPFamilies string

	// PodCIDRs are the ranges of pod addresses, one per family and in the order
	// of IPFamilies. They must not overlap the node subnets, the service CIDRs
	// or directly connected networks. Every node takes a /24 of the first,
	// so 10.244.0.0/16 serves 256 nodes; in IPv6 it takes a /80, which is the
	// size that the Azure examples show.
	// None means 10.244.0.0/16 and, with two families, fd12:3456:789a::/64.
	PodCIDRs []netip.Prefix

	// ServiceCIDRs are the ranges of cluster IPs, one per family and in the order
	// of IPFamilies; IPv4 /13 or smaller, IPv6 /108 or smaller. They must not
	// overlap the pod CIDRs, the node subnets or directly connected networks.
	// None means 10.0.0.0/16 and, with two families, fd12:3456:789a:1::/108.
	ServiceCIDRs []netip.Prefix

	// DNSServiceIP is the cluster IP of the DNS service: inside the first
	// service CIDR, but not its first address. The zero Addr means the tenth
	// address after the first one, 10.0.0.10 in the default range.
	DNSServiceIP netip.Addr

	VNet VNet // the network of the nodes; its zero value is a default, too

	// NodePools are the pools, at least one of which has nodes, at most 1,000 (our
	// bound). At most 5,000 nodes altogether, autoscaler maximums included.
	NodePools []NodePool

	LoadBalancerProfile LoadBalancerProfile // how the cluster reaches the Internet

	// StrictPodAddresses drops packets whose source lies in a pod block without
	// being the address of a pod that exists. By default such packets are
	// treated as the node's, so that simulations need not declare their pods
	// (our choice; a node's veth setup would drop them).
	StrictPodAddresses bool

	// Timeouts are the timeouts of all idle classes. A field that is set precedes
	// LoadBalancerProfile.IdleTimeout; the others are those of snat.AzureTimeouts with it.
	Timeouts flow.Timeouts

	// TCP and UDP say how flows are mapped and filtered, and when they share ports.
	// The zero value is what Azure does.
	TCP, UDP snat.Behavior

	// Dataplane is how the translator runs and what it carries besides TCP and UDP,
	// by default nothing. Addresses do not depend on Seed. ReclaimGrace must be 0, for
	// the nodes of a cluster are fixed.
	snat.Dataplane
}

// family is a kind of address, in the order of IPFamilies.
type family int

const (
	ipv4 family = iota
	ipv6
	numFamilies
)

var familyNames = [...]string{"IPv4", "IPv6"}

var _ = [1]struct{}{}[len(familyNames)-int(numFamilies)] // one name per family

func (f family) String() string { return familyNames[f] }

func familyOf(a netip.Addr) family { return family(flow.Family(a)) }

// What is used when the configuration leaves it out, by family.
var (
	defaultPodCIDR      = [numFamilies]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd12:3456:789a::/64")}
	defaultServiceCIDR  = [numFamilies]netip.Prefix{netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("fd12:3456:789a:1::/108")}
	defaultAddressSpace = [numFamilies]netip.Prefix{netip.MustParsePrefix("10.224.0.0/12"), netip.MustParsePrefix("fd12:3456:789b::/48")}
	defaultSubnet       = [numFamilies]netip.Prefix{netip.MustParsePrefix("10.224.0.0/16"), netip.MustParsePrefix("fd12:3456:789b::/64")}
	defaultManagedRange = [numFamilies]netip.Prefix{netip.MustParsePrefix("20.50.1.0/24"), netip.MustParsePrefix("2001:db8:50:1::/64")}
)

// dnsOffset is the distance of the default DNS service IP from the beginning of
// the service CIDR, as in 10.0.0.10 in 10.0.0.0/16.
const dnsOffset = 10

// families returns the families of the cluster, or those of "ipv4" when
// IPFamilies is not valid.
func (c *ClusterConfig) families() []family {
	if c.IPFamilies == "ipv4,ipv6" {
		return []family{ipv4, ipv6}
	}
	return []family{ipv4}
}

// withDefaults returns a deep copy of c in which every zero value that stands
// for a default is replaced by it.
func (c ClusterConfig) withDefaults() ClusterConfig {
	setDefault(&c.Name, "aks")
	setDefault(&c.IPFamilies, "ipv4")
	n := len(c.families())

	c.PodCIDRs = slices.Clone(orDefault(c.PodCIDRs, defaultPodCIDR[:n]))
	c.ServiceCIDRs = slices.Clone(orDefault(c.ServiceCIDRs, defaultServiceCIDR[:n]))
	if first := c.ServiceCIDRs[0]; !c.DNSServiceIP.IsValid() && first.IsValid() {
		c.DNSServiceIP = addrAt(first.Masked(), dnsOffset)
	}

	setDefault(&c.VNet.Name, "aks-vnet")
	if len(c.VNet.AddressSpaces) == 0 && len(c.VNet.Subnets) == 0 {
		c.VNet.AddressSpaces = defaultAddressSpace[:n]
		c.VNet.Subnets = []Subnet{{Name: "aks-subnet", AddressPrefixes: defaultSubnet[:n]}}
	}
	c.VNet.AddressSpaces = slices.Clone(c.VNet.AddressSpaces)
	c.VNet.PeeredPrefixes = slices.Clone(c.VNet.PeeredPrefixes)
	c.VNet.Subnets = slices.Clone(c.VNet.Subnets)
	for i := range c.VNet.Subnets {
		s := &c.VNet.Subnets[i]
		s.AddressPrefixes = slices.Clone(s.AddressPrefixes)
	}

	c.NodePools = slices.Clone(c.NodePools)
	for i := range c.NodePools {
		p := &c.NodePools[i]
		setDefault(&p.Name, fmt.Sprintf("nodepool%d", i+1))
		setDefault(&p.Count, p.MinCount)
		setDefault(&p.MaxSurge, "1")
		setDefault(&p.MaxPods, DefaultMaxPods)
		if len(c.VNet.Subnets) > 0 {
			setDefault(&p.Subnet, c.VNet.Subnets[0].Name)
		}
	}

	p := &c.LoadBalancerProfile
	p.OutboundIPs = slices.Clone(p.OutboundIPs)
	p.OutboundIPPrefixes = slices.Clone(p.OutboundIPPrefixes)
	p.ManagedOutboundIPRanges = slices.Clone(p.ManagedOutboundIPRanges)
	setDefault(&p.IdleTimeout, DefaultIdleTimeout)
	if !p.hasOwnIPs() {
		setDefault(&p.ManagedOutboundIPCount, DefaultManagedOutboundIPCount)
		if n == int(numFamilies) {
			setDefault(&p.ManagedOutboundIPCountIPv6, DefaultManagedOutboundIPCount)
		}
	}
	return c
}

// setDefault replaces *v by def if it is the zero value.
func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// orDefault returns s, or def if s is empty.
func orDefault[T any](s, def []T) []T {
	if len(s) == 0 {
		return def
	}
	return s
}
