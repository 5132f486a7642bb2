package lb

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// fullConfig is valid and has one of everything.
func fullConfig() Config {
	c := publicPool(2, 1, 1024)
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations,
		FrontendIPConfiguration{Name: "prefix", PublicIPPrefix: netip.MustParsePrefix("203.0.113.16/28")},
		FrontendIPConfiguration{Name: "web", PublicIPAddress: netip.MustParseAddr("198.51.100.1")})
	for i := range c.Backends {
		c.Backends[i].Inside = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))}
	}
	c.LoadBalancingRules = []LoadBalancingRule{{
		Name: "https", FrontendIPConfiguration: "web", BackendAddressPool: "aksOutboundBackendPool",
		Protocol: snat.TCP, FrontendPort: 443, BackendPort: 8443, DisableOutboundSNAT: true,
	}}
	c.InboundNATRules = []InboundNATRule{
		{Name: "ssh", FrontendIPConfiguration: "web", Protocol: snat.TCP, Backend: "node0", FrontendPort: 2222, BackendPort: 2022},
		{Name: "all-ssh", FrontendIPConfiguration: "web", Protocol: snat.TCP, BackendAddressPool: "aksOutboundBackendPool",
			FrontendPortRangeStart: 50_000, FrontendPortRangeEnd: 50_099, BackendPort: 22},
	}
	return c
}

