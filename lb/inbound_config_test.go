package lb

// What is allowed of inbound rules, and what is not, each with the field's name and,
// where Azure has one, its error code.

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// internalPool is an internal Standard load balancer with nodes backends in both
// families, a frontend of each, and a rule for TCP port 80 on the IPv4 one.
func internalPool(nodes int) Config {
	c := publicPool(nodes, 0, 0)
	c.Name, c.OutboundRules = "internal", nil
	c.FrontendIPConfigurations = []FrontendIPConfiguration{
		{Name: "fe", PrivateIPAddress: netip.MustParseAddr("10.225.0.4"), Subnet: netip.MustParsePrefix("10.225.0.0/24")},
		{Name: "fe6", PrivateIPAddress: netip.MustParseAddr("fd00:1::9")},
	}
	for i := range c.Backends {
		c.Backends[i].Addrs = append(c.Backends[i].Addrs, netip.MustParseAddr(fmt.Sprintf("fd00::%x", 4+i)))
	}
	c.LoadBalancingRules = []LoadBalancingRule{{
		Name: "http", FrontendIPConfiguration: "fe", BackendAddressPool: c.BackendAddressPools[0].Name,
		Protocol: snat.TCP, FrontendPort: 80, BackendPort: 8080, EnableTCPReset: true,
	}}
	return c
}

// haPorts is internalPool with HA ports instead of the rule.
func haPorts(nodes int, floating bool) Config {
	c := internalPool(nodes)
	c.LoadBalancingRules[0] = LoadBalancingRule{
		Name: "ha", FrontendIPConfiguration: "fe", BackendAddressPool: c.BackendAddressPools[0].Name, EnableFloatingIP: floating,
	}
	return c
}

// probedPool is internalPool with a TCP probe of port 8080 for the rule, every 5 s, and a
// prober to whom all is well.
func probedPool(nodes int) Config {
	c := internalPool(nodes)
	c.Probes = []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second}}
	c.LoadBalancingRules[0].Probe = "health"
	c.Prober = &arbitraryProber{Up: 1}
	return c
}

// withSecond adds a copy of the first load-balancing rule, changed.
func withSecond(c *Config, change func(*LoadBalancingRule)) {
	second := c.LoadBalancingRules[0]
	second.Name = "second"
	change(&second)
	c.LoadBalancingRules = append(c.LoadBalancingRules, second)
}

func sku(s SKU) *SKU { return &s }

