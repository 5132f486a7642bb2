package overlay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Statements of the Azure documents on Azure CNI Overlay and on node public IPs that have no worked
// example.

func TestAzureRow_5_podCIDRDefault(t *testing.T) {
	c := newCluster(t, ClusterConfig{IPFamilies: "ipv4,ipv6", NodePools: []NodePool{{Count: 2}}})
	s := c.state.Load().config
	require.Equal(t, pfx("10.244.0.0/16", "fd12:3456:789a::/64"), s.PodCIDRs)
	require.Equal(t, pfx("10.0.0.0/16", "fd12:3456:789a:1::/108"), s.ServiceCIDRs)
	require.Equal(t, "10.0.0.10", s.DNSServiceIP.String())
	nodes := c.Nodes()
	require.Equal(t, 250, nodes[0].MaxPods)
	require.Equal(t, pfx("10.244.1.0/24", "fd12:3456:789a:0:1::/80"), nodes[1].PodBlocks, "each node the next one")
}

func TestAzureRow_5_overlaps(t *testing.T) {
	for name, edit := range map[string]func(*ClusterConfig){
		"pods and subnet":     func(c *ClusterConfig) { c.PodCIDRs = pfx("10.1.0.0/16") },
		"pods and Services":   func(c *ClusterConfig) { c.PodCIDRs = pfx("10.0.0.0/16") },
		"pods and peered":     func(c *ClusterConfig) { c.PodCIDRs = pfx("192.168.0.0/16") },
		"Services and subnet": func(c *ClusterConfig) { c.ServiceCIDRs, c.DNSServiceIP = pfx("10.1.0.0/24"), netip.Addr{} },
		"Services and peered": func(c *ClusterConfig) { c.ServiceCIDRs, c.DNSServiceIP = pfx("192.168.8.0/24"), netip.Addr{} },
	} {
		cfg := single(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"nodes", pfx("10.1.0.0/24")}}, PeeredPrefixes: pfx("192.168.0.0/16")}
		})
		require.NoError(t, cfg.Validate())
		edit(&cfg)
		require.ErrorIs(t, cfg.Validate(), flow.ErrOverlap, name)
	}
}

func TestAzureRow_5_names(t *testing.T) {
	for length, ok := range map[int]bool{63: true, 64: false} {
		name := strings.Repeat("n", length)
		cfg := single(func(c *ClusterConfig) {
			c.VNet = VNet{Name: name, ResourceGroup: name, AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{name, pfx("10.1.0.0/24")}}}
		})
		if ok {
			require.NoError(t, cfg.Validate())
			continue
		}
		for _, field := range []string{"VNet.Name", "VNet.ResourceGroup", "VNet.Subnets[0].Name"} {
			require.ErrorContains(t, cfg.Validate(), field)
		}
	}
}

// Clusters of one VNet may have the same pod CIDR: each is a routing domain.
func TestAzureRow_5_samePodCIDR(t *testing.T) {
	subnets := []Subnet{{"a", pfx("10.1.0.0/24")}, {"b", pfx("10.1.1.0/24")}}
	for i, node := range []string{"10.1.0.4", "10.1.1.4"} {
		n := &network{T: t, Cluster: newCluster(t, single(func(c *ClusterConfig) {
			c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: subnets}
			c.NodePools = []NodePool{{Count: 1, Subnet: subnets[i].Name}}
		}))}
		n.sends(pkttest.UDP("10.244.0.2:5000", "10.1.77.1:53", "q"), node)
		n.takes(pkttest.UDP("10.1.77.1:53", node+":5000", "a"), "10.244.0.2")
	}
}

