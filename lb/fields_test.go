package lb

// Every field of the configuration: a wrong value is an error that names the field and the
// value as the user has written them, and has Azure's code where there is one.

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// wrongField is a field with a value that is refused.
type wrongField struct {
	field string // "Type.Field"
	make  func() error
	want  string // the field's path and value, and perhaps what is wrong with it
}

// refuses makes what a valid configuration describes after one change.
func refuses[C any](base func() C, change func(*C), make func(C) error) func() error {
	return func() error {
		c := base()
		change(&c)
		return make(c)
	}
}

// completeConfig is fullConfig with everything else that a public one may have.
func completeConfig() Config {
	c := fullConfig()
	c.Probes = []probe.Probe{{Name: "health", Port: 8080, Interval: 5 * time.Second}}
	c.LoadBalancingRules[0].Probe, c.Prober = "health", &arbitraryProber{Up: 1}
	c.BackendAddressPools[0].AdminStates = []BackendAdminState{{"node0", probe.AdminUp}}
	c.Routes = []snat.Route{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough}}
	c.NetworkSecurity = &nsg.Config{
		VirtualNetwork:            []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		ServiceTags:               []nsg.ServiceTag{{Name: "Office", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		ApplicationSecurityGroups: []nsg.ApplicationSecurityGroup{{Name: "web", Addrs: c.Backends[0].Addrs}},
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: []nsg.SecurityRule{
			sec("in", nsg.Inbound, nsg.Allow, "Office", "*", "443"),
			{
				Name: "groups", Priority: 101, Protocol: nsg.TCP, SourceApplicationSecurityGroups: []string{"web"},
				DestinationApplicationSecurityGroups: []string{"web"}, DestinationPortRanges: []string{"80"},
			},
		}}},
		Subnets:           []nsg.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}, NetworkSecurityGroup: "nodes"}},
		NetworkInterfaces: []nsg.NetworkInterface{{Name: "nic0", Addrs: c.Backends[0].Addrs, NetworkSecurityGroup: "nodes"}},
	}
	return c
}

func completeEgress() EgressConfig {
	c := EgressConfig{LoadBalancer: completeConfig(), InternalLoadBalancers: internals(Standard)}
	g := sixteenIPs()
	c.NATGateway = &g
	return c
}

func completeGateway() GatewayConfig {
	return GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends}
}

// Constructors, of which only the error counts.
func makeBalancer(c Config) error {
	l, err := New(c)
	if err == nil {
		l.Close()
	}
	return err
}

func makeEgress(c EgressConfig) error {
	e, err := NewEgress(c)
	if err == nil {
		e.Close()
	}
	return err
}

func makeGateway(c GatewayConfig) error {
	g, err := NewGateway(c)
	if err == nil {
		g.Close()
	}
	return err
}

func public(field string, change func(*Config), want string) wrongField {
	return wrongField{field, refuses(completeConfig, change, makeBalancer), want}
}

// private is public for an internal load balancer with a probe.
func private(field string, change func(*Config), want string) wrongField {
	return wrongField{field, refuses(func() Config { return probedPool(2) }, change, makeBalancer), want}
}

func egress(field string, change func(*EgressConfig), want string) wrongField {
	return wrongField{field, refuses(completeEgress, change, makeEgress), want}
}

func gateway(field string, change func(*GatewayConfig), want string) wrongField {
	return wrongField{field, refuses(completeGateway, change, makeGateway), want}
}

// wrongFields has a wrong value of each field that may have one.
func wrongFields() []wrongField {
	return slices.Concat(wrongResources(), wrongRules(), wrongSecurity(), wrongDataplane(), wrongTimers(), wrongOthers())
}

