package overlay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
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

// Dual-stack clusters and NAT gateways of SKU Standard do not go together, with V2 they do.
func TestAzureRow_5_dualStackNotWith(t *testing.T) {
	for outbound, want := range map[OutboundType]error{OutboundManagedNATGateway: flow.ErrConflict, OutboundManagedNATGatewayV2: nil} {
		cfg := dual(func(c *ClusterConfig) { c.OutboundType, c.LoadBalancerProfile = outbound, LoadBalancerProfile{} })
		require.ErrorIs(t, cfg.Validate(), want, outbound)
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