// A pool may have a subnet of its own, whose addresses its nodes have.
func TestAzureRow_5_poolSubnet(t *testing.T) {
	n := &network{T: t, Cluster: newCluster(t, single(func(c *ClusterConfig) {
		c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"a", pfx("10.1.0.0/24")}, {"b", pfx("10.1.9.0/24")}}}
		c.NodePools = []NodePool{{Count: 1}, {Count: 1, Subnet: "b"}}
	}))}
	for pod, node := range map[string]string{"10.244.0.2": "10.1.0.4", "10.244.1.2": "10.1.9.4"} {
		n.sends(pkttest.UDP(pod+":5000", "10.1.77.1:53", "q"), node)
		n.sends(pkttest.UDP(pod+":5000", "198.51.100.9:53", "q"), "20.50.1.1")
	}
}

// Dual-stack clusters go with neither NAT gateways of SKU Standard nor Azure NPM nor Calico.
func TestAzureRow_5_dualStackNotWith(t *testing.T) {
	for outbound, want := range map[OutboundType]error{OutboundManagedNATGateway: flow.ErrConflict, OutboundManagedNATGatewayV2: nil} {
		cfg := dual(func(c *ClusterConfig) { c.OutboundType, c.LoadBalancerProfile = outbound, LoadBalancerProfile{} })
		require.ErrorIs(t, cfg.Validate(), want, outbound)
	}
	for engine, want := range map[cni.PolicyEngine]error{cni.Azure: flow.ErrConflict, cni.Calico: flow.ErrConflict, cni.Cilium: nil} {
		require.ErrorIs(t, dual(func(c *ClusterConfig) { c.NetworkPolicyEngine = engine }).Validate(), want, engine)
	}
}

// Whether nodes have public addresses, and from which prefix, stays as it is while a pool exists.
func TestAzureRow_6_enable_fixed(t *testing.T) {
	n := newNetwork(t, publicPool(2, "80/tcp", "20.61.0.0/28", "2001:db8:61::/124"))
	for name, edit := range map[string]func(*NodePublicIP){
		"Enabled":  func(p *NodePublicIP) { *p = NodePublicIP{} },
		"Prefixes": func(p *NodePublicIP) { p.Prefixes = nil },
		"Tags":     func(p *NodePublicIP) { p.Tags = []string{"RoutingPreference=Internet"} },
	} {
		cfg := n.Config()
		edit(&cfg.NodePools[0].NodePublicIP)
		_, err := n.Reconfigure(0, cfg)
		require.ErrorIs(t, err, snat.ErrFixed)
		require.ErrorContains(t, err, "NodePublicIP."+name)
	}
	n.change(func(c *ClusterConfig) { c.NodePools[0].NodePublicIP.AllowedHostPorts = "443/tcp" })
}

// An automatic host port is given once, whatever the protocol.
func TestAzureRow_6_range(t *testing.T) {
	n := newNetwork(t, nil)
	seen := map[uint16]bool{}
	for i, node := range n.Nodes() {
		pod := n.pod(node.Name, fmt.Sprint("pod", i))
		ports, err := n.OpenHostPorts(pod.Name, "d", []ContainerPort{{Protocol: snat.TCP, Port: 53}, {Protocol: snat.UDP, Port: 53}}, "53/tcp,53/udp")
		require.NoError(t, err)
		for _, p := range ports {
			require.False(t, seen[p.HostPort])
			require.True(t, p.HostPort >= 40_000 && p.HostPort <= 59_999)
			seen[p.HostPort] = true
		}
	}
}