func wrongResources() []wrongField {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	frontend := func(change func(*FrontendIPConfiguration)) func(*Config) {
		return func(c *Config) { change(&c.FrontendIPConfigurations[0]) }
	}
	backend := func(change func(*Backend)) func(*Config) {
		return func(c *Config) { change(&c.Backends[0]) }
	}
	pool := func(change func(*BackendAddressPool)) func(*Config) {
		return func(c *Config) { change(&c.BackendAddressPools[0]) }
	}
	return []wrongField{
		public("lb.Config.SKU", func(c *Config) { c.SKU = 2 }, "SKU 2: out of range: 0..1"),
		public("lb.Config.FrontendIPConfigurations", func(c *Config) {
			for i := range 600 {
				c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: fmt.Sprint(i), PublicIPAddress: netip.AddrFrom4([4]byte{20, 60, byte(i >> 8), byte(i)})})
			}
		}, "FrontendIPConfigurations has 603 elements: too many: at most 600"),
		public("lb.Config.Backends", func(c *Config) { c.Backends[1] = c.Backends[0] }, `Backends[1].Name "node0": duplicate name`),
		public("lb.Config.BackendAddressPools", func(c *Config) {
			for i := range 2001 { // of which each has ten
				p := BackendAddressPool{Name: fmt.Sprint(i)}
				for j := range 10 {
					p.Backends = append(p.Backends, fmt.Sprint("more", j))
				}
				c.BackendAddressPools = append(c.BackendAddressPools, p)
			}
			for j := range 10 {
				c.Backends = append(c.Backends, Backend{Name: fmt.Sprint("more", j), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 225, 0, byte(j + 4)})}})
			}
		}, "BackendAddressPools has 20012 IP configurations of backends: too many: at most 20000"),
		public("lb.Config.LoadBalancingRules", func(c *Config) { c.LoadBalancingRules = manyRules(1499) }, "LoadBalancingRules has 1501 elements with InboundNATRules: too many: at most 1500"),
		public("lb.Config.InboundNATRules", func(c *Config) { c.InboundNATRules = append(c.InboundNATRules, c.InboundNATRules[0]) }, `InboundNATRules[2].Name "ssh": duplicate name`),
		public("lb.Config.Probes", func(c *Config) { c.Probes = append(c.Probes, c.Probes[0]) }, `Probes[1].Name "health": duplicate name`),
		public("lb.Config.OutboundRules", func(c *Config) { c.OutboundRules = make([]OutboundRule, 601) }, "OutboundRules has 601 elements: too many: at most 600"),
		public("lb.Config.KubernetesProbes", func(c *Config) { c.KubernetesProbes, c.Probes[0].NumberOfProbes = true, 24 }, "Probes[0].Interval 5s x 24: interval times number of probes must be below 2m0s"),
		public("lb.Config.FrontendMode", func(c *Config) { c.FrontendMode = 2 }, "FrontendMode 2: out of range"),
		public("lb.Config.Layout", func(c *Config) { c.Layout = 2 }, "Layout 2: out of range"),
		public("lb.Config.BasicFrontend", func(c *Config) { c.BasicFrontend = 2 }, "BasicFrontend 2: out of range"),
		public("lb.Config.Strict", func(c *Config) { // what it refuses
			c.Strict, c.OutboundRules[0].AllocatedOutboundPorts = true, 32_000
		}, "OutboundRules[0]: InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): 32000 allocated ports for a total node count of 2 require 64000 ports, but only 64000 are available on 1 outbound public IPs, of which one must stay free"),
		public("lb.Config.OwnRanges", func(c *Config) { // what it allows no more
			c.OwnRanges, c.FrontendIPConfigurations[1].PublicIPPrefix = true, prefix("203.0.0.0/23")
		}, "FrontendIPConfigurations[1].PublicIPPrefix 203.0.0.0/23: out of range: valid are /24../31"),
		public("lb.Config.MaxOutboundIdleTimeout", func(c *Config) { c.MaxOutboundIdleTimeout = 121 * time.Minute }, "MaxOutboundIdleTimeout 2h1m0s: out of range"),
		public("lb.Config.MaxRuleIdleTimeout", func(c *Config) { c.MaxRuleIdleTimeout = 101 * time.Minute }, "MaxRuleIdleTimeout 1h41m0s: out of range"),

		public("lb.FrontendIPConfiguration.Name", frontend(func(f *FrontendIPConfiguration) { f.Name = "" }), `FrontendIPConfigurations[0].Name "": missing`),
		public("lb.FrontendIPConfiguration.PublicIPAddress", frontend(func(f *FrontendIPConfiguration) { f.PublicIPAddress = addr("224.0.0.1") }), "FrontendIPConfigurations[0].PublicIPAddress 224.0.0.1: not the address of a single host"),
		public("lb.FrontendIPConfiguration.PublicIPPrefix", func(c *Config) { c.FrontendIPConfigurations[1].PublicIPPrefix = prefix("203.0.113.17/28") }, "FrontendIPConfigurations[1].PublicIPPrefix 203.0.113.17/28: prefix is not valid"),
		private("lb.FrontendIPConfiguration.PrivateIPAddress", frontend(func(f *FrontendIPConfiguration) { f.PrivateIPAddress = addr("127.0.0.1") }), "FrontendIPConfigurations[0].PrivateIPAddress 127.0.0.1: not the address of a single host"),
		private("lb.FrontendIPConfiguration.Subnet", frontend(func(f *FrontendIPConfiguration) { f.Subnet = prefix("10.226.0.0/24") }), "FrontendIPConfigurations[0].Subnet 10.226.0.0/24: conflict: PrivateIPAddress 10.225.0.4 is not in it"),
		public("lb.FrontendIPConfiguration.PublicIPSKU", frontend(func(f *FrontendIPConfiguration) { f.PublicIPSKU = sku(Basic) }), "FrontendIPConfigurations[0].PublicIPSKU Basic: conflict: DifferentSkuLoadBalancersAndPublicIPAddressNotAllowed: the load balancer is Standard"),

		public("lb.Backend.Name", backend(func(b *Backend) { b.Name = "" }), `Backends[0].Name "": missing`),
		public("lb.Backend.Addrs", backend(func(b *Backend) { b.Addrs[0] = addr("169.254.1.1") }), "Backends[0].Addrs[0] 169.254.1.1: not the address of a single host"),
		public("lb.Backend.Inside", backend(func(b *Backend) { b.Inside[0] = prefix("10.244.0.1/24") }), "Backends[0].Inside[0] 10.244.0.1/24: prefix is not valid"),
		public("lb.Backend.PublicIPAddresses", backend(func(b *Backend) { b.PublicIPAddresses = []netip.Addr{addr("2001:db8::1")} }), "Backends[0].PublicIPAddresses[0] 2001:db8::1: missing: the backend has no address of this family"),
		public("lb.Backend.PublicIPSKU", backend(func(b *Backend) { b.PublicIPSKU = sku(Basic) }), "Backends[0].PublicIPSKU Basic: conflict: DifferentSkuLoadBalancersAndPublicIPAddressNotAllowed"),

		public("lb.BackendAddressPool.Name", pool(func(p *BackendAddressPool) { p.Name = "" }), `BackendAddressPools[0].Name "": missing`),
		public("lb.BackendAddressPool.Backends", pool(func(p *BackendAddressPool) { p.Backends[1] = "nodeX" }), `BackendAddressPools[0].Backends[1] "nodeX": unknown name`),
		private("lb.BackendAddressPool.IPBased", func(c *Config) {
			c.SKU, c.LoadBalancingRules[0].EnableTCPReset, c.BackendAddressPools[0].IPBased = Basic, false, true
		}, "BackendAddressPools[0].IPBased true: not supported: pools of SKU Basic"),
		public("lb.BackendAddressPool.AdminStates", pool(func(p *BackendAddressPool) { p.AdminStates = append(p.AdminStates, p.AdminStates[0]) }), `BackendAddressPools[0].AdminStates[1].Backend "node0": duplicate name`),
		public("lb.BackendAdminState.Backend", pool(func(p *BackendAddressPool) { p.AdminStates[0].Backend = "nodeX" }), `BackendAddressPools[0].AdminStates[0].Backend "nodeX": unknown name`),
		public("lb.BackendAdminState.State", pool(func(p *BackendAddressPool) { p.AdminStates[0].State = 3 }), "BackendAddressPools[0].AdminStates[0].State 3: out of range"),
	}
}

