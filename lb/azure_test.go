// One test per worked example of Azure's public documents that planning can show.

package lb

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// publicPool is a Standard load balancer with nodes backends and ips frontends of
// their own configuration, joined by one outbound rule.
func publicPool(nodes, ips, ports int) Config {
	c := Config{
		Name:                "kubernetes",
		BackendAddressPools: []BackendAddressPool{{Name: "aksOutboundBackendPool"}},
		OutboundRules: []OutboundRule{{
			Name: "aksOutboundRule", BackendAddressPool: "aksOutboundBackendPool", AllocatedOutboundPorts: ports,
		}},
	}
	ip := netip.MustParseAddr("20.50.1.1")
	for i := range ips {
		name := fmt.Sprintf("ip%d", i)
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: name, PublicIPAddress: ip})
		c.OutboundRules[0].FrontendIPConfigurations = append(c.OutboundRules[0].FrontendIPConfigurations, name)
		ip = ip.Next()
	}
	ip = netip.MustParseAddr("10.224.0.4")
	for i := range nodes {
		name := fmt.Sprintf("node%d", i)
		c.Backends = append(c.Backends, Backend{Name: name, Addrs: []netip.Addr{ip}})
		c.BackendAddressPools[0].Backends = append(c.BackendAddressPools[0].Backends, name)
		ip = ip.Next()
	}
	return c
}

// planned returns the plan of c, checked to give every backend ports ports for
// TCP and for UDP.
func planned(t *testing.T, c Config, ports int) []Allocation {
	t.Helper()
	plan, err := c.Plan()
	require.NoError(t, err)
	require.Len(t, plan, len(c.Backends))
	for _, a := range plan {
		require.Equal(t, ports, a.Total(snat.TCP, false), "%s TCP", a.Instance)
		require.Equal(t, ports, a.Total(snat.UDP, false), "%s UDP", a.Instance)
	}
	return plan
}

func testTiers(t *testing.T, portsByPoolSize map[int]int) {
	for poolSize, ports := range portsByPoolSize {
		assert.Equal(t, ports, AutomaticPorts(poolSize), "pool of %d", poolSize)
		if poolSize > 0 {
			planned(t, publicPool(poolSize, 1, 0), ports)
		}
	}
}

func TestAzure_01_tiers_1024_512(t *testing.T) {
	testTiers(t, map[int]int{0: 0, 1: 1024, 50: 1024, 51: 512})
}

func TestAzure_02_tiers_512_256_128(t *testing.T) {
	testTiers(t, map[int]int{100: 512, 101: 256, 200: 256, 201: 128})
}

func TestAzure_03_tiers_128_64_32(t *testing.T) {
	testTiers(t, map[int]int{400: 128, 401: 64, 800: 64, 801: 32, 1000: 32})
}

func TestAzure_04_pool_totals(t *testing.T) {
	for vms, want := range map[int]int{2: 2048, 50: 51_200, 51: 26_112} {
		plan, err := publicPool(vms, 1, 0).Plan()
		require.NoError(t, err)
		total := 0
		for _, a := range plan {
			total += a.Total(snat.TCP, false)
		}
		assert.Equal(t, want, total, "%d VMs", vms)
	}
}

func TestAzure_07_several_frontends_capped(t *testing.T) {
	for ips, ports := range map[int]int{1: 512, 2: 1024, 3: 1024} {
		planned(t, publicPool(100, ips, 0), ports)
	}
}

func TestAzure_08_several_frontends_multiply(t *testing.T) {
	c := publicPool(50, 2, 0)
	second := c.OutboundRules[0]
	second.Name, second.FrontendIPConfigurations = "second", []string{"ip1"}
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0"}
	c.OutboundRules = append(c.OutboundRules, second)
	planned(t, c, 1024)

	c.FrontendMode = Multiply
	planned(t, c, 2048)
}

