package overlay

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
)

func pfx(s ...string) (all []netip.Prefix) {
	for _, s := range s {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func addrs(s ...string) (all []netip.Addr) {
	for _, s := range s {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// single and dual return small valid configurations, changed by edit.
func single(edit func(*ClusterConfig)) ClusterConfig {
	c := ClusterConfig{NodePools: []NodePool{{Count: 3}}}
	if edit != nil {
		edit(&c)
	}
	return c
}

func dual(edit func(*ClusterConfig)) ClusterConfig {
	c := single(edit)
	if c.IPFamilies == "" {
		c.IPFamilies = "ipv4,ipv6"
	}
	return c
}

func TestValidate_accepts(t *testing.T) {
	for name, c := range map[string]ClusterConfig{
		"the defaults":                 single(nil),
		"the defaults of two families": dual(nil),
		"the longest names": single(func(c *ClusterConfig) {
			n := strings.Repeat("n", 63)
			c.VNet = VNet{Name: n, ResourceGroup: n, AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{n, pfx("10.1.0.0/24")}}}
		}),
		"an autoscaled pool that starts at its minimum": single(func(c *ClusterConfig) {
			c.NodePools = []NodePool{{MinCount: 2, MaxCount: 5}}
		}),
		"an empty pool beside one with nodes": single(func(c *ClusterConfig) {
			c.NodePools = append(c.NodePools, NodePool{})
		}),
		"5,000 nodes in five pools": single(func(c *ClusterConfig) {
			c.PodCIDRs = pfx("10.32.0.0/11")
			c.NodePools = []NodePool{{Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}}
			c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 6, AllocatedOutboundPorts: 64}
		}),
		"100 managed outbound IPs": single(func(c *ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPCount = 100
		}),
		"own addresses and prefixes together": single(func(c *ClusterConfig) {
			c.LoadBalancerProfile.OutboundIPs = addrs("203.0.113.7")
			c.LoadBalancerProfile.OutboundIPPrefixes = pfx("198.51.100.16/28")
		}),
		"a VNet around the pod CIDR": single(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.0.0.0/8"), Subnets: []Subnet{{"s", pfx("10.1.0.0/24")}}}
		}),
		"peered networks": single(func(c *ClusterConfig) { c.VNet.PeeredPrefixes = pfx("192.168.0.0/16") }),
		"a subnet per pool": single(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/24")}, {"b", pfx("10.1.1.0/24")}}}
			c.NodePools = []NodePool{{Count: 251}, {Count: 1, Subnet: "b"}}
			c.PodCIDRs = pfx("10.240.0.0/14")
		}),
		"the bounds of the idle timeout": single(func(c *ClusterConfig) { c.LoadBalancerProfile.IdleTimeout = 4 * time.Minute }),
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, c.Validate()) })
	}
}

