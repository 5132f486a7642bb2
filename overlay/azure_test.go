package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The worked examples of the Azure documents that concern clusters. Their
// numbers are those of the project's fact sheet.

func TestAzure_19_surgeCountsAsANode(t *testing.T) {
	err := single(func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 21_000}
	}).Validate()
	var insufficient *lb.InsufficientPortsError
	require.ErrorAs(t, err, &insufficient)
	require.Equal(t, 4, insufficient.Nodes)
	require.EqualValues(t, 84_000, insufficient.Required)
	require.EqualValues(t, 64_000, insufficient.Available)
	require.ErrorContains(t, err, "LoadBalancerProfile.AllocatedOutboundPorts (IPv4): InvalidLoadBalancerProfileAllocatedOutboundPorts")
}

func TestAzure_23_autoscalerMaximumCounts(t *testing.T) {
	cfg := single(func(c *ClusterConfig) {
		c.NodePools[0].MaxCount = 15
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 4000}
	})
	require.NoError(t, cfg.Validate(), "16 x 4,000 is all that one IP has")
	cfg.NodePools[0].MaxCount = 16
	require.ErrorIs(t, cfg.Validate(), lb.ErrInsufficientOutboundPorts)
	cfg.NodePools[0] = NodePool{Count: 10, MaxSurge: "33%"} // rounded up to 4
	cfg.LoadBalancerProfile.AllocatedOutboundPorts = 64_000 / 14 / 8 * 8
	require.NoError(t, cfg.Validate())
	cfg.LoadBalancerProfile.AllocatedOutboundPorts += 8
	require.ErrorIs(t, cfg.Validate(), lb.ErrInsufficientOutboundPorts)
}

// A flow of a default cluster idles for 30 minutes, and then both ends are told.
func TestAzure_31_defaultIdleTimeout(t *testing.T) {
	for _, tt := range []struct {
		given time.Duration
		want  time.Duration
	}{{0, 30 * time.Minute}, {4 * time.Minute, 4 * time.Minute}} {
		c := newCluster(t, single(func(c *ClusterConfig) { c.LoadBalancerProfile.IdleTimeout = tt.given }))
		syn := pkttest.TCP("10.244.0.7:41000", "203.0.113.80:443", pkttest.TCPFlags("S"), pkttest.Seq(0))
		require.Equal(t, flow.Forward, c.Outbound(0, syn).Action)
		require.Equal(t, flow.Forward, c.Inbound(0, reply(syn)).Action)
		ack := pkttest.TCP("10.244.0.7:41000", "203.0.113.80:443", pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(1))
		require.Equal(t, flow.Forward, c.Outbound(0, ack).Action)
		udp := pkttest.UDP("10.244.0.7:5000", "203.0.113.53:53", "query")
		require.Equal(t, flow.Forward, c.Outbound(0, udp).Action)

		var resets []flow.Side
		emit := func(e flow.Emission) { resets = append(resets, e.To) }
		c.Advance(flow.At(tt.want-flow.Tick), emit)
		require.Empty(t, resets)
		require.Equal(t, 2, c.Stats().SessionsActive)
		c.Advance(flow.At(tt.want), emit)
		require.ElementsMatch(t, []flow.Side{flow.Inside, flow.Outside}, resets)
		for s := range c.Sessions() {
			require.Equal(t, flow.ClassTCPResetSent, s.Class, "only what answers stragglers is left")
		}
	}
}

func TestAzure_67_surgeIsCutToThePool(t *testing.T) {
	with := func(ports int, pools ...NodePool) error {
		return single(func(c *ClusterConfig) {
			c.NodePools = pools
			c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: ports}
		}).Validate()
	}
	require.NoError(t, with(8000, NodePool{Count: 7, MaxSurge: "1"}, NodePool{MaxSurge: "1"}), "8 nodes")
	require.ErrorIs(t, with(8008, NodePool{Count: 7}, NodePool{}), lb.ErrInsufficientOutboundPorts)
	require.NoError(t, with(64_000/6/8*8, NodePool{Count: 3, MaxSurge: "10"}), "6 nodes")
	require.ErrorContains(t, with(64_000/6/8*8+8, NodePool{Count: 3, MaxSurge: "10"}), "for a total node count of 6 require")
}