func TestInboundFieldsAreValidated(t *testing.T) {
	const duplicate = "RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig"
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	public := fullConfig
	internal := func() Config { return internalPool(2) }
	probed := func() Config { return probedPool(2) }
	ha := func() Config { return haPorts(2, false) }
	floating := func() Config { return haPorts(2, true) }
	for _, base := range []func() Config{public, internal, ha, floating, probed} {
		require.NoError(t, base().Validate())
	}
	for _, tt := range []struct {
		name     string
		base     func() Config
		damage   func(*Config)
		sentinel error // nil: it is allowed
		message  string
	}{
		{"private and public address", internal, func(c *Config) { c.FrontendIPConfigurations[0].PublicIPAddress = addr("20.0.0.1") }, flow.ErrConflict, "FrontendIPConfigurations[0].PrivateIPAddress 10.225.0.4: conflict: the frontend is public"},
		{"private address", internal, func(c *Config) { c.FrontendIPConfigurations[1].PrivateIPAddress = addr("ff02::1") }, flow.ErrAddress, "FrontendIPConfigurations[1].PrivateIPAddress ff02::1"},
		{"private beside public", internal, func(c *Config) {
			c.FrontendIPConfigurations[1] = FrontendIPConfiguration{Name: "x", PublicIPAddress: addr("20.0.0.1")}
		}, flow.ErrConflict, `FrontendIPConfigurations[1] "x": conflict: FrontendIPConfigurations[0] is internal; a load balancer is public or internal`},
		{"private address of a backend", internal, func(c *Config) {
			f := &c.FrontendIPConfigurations[0]
			f.PrivateIPAddress, f.Subnet = c.Backends[0].Addrs[0], netip.Prefix{}
		}, flow.ErrOverlap, "Backends[0].Addrs[0] 10.224.0.4/32: overlap: with FrontendIPConfigurations[0].PrivateIPAddress"},
		{"subnet with host bits", internal, func(c *Config) { c.FrontendIPConfigurations[0].Subnet = prefix("10.225.0.1/24") }, flow.ErrPrefix, "FrontendIPConfigurations[0].Subnet 10.225.0.1/24"},
		{"subnet elsewhere", internal, func(c *Config) { c.FrontendIPConfigurations[0].Subnet = prefix("10.226.0.0/24") }, flow.ErrConflict, "FrontendIPConfigurations[0].Subnet 10.226.0.0/24: conflict: PrivateIPAddress 10.225.0.4 is not in it"},
		{"reserved first", internal, func(c *Config) { c.FrontendIPConfigurations[0].PrivateIPAddress = addr("10.225.0.3") }, flow.ErrConflict, "Subnet 10.225.0.0/24: conflict: Azure reserves 10.225.0.3 of it"},
		{"reserved last", internal, func(c *Config) { c.FrontendIPConfigurations[0].PrivateIPAddress = addr("10.225.0.255") }, flow.ErrConflict, "Azure reserves 10.225.0.255 of it"},
		{"subnet of a public frontend", public, func(c *Config) { c.FrontendIPConfigurations[0].Subnet = prefix("10.225.0.0/24") }, flow.ErrConflict, "FrontendIPConfigurations[0].Subnet 10.225.0.0/24: conflict: only a frontend with PrivateIPAddress"},
		{"SKU of a public IP", public, func(c *Config) { c.FrontendIPConfigurations[2].PublicIPSKU = sku(Basic) }, flow.ErrConflict, "FrontendIPConfigurations[2].PublicIPSKU Basic: conflict: DifferentSkuLoadBalancersAndPublicIPAddressNotAllowed: the load balancer is Standard"},
		{"SKU of a public IP that matches", public, func(c *Config) { c.FrontendIPConfigurations[2].PublicIPSKU = sku(Standard) }, nil, ""},
		{"unknown SKU of a public IP", public, func(c *Config) { c.FrontendIPConfigurations[2].PublicIPSKU = sku(7) }, flow.ErrOutOfRange, "FrontendIPConfigurations[2].PublicIPSKU 7"},
		{"SKU of an instance's public IP", public, func(c *Config) { c.Backends[1].PublicIPSKU = sku(Basic) }, flow.ErrConflict, "Backends[1].PublicIPSKU Basic: conflict: DifferentSku"},
		{"outbound rule of an internal one", internal, func(c *Config) {
			c.OutboundRules = []OutboundRule{{Name: "out", FrontendIPConfigurations: []string{"fe"}, BackendAddressPool: c.BackendAddressPools[0].Name}}
		}, ErrUnsupported, `OutboundRules[0] "out": not supported: an internal load balancer has no outbound rules`},

		{"frontends of Basic", internal, func(c *Config) {
			c.SKU, c.LoadBalancingRules = Basic, nil
			for i := range 199 {
				c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: fmt.Sprint(i), PrivateIPAddress: addr(fmt.Sprintf("10.9.0.%d", i+1))})
			}
		}, flow.ErrTooMany, "FrontendIPConfigurations has 201 elements: too many: at most 200"},
		{"pool of Basic", func() Config { return internalPool(301) }, func(c *Config) { c.SKU, c.LoadBalancingRules = Basic, nil }, flow.ErrTooMany, "BackendAddressPools[0].Backends has 301 elements: too many: at most 300"},
		{"rules of Basic", internal, func(c *Config) {
			c.SKU, c.LoadBalancingRules = Basic, nil
			for i := range 251 {
				c.InboundNATRules = append(c.InboundNATRules, InboundNATRule{Name: fmt.Sprint(i), FrontendIPConfiguration: "fe", Protocol: snat.TCP, Backend: "node0", FrontendPort: uint16(1 + i), BackendPort: uint16(1 + i)})
			}
		}, flow.ErrTooMany, "LoadBalancingRules has 251 elements with InboundNATRules: too many: at most 250"},
		{"IP-based pool of Basic", internal, func(c *Config) {
			c.SKU, c.LoadBalancingRules, c.BackendAddressPools[0].IPBased = Basic, nil, true
		}, ErrUnsupported, "BackendAddressPools[0].IPBased true"},

		{"distribution", internal, func(c *Config) { c.LoadBalancingRules[0].LoadDistribution = 3 }, flow.ErrOutOfRange, "LoadBalancingRules[0].LoadDistribution 3"},
		{"reset on Basic", internal, func(c *Config) { c.SKU = Basic }, ErrUnsupported, "LoadBalancingRules[0].EnableTCPReset true: not supported: SKU Basic"},
		{"idle timeout", internal, func(c *Config) { c.LoadBalancingRules[0].IdleTimeout = 31 * time.Minute }, flow.ErrOutOfRange, "LoadBalancingRules[0].IdleTimeout 31m0s"},
		{"floating to another port", internal, func(c *Config) { c.LoadBalancingRules[0].EnableFloatingIP = true }, flow.ErrConflict, "LoadBalancingRules[0].BackendPort 8080: conflict: must be FrontendPort 80 with EnableFloatingIP"},
		{"one backend port for two rules", internal, func(c *Config) { withSecond(c, func(l *LoadBalancingRule) { l.FrontendPort = 81 }) }, flow.ErrConflict,
			"LoadBalancingRules[1].BackendPort 8080: conflict: " + duplicate + `: LoadBalancingRules[0] uses it on backend "node0" too`},
		{"one backend port for two protocols", internal, func(c *Config) {
			withSecond(c, func(l *LoadBalancingRule) { l.Protocol, l.FrontendPort = snat.UDP, 81 })
		}, nil, ""},
		{"one backend port for two families", internal, func(c *Config) { withSecond(c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "fe6" }) }, nil, ""},
		{"one backend port in two pools", internal, func(c *Config) {
			c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "other", Backends: []string{"node1"}})
			withSecond(c, func(l *LoadBalancingRule) { l.BackendAddressPool, l.FrontendPort = "other", 81 })
		}, flow.ErrConflict, `LoadBalancingRules[1].BackendPort 8080: conflict: ` + duplicate + `: LoadBalancingRules[0] uses it on backend "node1" too`},
		{"one backend port in pools apart", internal, func(c *Config) {
			c.BackendAddressPools[0].Backends = []string{"node0"}
			c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "other", Backends: []string{"node1"}})
			withSecond(c, func(l *LoadBalancingRule) { l.BackendAddressPool, l.FrontendPort = "other", 81 })
		}, nil, ""},
		{"one backend port with floating IP", internal, func(c *Config) {
			c.LoadBalancingRules[0].EnableFloatingIP, c.LoadBalancingRules[0].BackendPort = true, 80
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "fe2", PrivateIPAddress: addr("10.225.0.5")})
			withSecond(c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "fe2" })
		}, nil, ""},
		{"one backend port for a rule and a NAT rule", internal, func(c *Config) {
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe", Protocol: snat.TCP, Backend: "node1", FrontendPort: 81, BackendPort: 8080}}
		}, flow.ErrConflict, "InboundNATRules[0].BackendPort 8080: conflict: " + duplicate},

		{"probe of a rule", internal, func(c *Config) { c.LoadBalancingRules[0].Probe = "health" }, flow.ErrUnknownName, `LoadBalancingRules[0].Probe "health": unknown name: not among Probes`},
		{"probe name", probed, func(c *Config) { c.Probes[0].Name = "" }, flow.ErrMissing, `Probes[0].Name ""`},
		{"probe name twice", probed, func(c *Config) { c.Probes = append(c.Probes, c.Probes[0]) }, flow.ErrDuplicateName, `Probes[1].Name "health"`},
		{"probe interval", probed, func(c *Config) { c.Probes[0].Interval = 4 * time.Second }, flow.ErrOutOfRange, "Probes[0].Interval 4s"},
		{"probe of 120 s", probed, func(c *Config) { c.Probes[0].NumberOfProbes = 24 }, nil, ""},
		{"probe of 120 s in Kubernetes", probed, func(c *Config) { c.Probes[0].NumberOfProbes, c.KubernetesProbes = 24, true }, probe.ErrTooSlow, "Probes[0].Interval 5s x 24"},
		{"probe of 115 s in Kubernetes", probed, func(c *Config) { c.Probes[0].NumberOfProbes, c.KubernetesProbes = 23, true }, nil, ""},
		{"probe port", probed, func(c *Config) { c.Probes[0].Port = 0 }, flow.ErrOutOfRange, "Probes[0].Port 0"},
		{"HTTPS probe on Basic", probed, func(c *Config) {
			c.SKU, c.LoadBalancingRules[0].EnableTCPReset = Basic, false
			c.Probes[0].Protocol, c.Probes[0].RequestPath = probe.HTTPS, "/"
		}, probe.ErrUnsupported, "Probes[0].Protocol Https"},
		{"administrative state of nobody", probed, func(c *Config) { c.BackendAddressPools[0].AdminStates = []BackendAdminState{{"node7", 1}} }, flow.ErrUnknownName, `BackendAddressPools[0].AdminStates[0].Backend "node7": unknown name`},
		{"administrative state twice", probed, func(c *Config) {
			c.BackendAddressPools[0].AdminStates = []BackendAdminState{{"node0", 1}, {"node0", 2}}
		}, flow.ErrDuplicateName, `BackendAddressPools[0].AdminStates[1].Backend "node0"`},
		{"administrative state", probed, func(c *Config) { c.BackendAddressPools[0].AdminStates = []BackendAdminState{{"node0", 3}} }, flow.ErrOutOfRange, `BackendAddressPools[0].AdminStates[0].State 3`},

		{"HA ports on a public one", public, func(c *Config) {
			l := &c.LoadBalancingRules[0]
			l.Protocol, l.FrontendPort, l.BackendPort = snat.All, 0, 0
		}, ErrUnsupported, "LoadBalancingRules[0].FrontendPort 0: not supported: HA ports need an internal load balancer with SKU Standard"},
		{"HA ports on Basic", ha, func(c *Config) { c.SKU = Basic }, ErrUnsupported, "LoadBalancingRules[0].FrontendPort 0: not supported: HA ports need"},
		{"HA ports for TCP", ha, func(c *Config) { c.LoadBalancingRules[0].Protocol = snat.TCP }, flow.ErrOutOfRange, "LoadBalancingRules[0].FrontendPort 0: out of range: valid are 1..65535"},
		{"two HA ports on a frontend", floating, func(c *Config) { withSecond(c, func(*LoadBalancingRule) {}) }, flow.ErrConflict, `LoadBalancingRules[1]: frontend port 0: conflict: LoadBalancingRules[0] uses it on "fe" too`},
		{"a rule beside HA ports on a frontend", floating, func(c *Config) {
			withSecond(c, func(l *LoadBalancingRule) { l.FrontendPort, l.BackendPort = 80, 80 })
		}, nil, ""},
		{"a rule without floating IP beside HA ports on a frontend", floating, func(c *Config) {
			withSecond(c, func(l *LoadBalancingRule) { l.FrontendPort, l.BackendPort, l.EnableFloatingIP = 80, 80, false })
		}, flow.ErrConflict, `LoadBalancingRules[1]: frontend port 80: conflict: LoadBalancingRules[0] uses it on "fe" too`},
		{"two rules of a port beside HA ports on a frontend", floating, func(c *Config) {
			withSecond(c, func(l *LoadBalancingRule) { l.FrontendPort, l.BackendPort = 80, 80 })
			withSecond(c, func(l *LoadBalancingRule) { l.Name, l.FrontendPort, l.BackendPort = "third", 80, 80 })
		}, flow.ErrConflict, `LoadBalancingRules[2]: frontend port 80: conflict: LoadBalancingRules[1] uses it on "fe" too`},
		{"HA ports in both families", ha, func(c *Config) { withSecond(c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "fe6" }) }, nil, ""},
		{"a rule beside HA ports on a backend", ha, func(c *Config) {
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "fe2", PrivateIPAddress: addr("10.225.0.5")})
			withSecond(c, func(l *LoadBalancingRule) {
				l.FrontendIPConfiguration, l.FrontendPort, l.BackendPort, l.EnableFloatingIP = "fe2", 80, 80, true
			})
		}, flow.ErrConflict, `LoadBalancingRules[1]: backend "node0": conflict: LoadBalancingRules[0] has HA ports on it`},
		{"a rule with floating IP beside such HA ports", floating, func(c *Config) {
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "fe2", PrivateIPAddress: addr("10.225.0.5")})
			withSecond(c, func(l *LoadBalancingRule) { l.FrontendIPConfiguration, l.FrontendPort, l.BackendPort = "fe2", 80, 80 })
		}, nil, ""},
		{"a rule without floating IP beside such HA ports", floating, func(c *Config) {
			c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "fe2", PrivateIPAddress: addr("10.225.0.5")})
			withSecond(c, func(l *LoadBalancingRule) {
				l.FrontendIPConfiguration, l.FrontendPort, l.BackendPort, l.EnableFloatingIP = "fe2", 80, 80, false
			})
		}, flow.ErrConflict, `LoadBalancingRules[1]: backend "node0": conflict: LoadBalancingRules[0] has HA ports`},

		{"NAT rule for a backend without the family", internal, func(c *Config) {
			c.Backends[0].Addrs = c.Backends[0].Addrs[:1]
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe6", Backend: "node0", FrontendPort: 81, BackendPort: 81}}
		}, flow.ErrMissing, `InboundNATRules[0].Backend "node0": missing: has no address of the family of frontend "fe6"`},
		{"NAT range too small", internal, func(c *Config) {
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe", BackendAddressPool: c.BackendAddressPools[0].Name, FrontendPortRangeStart: 5000, FrontendPortRangeEnd: 5000, BackendPort: 22}}
		}, flow.ErrTooMany, `InboundNATRules[0].FrontendPortRangeEnd 5000: too many: pool "aksOutboundBackendPool" has 2 backends for 1 ports`},
		{"NAT range with floating IP", internal, func(c *Config) {
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe", BackendAddressPool: c.BackendAddressPools[0].Name, FrontendPortRangeStart: 5000, FrontendPortRangeEnd: 5001, BackendPort: 22, EnableFloatingIP: true}}
		}, ErrUnsupported, "InboundNATRules[0].EnableFloatingIP true"},
		{"NAT rule with reset on Basic", internal, func(c *Config) {
			c.SKU, c.LoadBalancingRules = Basic, nil
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe", Backend: "node0", FrontendPort: 81, BackendPort: 81, EnableTCPReset: true}}
		}, ErrUnsupported, "InboundNATRules[0].EnableTCPReset true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.base()
			tt.damage(&c)
			err := c.Validate()
			if tt.sentinel == nil {
				assert.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tt.sentinel)
			assert.ErrorContains(t, err, tt.message)
		})
	}
}