func wrongRules() []wrongField {
	rule := func(change func(*LoadBalancingRule)) func(*Config) {
		return func(c *Config) { change(&c.LoadBalancingRules[0]) }
	}
	nat := func(i int, change func(*InboundNATRule)) func(*Config) {
		return func(c *Config) { change(&c.InboundNATRules[i]) }
	}
	out := func(change func(*OutboundRule)) func(*Config) {
		return func(c *Config) { change(&c.OutboundRules[0]) }
	}
	health := func(change func(*probe.Probe)) func(*Config) {
		return func(c *Config) { change(&c.Probes[0]) }
	}
	second := func(change func(first, second *OutboundRule)) func(*Config) {
		return func(c *Config) {
			c.OutboundRules = append(c.OutboundRules, c.OutboundRules[0])
			c.OutboundRules[1].Name = "second"
			change(&c.OutboundRules[0], &c.OutboundRules[1])
		}
	}
	const duplicate = "RulesOfSameLoadBalancerTypeUseSameBackendPortProtocolAndIPConfig"
	return []wrongField{
		public("lb.LoadBalancingRule.Name", rule(func(l *LoadBalancingRule) { l.Name = "" }), `LoadBalancingRules[0].Name "": missing`),
		public("lb.LoadBalancingRule.FrontendIPConfiguration", rule(func(l *LoadBalancingRule) { l.FrontendIPConfiguration = "x" }), `LoadBalancingRules[0].FrontendIPConfiguration "x": unknown name`),
		public("lb.LoadBalancingRule.BackendAddressPool", rule(func(l *LoadBalancingRule) { l.BackendAddressPool = "x" }), `LoadBalancingRules[0].BackendAddressPool "x": unknown name`),
		public("lb.LoadBalancingRule.Protocol", rule(func(l *LoadBalancingRule) { l.Protocol = 3 }), "LoadBalancingRules[0].Protocol 3: out of range"),
		public("lb.LoadBalancingRule.FrontendPort", rule(func(l *LoadBalancingRule) { l.FrontendPort = 0 }), "LoadBalancingRules[0].FrontendPort 0: out of range: valid are 1..65535"),
		public("lb.LoadBalancingRule.BackendPort", rule(func(l *LoadBalancingRule) { l.BackendPort = 22 }), "InboundNATRules[1].BackendPort 22: conflict: "+duplicate),
		public("lb.LoadBalancingRule.IdleTimeout", rule(func(l *LoadBalancingRule) { l.IdleTimeout = 31 * time.Minute }), "LoadBalancingRules[0].IdleTimeout 31m0s: out of range: valid are whole minutes 4..30"),
		private("lb.LoadBalancingRule.EnableTCPReset", func(c *Config) { c.SKU = Basic }, "LoadBalancingRules[0].EnableTCPReset true: not supported: SKU Basic"),
		public("lb.LoadBalancingRule.EnableFloatingIP", rule(func(l *LoadBalancingRule) { l.EnableFloatingIP = true }), "LoadBalancingRules[0].BackendPort 8443: conflict: must be FrontendPort 443 with EnableFloatingIP"),
		public("lb.LoadBalancingRule.Probe", rule(func(l *LoadBalancingRule) { l.Probe = "x" }), `LoadBalancingRules[0].Probe "x": unknown name`),
		public("lb.LoadBalancingRule.LoadDistribution", rule(func(l *LoadBalancingRule) { l.LoadDistribution = 3 }), "LoadBalancingRules[0].LoadDistribution 3: out of range"),
		public("lb.LoadBalancingRule.DisableOutboundSNAT", rule(func(l *LoadBalancingRule) { l.FrontendIPConfiguration, l.DisableOutboundSNAT = "ip0", false }), "LoadBalancingRules[0].DisableOutboundSNAT false: conflict: must be true, because OutboundRules[0] uses frontend \"ip0\" too"),

		public("lb.InboundNATRule.Name", nat(0, func(n *InboundNATRule) { n.Name = "" }), `InboundNATRules[0].Name "": missing`),
		public("lb.InboundNATRule.FrontendIPConfiguration", nat(0, func(n *InboundNATRule) { n.FrontendIPConfiguration = "prefix" }), `InboundNATRules[0].FrontendIPConfiguration "prefix": not supported: is a prefix`),
		public("lb.InboundNATRule.Protocol", nat(0, func(n *InboundNATRule) { n.Protocol = 3 }), "InboundNATRules[0].Protocol 3: out of range"),
		public("lb.InboundNATRule.Backend", nat(0, func(n *InboundNATRule) { n.Backend = "x" }), `InboundNATRules[0].Backend "x": unknown name`),
		public("lb.InboundNATRule.FrontendPort", nat(0, func(n *InboundNATRule) { n.FrontendPort = 0 }), "InboundNATRules[0].FrontendPort 0: out of range"),
		public("lb.InboundNATRule.BackendAddressPool", nat(1, func(n *InboundNATRule) { n.BackendAddressPool = "x" }), `InboundNATRules[1].BackendAddressPool "x": unknown name`),
		public("lb.InboundNATRule.FrontendPortRangeStart", nat(1, func(n *InboundNATRule) { n.FrontendPortRangeStart = 0 }), "InboundNATRules[1].FrontendPortRangeStart 0: out of range"),
		public("lb.InboundNATRule.FrontendPortRangeEnd", nat(1, func(n *InboundNATRule) { n.FrontendPortRangeEnd = n.FrontendPortRangeStart }), `InboundNATRules[1].FrontendPortRangeEnd 50000: too many: pool "aksOutboundBackendPool" has 2 backends for 1 ports`),
		public("lb.InboundNATRule.BackendPort", nat(0, func(n *InboundNATRule) { n.BackendPort = 0 }), "InboundNATRules[0].BackendPort 0: out of range"),
		public("lb.InboundNATRule.IdleTimeout", nat(0, func(n *InboundNATRule) { n.IdleTimeout = time.Minute }), "InboundNATRules[0].IdleTimeout 1m0s: out of range"),
		private("lb.InboundNATRule.EnableTCPReset", func(c *Config) {
			c.SKU, c.LoadBalancingRules = Basic, nil
			c.InboundNATRules = []InboundNATRule{{Name: "n", FrontendIPConfiguration: "fe", Backend: "node0", FrontendPort: 81, BackendPort: 81, EnableTCPReset: true}}
		}, "InboundNATRules[0].EnableTCPReset true: not supported: SKU Basic"),
		public("lb.InboundNATRule.EnableFloatingIP", nat(1, func(n *InboundNATRule) { n.EnableFloatingIP = true }), "InboundNATRules[1].EnableFloatingIP true: not supported"),

		public("lb.OutboundRule.Name", out(func(o *OutboundRule) { o.Name = "" }), `OutboundRules[0].Name "": missing`),
		public("lb.OutboundRule.FrontendIPConfigurations", out(func(o *OutboundRule) { o.FrontendIPConfigurations[0] = "x" }), `OutboundRules[0].FrontendIPConfigurations[0] "x": unknown name`),
		public("lb.OutboundRule.BackendAddressPool", out(func(o *OutboundRule) { o.BackendAddressPool = "x" }), `OutboundRules[0].BackendAddressPool "x": unknown name`),
		public("lb.OutboundRule.Protocol", out(func(o *OutboundRule) { o.Protocol = 3 }), "OutboundRules[0].Protocol 3: out of range"),
		public("lb.OutboundRule.AllocatedOutboundPorts", out(func(o *OutboundRule) { o.AllocatedOutboundPorts = -8 }), "OutboundRules[0].AllocatedOutboundPorts -8: out of range: valid are 0 (automatic) and 8..64000 in steps of 8"),
		public("lb.OutboundRule.AllocatedOutboundPorts", out(func(o *OutboundRule) { o.AllocatedOutboundPorts = 40_000 }), "OutboundRules[0]: InvalidLoadBalancerProfileAllocatedOutboundPorts (InsufficientOutboundPorts): 40000 allocated ports"),
		public("lb.OutboundRule.IdleTimeout", out(func(o *OutboundRule) { o.IdleTimeout = 121 * time.Minute }), "OutboundRules[0].IdleTimeout 2h1m0s: out of range"),
		public("lb.OutboundRule.IdleTimeout", second(func(_, o *OutboundRule) { o.IdleTimeout = 30 * time.Minute }), "OutboundRules[1].IdleTimeout 30m0s: not supported: differs from OutboundRules[0].IdleTimeout 4m0s"),
		public("lb.OutboundRule.EnableTCPReset", second(func(_, o *OutboundRule) { o.EnableTCPReset = true }), "OutboundRules[1].EnableTCPReset true: not supported: differs from OutboundRules[0].EnableTCPReset false"),

		public("probe.Probe.Name", health(func(p *probe.Probe) { p.Name = "" }), `Probes[0].Name "": missing`),
		public("probe.Probe.Protocol", health(func(p *probe.Probe) { p.Protocol = 3 }), "Probes[0].Protocol 3: out of range"),
		public("probe.Probe.Port", health(func(p *probe.Probe) { p.Protocol, p.RequestPath, p.Port = probe.HTTP, "/", 25 }), "Probes[0].Port 25: port is not allowed for HTTP probes"),
		public("probe.Probe.Interval", health(func(p *probe.Probe) { p.Interval = 4 * time.Second }), "Probes[0].Interval 4s: out of range"),
		public("probe.Probe.NumberOfProbes", health(func(p *probe.Probe) { p.NumberOfProbes = -1 }), "Probes[0].NumberOfProbes -1: out of range"),
		public("probe.Probe.ProbeThreshold", health(func(p *probe.Probe) { p.ProbeThreshold = -1 }), "Probes[0].ProbeThreshold -1: out of range"),
		public("probe.Probe.RequestPath", health(func(p *probe.Probe) { p.RequestPath = "/" }), `Probes[0].RequestPath "/": conflict: Tcp asks for nothing`),
		public("probe.Probe.NoHealthyBackendsBehavior", health(func(p *probe.Probe) { p.NoHealthyBackendsBehavior = 2 }), "Probes[0].NoHealthyBackendsBehavior 2: out of range"),
	}
}

