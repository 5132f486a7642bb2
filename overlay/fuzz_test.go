package overlay

// Arbitrary configurations: each is refused with an error at once, or works.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/arbitrary"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// values are worth trying in a field of a configuration.
var values = arbitrary.Values{
	Numbers: []int64{0, 1, 2, 3, 4, 8, 12, 64, 80, 250, 251, 1000, 1001, 1024, 32_000, 64_000, 65_535, math.MaxInt32, -1, -8, math.MinInt64, math.MaxInt64},
	Times:   []time.Duration{0, 1, time.Second, 3 * time.Minute, 4 * time.Minute, 120 * time.Minute, flow.MaxTimeout, flow.MaxTimeout + 1, -1, math.MaxInt64, math.MinInt64},
	Addrs: append(addrs("10.0.0.0", "10.0.0.1", "10.0.0.10", "10.1.0.0", "10.224.0.0", "10.244.0.0", "172.30.0.0", "20.50.1.0", "20.50.1.1", "203.0.113.16", "0.0.0.0", "127.0.0.1", "255.255.255.255",
		"224.0.0.1", "169.254.1.1", "fd12:3456:789a::", "fd12:3456:789b::", "fd00:1::", "2001:db8:50:1::", "2001:db8::1", "::", "::1", "::ffff:10.0.0.4", "fe80::1%eth0", "ff02::1"), netip.Addr{}),
	Texts: []string{"", "ipv4", "ipv4,ipv6", "ipv6", "1", "10", "33%", "100%", "x", "99999999999999999999", "nodes", "nodepool1", "80/tcp,40000-60000/udp", "443-80/tcp", "RoutingPreference=Internet", strings.Repeat("n", 64), "%d\x00"},
}

// decisions reads bytes as decisions; at the end all are 0.
type decisions struct{ b []byte }

func (d *decisions) next(n int) int {
	if len(d.b) == 0 {
		return 0
	}
	c := int(d.b[0])
	d.b = d.b[1:]
	return c % n
}

// clusters are where arbitrary configurations begin.
func clusters() []ClusterConfig {
	own := func(c *ClusterConfig) {
		c.VNet = VNet{
			AddressSpaces: pfx("10.1.0.0/16", "fd00:1::/48"), Subnets: []Subnet{{"nodes", pfx("10.1.0.0/24", "fd00:1::/64")}},
			PeeredPrefixes: pfx("192.168.0.0/16", "fd00:2::/48"),
		}
		c.LoadBalancerProfile = LoadBalancerProfile{
			OutboundIPs: addrs("203.0.113.7", "2001:db8:7::7"), OutboundIPPrefixes: pfx("203.0.113.16/28"), AllocatedOutboundPorts: 64,
		}
		c.NodePools = append(c.NodePools, NodePool{Count: 2, MinCount: 1, MaxCount: 5, MaxSurge: "33%", MaxPods: 30})
	}
	return []ClusterConfig{single(nil), dual(nil), dual(own), single(func(c *ClusterConfig) {
		c.StrictPodAddresses = true
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 2, AllocatedOutboundPorts: 8}
	})}
}

// try makes the cluster that cfg describes, and lets it work.
func try(t *testing.T, cfg ClusterConfig) {
	valid := cfg.Validate()
	cfg.Warnings()
	c, err := New(cfg)
	require.Equal(t, fmt.Sprint(valid), fmt.Sprint(err), "New and Validate disagree")
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			require.NotEmpty(t, strings.TrimSpace(line))
			require.NotContains(t, strings.ReplaceAll(line, "%d", ""), "%!", "a message with a bad format")
		}
		return
	}
	defer c.Close()
	nodes := c.Nodes()
	for i, n := range nodes[:min(3, len(nodes))] {
		pod, err := c.AddPod(n.Name, fmt.Sprint("pod", i))
		require.NoError(t, err)
		for f, src := range pod.Addrs {
			for _, dst := range [][]string{{"203.0.113.53:53", "10.0.0.10:53", "10.224.0.5:53", "10.244.0.2:53"}, {"[2001:db8:5::7]:53", "[fd12:3456:789b::5]:53"}}[f] {
				p := pkttest.UDP(netip.AddrPortFrom(src, 5000).String(), dst, "query")
				if v := c.Outbound(0, p); v.Action == flow.Forward && source(p) != src.String() {
					back := pkttest.UDP(dst, netip.AddrPortFrom(netip.MustParseAddr(source(p)), 1024).String(), "answer")
					c.Inbound(0, back)
				}
			}
		}
		_, ok := c.NodeByAddr(n.Addrs[0])
		require.True(t, ok)
	}
	for _, by := range []snat.By{snat.ByInstance, snat.ByInside, snat.ByDestination} {
		require.Empty(t, c.TopPorts(-1, by))
		require.Empty(t, c.TopPorts(math.MinInt, by))
		c.TopPorts(math.MaxInt, by)
	}
	c.Advance(flow.At(cfg.LoadBalancerProfile.IdleTimeout+time.Hour), nil)
	for range c.Sessions() {
	}
	require.NoError(t, c.RemovePod("pod0"))
}

