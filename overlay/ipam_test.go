package overlay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/stretchr/testify/require"
)

// newCluster creates a cluster that is closed with the test.
func newCluster(t testing.TB, cfg ClusterConfig) *Cluster {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// checkPlan holds the addresses of a valid configuration's nodes against the
// rules, by comparing every node with every other.
func checkPlan(t testing.TB, cfg ClusterConfig) {
	t.Helper()
	cfg = cfg.withDefaults()
	nodes := cfg.planNodes()
	seen := make(map[netip.Addr]string)
	for i, n := range nodes {
		require.Equal(t, i, n.Index)
		require.Len(t, n.Addrs, len(cfg.families()))
		require.Len(t, n.PodBlocks, len(cfg.families()))
		for f, block := range n.PodBlocks {
			require.Equal(t, addressing.PodBlockBits[f], block.Bits())
			require.Equal(t, block.Masked(), block)
			require.True(t, ranges.Within(block, cfg.PodCIDRs[f:f+1]), "%v outside %v", block, cfg.PodCIDRs[f])
			require.Empty(t, seen[block.Addr()], "block %v of %s", block, n.Name)
			seen[block.Addr()] = n.Name
		}
		for f, a := range n.Addrs {
			subnet, _ := cfg.subnet(cfg.NodePools[poolIndex(cfg, Node(n))].Subnet).prefix(family(f))
			require.True(t, subnet.Contains(a), "%v outside %v", a, subnet)
			offset, ok := addressing.Offset(subnet, a)
			require.True(t, ok)
			require.GreaterOrEqual(t, offset, uint64(4), "%v is reserved in %v", a, subnet)
			require.NotEqual(t, math.Pow(2, float64(a.BitLen()-subnet.Bits()))-1, float64(offset), "%v is the last of %v", a, subnet)
			require.Empty(t, seen[a], "address %v of %s", a, n.Name)
			seen[a] = n.Name
		}
	}
}

func poolIndex(cfg ClusterConfig, n Node) int {
	for i, p := range cfg.NodePools {
		if p.Name == n.Pool {
			return i
		}
	}
	panic("no pool " + n.Pool)
}

// Blocks are disjoint and inside the pod CIDR, node addresses are unique and
// usable, whatever the ranges and pools are.
func TestPlanNodes_properties(t *testing.T) {
	const seed = 1
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	valid := 0
	for range 200 {
		cfg := ClusterConfig{
			IPFamilies:   []string{"ipv4", "ipv4,ipv6"}[rng.IntN(2)],
			PodCIDRs:     []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("100.64.0.0"), 12+rng.IntN(13))},
			ServiceCIDRs: pfx("10.0.0.0/16", "fd12:3456:789a:1::/108"),
			VNet: VNet{
				AddressSpaces: pfx("10.64.0.0/10", "fd00:1::/32"),
				Subnets: []Subnet{
					{"a", []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.64.0.0"), 20+rng.IntN(9)), pfx("fd00:1::/64")[0]}},
					{"b", []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("10.65.0.0"), 20+rng.IntN(9)), netip.PrefixFrom(netip.MustParseAddr("fd00:1:0:1::"), 64+rng.IntN(60))}},
				},
			},
		}
		if cfg.IPFamilies == "ipv4" {
			cfg.ServiceCIDRs = cfg.ServiceCIDRs[:1]
		} else {
			cfg.PodCIDRs = append(cfg.PodCIDRs, netip.PrefixFrom(netip.MustParseAddr("fd00:2::"), 40+rng.IntN(41)))
		}
		for range 1 + rng.IntN(3) {
			cfg.NodePools = append(cfg.NodePools, NodePool{Count: rng.IntN(40), Subnet: []string{"", "a", "b"}[rng.IntN(3)]})
		}
		if cfg.Validate() != nil { // too small for its nodes
			continue
		}
		valid++
		checkPlan(t, cfg)
	}
	require.Greater(t, valid, 50)
}