func wrongSecurity() []wrongField {
	prefix := netip.MustParsePrefix
	groups := func(change func(*nsg.Config)) func(*Config) {
		return func(c *Config) { change(c.NetworkSecurity) }
	}
	rule := func(change func(*nsg.SecurityRule)) func(*Config) {
		return groups(func(c *nsg.Config) { change(&c.NetworkSecurityGroups[0].SecurityRules[0]) })
	}
	const at = "NetworkSecurity.NetworkSecurityGroups[0].SecurityRules[0]."
	return []wrongField{
		public("nsg.Config.VirtualNetwork", groups(func(c *nsg.Config) { c.VirtualNetwork[0] = prefix("10.0.0.1/8") }), "NetworkSecurity.VirtualNetwork[0] 10.0.0.1/8: prefix is not valid"),
		public("nsg.Config.ServiceTags", groups(func(c *nsg.Config) { c.ServiceTags = append(c.ServiceTags, c.ServiceTags[0]) }), `NetworkSecurity.ServiceTags[1].Name "Office": duplicate name`),
		public("nsg.Config.ApplicationSecurityGroups", groups(func(c *nsg.Config) { c.ApplicationSecurityGroups = make([]nsg.ApplicationSecurityGroup, 3001) }), "NetworkSecurity.ApplicationSecurityGroups has 3001 elements: too many: at most 3000"),
		public("nsg.Config.NetworkSecurityGroups", groups(func(c *nsg.Config) { c.NetworkSecurityGroups = make([]nsg.NetworkSecurityGroup, 5001) }), "NetworkSecurity.NetworkSecurityGroups has 5001 elements: too many: at most 5000"),
		public("nsg.Config.Subnets", groups(func(c *nsg.Config) {
			c.Subnets = append(c.Subnets, nsg.Subnet{Name: "more", AddressPrefixes: []netip.Prefix{prefix("10.224.0.0/25")}})
		}), "NetworkSecurity.Subnets[1].AddressPrefixes[0] 10.224.0.0/25: overlap"),
		public("nsg.Config.NetworkInterfaces", groups(func(c *nsg.Config) {
			c.NetworkInterfaces = append(c.NetworkInterfaces, nsg.NetworkInterface{Name: "more", Addrs: c.NetworkInterfaces[0].Addrs})
		}), "NetworkSecurity.NetworkInterfaces[1].Addrs[0] 10.224.0.4: overlap"),
		public("nsg.Config.WithoutGroup", groups(func(c *nsg.Config) { c.WithoutGroup = 2 }), "NetworkSecurity.WithoutGroup 2: out of range"),
		public("nsg.ServiceTag.Name", groups(func(c *nsg.Config) { c.ServiceTags[0].Name = "Internet" }), `NetworkSecurity.ServiceTags[0].Name "Internet": duplicate name: it is built in`),
		public("nsg.ServiceTag.Prefixes", groups(func(c *nsg.Config) { c.ServiceTags[0].Prefixes[0] = netip.Prefix{} }), "NetworkSecurity.ServiceTags[0].Prefixes[0] invalid Prefix: prefix is not valid"),
		public("nsg.ApplicationSecurityGroup.Name", groups(func(c *nsg.Config) { c.ApplicationSecurityGroups[0].Name = "" }), `NetworkSecurity.ApplicationSecurityGroups[0].Name "": missing`),
		public("nsg.ApplicationSecurityGroup.Addrs", groups(func(c *nsg.Config) { c.ApplicationSecurityGroups[0].Addrs = []netip.Addr{{}} }), "NetworkSecurity.ApplicationSecurityGroups[0].Addrs[0] invalid IP: not the address of a single host"),
		public("nsg.NetworkSecurityGroup.Name", groups(func(c *nsg.Config) { c.NetworkSecurityGroups[0].Name = "" }), `NetworkSecurity.NetworkSecurityGroups[0].Name "": missing`),
		public("nsg.NetworkSecurityGroup.SecurityRules", groups(func(c *nsg.Config) { c.NetworkSecurityGroups[0].SecurityRules = make([]nsg.SecurityRule, 1001) }), "NetworkSecurity.NetworkSecurityGroups[0].SecurityRules has 1001 elements: too many: at most 1000"),
		public("nsg.SecurityRule.Name", rule(func(r *nsg.SecurityRule) { r.Name = "-" }), at+`Name "-": cannot be read`),
		public("nsg.SecurityRule.Priority", rule(func(r *nsg.SecurityRule) { r.Priority = 99 }), at+"Priority 99: out of range: 100..4096"),
		public("nsg.SecurityRule.Direction", rule(func(r *nsg.SecurityRule) { r.Direction = 2 }), at+"Direction 2: out of range"),
		public("nsg.SecurityRule.Access", rule(func(r *nsg.SecurityRule) { r.Access = 2 }), at+"Access 2: out of range"),
		public("nsg.SecurityRule.Protocol", rule(func(r *nsg.SecurityRule) { r.Protocol = 6 }), at+"Protocol 6: out of range"),
		public("nsg.SecurityRule.SourceAddressPrefixes", rule(func(r *nsg.SecurityRule) { r.SourceAddressPrefixes = []string{"10.0.0.0/8", "10.1.0.0/16"} }), at+`SourceAddressPrefixes[1] "10.1.0.0/16": overlap: OverlappingSubnetsNotPermittedInSecurityRule`),
		public("nsg.SecurityRule.SourceApplicationSecurityGroups", rule(func(r *nsg.SecurityRule) {
			r.SourceAddressPrefixes, r.SourceApplicationSecurityGroups = nil, []string{"x"}
		}), at+`SourceApplicationSecurityGroups[0] "x": unknown name`),
		public("nsg.SecurityRule.SourcePortRanges", rule(func(r *nsg.SecurityRule) { r.SourcePortRanges = []string{"9-8"} }), at+`SourcePortRanges[0] "9-8"`),
		public("nsg.SecurityRule.DestinationAddressPrefixes", rule(func(r *nsg.SecurityRule) { r.DestinationAddressPrefixes = []string{"10.0.0.0/33"} }), at+`DestinationAddressPrefixes[0] "10.0.0.0/33": prefix is not valid, or its host bits are not zero: SecurityRuleInvalidAddressPrefix`),
		public("nsg.SecurityRule.DestinationApplicationSecurityGroups", rule(func(r *nsg.SecurityRule) {
			r.DestinationAddressPrefixes, r.DestinationApplicationSecurityGroups = nil, []string{"x"}
		}), at+`DestinationApplicationSecurityGroups[0] "x": unknown name`),
		public("nsg.SecurityRule.DestinationPortRanges", rule(func(r *nsg.SecurityRule) { r.DestinationPortRanges = nil }), at+"DestinationPortRanges: missing: give ports, or *"),
		public("nsg.Subnet.Name", groups(func(c *nsg.Config) { c.Subnets[0].Name = "" }), `NetworkSecurity.Subnets[0].Name "": missing`),
		public("nsg.Subnet.AddressPrefixes", groups(func(c *nsg.Config) { c.Subnets[0].AddressPrefixes = nil }), "NetworkSecurity.Subnets[0].AddressPrefixes: missing"),
		public("nsg.Subnet.NetworkSecurityGroup", groups(func(c *nsg.Config) { c.Subnets[0].NetworkSecurityGroup = "x" }), `NetworkSecurity.Subnets[0].NetworkSecurityGroup "x": unknown name`),
		public("nsg.NetworkInterface.Name", groups(func(c *nsg.Config) { c.NetworkInterfaces[0].Name = "" }), `NetworkSecurity.NetworkInterfaces[0].Name "": missing`),
		public("nsg.NetworkInterface.Addrs", groups(func(c *nsg.Config) { c.NetworkInterfaces[0].Addrs = nil }), "NetworkSecurity.NetworkInterfaces[0].Addrs: missing"),
		public("nsg.NetworkInterface.NetworkSecurityGroup", groups(func(c *nsg.Config) { c.NetworkInterfaces[0].NetworkSecurityGroup = "x" }), `NetworkSecurity.NetworkInterfaces[0].NetworkSecurityGroup "x": unknown name`),
	}
}