// testCapacity checks the same claim with the formula and with a plan.
func testCapacity(t *testing.T, nodes, ports, ips int, wantOK bool) {
	t.Helper()
	errs := []error{Capacity{Nodes: nodes, Ports: ports, Frontends: ips}.Check()}
	if nodes <= maxPoolSize {
		_, err := publicPool(nodes, ips, ports).Plan()
		errs = append(errs, err)
	}
	for _, err := range errs {
		if wantOK {
			assert.NoError(t, err)
			continue
		}
		var short *InsufficientPortsError
		require.ErrorAs(t, err, &short)
		assert.ErrorIs(t, err, ErrInsufficientOutboundPorts)
		assert.Equal(t, int64(nodes*ports), short.Required)
		assert.Equal(t, int64(ips*64_000), short.Available)
		assert.Equal(t, ips, short.IPs)
		assert.Equal(t, nodes, short.Nodes)
		assert.Equal(t, ports, short.Ports)
	}
}

func TestAzure_09_three_nodes_50000_ports(t *testing.T) {
	testCapacity(t, 3, 50_000, 2, false)
	testCapacity(t, 3, 50_000, 3, true)
	assert.Equal(t, 3, Capacity{Nodes: 3, Ports: 50_000}.MinFrontends())

	nodes, err := TotalNodes(PoolSize{Count: 3})
	require.NoError(t, err)
	c := Capacity{Nodes: nodes, Ports: 50_000}
	assert.Equal(t, int64(200_000), c.Required())
	assert.Equal(t, 4, c.MinFrontends())
}

// testShort checks that a claim is refused, and with which sums.
func testShort(t *testing.T, nodes, ports, ips int, sums string) {
	t.Helper()
	testCapacity(t, nodes, ports, ips, false)
	want := fmt.Sprintf("InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): "+
		"%d allocated ports for a total node count of %d require %s on %d outbound public IPs", ports, nodes, sums, ips)
	assert.EqualError(t, Capacity{Nodes: nodes, Ports: ports, Frontends: ips}.Check(), want)
	assert.EqualError(t, publicPool(nodes, ips, ports).Validate(), "OutboundRules[0]: "+want)
}

// testEnough checks that a claim is met, and how many ports all backends have.
func testEnough(t *testing.T, nodes, ports, ips, sum int) {
	t.Helper()
	testCapacity(t, nodes, ports, ips, true)
	total := 0
	for _, a := range planned(t, publicPool(nodes, ips, ports), ports) {
		total += a.Total(snat.TCP, false)
	}
	assert.Equal(t, sum, total)
	assert.Equal(t, int64(sum), Capacity{Nodes: nodes, Ports: ports}.Required())
}

func TestAzure_10_hundred_nodes_4000_ports(t *testing.T) {
	testEnough(t, 100, 4000, 7, 400_000)
	assert.Equal(t, int64(448_000), Capacity{Frontends: 7}.Available())
	testShort(t, 100, 4000, 6, "400000 ports, but only 384000 are available")
}

func TestAzure_11_surge(t *testing.T) {
	for surge, required := range map[MaxSurge]int64{"": 404_000, "1": 404_000, "2": 408_000} {
		nodes, err := TotalNodes(PoolSize{Count: 100, MaxSurge: surge})
		require.NoError(t, err)
		c := Capacity{Nodes: nodes, Ports: 4000, Frontends: 7}
		assert.Equal(t, required, c.Required(), "maxSurge %q", surge)
		assert.NoError(t, c.Check())
		if surge == "2" {
			assert.Equal(t, int64(40_000), c.Available()-c.Required())
		}
	}
}

func testMaxNodes(t *testing.T, ports int, nodesByIPs map[int]int) {
	for ips, nodes := range nodesByIPs {
		assert.Equal(t, nodes, Capacity{Ports: ports, Frontends: ips}.MaxNodes(), "%d IPs", ips)
		testCapacity(t, nodes, ports, ips, true)
		testCapacity(t, nodes+1, ports, ips, false)
	}
}

func TestAzure_12_max_nodes_4000_ports(t *testing.T) {
	testMaxNodes(t, 4000, map[int]int{7: 112, 2: 32})
}

func TestAzure_13_max_nodes_1000_ports(t *testing.T) {
	testMaxNodes(t, 1000, map[int]int{2: 128, 7: 448})
}

func TestAzure_14_seven_vms_10000_ports(t *testing.T) {
	testShort(t, 7, 10_000, 1, "70000 ports, but only 64000 are available")
	testEnough(t, 7, 10_000, 2, 70_000)
}