func TestPlanNodes_poolsShareTheirSubnet(t *testing.T) {
	cfg := dual(func(c *ClusterConfig) {
		c.VNet = VNet{
			AddressSpaces: pfx("10.1.0.0/16", "fd00:1::/48"),
			Subnets:       []Subnet{{"a", pfx("10.1.0.0/24", "fd00:1::/64")}, {"b", pfx("fd00:1:0:1::/64", "10.1.1.0/24")}},
		}
		c.NodePools = []NodePool{{Name: "system", Count: 2}, {Name: "gpu", Count: 1, Subnet: "b", MaxPods: 30}, {Name: "user", Count: 37, Subnet: "a"}}
	})
	nodes := newCluster(t, cfg).Nodes()
	require.Len(t, nodes, 40)
	require.Equal(t, Node{
		Index: 1, Name: "aks-system-vmss000001", Pool: "system", MaxPods: 250,
		Addrs: addrs("10.1.0.5", "fd00:1::5"), PodBlocks: pfx("10.244.1.0/24", "fd12:3456:789a:0:1::/80"),
	}, nodes[1])
	require.Equal(t, Node{
		Index: 2, Name: "aks-gpu-vmss000000", Pool: "gpu", MaxPods: 30,
		Addrs: addrs("10.1.1.4", "fd00:1:0:1::4"), PodBlocks: pfx("10.244.2.0/24", "fd12:3456:789a:0:2::/80"),
	}, nodes[2])
	require.Equal(t, "aks-user-vmss000010", nodes[39].Name) // base 36
	require.Equal(t, addrs("10.1.0.42", "fd00:1::2a"), nodes[39].Addrs)
}

func TestNodesPer(t *testing.T) {
	for _, tt := range []struct {
		prefix            string
		perCIDR, perSubet int
	}{
		{"10.0.0.0/8", 65536, 1<<24 - 5},
		{"10.0.0.0/25", 0, 123},
		{"10.0.0.0/29", 0, 3},
		{"10.0.0.0/30", 0, 0},
		{"fd00::/64", 65536, math.MaxInt32 - 5},
		{"fd00::/80", 1, math.MaxInt32 - 5},
		{"fd00::/8", math.MaxInt32, math.MaxInt32 - 5},
		{"fd00::/120", 0, 251},
	} {
		p := netip.MustParsePrefix(tt.prefix)
		require.Equal(t, tt.perCIDR, NodesPerPodCIDR(p), tt.prefix)
		require.Equal(t, tt.perSubet, NodesPerSubnet(p), tt.prefix)
	}
	require.Zero(t, NodesPerPodCIDR(netip.Prefix{}))
	require.Zero(t, NodesPerSubnet(netip.Prefix{}))
}

func TestLocate(t *testing.T) {
	c := newCluster(t, dual(func(c *ClusterConfig) { c.PodCIDRs = pfx("10.244.0.0/16", "fd00::/40") }))
	for addr, want := range map[string]string{
		"10.224.0.4":      "aks-nodepool1-vmss000000", // node address
		"10.244.0.0":      "aks-nodepool1-vmss000000",
		"10.244.2.255":    "aks-nodepool1-vmss000002",
		"fd00::2:0:0:9":   "aks-nodepool1-vmss000002",
		"10.244.3.0":      "", // a block without node
		"10.243.255.255":  "",
		"fd00::3:0:0:1":   "",
		"fd00:0:1::1":     "", // inside the pod CIDR, beyond the first 64 bits
		"fd00::1%eth0":    "",
		"::ffff:10.0.0.1": "",
	} {
		n, ok := c.NodeByAddr(netip.MustParseAddr(addr))
		require.Equal(t, want, n.Name, addr)
		require.Equal(t, want != "", ok, addr)
	}
	_, ok := c.NodeByAddr(netip.Addr{})
	require.False(t, ok)
}

func ExampleCheckPodCIDRExpansion() {
	from := netip.MustParsePrefix("10.244.0.0/18")
	fmt.Println(CheckPodCIDRExpansion(from, netip.MustParsePrefix("10.244.0.0/16")))
	fmt.Println(CheckPodCIDRExpansion(from, netip.MustParsePrefix("10.245.0.0/16")))
	// Output:
	// <nil>
	// pod CIDR 10.244.0.0/18 to 10.245.0.0/16: out of range: the new range must be larger and contain the old one
}