// Azure changes the SKU of no load balancer, and one with none can have any.
func TestSKUIsFixed(t *testing.T) {
	c := internalPool(2)
	l := newLoadBalancer(t, c)
	c.SKU, c.LoadBalancingRules = Basic, nil
	_, err := l.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, "SKU Basic: ")

	e := newEgress(t, EgressConfig{LoadBalancer: publicPool(2, 1, 8)})
	_, err = e.Reconfigure(0, basicCluster(2, "A"))
	assert.ErrorIs(t, err, snat.ErrFixed)
	none := EgressConfig{LoadBalancer: publicPool(2, 0, 0)}
	none.LoadBalancer.OutboundRules = nil
	update(t, e, 0, none)
	update(t, e, 0, basicCluster(2, "A"))
}

func TestSKUsDoNotMixInAPool(t *testing.T) {
	c := basicCluster(2, "A")
	c.InternalLoadBalancers = internals(Basic, Standard)
	_, err := NewEgress(c)
	assert.ErrorIs(t, err, flow.ErrConflict)
	assert.ErrorContains(t, err, "InternalLoadBalancers[1].SKU Standard: conflict: the pools of LoadBalancer are of SKU Basic")
}

// natPool is internalPool with an inbound NAT rule for ports 5000 to 5002 of its pool.
func natPool(nodes ...string) Config {
	c := internalPool(4)
	c.BackendAddressPools[0].Backends = nodes
	c.InboundNATRules = []InboundNATRule{{
		Name: "ssh", FrontendIPConfiguration: "fe", Protocol: snat.TCP, BackendAddressPool: c.BackendAddressPools[0].Name,
		FrontendPortRangeStart: 5000, FrontendPortRangeEnd: 5002, BackendPort: 22,
	}}
	return c
}