func TestAzure_15_equality_and_strict(t *testing.T) {
	testCapacity(t, 2, 32_000, 1, true)

	c := publicPool(2, 1, 32_000)
	c.Strict = true
	_, err := c.Plan()
	assert.ErrorIs(t, err, ErrInsufficientOutboundPorts)
	strict := Capacity{Nodes: 2, Ports: 32_000, Frontends: 1, Strict: true}
	assert.ErrorIs(t, strict.Check(), ErrInsufficientOutboundPorts)
	assert.Equal(t, 2, strict.MinFrontends())
	assert.Equal(t, 1, strict.MaxNodes())
	assert.Equal(t, 31_992, strict.MaxPorts())
}

func TestAzure_16_multiples_of_8(t *testing.T) {
	assert.ErrorIs(t, CheckAllocatedOutboundPorts(12), ErrNotBlockMultiple)
	_, err := publicPool(1, 1, 12).Plan()
	assert.ErrorIs(t, err, ErrNotBlockMultiple)
	assert.ErrorContains(t, err, "OutboundRules[0].AllocatedOutboundPorts 12")
	for _, ports := range []int{16, 1024, 4000, 50_000} {
		planned(t, publicPool(1, 1, ports), ports)
	}
}

func TestAzure_17_port_range(t *testing.T) {
	planned(t, publicPool(1, 1, 64_000), 64_000)
	planned(t, publicPool(1, 1, 0), 1024)
	for _, ports := range []int{64_008, -8} {
		_, err := publicPool(1, 1, ports).Plan()
		assert.ErrorIs(t, err, flow.ErrOutOfRange, "%d", ports)
	}
}

func TestAzure_18_ten_vms_6400_ports(t *testing.T) {
	assert.Equal(t, 6400, Capacity{Nodes: 10, Frontends: 1}.MaxPorts())
	testCapacity(t, 10, 6400, 1, true)
	testCapacity(t, 10, 6408, 1, false)
}

func TestAzure_19_three_nodes_checked_as_four(t *testing.T) {
	nodes, err := TotalNodes(PoolSize{Count: 3})
	require.NoError(t, err)
	err = Capacity{Nodes: nodes, Ports: 21_000, Frontends: 1}.Check()
	assert.EqualError(t, err, "InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): "+
		"21000 allocated ports for a total node count of 4 require 84000 ports, but only 64000 are available on 1 outbound public IPs")
}

func TestAzure_20_reported_rejections(t *testing.T) {
	testShort(t, 25, 3200, 1, "80000 ports, but only 64000 are available")
	testShort(t, 56, 1280, 1, "71680 ports, but only 64000 are available")
	testShort(t, 9, 8000, 1, "72000 ports, but only 64000 are available")
	testEnough(t, 9, 8000, 2, 72_000)
}

func TestAzure_21_allocation_spans_frontends(t *testing.T) {
	for _, layout := range []Layout{Spread, Pack} {
		c := publicPool(5, 4, 50_000)
		c.Layout = layout
		plan := planned(t, c, 50_000)
		spans := slices.ContainsFunc(plan, func(a Allocation) bool { return len(a.Ports) > 1 })
		assert.True(t, spans, "%v: some backend has ports of several frontends", layout)
	}
}

func TestAzure_22_surge_percentage_rounds_up(t *testing.T) {
	for _, tt := range []struct {
		surge       MaxSurge
		count, want int
	}{{"33%", 10, 4}, {"50%", 4, 2}} {
		got, err := tt.surge.Nodes(tt.count)
		require.NoError(t, err)
		assert.Equal(t, tt.want, got, "%s of %d", tt.surge, tt.count)
	}
}