func TestValidateReportsEveryField(t *testing.T) {
	require.NoError(t, fullConfig().Validate())
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix

	for _, tt := range []struct {
		name     string
		damage   func(*Config)
		sentinel error
		message  string
	}{
		{"SKU", func(c *Config) { c.SKU = 2; c.OutboundRules = nil }, flow.ErrOutOfRange, "SKU 2: out of range"},
		{"frontend mode", func(c *Config) { c.FrontendMode = 2 }, flow.ErrOutOfRange, "FrontendMode 2"},
		{"layout", func(c *Config) { c.Layout = 9 }, flow.ErrOutOfRange, "Layout 9"},
		{"Basic frontend", func(c *Config) { c.BasicFrontend = 3 }, flow.ErrOutOfRange, "BasicFrontend 3"},
		{"outbound limit", func(c *Config) { c.MaxOutboundIdleTimeout = 121 * time.Minute }, flow.ErrOutOfRange, "MaxOutboundIdleTimeout 2h1m0s: out of range: valid are whole minutes 4..120"},
		{"rule limit", func(c *Config) { c.MaxRuleIdleTimeout = 101 * time.Minute }, flow.ErrOutOfRange, "MaxRuleIdleTimeout 1h41m0s: out of range: valid are whole minutes 4..100"},

		{"frontend name", func(c *Config) { c.FrontendIPConfigurations[1].Name = "" }, flow.ErrMissing, `FrontendIPConfigurations[1].Name "": missing`},
		{"frontend name twice", func(c *Config) { c.FrontendIPConfigurations[1].Name = "ip0" }, flow.ErrDuplicateName, `FrontendIPConfigurations[1].Name "ip0": duplicate name: already FrontendIPConfigurations[0]`},
		{"frontend without address", func(c *Config) { c.FrontendIPConfigurations[1].PublicIPPrefix = netip.Prefix{} }, flow.ErrMissing, "FrontendIPConfigurations[1].PublicIPAddress"},
		{"frontend with both", func(c *Config) { c.FrontendIPConfigurations[1].PublicIPAddress = addr("203.0.113.1") }, flow.ErrConflict, "FrontendIPConfigurations[1].PublicIPPrefix 203.0.113.16/28"},
		{"multicast frontend", func(c *Config) { c.FrontendIPConfigurations[0].PublicIPAddress = addr("224.0.0.1") }, flow.ErrAddress, "FrontendIPConfigurations[0].PublicIPAddress 224.0.0.1"},
		{"reserved frontend", func(c *Config) { c.FrontendIPConfigurations[0].PublicIPAddress = addr("240.0.0.1") }, flow.ErrAddress, "FrontendIPConfigurations[0].PublicIPAddress 240.0.0.1"},
		{"backend in 0.0.0.0/8", func(c *Config) { c.Backends[0].Addrs[0] = addr("0.0.0.1") }, flow.ErrAddress, "Backends[0].Addrs[0] 0.0.0.1"},
		{"link-local frontend", func(c *Config) { c.FrontendIPConfigurations[0].PublicIPAddress = addr("fe80::1") }, flow.ErrAddress, "FrontendIPConfigurations[0].PublicIPAddress fe80::1"},
		{"link-local backend", func(c *Config) { c.Backends[0].Addrs[0] = addr("169.254.1.1") }, flow.ErrAddress, "Backends[0].Addrs[0] 169.254.1.1"},
		{"link-local public address", func(c *Config) { c.Backends[0].PublicIPAddresses = []netip.Addr{addr("169.254.1.1")} }, flow.ErrAddress, "Backends[0].PublicIPAddresses[0] 169.254.1.1"},
		{"mapped frontend", func(c *Config) { c.FrontendIPConfigurations[0].PublicIPAddress = addr("::ffff:1.2.3.4") }, flow.ErrAddress, "FrontendIPConfigurations[0].PublicIPAddress ::ffff:1.2.3.4"},
		{"prefix with host bits", func(c *Config) { c.FrontendIPConfigurations[1].PublicIPPrefix = prefix("203.0.113.17/28") }, flow.ErrPrefix, "did you mean 203.0.113.16/28?"},
		{"prefix too large", func(c *Config) { c.FrontendIPConfigurations[1].PublicIPPrefix = prefix("203.0.0.0/23") }, flow.ErrOutOfRange, "FrontendIPConfigurations[1].PublicIPPrefix 203.0.0.0/23: out of range: valid are /28../31, larger only with OwnRanges"},
		{"frontends overlap", func(c *Config) { c.FrontendIPConfigurations[2].PublicIPAddress = addr("203.0.113.31") }, flow.ErrOverlap, "FrontendIPConfigurations[2].PublicIPAddress 203.0.113.31/32: overlap: with FrontendIPConfigurations[1].PublicIPPrefix"},
		{"too many frontends", func(c *Config) {
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, publicPool(0, 599, 0).FrontendIPConfigurations[1:]...)
			c.FrontendIPConfigurations[2].PublicIPAddress = addr("198.51.100.1")
		}, flow.ErrTooMany, "FrontendIPConfigurations has 601 elements: too many: at most 600"},

		{"backend name", func(c *Config) { c.Backends[1].Name = "node0" }, flow.ErrDuplicateName, `Backends[1].Name "node0"`},
		{"backend without address", func(c *Config) { c.Backends[0].Addrs = nil }, flow.ErrMissing, "Backends[0].Addrs []"},
		{"backend with zero address", func(c *Config) { c.Backends[0].Addrs = []netip.Addr{{}} }, flow.ErrAddress, "Backends[0].Addrs[0] invalid IP"},
		{"two addresses of a family", func(c *Config) { c.Backends[0].Addrs = append(c.Backends[0].Addrs, addr("10.9.9.9")) }, flow.ErrTooMany, "Backends[0].Addrs[1] 10.9.9.9"},
		{"address of another backend", func(c *Config) { c.Backends[1].Addrs[0] = addr("10.224.0.4") }, flow.ErrOverlap, "Backends[1].Addrs[0] 10.224.0.4/32: overlap: with Backends[0].Addrs[0]"},
		{"address inside another backend", func(c *Config) { c.Backends[1].Addrs[0] = addr("10.244.0.9") }, flow.ErrOverlap, "overlap: with Backends[0].Inside[0] 10.244.0.0/24"},
		{"inside prefixes overlap", func(c *Config) { c.Backends[1].Inside[0] = prefix("10.244.0.128/25") }, flow.ErrOverlap, "Backends[1].Inside[0] 10.244.0.128/25"},
		{"inside prefix with host bits", func(c *Config) { c.Backends[1].Inside[0] = prefix("10.244.1.1/24") }, flow.ErrPrefix, "did you mean 10.244.1.0/24?"},
		{"mapped inside prefix", func(c *Config) { c.Backends[1].Inside[0] = prefix("::ffff:10.0.0.0/104") }, flow.ErrPrefix, "Backends[1].Inside[0] ::ffff:10.0.0.0/104"},
		{"zero inside prefix", func(c *Config) { c.Backends[1].Inside[0] = netip.Prefix{} }, flow.ErrPrefix, "Backends[1].Inside[0] invalid Prefix"},

		{"pool name", func(c *Config) { c.BackendAddressPools[0].Name = "" }, flow.ErrMissing, "BackendAddressPools[0].Name"},
		{"pool member unknown", func(c *Config) { c.BackendAddressPools[0].Backends[1] = "nodeX" }, flow.ErrUnknownName, `BackendAddressPools[0].Backends[1] "nodeX": unknown name: not among Backends`},
		{"pool member twice", func(c *Config) { c.BackendAddressPools[0].Backends[1] = "node0" }, flow.ErrDuplicateName, `BackendAddressPools[0].Backends[1] "node0"`},
		{"pool too large", func(c *Config) {
			c.BackendAddressPools[0].Backends = publicPool(5001, 0, 0).BackendAddressPools[0].Backends
		}, flow.ErrTooMany, "BackendAddressPools[0].Backends has 5001 elements: too many: at most 5000"},

		{"outbound rule name", func(c *Config) { c.OutboundRules[0].Name = "" }, flow.ErrMissing, "OutboundRules[0].Name"},
		{"outbound rule without frontends", func(c *Config) { c.OutboundRules[0].FrontendIPConfigurations = nil }, flow.ErrMissing, "OutboundRules[0].FrontendIPConfigurations"},
		{"outbound rule frontend unknown", func(c *Config) { c.OutboundRules[0].FrontendIPConfigurations[0] = "ipX" }, flow.ErrUnknownName, `OutboundRules[0].FrontendIPConfigurations[0] "ipX"`},
		{"outbound rule frontend twice", func(c *Config) { c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0", "ip0"} }, flow.ErrDuplicateName, `OutboundRules[0].FrontendIPConfigurations[1] "ip0"`},
		{"outbound rule pool", func(c *Config) { c.OutboundRules[0].BackendAddressPool = "" }, flow.ErrMissing, "OutboundRules[0].BackendAddressPool"},
		{"outbound rule protocol", func(c *Config) { c.OutboundRules[0].Protocol = 3 }, flow.ErrOutOfRange, "OutboundRules[0].Protocol 3"},
		{"outbound rule ports", func(c *Config) { c.OutboundRules[0].AllocatedOutboundPorts = 1020 }, ErrNotBlockMultiple, "OutboundRules[0].AllocatedOutboundPorts 1020: not a multiple of 8: valid are 0 (automatic) and 8..64000"},
		{"outbound idle half minutes", func(c *Config) { c.OutboundRules[0].IdleTimeout = 270 * time.Second }, flow.ErrOutOfRange, "OutboundRules[0].IdleTimeout 4m30s"},
		{"outbound idle over an older limit", func(c *Config) {
			c.MaxOutboundIdleTimeout = 66 * time.Minute
			c.OutboundRules[0].IdleTimeout = 67 * time.Minute
		}, flow.ErrOutOfRange, "valid are whole minutes 4..66"},
		{"idle timeouts differ", func(c *Config) {
			c.OutboundRules = append(c.OutboundRules, c.OutboundRules[0])
			c.OutboundRules[1].Name, c.OutboundRules[1].IdleTimeout = "second", 30*time.Minute
		}, ErrUnsupported, "OutboundRules[1].IdleTimeout 30m0s: not supported: differs from OutboundRules[0].IdleTimeout 4m0s, which serves the same backends"},
		{"resets differ", func(c *Config) {
			c.OutboundRules = append(c.OutboundRules, c.OutboundRules[0])
			c.OutboundRules[1].Name, c.OutboundRules[1].EnableTCPReset = "second", true
		}, ErrUnsupported, "OutboundRules[1].EnableTCPReset true"},
		{"outbound rules on Basic", func(c *Config) { c.SKU = Basic }, ErrUnsupported, `OutboundRules[0] "aksOutboundRule": not supported: SKU Basic`},
		{"prefix on Basic", func(c *Config) { c.SKU = Basic }, ErrUnsupported, "FrontendIPConfigurations[1].PublicIPPrefix 203.0.113.16/28: not supported"},
		{"rule without SNAT on Basic", func(c *Config) { c.SKU = Basic }, ErrUnsupported, "LoadBalancingRules[0].DisableOutboundSNAT true"},
		{"more than 64,000 ports from two rules", func(c *Config) {
			second := c.OutboundRules[0]
			second.Name, second.FrontendIPConfigurations = "second", []string{"prefix"}
			c.OutboundRules = append(c.OutboundRules, second)
			c.OutboundRules[0].AllocatedOutboundPorts, c.OutboundRules[1].AllocatedOutboundPorts = 32_000, 32_008
		}, flow.ErrOutOfRange, `OutboundRules[1] "node0": out of range: this backend would have 64008 ports`},

		{"rule name", func(c *Config) { c.LoadBalancingRules[0].Name = "" }, flow.ErrMissing, "LoadBalancingRules[0].Name"},
		{"rule frontend", func(c *Config) { c.LoadBalancingRules[0].FrontendIPConfiguration = "x" }, flow.ErrUnknownName, `LoadBalancingRules[0].FrontendIPConfiguration "x"`},
		{"rule on a prefix", func(c *Config) { c.LoadBalancingRules[0].FrontendIPConfiguration = "prefix" }, ErrUnsupported, "is a prefix, which serves outbound rules only"},
		{"rule pool", func(c *Config) { c.LoadBalancingRules[0].BackendAddressPool = "x" }, flow.ErrUnknownName, `LoadBalancingRules[0].BackendAddressPool "x"`},
		{"rule protocol", func(c *Config) { c.LoadBalancingRules[0].Protocol = 7 }, flow.ErrOutOfRange, "LoadBalancingRules[0].Protocol 7"},
		{"rule frontend port", func(c *Config) { c.LoadBalancingRules[0].FrontendPort = 0 }, flow.ErrOutOfRange, "LoadBalancingRules[0].FrontendPort 0: out of range: valid are 1..65535"},
		{"rule backend port", func(c *Config) { c.LoadBalancingRules[0].BackendPort = 0 }, flow.ErrOutOfRange, "LoadBalancingRules[0].BackendPort 0"},
		{"rule idle", func(c *Config) { c.LoadBalancingRules[0].IdleTimeout = 31 * time.Minute }, flow.ErrOutOfRange, "LoadBalancingRules[0].IdleTimeout 31m0s: out of range: valid are whole minutes 4..30"},
		{"two rules on one port", func(c *Config) {
			c.InboundNATRules[0].FrontendPort, c.InboundNATRules[0].Protocol = 443, snat.All
		}, flow.ErrConflict, `InboundNATRules[0]: frontend port 443: conflict: LoadBalancingRules[0] uses it on "web" too`},
		{"port in a range", func(c *Config) { c.InboundNATRules[0].FrontendPort = 50_099 }, flow.ErrConflict, "InboundNATRules[0]: frontend port 50099"},
		{"ranges that overlap in part", func(c *Config) {
			second := c.InboundNATRules[1]
			second.Name, second.FrontendPortRangeStart, second.FrontendPortRangeEnd = "second", 50_050, 50_150
			third := second
			third.Name, third.FrontendPortRangeStart, third.FrontendPortRangeEnd = "third", 50_120, 50_121
			c.InboundNATRules = append(c.InboundNATRules, second, third)
		}, flow.ErrConflict, `InboundNATRules[3]: frontend port 50120: conflict: InboundNATRules[2] uses it on "web" too`},
		{"too many rules", func(c *Config) { c.LoadBalancingRules = manyRules(1499) }, flow.ErrTooMany, "LoadBalancingRules has 1501 elements with InboundNATRules: too many: at most 1500"},
		{"too many rules for a backend", func(c *Config) { c.LoadBalancingRules = manyRules(300) }, flow.ErrTooMany, "Backends[0] has 303 rules: too many: at most 300"},

		{"NAT rule backend", func(c *Config) { c.InboundNATRules[0].Backend = "" }, flow.ErrMissing, "InboundNATRules[0].Backend"},
		{"NAT rule port", func(c *Config) { c.InboundNATRules[0].FrontendPort = 0 }, flow.ErrOutOfRange, "InboundNATRules[0].FrontendPort 0"},
		{"NAT rule range without pool", func(c *Config) { c.InboundNATRules[0].FrontendPortRangeEnd = 1 }, flow.ErrConflict, "InboundNATRules[0].FrontendPortRangeStart"},
		{"NAT rule pool", func(c *Config) { c.InboundNATRules[1].BackendAddressPool = "x" }, flow.ErrUnknownName, `InboundNATRules[1].BackendAddressPool "x"`},
		{"NAT rule range start", func(c *Config) { c.InboundNATRules[1].FrontendPortRangeStart = 0 }, flow.ErrOutOfRange, "InboundNATRules[1].FrontendPortRangeStart 0"},
		{"NAT rule range end", func(c *Config) { c.InboundNATRules[1].FrontendPortRangeEnd = 49_999 }, flow.ErrOutOfRange, "InboundNATRules[1].FrontendPortRangeEnd 49999: out of range: valid are 50000..65535"},
		{"NAT rule with both forms", func(c *Config) { c.InboundNATRules[1].Backend = "node1" }, flow.ErrConflict, "InboundNATRules[1].BackendAddressPool"},
		{"NAT rule idle", func(c *Config) { c.InboundNATRules[1].IdleTimeout = time.Minute }, flow.ErrOutOfRange, "InboundNATRules[1].IdleTimeout 1m0s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := fullConfig()
			tt.damage(&c)
			err := c.Validate()
			require.ErrorIs(t, err, tt.sentinel)
			assert.ErrorContains(t, err, tt.message)
		})
	}
}