// Blocks are given by number, the lowest that is free first, to whoever comes.
func TestAzureRow_5_podBlock(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.NodePools = []NodePool{{Name: "a", Count: 3}, {Name: "b", Count: 1}} })
	_, err := n.RemoveNodes(0, "aks-a-vmss000001")
	require.NoError(t, err)
	names, _, err := n.AddNodes(0, "b", 2)
	require.NoError(t, err)
	for i, want := range []string{"10.244.1.0/24", "10.244.4.0/24"} {
		node, ok := n.Node(names[i])
		require.True(t, ok)
		require.Equal(t, want, node.PodBlocks[ipv4].String())
		pod := n.pod(node.Name, names[i])
		require.True(t, node.PodBlocks[ipv4].Contains(pod.Addrs[ipv4]))
		n.sends(pkttest.UDP(endpoint(pod.Addrs[ipv4].String(), 5000), "10.1.77.1:53", "q"), node.Addrs[ipv4].String())
	}
	require.ErrorIs(t, single(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/25") }).Validate(), flow.ErrOutOfRange)
}

func TestAzureRow_5_podBlockIPv6(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.NodePools[0].Count = 3 })
	for i, want := range []string{"fd12:3456:789a::/80", "fd12:3456:789a:0:1::/80", "fd12:3456:789a:0:2::/80"} {
		node := n.Nodes()[i]
		require.Equal(t, want, node.PodBlocks[ipv6].String())
		first := node.PodBlocks[ipv6].Addr().Next().Next().String()
		n.sends(pkttest.UDP(endpoint(first, 5000), "[fd00:1::99]:53", "q"), node.Addrs[ipv6].String())
	}
	require.ErrorIs(t, dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16", "fd12::/81") }).Validate(), flow.ErrOutOfRange)
}

// A node runs as many pods as its pool says, which stays so.
func TestAzureRow_5_maxPods(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.NodePools = []NodePool{{Count: 1}, {Count: 1, MaxPods: 10}} })
	for i, most := range []int{250, 10} {
		node := n.Nodes()[i].Name
		for k := range most {
			n.pod(node, fmt.Sprint(i, "-", k))
		}
		_, err := n.AddPod(node, "one more")
		require.ErrorIs(t, err, ErrTooManyPods)
	}
	cfg := n.Config()
	cfg.NodePools[1].MaxPods = 20
	_, err := n.Reconfigure(0, cfg)
	require.ErrorIs(t, err, snat.ErrFixed)
	for maxPods, want := range map[int]error{9: flow.ErrOutOfRange, 251: flow.ErrOutOfRange, 10: nil, 250: nil} {
		require.ErrorIs(t, single(func(c *ClusterConfig) { c.NodePools[0].MaxPods = maxPods }).Validate(), want, maxPods)
	}
}

func TestAzureRow_5_clusterSize(t *testing.T) {
	with := func(counts ...int) error {
		return single(func(c *ClusterConfig) {
			c.PodCIDRs, c.NodePools = pfx("10.32.0.0/11"), nil
			for _, n := range counts {
				c.NodePools = append(c.NodePools, NodePool{Count: n})
			}
			c.LoadBalancerProfile.ManagedOutboundIPCount = 6
		}).Validate()
	}
	require.NoError(t, with(1000, 1000, 1000, 1000, 1000))
	require.ErrorIs(t, with(1000, 1000, 1000, 1000, 1000, 1), ErrTooManyNodes)
	require.ErrorIs(t, with(1001), flow.ErrOutOfRange)
	n := newNetwork(t, func(c *ClusterConfig) {
		c.IPFamilies, c.VNet, c.PodCIDRs = "ipv4", VNet{}, pfx("10.32.0.0/11")
		c.NodePools = []NodePool{{Name: "a", Count: 999}}
	})
	_, _, err := n.AddNodes(0, "a", 2)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	require.Len(t, n.Nodes(), 999)
}

// scarce is a cluster that has room for so many nodes and no more.
func scarce(t *testing.T, room int, edit func(*ClusterConfig)) {
	n := &network{T: t, Cluster: newCluster(t, single(func(c *ClusterConfig) {
		c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"nodes", pfx("10.1.0.0/24")}}}
		c.NodePools = []NodePool{{Name: "a", Count: room - 1}}
		edit(c)
	}))}
	_, _, err := n.AddNodes(0, "a", 2)
	require.ErrorIs(t, err, ErrTooManyNodes)
	_, _, err = n.AddNodes(0, "a", 1)
	require.NoError(t, err)
	_, _, err = n.AddNodes(0, "a", 1)
	require.ErrorIs(t, err, ErrTooManyNodes)
	require.Len(t, n.Nodes(), room)
	last := n.Nodes()[room-1]
	n.sends(pkttest.UDP(endpoint(last.PodBlocks[ipv4].Addr().Next().Next().String(), 5000), "10.1.77.1:53", "q"), last.Addrs[ipv4].String())
}