// FuzzConfig changes fields of configurations by a script.
func FuzzConfig(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range clusters() {
		f.Add([]byte{byte(i), 0})
		for range 12 {
			b := []byte{byte(i), byte(r.IntN(8))}
			for range 30 {
				b = append(b, byte(r.IntN(256)))
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 100 {
			t.Skip("so many changes are never valid")
		}
		d := &decisions{b}
		all := clusters()
		c := all[d.next(len(all))]
		for range d.next(4) {
			values.Change(d.next, reflect.ValueOf(&c).Elem())
		}
		pkttest.Prompt(t, func() { try(t, c) })
	})
}

// Thousands of everything are answered at once.
func TestThousandsAreAnsweredAtOnce(t *testing.T) {
	const many = 20_000
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}) }
	ips, ranges, same := make([]netip.Addr, many), make([]netip.Prefix, many), make([]netip.Prefix, many)
	subnets, pools := make([]Subnet, many), make([]NodePool, many)
	for i := range many {
		ips[i], ranges[i], same[i] = at(i), netip.PrefixFrom(at(2*i), 31), netip.MustParsePrefix("20.0.0.0/16")
		subnets[i] = Subnet{fmt.Sprint(i), same[:1]}
		pools[i] = NodePool{Count: 1}
	}
	for name, tt := range map[string]struct {
		edit func(*ClusterConfig)
		want string // of the error, "" for none
	}{
		"pod CIDRs":       {func(c *ClusterConfig) { c.PodCIDRs, c.ServiceCIDRs = same, same }, `IPFamilies "ipv4" needs 1, one per family`},
		"service CIDRs":   {func(c *ClusterConfig) { c.ServiceCIDRs = ranges }, `IPFamilies "ipv4" needs 1, one per family`},
		"address spaces":  {func(c *ClusterConfig) { c.VNet = VNet{AddressSpaces: ranges, Subnets: subnets} }, "VNet.AddressSpaces has 20000 elements: too many: at most 1000"},
		"subnets":         {func(c *ClusterConfig) { c.VNet = VNet{AddressSpaces: same[:1], Subnets: subnets} }, "VNet.Subnets has 20000 elements: too many: at most 3000"},
		"prefixes":        {func(c *ClusterConfig) { c.VNet = VNet{AddressSpaces: same, Subnets: []Subnet{{"nodes", same}}} }, "VNet.Subnets[0].AddressPrefixes has 20000 elements"},
		"peered":          {func(c *ClusterConfig) { c.VNet.PeeredPrefixes = ranges }, "VNet.PeeredPrefixes has 20000 elements: too many: at most 10000"},
		"peered networks": {func(c *ClusterConfig) { c.VNet.PeeredPrefixes = ranges[:maxPeeredPrefixes] }, ""},
		"outbound IPs":    {func(c *ClusterConfig) { c.LoadBalancerProfile.OutboundIPs = ips }, "LoadBalancerProfile.OutboundIPs has 20000 elements: too many: at most 600"},
		"outbound prefixes": {func(c *ClusterConfig) {
			c.LoadBalancerProfile.OutboundIPPrefixes = same
			c.VNet.PeeredPrefixes = ranges
		}, "LoadBalancerProfile.OutboundIPPrefixes has 20000 elements"},
		"managed ranges": {func(c *ClusterConfig) { c.LoadBalancerProfile.ManagedOutboundIPRanges = same }, "ManagedOutboundIPRanges[1] 20.0.0.0/16: conflict: at most one range per family"},
		"node pools":     {func(c *ClusterConfig) { c.NodePools = pools }, "NodePools has 20000 elements: too many: at most 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			pkttest.Prompt(t, func() {
				if err := single(tt.edit).Validate(); tt.want == "" {
					assert.NoError(t, err)
				} else {
					assert.ErrorContains(t, err, tt.want)
				}
			})
		})
	}
}