func wrongDataplane() []wrongField {
	row := func(change func(*snat.Route)) func(*Config) {
		return func(c *Config) { change(&c.Routes[0]) }
	}
	return []wrongField{
		public("snat.Route.Prefix", row(func(r *snat.Route) { r.Prefix = netip.MustParsePrefix("10.0.0.1/8") }), "Routes[0].Prefix 10.0.0.1/8: prefix is not valid"),
		public("snat.Route.Action", row(func(r *snat.Route) { r.Action = 99 }), "Routes[0].Action 99: out of range"),
		public("snat.Route.Protocol", row(func(r *snat.Route) { r.Protocol = 3 }), "Routes[0].Protocol 3: out of range"),
		public("snat.Route.FirstPort", row(func(r *snat.Route) { r.FirstPort, r.LastPort = 9, 8 }), "Routes[0].FirstPort 9: out of range: 1..8, which is LastPort"),
		public("snat.Route.LastPort", row(func(r *snat.Route) { r.LastPort = 8 }), "Routes[0].FirstPort 0: out of range: 1..8, which is LastPort"),
		public("snat.Route.PassOn", row(func(r *snat.Route) { r.Action, r.PassOn = snat.Blackhole, true }), "Routes[0].PassOn true: out of range: only with PassThrough"),
		public("snat.Route.BothWays", row(func(r *snat.Route) { r.Action, r.BothWays = snat.Blackhole, true }), "Routes[0].BothWays true: out of range: not with Blackhole"),

		public("snat.Behavior.Mapping", func(c *Config) { c.UDP.Mapping = 99 }, "UDP.Mapping 99: out of range"),
		public("snat.Behavior.Filtering", func(c *Config) { c.UDP.Filtering = 99 }, "UDP.Filtering 99: out of range"),
		public("snat.Behavior.Share", func(c *Config) { c.TCP.Share = 99 }, "TCP.Share 99: out of range"),

		public("snat.Dataplane.Shards", func(c *Config) { c.Shards = 65 }, "Shards 65: out of range"),
		public("snat.CountHolders.Window", func(c *Config) { c.CountHolders.Window = 1 }, "CountHolders.Window 1ns: out of range"),
		public("snat.CountHolders.IdleAfter", func(c *Config) { c.CountHolders.IdleAfter = -1 }, "CountHolders.IdleAfter -1ns: out of range"),
		public("snat.CountHolders.Limit", func(c *Config) { c.CountHolders.Limit = 63 }, "CountHolders.Limit 63: out of range"),
		public("snat.Dataplane.ReclaimGrace", func(c *Config) { c.ReclaimGrace = -1 }, "ReclaimGrace -1ns: timeout is not a whole number of milliseconds"),
		public("snat.Dataplane.Admit", func(c *Config) { c.Admit = func(snat.NewFlow) flow.Reason { return flow.ReasonNone } }, "Admit \"func\": conflict: NetworkSecurity decides which flows begin"),
		gateway("snat.ICMP.QueryPerDestination", func(c *GatewayConfig) { c.ICMP.QueryPerDestination = true }, "ICMP.QueryPerDestination true: does not go together with Shared ports: the ports of a gateway are"),
		gateway("snat.ICMP.RandomIDs", func(c *GatewayConfig) { c.ICMP.RandomIDs = true }, "ICMP.RandomIDs true: does not go together with Shared ports: the ports of a gateway are"),
		public("snat.ICMP.Timestamps", func(c *Config) { c.ICMP.Timestamps = true }, "ICMP.Timestamps true"),
		public("snat.ICMP.TTL", func(c *Config) { c.ICMP.TTL = 99 }, "ICMP.TTL 99: out of range"),
		public("snat.ICMP.MTU", func(c *Config) { c.ICMP.MTU = 67 }, "ICMP.MTU 67: out of range"),
		public("snat.ICMP.Refusals", func(c *Config) { c.ICMP.Refusals = 99 }, "ICMP.Refusals 99: out of range"),
		public("snat.ICMP.ErrorRate", func(c *Config) { c.ICMP.ErrorRate = -1 }, "ICMP.ErrorRate -1: out of range"),
		public("snat.ICMP.ErrorBurst", func(c *Config) { c.ICMP.ErrorBurst = -1 }, "ICMP.ErrorBurst -1: out of range"),
		public("snat.ICMP.RouterAddrs", func(c *Config) { c.ICMP.RouterAddrs = []netip.Addr{{}} }, "ICMP.RouterAddrs[0] invalid IP: not the address of a single host"),
		public("lb.Config.DropHAPortsFragments", func(c *Config) { c.DropHAPortsFragments, c.Fragments.Mode = true, snat.FragmentsUDP }, "DropHAPortsFragments true: conflict: Fragments.Mode FragmentsUDP carries them"),
		public("snat.Fragments.Mode", func(c *Config) { c.Fragments.Mode = 99 }, "Fragments.Mode 99: out of range"),
		public("snat.Fragments.Lifetime", func(c *Config) { c.Fragments.Mode, c.Fragments.Lifetime = snat.FragmentsVirtual, -1 }, "Fragments.Lifetime -1ns: out of range"),
		public("snat.Fragments.MaxDatagrams", func(c *Config) { c.Fragments.Mode, c.Fragments.MaxDatagrams = snat.FragmentsVirtual, -1 }, "Fragments.MaxDatagrams -1: out of range"),
		public("snat.Fragments.MaxPerSource", func(c *Config) { c.Fragments.Mode, c.Fragments.MaxPerSource = snat.FragmentsVirtual, -1 }, "Fragments.MaxPerSource -1: out of range"),
		public("snat.Fragments.MaxPerDatagram", func(c *Config) { c.Fragments.Mode, c.Fragments.MaxPerDatagram = snat.FragmentsVirtual, -1 }, "Fragments.MaxPerDatagram -1: out of range"),
		public("snat.Fragments.MaxQueuedBytes", func(c *Config) { c.Fragments.Mode, c.Fragments.MaxQueuedBytes = snat.FragmentsVirtual, -1 }, "Fragments.MaxQueuedBytes -1: out of range"),
		public("snat.HoldSYN.Max", func(c *Config) { c.HoldSYN.Max = -1 }, "HoldSYN.Max -1: out of range"),
		public("snat.HoldSYN.Wait", func(c *Config) { c.HoldSYN.Wait = -1 }, "HoldSYN.Wait -1ns: out of range"),
		public("snat.Log.AlarmInterval", func(c *Config) { c.Log.AlarmInterval = -1 }, "Log.AlarmInterval -1ns: out of range"),
	}
}