func TestAzureRow_5_nodesByPodCIDR(t *testing.T) {
	for cidr, room := range map[string]int{"10.244.0.0/23": 2, "10.244.0.0/21": 8, "10.244.0.0/18": 64} {
		scarce(t, room, func(c *ClusterConfig) { c.PodCIDRs = pfx(cidr) })
	}
}

func TestAzureRow_5_nodesBySubnet(t *testing.T) {
	for subnet, room := range map[string]int{"10.1.0.0/29": 3, "10.1.0.0/28": 11, "10.1.0.0/26": 59} {
		scarce(t, room, func(c *ClusterConfig) { c.VNet.Subnets[0].AddressPrefixes = pfx(subnet) })
	}
}

func TestAzureRow_5_serviceCIDRSize(t *testing.T) {
	for cidr, ok := range map[string]bool{"100.64.0.0/10": false, "10.0.0.0/12": false, "10.0.0.0/13": true, "10.0.0.0/28": true, "fd00:7::/64": false, "fd00:7::/107": false, "fd00:7::/108": true, "fd00:7::/112": true} {
		err := dual(func(c *ClusterConfig) {
			c.ServiceCIDRs = pfx("10.0.0.0/16", "fd12:3456:789a:1::/108")
			c.ServiceCIDRs[familyOf(netip.MustParsePrefix(cidr).Addr())] = netip.MustParsePrefix(cidr)
		}).Validate()
		if ok {
			require.NoError(t, err, cidr)
			continue
		}
		require.ErrorIs(t, err, flow.ErrOutOfRange, cidr)
		require.ErrorContains(t, err, cidr)
	}
}

// Ranges that AKS keeps are for neither pods, Services nor the VNet, nor is what contains them or
// lies in them.
func TestAzureRow_5_reservedRanges(t *testing.T) {
	for _, r := range []string{"169.254.0.0/16", "169.254.8.0/21", "172.30.0.0/16", "172.31.0.0/16", "172.30.0.0/15", "192.0.2.0/24"} {
		for field, edit := range map[string]func(*ClusterConfig){
			"PodCIDRs":           func(c *ClusterConfig) { c.PodCIDRs = pfx(r) },
			"ServiceCIDRs":       func(c *ClusterConfig) { c.ServiceCIDRs = pfx(r) },
			"VNet.AddressSpaces": func(c *ClusterConfig) { c.VNet = VNet{AddressSpaces: pfx(r), Subnets: []Subnet{{"s", pfx(r)}}} },
		} {
			err := single(edit).Validate()
			require.ErrorIs(t, err, ErrReserved, "%s %s", field, r)
			require.ErrorContains(t, err, field+"[0] "+r)
		}
	}
}

// Families come in one order, and CIDRs in the same.
func TestAzureRow_5_ipFamilies(t *testing.T) {
	for _, tt := range []struct {
		families       string
		pods, services []string
		ok             bool
	}{
		{"ipv4", []string{"10.244.0.0/16"}, []string{"10.0.0.0/16"}, true},
		{"ipv4,ipv6", []string{"10.244.0.0/16", "fd12::/64"}, []string{"10.0.0.0/16", "fd13::/108"}, true},
		{"ipv6", []string{"fd12::/64"}, []string{"fd13::/108"}, false},
		{"ipv6,ipv4", []string{"fd12::/64", "10.244.0.0/16"}, []string{"fd13::/108", "10.0.0.0/16"}, false},
		{"ipv4,ipv6", []string{"fd12::/64", "10.244.0.0/16"}, []string{"10.0.0.0/16", "fd13::/108"}, false},
		{"ipv4,ipv6", []string{"10.244.0.0/16", "fd12::/64"}, []string{"fd13::/108", "10.0.0.0/16"}, false},
		{"ipv4,ipv6", []string{"10.244.0.0/16"}, []string{"10.0.0.0/16", "fd13::/108"}, false},
		{"ipv4,ipv6", []string{"10.244.0.0/16", "fd12::/64"}, []string{"10.0.0.0/16"}, false},
		{"ipv4", []string{"10.244.0.0/16", "fd12::/64"}, []string{"10.0.0.0/16"}, false},
	} {
		err := single(func(c *ClusterConfig) {
			c.IPFamilies, c.PodCIDRs, c.ServiceCIDRs = tt.families, pfx(tt.pods...), pfx(tt.services...)
		}).Validate()
		if tt.ok {
			require.NoError(t, err, "%v", tt)
		} else {
			require.ErrorIs(t, err, ErrFamily, "%v", tt)
		}
	}
}

