package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

func portRange(frontend string, p snat.Protocol, first uint16, count int) snat.PortRange {
	return snat.PortRange{Frontend: netip.MustParseAddr(frontend), Protocol: p, First: first, Count: count}
}

func TestLayouts(t *testing.T) {
	ip := func(n int) string { return fmt.Sprintf("20.50.1.%d", n) }
	for _, tt := range []struct {
		name   string
		config func() Config
		want   map[int][]snat.PortRange // by backend
	}{
		{"one frontend, ascending", func() Config { return publicPool(3, 1, 0) }, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.All, 1024, 1024)},
			1: {portRange(ip(1), snat.All, 2048, 1024)},
			2: {portRange(ip(1), snat.All, 3072, 1024)},
		}},
		{"spread, the remainder on the first frontends", func() Config { return publicPool(2, 3, 64) }, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.All, 1024, 24), portRange(ip(2), snat.All, 1024, 24), portRange(ip(3), snat.All, 1024, 16)},
			1: {portRange(ip(1), snat.All, 1048, 24), portRange(ip(2), snat.All, 1048, 24), portRange(ip(3), snat.All, 1040, 16)},
		}},
		{"spread, fewer blocks than frontends", func() Config { return publicPool(2, 3, 8) }, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.All, 1024, 8)},
			1: {portRange(ip(1), snat.All, 1032, 8)},
		}},
		{"spread overflows when the first frontend is full", func() Config { return publicPool(8001, 2, 8) }, map[int][]snat.PortRange{
			7999: {portRange(ip(1), snat.All, 65016, 8)},
			8000: {portRange(ip(2), snat.All, 1024, 8)},
		}},
		{"pack", func() Config { c := publicPool(3, 2, 40_000); c.Layout = Pack; return c }, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.All, 1024, 40_000)},
			1: {portRange(ip(1), snat.All, 41_024, 24_000), portRange(ip(2), snat.All, 1024, 16_000)},
			2: {portRange(ip(2), snat.All, 17_024, 40_000)},
		}},
		{"a block lost in the middle, TCP only", func() Config {
			c := withRule(publicPool(2, 1, 16), true)
			c.LoadBalancingRules[0].FrontendPort = 1032
			return c
		}, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.TCP, 1024, 8), portRange(ip(1), snat.TCP, 1040, 8), portRange(ip(1), snat.UDP, 1024, 16)},
			1: {portRange(ip(1), snat.TCP, 1048, 16), portRange(ip(1), snat.UDP, 1040, 16)},
		}},
		{"a port outside the SNAT range costs the highest block", func() Config { return withRule(publicPool(1, 1, 63_992), true) }, map[int][]snat.PortRange{
			0: {portRange(ip(1), snat.All, 1024, 63_992)},
		}},
		{"rule for one protocol", func() Config {
			c := publicPool(1, 1, 1024)
			c.OutboundRules[0].Protocol = snat.UDP
			return c
		}, map[int][]snat.PortRange{0: {portRange(ip(1), snat.UDP, 1024, 1024)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.config()
			if n := len(c.BackendAddressPools[0].Backends); n > maxPoolSize { // beyond a pool, not beyond a frontend
				second := BackendAddressPool{Name: "second", Backends: c.BackendAddressPools[0].Backends[maxPoolSize:]}
				c.BackendAddressPools[0].Backends = c.BackendAddressPools[0].Backends[:maxPoolSize]
				c.BackendAddressPools = append(c.BackendAddressPools, second)
				rule := c.OutboundRules[0]
				rule.Name, rule.BackendAddressPool = "second", "second"
				c.OutboundRules = append(c.OutboundRules, rule)
			}
			plan, err := c.Plan()
			require.NoError(t, err)
			for i, want := range tt.want {
				assert.Equal(t, want, plan[i].Ports, "backend %d", i)
				assert.Equal(t, c.Backends[i].Name, plan[i].Instance)
			}
		})
	}
}

func TestPrefixFrontend(t *testing.T) {
	c := publicPool(16, 1, 64_000)
	c.FrontendIPConfigurations = []FrontendIPConfiguration{{Name: "ip0", PublicIPPrefix: netip.MustParsePrefix("203.0.113.16/28")}}
	c.Layout = Pack
	plan := planned(t, c, 64_000)
	assert.Equal(t, []snat.PortRange{portRange("203.0.113.16", snat.All, 1024, 64_000)}, plan[0].Ports)
	assert.Equal(t, []snat.PortRange{portRange("203.0.113.31", snat.All, 1024, 64_000)}, plan[15].Ports)
}