// The n-th member gets the n-th port; whoever has one keeps it; a new one gets the
// lowest that is free; a full range is refused.
func TestInboundNATPoolKeepsPorts(t *testing.T) {
	l := newLoadBalancer(t, natPool("node2", "node0", "node1"))
	at := func() (ports []uint16) { // by node, 0 for none
		ports = make([]uint16, 4)
		for _, m := range l.PortMappings() {
			assert.Equal(t, "ssh", m.InboundNATRule)
			ports[m.Backend[4]-'0'] = m.FrontendPort
		}
		return ports
	}
	change := func(c Config) error { _, err := l.Reconfigure(0, c); return err }
	assert.Equal(t, []uint16{5001, 5002, 5000, 0}, at())
	require.NoError(t, change(natPool("node1", "node2")))
	assert.Equal(t, []uint16{0, 5002, 5000, 0}, at(), "scale-down keeps the others' ports")
	require.NoError(t, change(natPool("node3", "node1", "node2")))
	assert.Equal(t, []uint16{0, 5002, 5000, 5001}, at(), "scale-up takes the lowest free one")
	require.ErrorIs(t, change(natPool("node0", "node3", "node1", "node2")), flow.ErrTooMany)
	assert.Equal(t, []uint16{0, 5002, 5000, 5001}, at())

	moved := natPool("node1", "node2", "node3")
	moved.InboundNATRules[0].FrontendPortRangeStart, moved.InboundNATRules[0].FrontendPortRangeEnd = 5002, 5005
	require.NoError(t, change(moved))
	assert.Equal(t, []uint16{0, 5002, 5003, 5004}, at(), "ports out of the range are replaced")

	planned, err := natPool("node2", "node0").PortMappings()
	require.NoError(t, err)
	assert.Equal(t, []PortMapping{{"ssh", "node2", 5000}, {"ssh", "node0", 5001}}, planned)
}