func TestAzureRow_6_dualStack(t *testing.T) {
	for _, tt := range []struct {
		prefixes []string
		is       error
	}{{[]string{public4}, flow.ErrMissing}, {[]string{public6, public4}, ErrFamily}, {[]string{public4, public6}, nil}} {
		require.ErrorIs(t, dual(publicPool(2, "", tt.prefixes...)).Validate(), tt.is, "%v", tt.prefixes)
	}
	n := newNetwork(t, publicPool(2, "", public4, public6))
	for f, remote := range []string{"198.51.100.9:443", "[2001:db8:ffff::9]:443"} {
		for _, node := range n.Nodes() {
			require.True(t, pfx(public4, public6)[f].Contains(node.PublicAddrs[f]))
			n.sends(syn(netip.AddrPortFrom(node.Addrs[f], 5000).String(), remote), node.PublicAddrs[f].String())
		}
	}
}

// The one tag that there is changes no packet.
func TestAzureRow_6_ipTags(t *testing.T) {
	tagged := func(tags ...string) func(*ClusterConfig) {
		return func(c *ClusterConfig) {
			publicPool(1, "", public4, public6)(c)
			c.NodePools[0].NodePublicIP.Tags = tags
		}
	}
	n := newNetwork(t, tagged("RoutingPreference=Internet"))
	n.sends(syn("10.1.0.4:5000", "198.51.100.9:443"), "203.0.113.16")
	require.Equal(t, []string{"RoutingPreference=Internet"}, n.Config().NodePools[0].NodePublicIP.Tags)
	for _, tag := range []string{"RoutingPreference=MicrosoftNetwork", "RoutingPreference", ""} {
		require.ErrorIs(t, dual(tagged(tag)).Validate(), flow.ErrOutOfRange, tag)
	}
}

// reachable says which ports the Internet reaches a node at by TCP.
func reachable(t *testing.T, hostPorts string, ports ...int) (all []int) {
	n := newNetwork(t, publicPool(1, hostPorts, public4, public6))
	for _, port := range ports {
		if v := n.Inbound(0, syn(client4, endpoint("203.0.113.16", port))); v.Action == flow.Forward {
			all = append(all, port)
		} else {
			n.drops(v, flow.ReasonNSGInbound)
		}
	}
	return all
}

func TestAzureRow_6_allowedHostPorts(t *testing.T) {
	probe := []int{22, 79, 80, 81, 442, 443, 444, 49999, 50000, 50001, 65535}
	for list, want := range map[string][]int{"80/tcp": {80}, "80/tcp,443/tcp": {80, 443}, "443-50000/tcp": {443, 444, 49999, 50000}, "80/udp": nil} {
		require.Equal(t, want, reachable(t, list, probe...), list)
	}
}

// The document's own lists.
func TestAzureRow_6_validExamples(t *testing.T) {
	for list, want := range map[string][]int{
		"80/tcp": {80}, "80/tcp,443/tcp": {80, 443}, "53/udp,80/tcp": {80}, "50000-60000/tcp": {50000, 60000},
		"80/tcp,443/tcp,53/udp,40000-60000/tcp,40000-50000/udp": {80, 443, 40000, 50000, 60000},
	} {
		require.Equal(t, want, reachable(t, list, 53, 80, 443, 39999, 40000, 50000, 60000, 60001), list)
	}
}