func TestDualStack(t *testing.T) {
	c := publicPool(2, 1, 1024)
	c.Backends[0].Addrs = append(c.Backends[0].Addrs, netip.MustParseAddr("fd00::4"))
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "six", PublicIPAddress: netip.MustParseAddr("2001:db8::1")})
	c.OutboundRules[0].FrontendIPConfigurations = []string{"six", "ip0"}
	plan := planned(t, c, 1024)
	assert.Equal(t, []snat.PortRange{
		portRange("20.50.1.1", snat.All, 1024, 1024),
		portRange("2001:db8::1", snat.All, 1024, 1024),
	}, plan[0].Ports, "each family has its own ports")
	assert.Equal(t, 1024, plan[0].Total(snat.UDP, true))
	assert.Equal(t, []snat.PortRange{portRange("20.50.1.1", snat.All, 2048, 1024)}, plan[1].Ports, "no IPv6 address, no IPv6 ports")
}

// The pool size is the number of members with an address of the family.
func TestDualStackPoolSize(t *testing.T) {
	c := publicPool(51, 1, 0)
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "six", PublicIPAddress: netip.MustParseAddr("2001:db8::1")})
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0", "six"}
	for i := range 50 {
		c.Backends[i].Addrs = append(c.Backends[i].Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%x", i+4)))
	}
	plan := planned(t, c, 512)
	assert.Equal(t, 1024, plan[0].Total(snat.TCP, true))
}

// ruleSNAT has no outbound rule; two load-balancing rules lend two frontends.
func ruleSNAT(sku SKU) Config {
	c := publicPool(51, 2, 0)
	c.SKU, c.OutboundRules = sku, nil
	for i, p := range []snat.Protocol{snat.TCP, snat.UDP} {
		c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
			Name: fmt.Sprint(i), FrontendIPConfiguration: fmt.Sprintf("ip%d", i), BackendAddressPool: "aksOutboundBackendPool",
			Protocol: p, FrontendPort: 443, BackendPort: uint16(8443 + i),
		})
	}
	return c
}

func TestLoadBalancingRuleSNAT(t *testing.T) {
	t.Run("Standard lends for the rule's protocol", func(t *testing.T) {
		plan := planned(t, ruleSNAT(Standard), 512)
		assert.Equal(t, []snat.PortRange{
			portRange("20.50.1.1", snat.TCP, 1024, 512),
			portRange("20.50.1.2", snat.UDP, 1024, 512),
		}, plan[0].Ports)
	})
	t.Run("Standard uses all frontends, up to 1,024 ports", func(t *testing.T) {
		c := ruleSNAT(Standard)
		c.LoadBalancingRules[0].Protocol = snat.All
		c.LoadBalancingRules[1].Protocol = snat.All
		plan := planned(t, c, 1024)
		assert.Equal(t, []snat.PortRange{
			portRange("20.50.1.1", snat.All, 1024, 512),
			portRange("20.50.1.2", snat.All, 1024, 512),
		}, plan[0].Ports)
	})
	t.Run("Standard with DisableOutboundSNAT has no ports", func(t *testing.T) {
		c := ruleSNAT(Standard)
		c.LoadBalancingRules[0].DisableOutboundSNAT, c.LoadBalancingRules[1].DisableOutboundSNAT = true, true
		planned(t, c, 0)
	})
	t.Run("Basic uses the frontend of the first rule for both protocols", func(t *testing.T) {
		plan := planned(t, ruleSNAT(Basic), 512)
		assert.Equal(t, []snat.PortRange{portRange("20.50.1.1", snat.All, 1024, 512)}, plan[0].Ports)
	})
	t.Run("Basic draws a frontend with the seed", func(t *testing.T) {
		seen := map[netip.Addr]bool{}
		for seed := range uint64(16) {
			c := ruleSNAT(Basic)
			c.BasicFrontend, c.Seed = SeededRule, seed
			plan := planned(t, c, 512)
			require.Len(t, plan[0].Ports, 1)
			seen[plan[0].Ports[0].Frontend] = true
			assert.Equal(t, plan, planned(t, c, 512))
		}
		assert.Len(t, seen, 2)
	})
	t.Run("a backend with an outbound rule keeps to it", func(t *testing.T) {
		c := ruleSNAT(Standard)
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "out", PublicIPAddress: netip.MustParseAddr("20.50.9.9")})
		c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "few", Backends: []string{"node3"}})
		c.OutboundRules = []OutboundRule{{Name: "few", FrontendIPConfigurations: []string{"out"}, BackendAddressPool: "few", AllocatedOutboundPorts: 64_000}}
		plan, err := c.Plan()
		require.NoError(t, err)
		assert.Equal(t, []snat.PortRange{portRange("20.50.9.9", snat.All, 1024, 64_000)}, plan[3].Ports)
		assert.Equal(t, 512, plan[4].Total(snat.TCP, false), "the pool size still counts the backend")
	})
}