// manyRules returns n rules for the pool of fullConfig, each on its own port.
func manyRules(n int) (rules []LoadBalancingRule) {
	for i := range n {
		rule := fullConfig().LoadBalancingRules[0]
		rule.Name, rule.FrontendPort = fmt.Sprint(i), uint16(3000+i)
		rules = append(rules, rule)
	}
	return rules
}

func TestValidateReportsAllProblemsAtOnce(t *testing.T) {
	c := fullConfig()
	c.Layout = 5
	c.Backends[0].Addrs = nil
	c.OutboundRules[0].AllocatedOutboundPorts = 12
	c.OutboundRules[0].BackendAddressPool = "nowhere"
	c.InboundNATRules[0].BackendPort = 0
	err := c.Validate()
	for _, sentinel := range []error{flow.ErrOutOfRange, flow.ErrMissing, ErrNotBlockMultiple, flow.ErrUnknownName} {
		assert.ErrorIs(t, err, sentinel)
	}
	assert.Len(t, strings.Split(err.Error(), "\n"), 5)
}

func TestCapacityErrorsOfSeveralRules(t *testing.T) {
	c := publicPool(2, 2, 64_000)
	c.OutboundRules = append(c.OutboundRules, c.OutboundRules[0])
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0"}
	c.OutboundRules[1].Name, c.OutboundRules[1].FrontendIPConfigurations = "second", []string{"ip1"}
	err := c.Validate()
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 2, "one per rule, although TCP and UDP both fail")
	assert.True(t, strings.HasPrefix(lines[0], "OutboundRules[0]: InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): "), lines[0])
	assert.True(t, strings.HasPrefix(lines[1], "OutboundRules[1]: "), lines[1])
}