func TestAzureRow_6_parser(t *testing.T) {
	for _, list := range []string{"1/tcp", "65535/UDP", " 80 / Tcp , 80-90/tcp", "80-80/tcp", "80/tcp,80/tcp", "1-65535/tcp,2-3/tcp"} {
		require.NoError(t, dual(publicPool(1, list)).Validate(), list)
	}
	for _, list := range []string{"0/tcp", "65536/tcp", "90-80/tcp", "80", "80/icmp", "80/sctp", "80/tcp,", ",80/tcp", "80/tcp,,81/tcp", "/tcp", "a/tcp", "-80/tcp", "80-/tcp", "80/tcp/udp", "8 0/tcp", "+80/tcp"} {
		err := dual(publicPool(1, list)).Validate()
		require.ErrorIs(t, err, flow.ErrSyntax, list)
		require.ErrorContains(t, err, "NodePools[0].NodePublicIP.AllowedHostPorts[", list)
	}
}

// Dashes of the name stay, the protocol is in capitals.
func TestAzureRow_6_variable(t *testing.T) {
	n := newNetwork(t, nil)
	n.pod(n.Nodes()[0].Name, "p")
	all, err := n.OpenHostPorts("p", "my-game-server", []ContainerPort{{snat.TCP, 8080, 0}, {snat.UDP, 7777, 0}, {snat.TCP, 9, 0}}, "8080/tcp, 7777/UDP")
	require.NoError(t, err)
	require.Len(t, all, 2, "those of the annotation")
	require.Equal(t, "my-game-server_PORT_8080_TCP_HOSTPORT", all[0].Variable)
	require.Equal(t, "my-game-server_PORT_7777_UDP_HOSTPORT", all[1].Variable)
	for _, refused := range []string{"8080-8081/tcp", "8081/tcp", "8080/udp"} {
		n.pod(n.Nodes()[0].Name, refused)
		_, err := n.OpenHostPorts(refused, "d", []ContainerPort{{snat.TCP, 8080, 0}}, refused)
		require.Error(t, err, refused)
	}
}

// TCP and UDP of one container port have two numbers, and so has every pod.
func TestAzureRow_6_onceWhateverProtocol(t *testing.T) {
	n := newNetwork(t, nil)
	seen := map[uint16]bool{}
	for i := range 20 {
		name := fmt.Sprint("p", i)
		n.pod(n.Nodes()[i%3].Name, name)
		all, err := n.OpenHostPorts(name, "d", []ContainerPort{{snat.TCP, 53, 0}, {snat.UDP, 53, 0}}, "53/tcp,53/udp")
		require.NoError(t, err)
		for _, p := range all {
			require.False(t, seen[p.HostPort])
			seen[p.HostPort] = true
		}
	}
	require.Len(t, seen, 40)
	require.Equal(t, 20_000-40, n.HostPortsFree())
}

// A host port alone opens nothing: the group blocks it until the pool allows it.
func TestAzureRow_6_defaultGroup(t *testing.T) {
	n := newNetwork(t, publicPool(1, "", public4, public6))
	pod := n.pod(n.Nodes()[0].Name, "p")
	all, err := n.OpenHostPorts("p", "d", []ContainerPort{{snat.TCP, 8080, 0}, {snat.TCP, 9090, 9090}}, "8080/tcp")
	require.NoError(t, err)
	var automatic int
	for _, p := range all {
		if p.Automatic {
			automatic = int(p.HostPort)
		}
		n.drops(n.Inbound(0, syn(client4, endpoint("203.0.113.16", int(p.HostPort)))), flow.ReasonNSGInbound)
		n.drops(n.Inbound(0, pkttest.UDP(client4, endpoint("203.0.113.16", int(p.HostPort)), "q")), flow.ReasonNSGInbound)
		n.takes(syn("10.1.77.1:5000", endpoint("10.1.0.4", int(p.HostPort))), pod.Addrs[ipv4].String())
	}
	n.change(func(c *ClusterConfig) { c.NodePools[0].NodePublicIP.AllowedHostPorts = "40000-59999/tcp" })
	n.takes(syn("198.51.100.9:5001", endpoint("203.0.113.16", automatic)), pod.Addrs[ipv4].String())
	n.drops(n.Inbound(0, syn("198.51.100.9:5001", "203.0.113.16:9090")), flow.ReasonNSGInbound)
}