// Beyond Azure's table a backend gets 32 ports in all, however many frontends there
// are, while these have them.
func TestAutomaticBeyondTheTable(t *testing.T) {
	planned(t, publicPool(1000, 2, 0), 64)
	for _, mode := range []FrontendMode{Capped, Multiply} {
		c := publicPool(2000, 2, 0)
		c.FrontendMode = mode
		planned(t, c, 32)
	}
	c := publicPool(2000, 1, 0)
	planned(t, c, 32)
	assert.Empty(t, c.Warnings())
	c.Strict = true
	planned(t, c, 24)
}

// twoPools has a pool of each size, both with automatic ports of one frontend.
func twoPools(first, second int) Config {
	c := publicPool(first+second, 1, 0)
	c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "second", Backends: c.BackendAddressPools[0].Backends[first:]})
	c.BackendAddressPools[0].Backends = c.BackendAddressPools[0].Backends[:first]
	rule := c.OutboundRules[0]
	rule.Name, rule.BackendAddressPool = "second", "second"
	c.OutboundRules = append(c.OutboundRules, rule)
	return c
}

func TestAutomaticPoolsShareWhatThereIs(t *testing.T) {
	planned(t, twoPools(3000, 5000), 8)
	c := twoPools(50, 50)
	planned(t, c, 640)
	assert.Equal(t, []string{
		`OutboundRules[0]: each backend of pool "aksOutboundBackendPool" gets 640 ports instead of the 1024 of automatic allocation, because there are too few for all 50`,
		`OutboundRules[1]: each backend of pool "second" gets 640 ports instead of the 1024 of automatic allocation, because there are too few for all 50`,
	}, c.Warnings())

	// What is demanded is granted; what is automatic makes room for it.
	c.OutboundRules[1].AllocatedOutboundPorts = 1016
	plan, err := c.Plan()
	require.NoError(t, err)
	assert.Equal(t, 264, plan[49].Total(snat.TCP, false), "(64,000 - 50 x 1,016) / 50")
	assert.Equal(t, 1016, plan[50].Total(snat.TCP, false))
	c.OutboundRules[1].AllocatedOutboundPorts = 1280
	var short *InsufficientPortsError
	require.ErrorAs(t, c.Validate(), &short)
	assert.Equal(t, InsufficientPortsError{Path: "OutboundRules[1]", Ports: 1280, Nodes: 50, Required: 64_000, Available: 63_600, IPs: 1}, *short)
	assert.Empty(t, c.Warnings(), "of what is not valid")
}

// A rule whose pool is empty, or has no member of the family, asks for nothing.
func TestEmptyPool(t *testing.T) {
	for _, ports := range []int{0, 64_000} {
		c := publicPool(1, 1, ports)
		c.Strict = true
		c.BackendAddressPools[0].Backends = nil
		planned(t, c, 0)
	}
}

func TestAutomaticPortsTotal(t *testing.T) {
	for _, tt := range []struct {
		poolSize, frontends int
		mode                FrontendMode
		want                int
	}{
		{0, 4, Capped, 0}, {1, 0, Capped, 0}, {1000, 1, Capped, 32}, {1000, 31, Capped, 992}, {1000, 32, Capped, 1024}, {1000, 33, Capped, 1024},
		{50, 62, Multiply, 63_488}, {50, 63, Multiply, 64_000}, {1000, 2000, Multiply, 64_000}, {1000, 9999, Multiply, 64_000},
	} {
		assert.Equal(t, tt.want, AutomaticPortsTotal(tt.poolSize, tt.frontends, tt.mode), "%+v", tt)
	}
}

// Appending a backend within a tier changes nothing for the others.
func TestGrowthWithinATierIsStable(t *testing.T) {
	for _, ports := range []int{0, 1016} {
		small, err := publicPool(40, 3, ports).Plan()
		require.NoError(t, err)
		large, err := publicPool(50, 3, ports).Plan()
		require.NoError(t, err)
		assert.Equal(t, small, large[:40])
	}
}