func TestAzure_67_surge_is_cut_to_the_pool(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pools []PoolSize
		want  int
	}{
		{"an empty pool has nothing to upgrade", []PoolSize{{Count: 7, MaxSurge: "1"}, {MaxSurge: "1"}}, 8},
		{"AKS's default of 1", []PoolSize{{Count: 7}, {}}, 8},
		{"more than the pool has", []PoolSize{{Count: 3, MaxSurge: "10"}}, 6},
		{"as many as the pool has", []PoolSize{{Count: 3, MaxSurge: "3"}}, 6},
		{"a percentage", []PoolSize{{Count: 3, MaxSurge: "100%"}, {MaxSurge: "100%"}}, 6},
		{"of the autoscaler maximum", []PoolSize{{Count: 1, MaxCount: 4, MaxSurge: "3"}}, 7},
		{"a number beyond all", []PoolSize{{Count: 3, MaxSurge: "99999999999999999999"}}, 6},
	} {
		nodes, err := TotalNodes(tt.pools...)
		require.NoError(t, err)
		assert.Equal(t, tt.want, nodes, tt.name)
	}
	testCapacity(t, 8, 8000, 1, true)
	testCapacity(t, 9, 8000, 1, false)
}

func TestAzure_68_automatic_ports_of_large_pools(t *testing.T) {
	c := publicPool(2001, 1, 0)
	planned(t, c, 24)
	assert.Equal(t, []string{
		`OutboundRules[0]: each backend of pool "aksOutboundBackendPool" gets 24 ports instead of the 32 of automatic allocation, because there are too few for all 2001`,
	}, c.Warnings())
	planned(t, publicPool(5000, 1, 0), 8)

	planned(t, twoPools(5000, 3000), 8)
	var short *InsufficientPortsError
	require.ErrorAs(t, twoPools(5000, 3001).Validate(), &short)
	assert.Equal(t, InsufficientPortsError{Path: "OutboundRules[1]", Ports: 8, Nodes: 3001, Required: 24_008, Available: 24_000, IPs: 1}, *short)
	testCapacityError(t, Capacity{Nodes: 8001, Frontends: 1}, InsufficientPortsError{Ports: 8, Nodes: 8001, Required: 64_008, Available: 64_000, IPs: 1})
}

func testCapacityError(t *testing.T, c Capacity, want InsufficientPortsError) {
	t.Helper()
	var short *InsufficientPortsError
	require.ErrorAs(t, c.Check(), &short)
	assert.Equal(t, want, *short)
}

func TestAzure_70_size_of_public_ip_prefixes(t *testing.T) {
	for _, tt := range []struct {
		prefix string
		ok     bool // as a public IP prefix
		own    bool // with OwnRanges
		valid  string
	}{
		{"20.70.0.0/24", false, true, "/28../31"},
		{"20.70.0.0/27", false, true, "/28../31"},
		{"20.70.0.0/28", true, true, ""},
		{"20.70.0.0/31", true, true, ""},
		{"20.70.0.0/32", false, false, "/28../31"},
		{"20.70.0.0/23", false, false, "/28../31"},
		{"2001:db8:70::/120", false, true, "/124../127"},
		{"2001:db8:70::/124", true, true, ""},
		{"2001:db8:70::/127", true, true, ""},
		{"2001:db8:70::/128", false, false, "/124../127"},
		{"2001:db8:70::/119", false, false, "/124../127"},
	} {
		p := netip.MustParsePrefix(tt.prefix)
		c := publicPool(1, 0, 8)
		c.Backends[0].Addrs = append(c.Backends[0].Addrs, netip.MustParseAddr("fd00::4"))
		c.FrontendIPConfigurations = []FrontendIPConfiguration{{Name: "prefix", PublicIPPrefix: p}}
		c.OutboundRules[0].FrontendIPConfigurations = []string{"prefix"}
		gateway := NATGateway{SKU: GatewayStandardV2, PublicIPPrefixes: []netip.Prefix{p}}
		if tt.ok {
			assert.NoError(t, c.Validate(), tt.prefix)
			assert.NoError(t, gateway.Validate(), tt.prefix)
		} else {
			assert.ErrorIs(t, c.Validate(), flow.ErrOutOfRange)
			assert.ErrorContains(t, c.Validate(), "FrontendIPConfigurations[0].PublicIPPrefix "+tt.prefix+": out of range: valid are "+tt.valid)
			assert.ErrorContains(t, gateway.Validate(), "PublicIPPrefixes[0] "+tt.prefix+": out of range: valid are "+tt.valid)
		}
		c.OwnRanges = true
		assert.Equal(t, tt.own, c.Validate() == nil, "%s: %v", tt.prefix, c.Validate())
	}
}