// kubenet has a /24 per node and a route each, of which a table has 400; Linux and Calico only.
func TestAzureRow_5_kubenet_limits(t *testing.T) {
	with := func(edit func(*ClusterConfig)) ClusterConfig {
		c := ClusterConfig{NetworkPlugin: cni.Kubenet, PodCIDRs: pfx("100.64.0.0/12"), NodePools: []NodePool{{Count: 400}}}
		edit(&c)
		return c
	}
	for name, tt := range map[string]struct {
		edit func(*ClusterConfig)
		ok   bool
	}{
		"400 nodes": {func(*ClusterConfig) {}, true}, "401 nodes": {func(c *ClusterConfig) { c.NodePools[0].Count = 401 }, false},
		"250 pods": {func(c *ClusterConfig) { c.NodePools[0].MaxPods = 250 }, true}, "251 pods": {func(c *ClusterConfig) { c.NodePools[0].MaxPods = 251 }, false},
		"Calico": {func(c *ClusterConfig) { c.NetworkPolicyEngine = cni.Calico }, true}, "Azure NPM": {func(c *ClusterConfig) { c.NetworkPolicyEngine = cni.Azure }, false},
		"Windows": {func(c *ClusterConfig) {
			c.NodePools = []NodePool{{Count: 3}, {Name: "win", Count: 1, OSType: Windows}}
		}, false},
	} {
		err := with(tt.edit).Validate()
		require.Equal(t, tt.ok, err == nil, "%s: %v", name, err)
	}
	c := newCluster(t, ClusterConfig{NetworkPlugin: cni.Kubenet, NodePools: []NodePool{{Count: 2}}})
	require.Equal(t, 110, c.Nodes()[1].MaxPods, "by default")
	require.Equal(t, pfx("10.244.1.0/24"), c.Nodes()[1].PodBlocks)
}

// OutboundNAT of Windows nodes may be off with a NAT gateway or the user's routes only. It has 64
// ports for a destination, in the network too.
func TestAzureRow_5_windows(t *testing.T) {
	for kind, ok := range map[OutboundType]bool{
		OutboundLoadBalancer: false, OutboundNone: false, OutboundManagedNATGateway: true, OutboundManagedNATGatewayV2: true, OutboundUserDefinedRouting: true,
	} {
		for _, off := range []bool{false, true} {
			cfg := single(func(c *ClusterConfig) {
				c.OutboundType = kind
				c.NodePools = append(c.NodePools, NodePool{Name: "win", Count: 1, OSType: Windows, DisableOutboundNAT: off})
			})
			if err := cfg.Validate(); off && !ok {
				require.ErrorIs(t, err, flow.ErrConflict, "%v", kind)
				require.ErrorContains(t, err, "NodePools[1].DisableOutboundNAT")
				continue
			}
			n := &network{T: t, Cluster: newCluster(t, cfg)}
			for i := range 64 {
				n.sends(pkttest.UDP(endpoint("10.244.3.2", 5000+i), "10.225.0.9:53", "q"), n.Nodes()[3].Addrs[0].String())
			}
			v := n.Outbound(n.now, pkttest.UDP("10.244.3.2:6000", "10.225.0.9:53", "q"))
			require.Equal(t, !off, v.Reason == flow.ReasonNodePorts, "%v", v)
		}
	}
}
