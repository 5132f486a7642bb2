// The configuration of a cluster, with the names of the AKS API, and its defaults.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Values that AKS uses when a cluster is created without saying otherwise.
const (
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

// ClusterConfig describes a cluster, by default on Azure CNI Overlay. The zero value of every field is a
// documented default, but at least one node must be asked for. New copies what
// it keeps.
type ClusterConfig struct {
	// Name of the cluster, used in errors and reports. "" means "aks".
	Name string

	// NetworkPlugin says where pods have their addresses from.
	NetworkPlugin cni.Plugin

	// IPFamilies is "ipv4" or "ipv4,ipv6"; "" means "ipv4". Other orders and
	// IPv6 alone do not exist.
	IPFamilies string

	// PodCIDRs are the ranges of pod addresses, one per family and in the order
	// of IPFamilies. They must not overlap the node subnets, the service CIDRs
	// or directly connected networks. Every node takes a /24 of the first,
	// so 10.244.0.0/16 serves 256 nodes; in IPv6 it takes a /80, which is the
	// size that the Azure examples show. There must be none with cni.NodeSubnet. Otherwise
	// none means 10.244.0.0/16 and, with two families, fd12:3456:789a::/64.
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

	// LoadBalancerSKU is that of the cluster's load balancers; zero is lb.Standard. On lb.Basic
	// OutboundType is OutboundLoadBalancer, without outbound IPs or an outbound rule: what leaves
	// for the Internet does so by the first public Service of type LoadBalancer that there
	// is, and while there is none by default outbound access ([lb.Egress]). There is one node pool
	// at most ("Create node pools for a cluster in AKS").
	LoadBalancerSKU lb.SKU

	// PublicIPs and PublicIPPrefixes are for Services to choose, at most 10,000 of each (our
	// bound). One that goes stays with the Services that have it.
	PublicIPs        []PublicIP
	PublicIPPrefixes []PublicIPPrefix // see PublicIPs

	OutboundType        OutboundType        // what traffic to the Internet leaves through
	LoadBalancerProfile LoadBalancerProfile // the outbound IPs and ports of OutboundLoadBalancer
	NATGatewayProfile   NATGatewayProfile   // of the outbound types that are a NAT gateway

	// NextHop gets what leaves for the Internet under OutboundUserDefinedRouting, with the
	// address of its node, as Cluster.Outbound gets it, and its verdict is that of the
	// packet. It must not call the cluster. nil hands the packet to the caller
	// like one that goes to the virtual network.
	NextHop func(now flow.Time, pkt []byte) flow.Verdict

	// StaticGatewayConfigurations are what pods may leave by instead of OutboundType; see
	// [Cluster.UseStaticGateway]. At most 256, which is our bound.
	StaticGatewayConfigurations []StaticGatewayConfiguration

	Masquerade Masquerade // which destinations pods reach with their own address

	// RestrictIMDS closes the instance metadata service, 169.254.169.254, to pods other
	// than those of the node's own network ([flow.ReasonIMDS]).
	RestrictIMDS bool

	// NetworkPolicy, if not nil, reports whether a flow of a node or pod may begin; one
	// that may not is dropped with [flow.ReasonNetworkPolicy]. It is called like
	// [snat.Dataplane].Admit, which says what it is asked about and what it must not do.
	NetworkPolicy func(snat.NewFlow) bool

	// NetworkPolicyEngine names who enforces network policies, so that what AKS refuses together
	// with it is refused here, too. It changes no packet.
	NetworkPolicyEngine cni.PolicyEngine

	// SecurityGroups are the network security groups of the VNet, or nil for none. Those
	// of the node's interface are asked about new flows that leave the node or come to
	// it. Its VirtualNetwork, if empty, is VNet and the pod CIDRs. AKS needs them to
	// allow node to node, node to pod and pod to pod, in all protocols. The interface of a node
	// has AKS's own group, [ClusterSecurityGroupName], unless one is given here; a group of that
	// name is that one, with rules of the user's. Service tags that annotations of Services
	// name are to be found here.
	SecurityGroups *nsg.Config

	// StrictPodAddresses drops packets whose source lies in a pod block without
	// being the address of a pod that exists. By default such packets are
	// treated as the node's, so that simulations need not declare their pods
	// (our choice; a node's veth setup would drop them).
	StrictPodAddresses bool

	// Ceilings are what bounds the flows of each node besides ports: none unless set. With those of
	// DNS, batches of packets are no faster than single ones.
	Ceilings ceilings.Limits

	// Timeouts are the timeouts of all idle classes. A field that is set precedes
	// LoadBalancerProfile.IdleTimeout; the others are those of snat.AzureTimeouts with it.
	Timeouts flow.Timeouts

	// TCP and UDP say how flows are mapped and filtered, and when they share ports.
	// The zero value is what Azure does.
	TCP, UDP snat.Behavior

	// Dataplane is how the translator runs and what it carries besides TCP and UDP,
	// by default nothing. Addresses do not depend on Seed. ICMP, Fragments and HoldSYN
	// concern what goes to the Internet: inside the network echo, errors and fragments
	// always pass. Neither Admit nor Hooks may call the cluster.
	snat.Dataplane

	// Asked after everything else; see Cluster.watch.
	machine func(snat.NewFlow) flow.Reason
	exit    func(node string) flow.Reason // about what leaves by a static gateway
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
	c = c.clone()
	setDefault(&c.Name, "aks")
	setDefault(&c.IPFamilies, "ipv4")
	n := len(c.families())

	if c.NetworkPlugin.HasPodCIDRs() {
		c.PodCIDRs = slices.Clone(orDefault(c.PodCIDRs, defaultPodCIDR[:n]))
	}
	c.ServiceCIDRs = slices.Clone(orDefault(c.ServiceCIDRs, defaultServiceCIDR[:n]))
	if first := c.ServiceCIDRs[0]; !c.DNSServiceIP.IsValid() && first.IsValid() {
		c.DNSServiceIP = addressing.At(first.Masked(), dnsOffset)
	}

	setDefault(&c.VNet.Name, "aks-vnet")
	if len(c.VNet.AddressSpaces) == 0 && len(c.VNet.Subnets) == 0 {
		c.VNet.AddressSpaces = slices.Clone(defaultAddressSpace[:n])
		c.VNet.Subnets = []Subnet{{Name: "aks-subnet", AddressPrefixes: slices.Clone(defaultSubnet[:n])}}
	}

	for i := range c.NodePools {
		p := &c.NodePools[i]
		setDefault(&p.Name, fmt.Sprintf("nodepool%d", i+1))
		setDefault(&p.Count, p.MinCount)
		setDefault(&p.MaxSurge, "1")
		setDefault(&p.MaxPods, c.NetworkPlugin.DefaultMaxPods())
		if len(c.VNet.Subnets) > 0 {
			setDefault(&p.Subnet, c.VNet.Subnets[0].Name)
		}
	}

	p := &c.LoadBalancerProfile
	if !c.hasOutboundRule() {
		return c
	}
	setDefault(&p.IdleTimeout, DefaultIdleTimeout)
	if !p.hasOwnIPs() {
		setDefault(&p.ManagedOutboundIPCount, DefaultManagedOutboundIPCount)
		if n == int(numFamilies) {
			setDefault(&p.ManagedOutboundIPCountIPv6, DefaultManagedOutboundIPCount)
		}
	}
	return c
}

// clone returns a deep copy of c.
func (c ClusterConfig) clone() ClusterConfig {
	c.PodCIDRs, c.ServiceCIDRs = slices.Clone(c.PodCIDRs), slices.Clone(c.ServiceCIDRs)
	v := &c.VNet
	v.AddressSpaces, v.PeeredPrefixes, v.ServiceEndpoints = slices.Clone(v.AddressSpaces), slices.Clone(v.PeeredPrefixes), slices.Clone(v.ServiceEndpoints)
	v.Subnets = slices.Clone(v.Subnets)
	for i := range v.Subnets {
		s := &v.Subnets[i]
		s.AddressPrefixes = slices.Clone(s.AddressPrefixes)
	}
	c.NodePools = slices.Clone(c.NodePools)
	for i := range c.NodePools {
		c.NodePools[i].NodePublicIP = c.NodePools[i].NodePublicIP.clone()
	}
	c.PublicIPs, c.PublicIPPrefixes = slices.Clone(c.PublicIPs), slices.Clone(c.PublicIPPrefixes)
	c.StaticGatewayConfigurations = slices.Clone(c.StaticGatewayConfigurations)
	for i := range c.StaticGatewayConfigurations {
		g := &c.StaticGatewayConfigurations[i]
		g.ExcludeCIDRs = slices.Clone(g.ExcludeCIDRs)
	}
	p := &c.LoadBalancerProfile
	p.OutboundIPs, p.OutboundIPPrefixes = slices.Clone(p.OutboundIPs), slices.Clone(p.OutboundIPPrefixes)
	p.ManagedOutboundIPRanges = slices.Clone(p.ManagedOutboundIPRanges)
	c.Masquerade.NonMasqueradeCIDRs = slices.Clone(c.Masquerade.NonMasqueradeCIDRs)
	if g := c.NATGatewayProfile.NATGateway; g != nil {
		own := *g
		own.PublicIPAddresses, own.PublicIPPrefixes = slices.Clone(own.PublicIPAddresses), slices.Clone(own.PublicIPPrefixes)
		c.NATGatewayProfile.NATGateway = &own
	}
	if c.SecurityGroups != nil {
		own := *c.SecurityGroups
		c.SecurityGroups = &own
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