func TestMaxSurge(t *testing.T) {
	for _, tt := range []struct {
		surge    MaxSurge
		want     int
		sentinel error
	}{
		{"", 1, nil}, {"0", 0, nil}, {"3", 3, nil}, {"1%", 1, nil}, {"100%", 10, nil}, {"10%", 1, nil}, {"11%", 2, nil},
		{"-1", 0, flow.ErrOutOfRange}, {"0%", 0, flow.ErrOutOfRange}, {"101%", 0, flow.ErrOutOfRange}, {"-5%", 0, flow.ErrOutOfRange},
		{"some", 0, flow.ErrSyntax}, {"1.5", 0, flow.ErrSyntax}, {"%", 0, flow.ErrSyntax}, {"5 %", 0, flow.ErrSyntax},
	} {
		got, err := tt.surge.Nodes(10)
		assert.ErrorIs(t, err, tt.sentinel, "%q", tt.surge)
		assert.Equal(t, tt.want, got, "%q", tt.surge)
	}
	_, err := TotalNodes(PoolSize{Count: 1}, PoolSize{Count: -1, MaxCount: -2, MaxSurge: "x"})
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorIs(t, err, flow.ErrSyntax)
	assert.ErrorContains(t, err, "pools[1].Count -1")
	assert.ErrorContains(t, err, "MaxCount -2")
	assert.ErrorContains(t, err, `MaxSurge "x"`)
}