func TestValidate_rejects(t *testing.T) {
	profile := func(edit func(*LoadBalancerProfile)) ClusterConfig {
		return single(func(c *ClusterConfig) { edit(&c.LoadBalancerProfile) })
	}
	pool := func(p NodePool) ClusterConfig {
		return single(func(c *ClusterConfig) { c.NodePools = []NodePool{p} })
	}
	vnet := func(v VNet) ClusterConfig {
		return single(func(c *ClusterConfig) { c.VNet = v })
	}
	long := strings.Repeat("n", 64)
	for _, tt := range []struct {
		name string
		cfg  ClusterConfig
		kind error
		text string // part of the message: field path, value, and what is valid
	}{
		{"IPv6 alone", single(func(c *ClusterConfig) { c.IPFamilies = "ipv6" }), ErrFamily, `IPFamilies "ipv6": wrong address family: must be "ipv4" or "ipv4,ipv6"`},
		{"IPv6 first", single(func(c *ClusterConfig) { c.IPFamilies = "ipv6,ipv4" }), ErrFamily, `IPFamilies "ipv6,ipv4"`},
		{"one pod CIDR for two families", dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16") }), ErrFamily, `PodCIDRs [10.244.0.0/16]: wrong address family: IPFamilies "ipv4,ipv6" needs 2`},
		{"pod CIDRs in the wrong order", dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("fd00::/64", "10.244.0.0/16") }), ErrFamily, "PodCIDRs[1] 10.244.0.0/16: wrong address family: must be IPv6"},
		{"an IPv6 service CIDR in an IPv4 cluster", single(func(c *ClusterConfig) { c.ServiceCIDRs = pfx("10.0.0.0/16", "fd00::/108") }), ErrFamily, "ServiceCIDRs [10.0.0.0/16 fd00::/108]"},
		{"no valid pod CIDR", single(func(c *ClusterConfig) { c.PodCIDRs = make([]netip.Prefix, 1) }), flow.ErrPrefix, "PodCIDRs[0] invalid Prefix"},
		{"host bits in a CIDR", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.1.0/16") }), flow.ErrPrefix, "PodCIDRs[0] 10.244.1.0/16: prefix is not valid, or its host bits are not zero: has host bits set, write 10.244.0.0/16"},
		{"an IPv4-mapped CIDR", single(func(c *ClusterConfig) {
			c.PodCIDRs = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.244.0.0"), 112)}
		}), flow.ErrPrefix, "IPv4-mapped"},
		{"a pod CIDR below one block", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/25") }), flow.ErrOutOfRange, "PodCIDRs[0] 10.244.0.0/25: out of range: must have room for at least one pod block, /24"},
		{"an IPv6 pod CIDR below one block", dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16", "fd00::/81") }), flow.ErrOutOfRange, "PodCIDRs[1] fd00::/81"},
		{"a pod CIDR too small for the nodes", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/23") }), ErrTooManyNodes, "PodCIDRs[0] 10.244.0.0/23: too many nodes: has room for the pod blocks of 2 nodes, NodePools may have 3"},
		{"a pod CIDR too small for the autoscaler", single(func(c *ClusterConfig) {
			c.PodCIDRs = pfx("10.244.0.0/22")
			c.NodePools[0].MaxCount = 5
		}), ErrTooManyNodes, "has room for the pod blocks of 4 nodes, NodePools may have 5"},

		{"a reserved pod CIDR", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("172.30.0.0/16") }), ErrReserved, "PodCIDRs[0] 172.30.0.0/16: reserved: 172.30.0.0/16 must not be used"},
		{"a reserved service CIDR", single(func(c *ClusterConfig) { c.ServiceCIDRs = pfx("192.0.2.0/25") }), ErrReserved, "ServiceCIDRs[0] 192.0.2.0/25"},
		{"a reserved VNet", vnet(VNet{AddressSpaces: pfx("169.254.0.0/15"), Subnets: []Subnet{{"s", pfx("169.255.0.0/24")}}}), ErrReserved, "VNet.AddressSpaces[0]"},

		{"pods over services", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.0.0.0/15") }), flow.ErrOverlap, "PodCIDRs[0] 10.0.0.0/15: overlap: with ServiceCIDRs[0] 10.0.0.0/16"},
		{"pods over the node subnet", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.224.0.0/20") }), flow.ErrOverlap, "PodCIDRs[0] 10.224.0.0/20: overlap: with VNet.Subnets[0].AddressPrefixes[0] 10.224.0.0/16"},
		{"pods over a peered network", single(func(c *ClusterConfig) { c.VNet.PeeredPrefixes = pfx("10.0.0.0/8") }), flow.ErrOverlap, "PodCIDRs[0] 10.244.0.0/16: overlap: with VNet.PeeredPrefixes[0] 10.0.0.0/8"},
		{"services over the node subnet", single(func(c *ClusterConfig) { c.ServiceCIDRs = pfx("10.224.1.0/24") }), flow.ErrOverlap, "ServiceCIDRs[0] 10.224.1.0/24: overlap: with VNet.Subnets[0]"},
		{"services over a peered network", single(func(c *ClusterConfig) { c.VNet.PeeredPrefixes = pfx("10.0.0.0/24") }), flow.ErrOverlap, "ServiceCIDRs[0] 10.0.0.0/16: overlap: with VNet.PeeredPrefixes[0] 10.0.0.0/24"},
		{"subnets over each other", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/23")}, {"b", pfx("10.1.1.0/24")}}}), flow.ErrOverlap, "VNet.Subnets[1].AddressPrefixes[0] 10.1.1.0/24: overlap: with VNet.Subnets[0]"},
		{"a subnet outside the VNet", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.2.0.0/24")}}}), flow.ErrOutOfRange, "must lie inside VNet.AddressSpaces [10.1.0.0/16]"},
		{"a VNet without subnets", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16")}), flow.ErrMissing, "VNet.Subnets []"},
		{"subnets without a VNet", vnet(VNet{Subnets: []Subnet{{"a", pfx("10.2.0.0/24")}}}), flow.ErrMissing, "VNet.AddressSpaces []"},
		{"a subnet without a name", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"", pfx("10.1.0.0/24")}}}), flow.ErrMissing, `VNet.Subnets[0].Name ""`},
		{"two subnets of one name", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/24")}, {"a", pfx("10.1.1.0/24")}}}), flow.ErrDuplicateName, `VNet.Subnets[1].Name "a"`},
		{"a subnet without IPv6", dual(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/24")}}}
		}), ErrFamily, "VNet.Subnets[0].AddressPrefixes [10.1.0.0/24]: wrong address family: needs an IPv6 prefix"},
		{"a subnet too small for its pools", single(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/28")}}}
			c.NodePools = []NodePool{{Count: 6}, {Count: 6}}
		}), ErrTooManyNodes, "VNet.Subnets[0].AddressPrefixes[0] 10.1.0.0/28: too many nodes: has room for 11 nodes, the pools in it may have 12"},
		{"a long VNet name", vnet(VNet{Name: long}), flow.ErrOutOfRange, "has 64 characters, must be at most 63"},
		{"a long resource group name", vnet(VNet{ResourceGroup: long}), flow.ErrOutOfRange, "VNet.ResourceGroup"},
		{"a long subnet name", vnet(VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{long, pfx("10.1.0.0/24")}}}), flow.ErrOutOfRange, "VNet.Subnets[0].Name"},
		{"host bits in an address space", vnet(VNet{AddressSpaces: pfx("10.1.2.3/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/24")}}}), flow.ErrPrefix, "VNet.AddressSpaces[0] 10.1.2.3/16"},
		{"host bits in a peered prefix", vnet(VNet{PeeredPrefixes: pfx("192.168.1.1/16")}), flow.ErrPrefix, "VNet.PeeredPrefixes[0]"},

		{"a DNS service IP that the service CIDR is too small for", single(func(c *ClusterConfig) { c.ServiceCIDRs = pfx("10.0.0.0/29") }), flow.ErrOutOfRange, "DNSServiceIP 10.0.0.10: out of range: must lie inside ServiceCIDRs[0] 10.0.0.0/29"},
		{"the base of the service CIDR as DNS service IP", single(func(c *ClusterConfig) { c.DNSServiceIP = netip.MustParseAddr("10.0.0.0") }), ErrReserved, "DNSServiceIP 10.0.0.0"},
		{"an IPv6 DNS service IP", dual(func(c *ClusterConfig) { c.DNSServiceIP = netip.MustParseAddr("fd12:3456:789a:1::a") }), flow.ErrOutOfRange, "DNSServiceIP fd12:3456:789a:1::a"},

		{"no nodes", ClusterConfig{}, flow.ErrMissing, "NodePools: missing: 0 nodes"},
		{"a negative count", pool(NodePool{Count: -1}), flow.ErrOutOfRange, "NodePools[0].Count -1: out of range: 0..1000"},
		{"a pool of 1,001", pool(NodePool{Count: 1001}), flow.ErrOutOfRange, "NodePools[0].Count 1001"},
		{"an autoscaler maximum of 1,001", pool(NodePool{Count: 1, MaxCount: 1001}), flow.ErrOutOfRange, "NodePools[0].MaxCount 1001"},
		{"a negative autoscaler minimum", pool(NodePool{Count: 1, MinCount: -1, MaxCount: 3}), flow.ErrOutOfRange, "NodePools[0].MinCount -1"},
		{"a minimum above the maximum", pool(NodePool{Count: 3, MinCount: 4, MaxCount: 3}), flow.ErrOutOfRange, "NodePools[0].MaxCount 3: out of range: 4..1000"},
		{"a minimum without maximum", pool(NodePool{Count: 3, MinCount: 1}), flow.ErrOutOfRange, "NodePools[0].MaxCount 0: out of range: 1..1000"},
		{"a count outside the autoscaler's bounds", pool(NodePool{Count: 9, MinCount: 1, MaxCount: 3}), flow.ErrOutOfRange, "NodePools[0].Count 9: out of range: 1..3"},
		{"5,001 nodes", single(func(c *ClusterConfig) {
			c.PodCIDRs = pfx("10.32.0.0/11")
			c.NodePools = []NodePool{{Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1}}
		}), ErrTooManyNodes, "NodePools: too many nodes: 5001, a cluster has at most 5000"},
		{"too few MaxPods", pool(NodePool{Count: 1, MaxPods: 9}), flow.ErrOutOfRange, "NodePools[0].MaxPods 9: out of range: 10..250"},
		{"no surge at all", pool(NodePool{Count: 1, MaxSurge: "-1"}), flow.ErrOutOfRange, `NodePools[0].MaxSurge "-1"`},
		{"a surge that is no number", pool(NodePool{Count: 1, MaxSurge: "some"}), flow.ErrSyntax, `NodePools[0].MaxSurge "some"`},
		{"an unknown subnet", pool(NodePool{Count: 1, Subnet: "x"}), flow.ErrUnknownName, `NodePools[0].Subnet "x"`},
		{"two pools of one name", single(func(c *ClusterConfig) { c.NodePools = []NodePool{{Name: "a", Count: 1}, {Name: "a", Count: 1}} }), flow.ErrDuplicateName, `NodePools[1].Name "a"`},

		{"101 managed IPs", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPCount = 101 }), flow.ErrOutOfRange, "LoadBalancerProfile.ManagedOutboundIPCount 101: out of range: 1..100"},
		{"a negative number of managed IPs", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPCount = -1 }), flow.ErrOutOfRange, "LoadBalancerProfile.ManagedOutboundIPCount -1"},
		{"managed IPv6 in an IPv4 cluster", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPCountIPv6 = 1 }), ErrFamily, "LoadBalancerProfile.ManagedOutboundIPCountIPv6 1"},
		{"101 managed IPv6 addresses", dual(func(c *ClusterConfig) { c.LoadBalancerProfile.ManagedOutboundIPCountIPv6 = 101 }), flow.ErrOutOfRange, "LoadBalancerProfile.ManagedOutboundIPCountIPv6 101"},
		{"managed and own IPs", profile(func(p *LoadBalancerProfile) {
			p.ManagedOutboundIPCount = 1
			p.OutboundIPs = addrs("203.0.113.7")
		}), flow.ErrConflict, "LoadBalancerProfile.ManagedOutboundIPCount 1: conflict"},
		{"managed IPv6 and own prefixes", dual(func(c *ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPCountIPv6 = 1
			c.LoadBalancerProfile.OutboundIPPrefixes = pfx("203.0.113.0/28", "2001:db8::/124")
		}), flow.ErrConflict, "LoadBalancerProfile.ManagedOutboundIPCountIPv6 1: conflict"},
		{"a managed range too small", profile(func(p *LoadBalancerProfile) {
			p.ManagedOutboundIPCount = 4
			p.ManagedOutboundIPRanges = pfx("20.60.0.0/30")
		}), flow.ErrOutOfRange, "LoadBalancerProfile.ManagedOutboundIPRanges[0] 20.60.0.0/30: out of range: is too small for 4 managed outbound IPs"},
		{"two managed ranges of one family", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPRanges = pfx("20.60.0.0/24", "20.61.0.0/24") }), flow.ErrConflict, "LoadBalancerProfile.ManagedOutboundIPRanges[1] 20.61.0.0/24"},
		{"a managed range with host bits", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPRanges = pfx("20.60.0.1/24") }), flow.ErrPrefix, "LoadBalancerProfile.ManagedOutboundIPRanges[0]"},
		{"a managed range among the pods", profile(func(p *LoadBalancerProfile) { p.ManagedOutboundIPRanges = pfx("10.244.7.0/24") }), flow.ErrOverlap, "LoadBalancerProfile.ManagedOutboundIPRanges 10.244.7.0/24: overlap: with PodCIDRs[0]"},
		{"own IPs without IPv6", dual(func(c *ClusterConfig) { c.LoadBalancerProfile.OutboundIPs = addrs("203.0.113.7") }), flow.ErrMissing, "LoadBalancerProfile.OutboundIPs [203.0.113.7]: missing: no IPv6 address"},
		{"an own IPv6 address in an IPv4 cluster", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("203.0.113.7", "2001:db8::1") }), ErrFamily, "LoadBalancerProfile.OutboundIPs[1] 2001:db8::1"},
		{"an own IP given twice", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("203.0.113.7", "203.0.113.7") }), flow.ErrOverlap, "LoadBalancerProfile.OutboundIPs[1]"},
		{"an own IP inside an own prefix", profile(func(p *LoadBalancerProfile) {
			p.OutboundIPs = addrs("203.0.113.7")
			p.OutboundIPPrefixes = pfx("203.0.113.0/28")
		}), flow.ErrOverlap, "LoadBalancerProfile.OutboundIPPrefixes[0] 203.0.113.0/28"},
		{"an own IP inside the VNet", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("10.225.0.1") }), flow.ErrOverlap, "with VNet.AddressSpaces[0] 10.224.0.0/12"},
		{"a multicast outbound IP", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("224.0.0.1") }), flow.ErrAddress, "LoadBalancerProfile.OutboundIPs[0] 224.0.0.1"},
		{"an invalid outbound IP", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = make([]netip.Addr, 1) }), flow.ErrAddress, "LoadBalancerProfile.OutboundIPs[0] invalid IP"},
		{"a prefix with host bits", profile(func(p *LoadBalancerProfile) { p.OutboundIPPrefixes = pfx("203.0.113.1/28") }), flow.ErrPrefix, "LoadBalancerProfile.OutboundIPPrefixes[0]"},
		{"a link-local outbound IP", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("169.254.1.1") }), flow.ErrAddress, "LoadBalancerProfile.OutboundIPs[0] 169.254.1.1"},
		{"a link-local IPv6 outbound IP", profile(func(p *LoadBalancerProfile) { p.OutboundIPs = addrs("fe80::1") }), flow.ErrAddress, "LoadBalancerProfile.OutboundIPs[0] fe80::1"},
		{"a prefix of half the Internet", profile(func(p *LoadBalancerProfile) { p.OutboundIPPrefixes = pfx("0.0.0.0/1") }), ErrReserved, "LoadBalancerProfile.OutboundIPPrefixes[0] 0.0.0.0/1"},
		{"a prefix of a good part of the Internet", profile(func(p *LoadBalancerProfile) { p.OutboundIPPrefixes = pfx("8.0.0.0/5") }), flow.ErrOverlap, "LoadBalancerProfile.OutboundIPPrefixes[0] 8.0.0.0/5"},
		{"a link-local prefix", profile(func(p *LoadBalancerProfile) { p.OutboundIPPrefixes = pfx("fe80::/124") }), ErrReserved, "LoadBalancerProfile.OutboundIPPrefixes[0] fe80::/124"},
		{"a link-local pod CIDR", dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16", "fe80::/64") }), ErrReserved, "PodCIDRs[1] fe80::/64"},
		{"a loopback pod CIDR", single(func(c *ClusterConfig) { c.PodCIDRs = pfx("127.0.0.0/16") }), ErrReserved, "PodCIDRs[0] 127.0.0.0/16"},
		{"a multicast subnet", vnet(VNet{AddressSpaces: pfx("224.0.0.0/16"), Subnets: []Subnet{{"s", pfx("224.0.0.0/16")}}}), ErrReserved, "VNet.Subnets[0].AddressPrefixes[0] 224.0.0.0/16"},

		{"ports that are no multiple of 8", profile(func(p *LoadBalancerProfile) {
			p.ManagedOutboundIPCount = 1
			p.AllocatedOutboundPorts = 12
		}), lb.ErrNotBlockMultiple, "LoadBalancerProfile.AllocatedOutboundPorts 12"},
		{"negative ports", profile(func(p *LoadBalancerProfile) {
			p.ManagedOutboundIPCount = 1
			p.AllocatedOutboundPorts = -8
		}), flow.ErrOutOfRange, "LoadBalancerProfile.AllocatedOutboundPorts -8"},
		{"more ports than 64,000", profile(func(p *LoadBalancerProfile) {
			p.ManagedOutboundIPCount = 9
			p.AllocatedOutboundPorts = 64008
		}), flow.ErrOutOfRange, "LoadBalancerProfile.AllocatedOutboundPorts 64008"},
		{"ports without outbound IPs", profile(func(p *LoadBalancerProfile) { p.AllocatedOutboundPorts = 1024 }), flow.ErrMissing, "LoadBalancerProfile.AllocatedOutboundPorts 1024: missing: needs ManagedOutboundIPCount"},
		{"an idle timeout of 3 minutes", profile(func(p *LoadBalancerProfile) { p.IdleTimeout = 3 * time.Minute }), flow.ErrOutOfRange, "LoadBalancerProfile.IdleTimeout 3m0s: out of range: must be 4 to 120 whole minutes"},
		{"an idle timeout of 121 minutes", profile(func(p *LoadBalancerProfile) { p.IdleTimeout = 121 * time.Minute }), flow.ErrOutOfRange, "LoadBalancerProfile.IdleTimeout 2h1m0s"},
		{"an idle timeout in seconds", profile(func(p *LoadBalancerProfile) { p.IdleTimeout = 270 * time.Second }), flow.ErrOutOfRange, "LoadBalancerProfile.IdleTimeout 4m30s"},
		{"an outbound prefix of more addresses than a load balancer takes", profile(func(p *LoadBalancerProfile) { p.OutboundIPPrefixes = pfx("20.0.0.0/16") }), flow.ErrOutOfRange, "20.0.0.0/16"},
		{"65 shards", single(func(c *ClusterConfig) { c.Shards = 65 }), flow.ErrOutOfRange, "Shards 65"},
		{"an unknown way of sharing ports", single(func(c *ClusterConfig) { c.UDP.Share = 9 }), flow.ErrOutOfRange, "UDP.Share 9"},
		{"a negative timeout", single(func(c *ClusterConfig) { c.Timeouts.UDP = -1 }), flow.ErrTimeout, "Timeouts"},
		{"an unknown layout", profile(func(p *LoadBalancerProfile) { p.Layout = 9 }), flow.ErrOutOfRange, "Layout"},
		{"all ports in use, strictly", profile(func(p *LoadBalancerProfile) {
			*p = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 16_000, Strict: true}
		}), lb.ErrInsufficientOutboundPorts, "one must stay free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			require.ErrorIs(t, err, tt.kind)
			require.ErrorContains(t, err, tt.text)
			_, newErr := New(tt.cfg)
			require.Equal(t, err.Error(), newErr.Error())
		})
	}
}