// wrongTimers has the timeouts, which are all alike.
func wrongTimers() (all []wrongField) {
	timeouts := reflect.TypeFor[flow.Timeouts]()
	for i := range timeouts.NumField() {
		name := timeouts.Field(i).Name
		all = append(all, public("flow.Timeouts."+name, func(c *Config) {
			reflect.ValueOf(&c.Timeouts).Elem().Field(i).SetInt(1)
		}, "Timeouts."+name+" 1ns: timeout is not a whole number of milliseconds"))
	}
	return append(all, public("flow.Timeouts.UDPHeld", func(c *Config) { c.Timeouts.UDPHeld = time.Second }, "Timeouts.UDPHeld 1s: out of range: it needs Shared ports"))
}

func wrongOthers() []wrongField {
	internal := func(change func(*InternalLoadBalancer)) func(*EgressConfig) {
		return func(c *EgressConfig) { change(&c.InternalLoadBalancers[0]) }
	}
	capacity := func(field string, c Capacity, want string) wrongField { return wrongField{field, c.Check, want} }
	valid := Capacity{Nodes: 1, Ports: 8, Frontends: 1}
	with := func(change func(*Capacity)) Capacity { c := valid; change(&c); return c }
	return []wrongField{
		egress("lb.EgressConfig.LoadBalancer", func(c *EgressConfig) { c.LoadBalancer.Layout = 9 }, "LoadBalancer.Layout 9: out of range"),
		egress("lb.EgressConfig.NATGateway", func(c *EgressConfig) { c.NATGateway.IdleTimeout = time.Minute }, "NATGateway.IdleTimeout 1m0s: out of range"),
		egress("lb.EgressConfig.InternalLoadBalancers", func(c *EgressConfig) { c.InternalLoadBalancers = internals(Standard, Basic) }, "InternalLoadBalancers[1].SKU Basic: conflict: the pools of LoadBalancer are of SKU Standard"),
		egress("lb.EgressConfig.DefaultOutboundRange", func(c *EgressConfig) { c.DefaultOutboundRange = netip.MustParsePrefix("198.18.0.1/15") }, "DefaultOutboundRange 198.18.0.1/15: prefix is not valid"),
		egress("lb.InternalLoadBalancer.Name", internal(func(b *InternalLoadBalancer) { b.Name = "" }), `InternalLoadBalancers[0].Name "": missing`),
		egress("lb.InternalLoadBalancer.SKU", internal(func(b *InternalLoadBalancer) { b.SKU = 2 }), "InternalLoadBalancers[0].SKU 2: out of range"),
		egress("lb.InternalLoadBalancer.FrontendIPConfigurations", internal(func(b *InternalLoadBalancer) {
			b.FrontendIPConfigurations[0] = FrontendIPConfiguration{Name: "fe", PublicIPAddress: netip.MustParseAddr("20.9.9.9")}
		}), `InternalLoadBalancers[0].FrontendIPConfigurations[0] "fe": conflict: a frontend of an internal load balancer has PrivateIPAddress`),
		egress("lb.InternalLoadBalancer.BackendAddressPools", internal(func(b *InternalLoadBalancer) { b.BackendAddressPools[0].Backends = []string{"x"} }), `InternalLoadBalancers[0].BackendAddressPools[0].Backends[0] "x": unknown name`),
		egress("lb.InternalLoadBalancer.LoadBalancingRules", internal(func(b *InternalLoadBalancer) { b.LoadBalancingRules = make([]LoadBalancingRule, 1) }), `InternalLoadBalancers[0].LoadBalancingRules[0].Name "": missing`),
		egress("lb.InternalLoadBalancer.InboundNATRules", internal(func(b *InternalLoadBalancer) { b.InboundNATRules = make([]InboundNATRule, 1) }), `InternalLoadBalancers[0].InboundNATRules[0].Name "": missing`),
		egress("lb.InternalLoadBalancer.Probes", internal(func(b *InternalLoadBalancer) { b.Probes = make([]probe.Probe, 1) }), `InternalLoadBalancers[0].Probes[0].Name "": missing`),

		gateway("lb.NATGateway.SKU", func(c *GatewayConfig) { c.SKU = 2 }, "SKU 2: out of range"),
		gateway("lb.NATGateway.PublicIPAddresses", func(c *GatewayConfig) { c.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("2001:db8::1")} }, "PublicIPAddresses[0] 2001:db8::1: not supported: SKU Standard has IPv4 only"),
		gateway("lb.NATGateway.PublicIPPrefixes", func(c *GatewayConfig) { c.PublicIPPrefixes[0] = netip.MustParsePrefix("20.60.0.0/27") }, "PublicIPPrefixes[0] 20.60.0.0/27: out of range"),
		gateway("lb.NATGateway.IdleTimeout", func(c *GatewayConfig) { c.IdleTimeout = 3 * time.Minute }, "IdleTimeout 3m0s: out of range"),
		gateway("lb.NATGateway.Generation", func(c *GatewayConfig) { c.Generation = 3 }, "Generation 3: out of range"),
		gateway("lb.GatewayConfig.Backends", func(c *GatewayConfig) { c.Backends[1].Addrs = c.Backends[0].Addrs }, "Backends[1].Addrs[0] 10.224.0.4/32: overlap: with Backends[0].Addrs[0]"),
		gateway("lb.GatewayConfig.Routes", func(c *GatewayConfig) { c.Routes = make([]snat.Route, 1) }, "Routes[0].Prefix invalid Prefix: prefix is not valid"),
		gateway("lb.GatewayConfig.NetworkSecurity", func(c *GatewayConfig) { c.NetworkSecurity = &nsg.Config{WithoutGroup: 2} }, "NetworkSecurity.WithoutGroup 2: out of range"),
		gateway("lb.GatewayConfig.Dataplane", func(c *GatewayConfig) { c.ReclaimGrace = time.Second }, "ReclaimGrace 1s: not supported: a gateway takes ports from nobody"),

		capacity("lb.Capacity.Nodes", with(func(c *Capacity) { c.Nodes = -1 }), "Nodes -1: out of range"),
		capacity("lb.Capacity.Ports", with(func(c *Capacity) { c.Ports = 12 }), "AllocatedOutboundPorts 12: not a multiple of 8"),
		capacity("lb.Capacity.Frontends", with(func(c *Capacity) { c.Frontends = math.MinInt }), fmt.Sprintf("Frontends %d: out of range", math.MinInt)),
		capacity("lb.Capacity.LostBlocks", with(func(c *Capacity) { c.LostBlocks = -1 }), "LostBlocks -1: out of range"),
		capacity("lb.Capacity.Strict", with(func(c *Capacity) { c.Strict, c.Ports, c.Nodes = true, 64_000, 1 }), "of which one must stay free"),
	}
}