// An IP-based pool is as on Basic: rules lend it a frontend for both protocols, outbound
// rules do not serve it, and its members keep default outbound access.
func TestIPBasedPool(t *testing.T) {
	c := publicPool(2, 1, 1024)
	c.BackendAddressPools[0].IPBased = true
	plan, err := c.Plan()
	require.NoError(t, err)
	assert.Zero(t, plan[0].Total(snat.TCP, false))
	assert.Equal(t, []string{`OutboundRules[0].BackendAddressPool: pool "aksOutboundBackendPool" is IP-based, and gets no ports by outbound rules`}, c.Warnings())

	e := newEgress(t, EgressConfig{LoadBalancer: c})
	assert.Equal(t, DefaultOutboundAccess, decide(t, e, "node0").Option)
	assert.True(t, DefaultOutboundRange.Contains(leaves(t, e, 0, "10.224.0.4:5000")))

	c.OutboundRules = nil
	c = withRule(c, true)
	plan = planned(t, c, 1024)
	assert.Equal(t, netip.MustParseAddr("20.50.1.1"), plan[0].Ports[0].Frontend)
	update(t, e, 0, EgressConfig{LoadBalancer: c})
	assert.Equal(t, LoadBalancingRuleSNAT, decide(t, e, "node0").Option)
	assert.Equal(t, netip.MustParseAddr("20.50.1.1"), leaves(t, e, 0, "10.224.0.4:5001"))
	assert.False(t, slices.Contains(c.Warnings(), ""))
}

// An internal load balancer never translates: Standard excludes default outbound access,
// Basic does not.
func TestInternalLoadBalancerLendsNothing(t *testing.T) {
	c := internalPool(2)
	planned(t, c, 0)
	e := newEgress(t, EgressConfig{LoadBalancer: c})
	assert.Equal(t, NoOutbound, decide(t, e, "node0").Option)
	c.SKU, c.LoadBalancingRules[0].EnableTCPReset = Basic, false
	e = newEgress(t, EgressConfig{LoadBalancer: c})
	assert.Equal(t, DefaultOutboundAccess, decide(t, e, "node0").Option)
}