// One look at the error must be enough to repair the configuration.
func TestValidate_reportsAllProblemsAtOnce(t *testing.T) {
	c := ClusterConfig{
		IPFamilies:          "ipv6",
		PodCIDRs:            pfx("172.16.0.0/12"),
		ServiceCIDRs:        pfx("11.0.0.0/12"),
		DNSServiceIP:        netip.MustParseAddr("10.0.0.10"),
		VNet:                VNet{Name: strings.Repeat("v", 64)},
		NodePools:           []NodePool{{Count: 1, MaxPods: 251, MaxSurge: "x"}},
		LoadBalancerProfile: LoadBalancerProfile{ManagedOutboundIPCount: 101, AllocatedOutboundPorts: 12, IdleTimeout: time.Minute},
	}
	err := c.Validate()
	for _, field := range []string{
		"IPFamilies", "PodCIDRs[0]", "ServiceCIDRs[0]", "DNSServiceIP", "VNet.Name", "NodePools[0].MaxPods", "NodePools[0].MaxSurge",
		"LoadBalancerProfile.ManagedOutboundIPCount", "LoadBalancerProfile.AllocatedOutboundPorts", "LoadBalancerProfile.IdleTimeout",
	} {
		require.ErrorContains(t, err, field+" ")
	}
	for _, kind := range []error{ErrFamily, ErrReserved, flow.ErrOutOfRange, flow.ErrSyntax, lb.ErrNotBlockMultiple} {
		require.ErrorIs(t, err, kind)
	}
	require.Equal(t, 0, strings.Count(err.Error(), "%!"), "format verbs")
}