// Sums of the largest pools are exact, or refused.
func TestPoolsOfExtremes(t *testing.T) {
	largest := PoolSize{Count: maxPoolNodes, MaxSurge: "100%"}
	nodes, err := largest.Nodes()
	require.NoError(t, err)
	assert.Equal(t, 2*maxPoolNodes, nodes)
	_, err = PoolSize{Count: maxPoolNodes + 1, MaxCount: math.MaxInt}.Nodes()
	assert.ErrorContains(t, err, "Count 1000000001: out of range: valid are 0..1000000000")
	assert.ErrorContains(t, err, "MaxCount")
	surge, err := MaxSurge("33%").Nodes(math.MaxInt)
	require.NoError(t, err)
	assert.Equal(t, math.MaxInt/100*33+(math.MaxInt%100*33+99)/100, surge)
	surge, err = MaxSurge("").Nodes(-5)
	require.NoError(t, err)
	assert.Zero(t, surge)
}

func TestAzure_23_autoscaler_maximum(t *testing.T) {
	nodes, err := TotalNodes(PoolSize{Count: 3, MaxCount: 15})
	require.NoError(t, err)
	assert.Equal(t, 16, nodes)
}

func TestAzure_24_ports_lost_to_rules(t *testing.T) {
	for _, tt := range []struct {
		rulePorts []uint16
		want      int
	}{
		{[]uint16{80, 443}, 63_984},
		{[]uint16{80, 81}, 63_992},
		{[]uint16{8080, 8087}, 63_992},
		{[]uint16{8080, 8088}, 63_984},
	} {
		assert.Equal(t, tt.want, AvailablePorts(tt.rulePorts...), "rules on %d", tt.rulePorts)

		c := publicPool(1, 1, tt.want)
		for i, port := range tt.rulePorts {
			c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
				Name: fmt.Sprint(i), FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool",
				FrontendPort: port, BackendPort: port, DisableOutboundSNAT: true,
			})
		}
		planned(t, c, tt.want)
		c.OutboundRules[0].AllocatedOutboundPorts += 8
		_, err := c.Plan()
		assert.ErrorIs(t, err, ErrInsufficientOutboundPorts)
	}
}

// withRule adds a load-balancing rule for TCP port 443 on the outbound frontend.
func withRule(c Config, disableOutboundSNAT bool) Config {
	c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
		Name: "https", FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool",
		Protocol: snat.TCP, FrontendPort: 443, BackendPort: 8443, DisableOutboundSNAT: disableOutboundSNAT,
	})
	return c
}

func TestAzure_25_outbound_rule_on_the_frontend_of_a_rule(t *testing.T) {
	_, err := withRule(publicPool(2, 1, 1024), false).Plan()
	assert.ErrorIs(t, err, flow.ErrConflict)
	assert.ErrorContains(t, err, "LoadBalancingRules[0].DisableOutboundSNAT false")
	planned(t, withRule(publicPool(2, 1, 1024), true), 1024)
}

func TestAzure_26_rule_leaves_63992_ports(t *testing.T) {
	_, err := withRule(publicPool(2, 1, 32_000), true).Plan()
	var short *InsufficientPortsError
	require.ErrorAs(t, err, &short)
	assert.Equal(t, int64(63_992), short.Available)
}

func TestAzure_34_idle_timeout_range(t *testing.T) {
	for minutes, ok := range map[time.Duration]bool{3: false, 4: true, 120: true, 121: false} {
		c := publicPool(1, 1, 1024)
		c.OutboundRules[0].IdleTimeout = minutes * time.Minute
		if _, err := c.Plan(); ok {
			assert.NoError(t, err, "%d minutes", minutes)
		} else {
			assert.ErrorIs(t, err, flow.ErrOutOfRange, "%d minutes", minutes)
		}
	}

	c := withRule(publicPool(1, 1, 1024), true)
	c.LoadBalancingRules[0].IdleTimeout = 31 * time.Minute
	assert.ErrorIs(t, c.Validate(), flow.ErrOutOfRange)
	c.LoadBalancingRules[0].IdleTimeout = 100 * time.Minute
	c.MaxRuleIdleTimeout = 100 * time.Minute
	assert.NoError(t, c.Validate())
}