func TestCapacityRefusesBadPorts(t *testing.T) {
	for ports, sentinel := range map[int]error{12: ErrNotBlockMultiple, -8: flow.ErrOutOfRange, 64_008: flow.ErrOutOfRange} {
		assert.ErrorIs(t, Capacity{Nodes: 1, Ports: ports, Frontends: 1}.Check(), sentinel, "%d", ports)
	}
}

// 0 ports is automatic, AKS's default: 8 for each at least. No nodes have no claim.
func TestCapacityOfZero(t *testing.T) {
	assert.Equal(t, 16_000, Capacity{Frontends: 2}.MaxNodes())
	assert.Zero(t, Capacity{}.MaxNodes())
	assert.NoError(t, Capacity{Nodes: 8000, Frontends: 1}.Check())
	assert.ErrorIs(t, Capacity{Nodes: 8001, Frontends: 1}.Check(), ErrInsufficientOutboundPorts)
	assert.Equal(t, 2, Capacity{Nodes: 8001}.MinFrontends())
	assert.Equal(t, 64_000, Capacity{Frontends: 2}.MaxPorts())
	assert.Equal(t, 63_992, Capacity{Frontends: 1, LostBlocks: 1}.MaxPorts())
	assert.Zero(t, Capacity{}.MaxPorts())
	assert.NoError(t, Capacity{}.Check())
}