// rightFields are those of which any value is right, and why.
var rightFields = map[string]string{
	"lb.Config.Name":            "it is only shown",
	"lb.Config.Prober":          "its answers are checked when it gives them",
	"lb.Config.AssumeHealthy":   "a choice",
	"lb.Config.FirstResult":     "a choice",
	"lb.Config.HAPortsTCPReset": "a choice",
	"lb.Config.Routes":          "its elements have rows",
	"lb.Config.Timeouts":        "its fields have rows",
	"lb.Config.TCP":             "its fields have rows",
	"lb.Config.UDP":             "its fields have rows",
	"lb.Config.NetworkSecurity": "its fields have rows",
	"lb.Config.Dataplane":       "its fields have rows",

	"lb.EgressConfig.PrivateSubnet":       "a fact",
	"lb.EgressConfig.FlexibleScaleSet":    "a fact",
	"lb.EgressConfig.GroupHasStandardSKU": "a fact",
	"lb.NATGateway.Name":                  "it is only shown",
	"lb.GatewayConfig.NATGateway":         "its fields have rows",

	"snat.Dataplane.Seed":            "any number",
	"snat.Dataplane.HashKey":         "any number",
	"snat.Dataplane.DistributionKey": "any number",
	"snat.Dataplane.ICMP":            "its fields have rows",
	"snat.Dataplane.Fragments":       "its fields have rows",
	"snat.Dataplane.HoldSYN":         "its fields have rows",
	"snat.Dataplane.Lenient":         "its fields are choices",
	"snat.Dataplane.CountHolders":    "its fields have rows",
	"snat.CountHolders.On":           "a choice",
	"snat.Dataplane.CountTraffic":    "a choice",
	"snat.Dataplane.Log":             "its fields have rows",
	"snat.Dataplane.Hooks":           "its fields are functions",
	"snat.ICMP.Queries":              "a choice",
	"snat.ICMP.PublicAddrs":          "a choice",
	"snat.ICMP.AllowShortTimeout":    "a choice",
	"snat.ICMP.Errors":               "a choice",
	"snat.ICMP.SourceQuench":         "a choice",
	"snat.ICMP.LenientQuotes":        "a choice",
	"snat.ICMP.Problems":             "a choice",
	"snat.ICMP.ProtocolUnreachable":  "a choice",
	"snat.ICMP.SilentInside":         "a choice",
	"snat.ICMP.SilentOutside":        "a choice",
	"snat.Leniency.TCPFlags":         "a choice",
	"snat.Leniency.UDPPortZero":      "a choice",
	"snat.Leniency.UDP6Zero":         "a choice",
	"snat.Log.Sessions":              "a choice",
	"snat.Log.Bindings":              "a choice",
	"snat.Log.Destinations":          "a choice",
	"snat.Hooks.SessionCreated":      "a function, or nil",
	"snat.Hooks.SessionExpired":      "a function, or nil",
	"snat.Hooks.PortRefused":         "a function, or nil",
	"snat.Hooks.SessionCut":          "a function, or nil",
	"snat.Hooks.Event":               "a function, or nil",
	"snat.Hooks.ResetSent":           "a function, or nil",
	"snat.Hooks.Fault":               "a function, or nil",
}