func TestAzure_68_automaticPortsOfLargeClusters(t *testing.T) {
	for nodes, ports := range map[int]int{2000: 32, 2001: 24, 5000: 8} {
		cfg := single(func(c *ClusterConfig) {
			c.PodCIDRs = pfx("10.32.0.0/11")
			c.NodePools = nil
			for left := nodes; left > 0; left -= MaxNodesPerPool {
				c.NodePools = append(c.NodePools, NodePool{Count: min(left, MaxNodesPerPool)})
			}
		})
		require.NoError(t, cfg.Validate())
		if ports == 32 {
			require.Empty(t, cfg.Warnings())
		} else {
			require.Len(t, cfg.Warnings(), 1)
			require.Contains(t, cfg.Warnings()[0], fmt.Sprintf("gets %d ports instead of the 32 of automatic allocation", ports))
		}
		for _, a := range newCluster(t, cfg).Allocations() {
			require.Equal(t, ports, a.Total(snat.TCP, false))
		}
	}
}

func TestAzure_70_sizeOfOutboundPrefixes(t *testing.T) {
	cfg := single(func(c *ClusterConfig) { c.LoadBalancerProfile.OutboundIPPrefixes = pfx("20.70.0.0/24") })
	require.ErrorIs(t, cfg.Validate(), flow.ErrOutOfRange)
	require.EqualError(t, cfg.Validate(), "LoadBalancerProfile.OutboundIPPrefixes[0] 20.70.0.0/24: out of range: valid are /28../31, larger only with OwnRanges")
	require.Empty(t, cfg.Warnings())
	cfg.LoadBalancerProfile.OwnRanges = true
	cfg.LoadBalancerProfile.AllocatedOutboundPorts = 256 * snat.BlockSize
	require.NoError(t, cfg.Validate())
	c := newCluster(t, cfg)
	require.True(t, len(c.Frontends()) == 2*256, "each address, for TCP and UDP")
}

func TestAzure_47_nodesPerPodCIDR(t *testing.T) {
	for cidr, want := range map[string]int{
		"10.244.0.0/16": 256, "10.244.0.0/18": 64, "10.244.0.0/24": 1, "10.32.0.0/12": 4096, "10.32.0.0/11": 8192,
	} {
		require.Equal(t, want, NodesPerPodCIDR(netip.MustParsePrefix(cidr)), cidr)
	}
	with := func(cidr string, nodes ...int) error {
		return single(func(c *ClusterConfig) {
			c.PodCIDRs = pfx(cidr)
			c.NodePools = nil
			for _, n := range nodes {
				c.NodePools = append(c.NodePools, NodePool{Count: n})
			}
			c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 6, AllocatedOutboundPorts: 64}
		}).Validate()
	}
	require.NoError(t, with("10.244.0.0/16", 256))
	require.ErrorIs(t, with("10.244.0.0/16", 257), ErrTooManyNodes)
	require.NoError(t, with("10.244.0.0/18", 64))
	require.ErrorIs(t, with("10.244.0.0/18", 65), ErrTooManyNodes)
	require.NoError(t, with("10.244.0.0/24", 1))
	require.ErrorIs(t, with("10.244.0.0/24", 1, 1), ErrTooManyNodes)
	require.ErrorIs(t, with("10.32.0.0/12", 1000, 1000, 1000, 1000, 1000), ErrTooManyNodes)
	require.NoError(t, with("10.32.0.0/11", 1000, 1000, 1000, 1000, 1000))
}

func TestAzure_48_nodesPerSubnet(t *testing.T) {
	require.Equal(t, 251, NodesPerSubnet(netip.MustParsePrefix("10.1.0.0/24")))
	require.Equal(t, 11, NodesPerSubnet(netip.MustParsePrefix("10.1.0.0/28")))
	with := func(subnet string, nodes int) ClusterConfig {
		return ClusterConfig{
			VNet:      VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"nodes", pfx(subnet)}}},
			NodePools: []NodePool{{Count: nodes}},
		}
	}
	for subnet, most := range map[string]int{"10.1.0.0/24": 251, "10.1.0.0/28": 11} {
		require.ErrorIs(t, with(subnet, most+1).Validate(), ErrTooManyNodes)
		nodes := newCluster(t, with(subnet, most)).Nodes()
		require.Equal(t, "10.1.0.4", nodes[0].Addrs[0].String(), "the first four are reserved")
		require.Equal(t, fmt.Sprint("10.1.0.", most+3), nodes[most-1].Addrs[0].String(), "the last is reserved")
	}
}