// Rule ports 80, 443 and 65024 are no SNAT ports and cost the highest blocks left,
// whatever the order of the rules.
func TestLostBlocksDoNotDependOnOrder(t *testing.T) {
	want := []int{1024 / 8, 2000 / 8, 65016/8 - 3, 65016/8 - 2, 65016/8 - 1, 65016 / 8}
	assert.Equal(t, want, lostBlocks([]uint16{80, 443, 65023, 65024, 1024, 2000}))
	assert.Equal(t, want, lostBlocks([]uint16{1024, 65024, 2000, 443, 80, 65023, 443}))
	all := make([]uint16, 0, 65536)
	for port := range 65536 {
		all = append(all, uint16(port))
	}
	assert.Equal(t, 0, AvailablePorts(all...))
}

// Random configurations: no block is handed out twice, totals are as promised,
// ranges are aligned and inside the SNAT range, and no rule's block is used.
func TestPlanProperties(t *testing.T) {
	pkttest.OneGoroutine(t)
	const seed = 20261120
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	succeeded := 0
	for range 100 { // of up to 9,120 IP configurations of backends on a frontend
		c := publicPool(1+rng.IntN(60), 1+rng.IntN(5), 8*rng.IntN(500))
		c.Layout, c.FrontendMode, c.Strict = Layout(rng.IntN(2)), FrontendMode(rng.IntN(2)), rng.IntN(2) == 0
		if rng.IntN(2) == 0 { // a second rule for one protocol, on some of the frontends
			second := c.OutboundRules[0]
			second.Name, second.Protocol = "second", snat.TCP
			second.FrontendIPConfigurations = second.FrontendIPConfigurations[rng.IntN(len(second.FrontendIPConfigurations)):]
			second.AllocatedOutboundPorts = 8 * (1 + rng.IntN(200))
			c.OutboundRules = append(c.OutboundRules, second)
		}
		for i, port := range rng.Perm(65535)[:rng.IntN(150)] {
			c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
				Name: fmt.Sprint(i), FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool",
				Protocol: snat.Protocol(rng.IntN(3)), FrontendPort: uint16(port + 1), BackendPort: uint16(port + 1), DisableOutboundSNAT: true,
			})
		}
		plan, err := c.Plan()
		if err != nil {
			require.ErrorIs(t, err, ErrInsufficientOutboundPorts)
			continue
		}
		succeeded++
		for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
			checkPlan(t, c, plan, p)
		}
	}
	assert.Greater(t, succeeded, 50, "most random configurations fit")
}

// checkPlan checks one protocol of a plan for publicPool-like configurations.
func checkPlan(t *testing.T, c Config, plan []Allocation, p snat.Protocol) {
	t.Helper()
	want, automatic := 0, map[string]bool{}
	for _, o := range c.OutboundRules {
		if !covers(o.Protocol, p) {
			continue
		}
		want += o.AllocatedOutboundPorts
		if o.AllocatedOutboundPorts == 0 {
			for _, f := range o.FrontendIPConfigurations {
				automatic[f] = true
			}
		}
	}
	want += AutomaticPortsTotal(len(c.Backends), len(automatic), c.FrontendMode)

	type block struct {
		frontend netip.Addr
		number   int
	}
	owner := map[block]string{}
	for _, l := range c.LoadBalancingRules {
		if covers(l.Protocol, p) {
			owner[block{netip.MustParseAddr("20.50.1.1"), int(l.FrontendPort) / snat.BlockSize}] = "rule " + l.Name
		}
	}
	for _, a := range plan {
		total := 0
		for _, r := range a.Ports {
			if !covers(r.Protocol, p) {
				continue
			}
			first, last := int(r.First), int(r.First)+r.Count-1
			if first%snat.BlockSize != 0 || r.Count%snat.BlockSize != 0 || r.Count <= 0 || first < FirstPort || last > LastPort {
				t.Fatalf("%s has the range %+v", a.Instance, r)
			}
			for n := first / snat.BlockSize; n <= last/snat.BlockSize; n++ {
				b := block{r.Frontend, n}
				if other := owner[b]; other != "" {
					t.Fatalf("block %d of %v goes to %s and %s", n, b.frontend, other, a.Instance)
				}
				owner[b] = a.Instance
			}
			total += r.Count
		}
		require.Equal(t, want, total, "%s", a.Instance)
	}
}