func TestValidate_leavesTheConfigurationAlone(t *testing.T) {
	c, want := dual(nil), dual(nil)
	require.NoError(t, c.Validate())
	require.Equal(t, want, c)

	// What New keeps does not change when the caller's slices do.
	c.PodCIDRs = pfx("10.244.0.0/16", "fd12:3456:789a::/64")
	d := c.withDefaults()
	c.PodCIDRs[0] = netip.MustParsePrefix("10.99.0.0/16")
	c.NodePools[0].Name = "changed"
	require.Equal(t, "10.244.0.0/16", d.PodCIDRs[0].String())
	require.Equal(t, "nodepool1", d.NodePools[0].Name)
}

func TestWithDefaults(t *testing.T) {
	d := dual(nil).withDefaults()
	require.Equal(t, pfx("10.244.0.0/16", "fd12:3456:789a::/64"), d.PodCIDRs)
	require.Equal(t, pfx("10.0.0.0/16", "fd12:3456:789a:1::/108"), d.ServiceCIDRs)
	require.Equal(t, "10.0.0.10", d.DNSServiceIP.String())
	require.Equal(t, 250, d.NodePools[0].MaxPods)
	require.Equal(t, "1", d.NodePools[0].MaxSurge)
	require.Equal(t, 30*time.Minute, d.LoadBalancerProfile.IdleTimeout)
	require.Equal(t, 1, d.LoadBalancerProfile.ManagedOutboundIPCount)
	require.Equal(t, 1, d.LoadBalancerProfile.ManagedOutboundIPCountIPv6)
	require.Equal(t, 0, single(nil).withDefaults().LoadBalancerProfile.ManagedOutboundIPCountIPv6)
	own := single(func(c *ClusterConfig) { c.LoadBalancerProfile.OutboundIPs = addrs("203.0.113.7") }).withDefaults()
	require.Equal(t, 0, own.LoadBalancerProfile.ManagedOutboundIPCount)
	require.Equal(t, "172.20.0.10", single(func(c *ClusterConfig) { c.ServiceCIDRs = pfx("172.20.0.0/16") }).withDefaults().DNSServiceIP.String())
}