// fieldsOf adds the exported fields of a type and of all that it holds, as "Type.Field".
func fieldsOf(t reflect.Type, all map[string]bool) {
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer, reflect.Array:
		fieldsOf(t.Elem(), all)
		return
	case reflect.Struct:
	default:
		return
	}
	if !strings.Contains(t.PkgPath(), "natplane") {
		return
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && !all[t.String()+"."+f.Name] {
			all[t.String()+"."+f.Name] = true
			fieldsOf(f.Type, all)
		}
	}
}

func TestEveryFieldIsValidated(t *testing.T) {
	require.NoError(t, completeConfig().Validate())
	require.NoError(t, makeBalancer(completeConfig()))
	require.NoError(t, makeEgress(completeEgress()))
	require.NoError(t, makeGateway(completeGateway()))
	all := map[string]bool{}
	for _, root := range []reflect.Type{reflect.TypeFor[EgressConfig](), reflect.TypeFor[GatewayConfig](), reflect.TypeFor[Capacity]()} {
		fieldsOf(root, all)
	}
	tested := map[string]bool{}
	for _, w := range wrongFields() {
		tested[w.field] = true
		assert.True(t, all[w.field], "%s is no field any more", w.field)
		assert.NotContains(t, rightFields, w.field)
		t.Run(w.field, func(t *testing.T) { assert.ErrorContains(t, w.make(), w.want) })
	}
	for field := range rightFields {
		assert.True(t, all[field], "%s is no field any more", field)
	}
	for field := range all {
		if _, right := rightFields[field]; !right {
			assert.True(t, tested[field], "%s has neither a wrong value nor a reason why there is none", field)
		}
	}
}

// Problems of every part of a configuration are reported at once.
func TestProblemsOfAllPartsAtOnce(t *testing.T) {
	c := completeConfig()
	c.Routes[0].Action, c.Probes[0].Port, c.NetworkSecurity.WithoutGroup, c.Fragments.Mode, c.LoadBalancingRules[0].Probe = 99, 0, 2, 99, "x"
	err := c.Validate()
	require.Error(t, err)
	assert.Len(t, strings.Split(err.Error(), "\n"), 5, "%v", err)
}