func TestAzure_49_maxPods(t *testing.T) {
	for maxPods, ok := range map[int]bool{250: true, 251: false, 9: false, 10: true} {
		err := single(func(c *ClusterConfig) { c.NodePools[0].MaxPods = maxPods }).Validate()
		if ok {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, flow.ErrOutOfRange)
		require.EqualError(t, err, fmt.Sprintf("NodePools[0].MaxPods %d: out of range: 10..250", maxPods))
	}
}

func TestAzure_50_serviceCIDRSize(t *testing.T) {
	for cidr, ok := range map[string]bool{
		"10.0.0.0/12": false, "10.0.0.0/13": true, "fd12:3456:789a:1::/107": false, "fd12:3456:789a:1::/108": true,
	} {
		p := netip.MustParsePrefix(cidr)
		err := dual(func(c *ClusterConfig) {
			c.ServiceCIDRs = pfx("10.0.0.0/16", "fd12:3456:789a:1::/108")
			c.ServiceCIDRs[familyOf(p.Addr())] = p
		}).Validate()
		require.Equal(t, !ok, errors.Is(err, flow.ErrOutOfRange), "%s: %v", cidr, err)
		require.Equal(t, ok, err == nil, "%s: %v", cidr, err)
	}
}

func TestAzure_51_dnsServiceIP(t *testing.T) {
	for ip, want := range map[string]error{"10.0.0.10": nil, "10.0.0.1": ErrReserved, "10.1.0.10": flow.ErrOutOfRange} {
		err := single(func(c *ClusterConfig) {
			c.ServiceCIDRs = pfx("10.0.0.0/16")
			c.DNSServiceIP = netip.MustParseAddr(ip)
		}).Validate()
		if want == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, want, ip)
		}
	}
}

func TestAzure_52_ipFamilies(t *testing.T) {
	for _, families := range []string{"ipv6", "ipv6,ipv4"} {
		require.ErrorIs(t, single(func(c *ClusterConfig) { c.IPFamilies = families }).Validate(), ErrFamily, families)
	}
	require.NoError(t, single(func(c *ClusterConfig) { c.IPFamilies = "ipv4" }).Validate())
	require.NoError(t, dual(nil).Validate())
	require.ErrorIs(t, dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16") }).Validate(), ErrFamily)
}

func TestAzure_53_reservedRanges(t *testing.T) {
	err := single(func(c *ClusterConfig) { c.PodCIDRs = pfx("172.16.0.0/12") }).Validate()
	require.ErrorIs(t, err, ErrReserved)
	require.ErrorContains(t, err, "PodCIDRs[0] 172.16.0.0/12: reserved: 172.30.0.0/16 must not be used")
	require.ErrorContains(t, err, "PodCIDRs[0] 172.16.0.0/12: reserved: 172.31.0.0/16 must not be used")
}

func TestAzure_54_expandPodCIDR(t *testing.T) {
	from := netip.MustParsePrefix("10.244.0.0/18")
	for to, want := range map[string]error{
		"10.244.0.0/16": nil, "10.245.0.0/16": flow.ErrOutOfRange, "10.244.0.0/20": flow.ErrOutOfRange, "10.244.0.0/18": flow.ErrOutOfRange, "fd00::/8": ErrFamily,
	} {
		err := CheckPodCIDRExpansion(from, netip.MustParsePrefix(to))
		require.Equal(t, want == nil, err == nil, to)
		require.True(t, errors.Is(err, want), "%s: %v", to, err)
	}
	require.ErrorIs(t, CheckPodCIDRExpansion(netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("fd00::/48")), ErrFamily)
	require.ErrorIs(t, CheckPodCIDRExpansion(from, netip.Prefix{}), ErrFamily)
}