// Whatever the numbers: no overflow, and an error where the claim cannot be met.
func TestCapacityOfExtremes(t *testing.T) {
	extremes := []int{math.MinInt, -1, 0, 1, 8, 64_000, math.MaxInt32, math.MaxInt - 1, math.MaxInt}
	for _, nodes := range extremes {
		for _, frontends := range extremes {
			for _, lost := range extremes {
				for _, ports := range extremes {
					c := Capacity{Nodes: nodes, Ports: ports, Frontends: frontends, LostBlocks: lost, Strict: nodes%2 == 0}
					for _, n := range []int64{c.Required(), c.Available(), int64(c.MinFrontends()), int64(c.MaxNodes()), int64(c.MaxPorts())} {
						require.GreaterOrEqual(t, n, int64(0), "%+v", c)
					}
					need := new(big.Int).Mul(big.NewInt(int64(nodes)), big.NewInt(int64(max(8, ports))))
					have := new(big.Int).Mul(big.NewInt(int64(frontends)), big.NewInt(PortsPerFrontend))
					have.Sub(have, new(big.Int).Mul(big.NewInt(int64(lost)), big.NewInt(8)))
					err := c.Check()
					switch {
					case ports < 0 || ports > 64_000 || nodes < 0 || frontends < 0 || lost < 0:
						require.True(t, errors.Is(err, flow.ErrOutOfRange) || errors.Is(err, ErrNotBlockMultiple), "%+v: %v", c, err)
					case ports%8 != 0:
						require.ErrorIs(t, err, ErrNotBlockMultiple, "%+v", c)
					case need.Sign() > 0 && need.Cmp(have) > 0:
						require.ErrorIs(t, err, ErrInsufficientOutboundPorts, "%+v", c)
					case need.Cmp(have) < 0 && have.IsInt64():
						require.NoError(t, err, "%+v", c)
					}
				}
			}
		}
	}
	assert.EqualError(t, Capacity{Nodes: -1, Ports: 8, Frontends: -2}.Check(), "Frontends -2: out of range: 0 or more\nNodes -1: out of range: 0 or more")
}

// MinFrontends, MaxNodes and MaxPorts are the exact edges of Check.
func TestCapacityEdges(t *testing.T) {
	for _, strict := range []bool{false, true} {
		for _, lost := range []int{0, 1, 7999, 8001} {
			for _, ports := range []int{8, 1024, 21_000, 64_000} {
				for _, nodes := range []int{1, 3, 50, 4999} {
					c := Capacity{Nodes: nodes, Ports: ports, LostBlocks: lost, Strict: strict}
					c.Frontends = c.MinFrontends()
					assert.NoError(t, c.Check(), "%+v", c)
					c.Frontends--
					assert.ErrorIs(t, c.Check(), ErrInsufficientOutboundPorts, "%+v", c)

					c.Frontends = 3
					if c.Nodes = c.MaxNodes(); c.Nodes > 0 {
						assert.NoError(t, c.Check(), "%+v", c)
					}
					c.Nodes++
					assert.ErrorIs(t, c.Check(), ErrInsufficientOutboundPorts, "%+v", c)

					c.Nodes = nodes
					c.Ports = c.MaxPorts()
					assert.NoError(t, c.Check(), "%+v", c)
					if c.Ports += snat.BlockSize; c.Ports <= PortsPerFrontend {
						assert.ErrorIs(t, c.Check(), ErrInsufficientOutboundPorts, "%+v", c)
					}
				}
			}
		}
	}
}