func FuzzValidate(f *testing.F) {
	f.Add("ipv4,ipv6", "10.244.0.0/16", "10.0.0.0/16", "10.224.0.0/16", "203.0.113.7", 3, 0, 1024)
	f.Add("ipv4", "fd00::/8", "::/0", "0.0.0.0/0", "::1", -1, 1<<20, 12)
	f.Add("", "10.244.0.0/24", "bad", "10.0.0.0/32", "", 1, 2, -8)
	f.Fuzz(func(t *testing.T, families, pods, services, subnet, own string, count, maxCount, ports int) {
		prefix := func(s string) []netip.Prefix {
			p, _ := netip.ParsePrefix(s) // an invalid one is a case of its own
			return []netip.Prefix{p}
		}
		c := ClusterConfig{
			IPFamilies: families, PodCIDRs: prefix(pods), ServiceCIDRs: prefix(services),
			VNet:      VNet{AddressSpaces: prefix(subnet), Subnets: []Subnet{{"s", prefix(subnet)}}},
			NodePools: []NodePool{{Count: count, MaxCount: maxCount}},
		}
		if a, err := netip.ParseAddr(own); err == nil {
			c.LoadBalancerProfile = LoadBalancerProfile{OutboundIPs: []netip.Addr{a}, AllocatedOutboundPorts: ports}
		}
		err := c.Validate()
		if err != nil && !strings.Contains(families, "%") && strings.Contains(err.Error(), "%!") {
			t.Fatalf("bad message: %v", err)
		}
		if err == nil {
			checkPlan(t, c)
		}
	})
}
