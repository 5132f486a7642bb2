package nsg

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What Azure's documents say about network security groups, one test for each statement.

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func prefixList(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func mustCompile(t testing.TB, c Config) *Compiled {
	t.Helper()
	compiled, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// in, out return flows of TCP (or what comes before a space) between two sockets.
func in(text string) Flow  { return parseFlow(Inbound, text) }
func out(text string) Flow { return parseFlow(Outbound, text) }

func parseFlow(d Direction, text string) Flow {
	f := Flow{Direction: d, Protocol: 6}
	for name, number := range map[string]uint8{"udp ": 17, "icmp ": 1, "icmp6 ": 58, "esp ": 50, "ah ": 51, "sctp ": 132, "gre ": 47} {
		if rest, ok := strings.CutPrefix(text, name); ok {
			f.Protocol, text = number, rest
		}
	}
	text, at, _ := strings.Cut(text, " at ")
	src, dst, _ := strings.Cut(text, " > ")
	f.Source, f.Destination = netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	if at != "" {
		f.Interface = netip.MustParseAddr(at)
	}
	return f
}

// want checks by which rule a flow is decided, as in "Allow AllowVNetInBound".
func want(t *testing.T, c *Compiled, f Flow, decision string) {
	t.Helper()
	if d := c.Evaluate(f); fmt.Sprintf("%v %s", d.Access, d.Rule) != decision {
		t.Errorf("want %s:\n%v", decision, c.Explain(f))
	}
}

// network is a VNet 10.0.0.0/16 and fd00::/64 whose subnet 10.0.0.0/24 has the group "g".
func network(rules ...SecurityRule) Config {
	return Config{
		VirtualNetwork:        prefixList("10.0.0.0/16", "fd00::/64"),
		NetworkSecurityGroups: []NetworkSecurityGroup{{"g", rules}},
		Subnets:               []Subnet{{"s", prefixList("10.0.0.0/24", "fd00::/64"), "g"}},
	}
}

// newRule returns a rule for every address, changed as a test needs.
func newRule(name string, priority int, access Access, change func(*SecurityRule)) SecurityRule {
	r := SecurityRule{
		Name: name, Priority: priority, Access: access,
		SourceAddressPrefixes: []string{"*"}, DestinationAddressPrefixes: []string{"*"}, DestinationPortRanges: []string{"*"},
	}
	if change != nil {
		change(&r)
	}
	return r
}

func TestNSGDefaultRules(t *testing.T) {
	c := mustCompile(t, network())
	want(t, c, in("10.0.1.9:1 > 10.0.0.4:22"), "Allow AllowVNetInBound")
	want(t, c, in("udp [fd00::9]:1 > [fd00::4]:53"), "Allow AllowVNetInBound")
	want(t, c, in("[fe80::1234:5678:9abc]:1 > [fd00::4]:80"), "Allow AllowAzureLoadBalancerInBound")
	want(t, c, in("168.63.129.16:1 > 20.50.1.1:80 at 10.0.0.4"), "Allow AllowAzureLoadBalancerInBound") // a probe, floating IP
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:80"), "Deny DenyAllInbound")
	want(t, c, in("icmp 203.0.113.9:0 > 10.0.0.4:0"), "Deny DenyAllInbound")
	want(t, c, out("10.0.0.4:1 > 10.0.1.9:22"), "Allow AllowVnetOutBound")
	want(t, c, out("10.0.0.4:1 > 203.0.113.9:443"), "Allow AllowInternetOutBound")
	want(t, c, out("gre [fd00::4]:0 > [2001:db8::1]:0"), "Allow AllowInternetOutBound")
	want(t, c, out("[fd00::4]:1 > [fe80::1]:443"), "Deny DenyAllOutBound")

	var priorities []int
	for _, d := range []Direction{Inbound, Outbound} {
		for _, r := range DefaultRules(d) {
			priorities = append(priorities, r.Priority)
		}
	}
	if !slices.Equal(priorities, []int{65000, 65001, 65500, 65000, 65001, 65500}) {
		t.Errorf("priorities %v", priorities)
	}
}

func TestNSGPriorities(t *testing.T) {
	for priority, ok := range map[int]bool{99: false, 100: true, 4096: true, 4097: false, 0: false, -1: false, 65000: false} {
		c := network(newRule("r", priority, Allow, nil))
		if err := c.Validate(); (err == nil) != ok || !ok && !errors.Is(err, flow.ErrOutOfRange) {
			t.Errorf("priority %d: %v", priority, err)
		}
	}
	// The lowest number decides, whatever the order, and the others are not processed.
	c := mustCompile(t, network(newRule("last", 300, Allow, nil), newRule("first", 100, Deny, nil), newRule("second", 200, Allow, nil)))
	want(t, c, in("10.0.1.9:1 > 10.0.0.4:22"), "Deny first")
	// A priority is unique in its direction only.
	outbound := func(r *SecurityRule) { r.Direction = Outbound }
	c = mustCompile(t, network(newRule("in", 100, Deny, nil), newRule("out", 100, Deny, outbound)))
	want(t, c, in("10.0.1.9:1 > 10.0.0.4:22"), "Deny in")
	want(t, c, out("10.0.0.4:22 > 10.0.1.9:1"), "Deny out")
}

func TestNSGChangesActOnNewFlowsOnly(t *testing.T) {
	config := network(newRule("ssh", 100, Allow, func(r *SecurityRule) { r.DestinationPortRanges[0] = "22" }))
	before := mustCompile(t, config)
	// What was compiled is not what is configured from then on: the caller keeps sessions,
	// and asks the new one about new flows.
	config.NetworkSecurityGroups[0].SecurityRules[0].Access = Deny
	config.NetworkSecurityGroups[0].SecurityRules[0].DestinationPortRanges[0] = "23"
	after := mustCompile(t, config)
	want(t, before, in("203.0.113.9:1 > 10.0.0.4:22"), "Allow ssh")
	want(t, after, in("203.0.113.9:1 > 10.0.0.4:22"), "Deny DenyAllInbound")
	want(t, after, in("203.0.113.9:1 > 10.0.0.4:23"), "Deny ssh")
}

func TestNSGSeesPrivateAddressAndOriginalClient(t *testing.T) {
	web := newRule("web", 100, Allow, func(r *SecurityRule) {
		r.SourceAddressPrefixes, r.DestinationAddressPrefixes, r.DestinationPortRanges = []string{"203.0.113.9"}, []string{"10.0.0.4"}, []string{"8080"}
	})
	byFrontend := newRule("frontend", 200, Allow, func(r *SecurityRule) { r.DestinationAddressPrefixes = []string{"20.50.1.1"} })
	c := mustCompile(t, network(web, byFrontend))
	want(t, c, in("203.0.113.9:50000 > 10.0.0.4:8080"), "Allow web") // translated from 20.50.1.1:80
	want(t, c, in("203.0.113.10:50000 > 10.0.0.4:8080"), "Deny DenyAllInbound")
	want(t, c, in("203.0.113.10:50000 > 20.50.1.1:80 at 10.0.0.4"), "Allow frontend") // floating IP
	// Outbound the source is still private.
	c = mustCompile(t, network(newRule("no", 100, Deny, func(r *SecurityRule) {
		r.Direction, r.SourceAddressPrefixes = Outbound, []string{"10.0.0.4"}
	})))
	want(t, c, out("10.0.0.4:1 > 203.0.113.9:443"), "Deny no")
	want(t, c, out("10.0.0.5:1 > 203.0.113.9:443"), "Allow AllowInternetOutBound")
}

func TestNSGStandardIsClosedAndBasicOpen(t *testing.T) {
	config := network()
	config.Subnets[0].NetworkSecurityGroup = ""
	c := mustCompile(t, config)
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:80"), "Deny DenyAllInbound")
	want(t, c, in("10.0.1.9:1 > 10.0.0.4:80"), "Allow AllowVNetInBound") // an internal load balancer
	want(t, c, in("168.63.129.16:1 > 10.0.0.4:80"), "Allow AllowVNetInBound")
	want(t, c, out("10.0.0.4:1 > 203.0.113.9:80"), "Allow ")
	config.WithoutGroup = Open
	c = mustCompile(t, config)
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:80"), "Allow ")
	if d := c.Evaluate(in("203.0.113.9:1 > 10.0.0.4:80")); d != (Decision{Access: Allow}) {
		t.Errorf("without group: %+v", d)
	}
}

// The figure of the filtering document: VM1 has groups at both levels, VM2 of the subnet,
// VM3 of the interface, VM4 none.
func TestNSGLevels(t *testing.T) {
	port80 := func(r *SecurityRule) { r.DestinationPortRanges = []string{"80"} }
	out80 := func(r *SecurityRule) { port80(r); r.Direction = Outbound }
	make := func(nsg1, nsg2 []SecurityRule) *Compiled {
		return mustCompile(t, Config{
			VirtualNetwork:        prefixList("10.0.0.0/16"),
			NetworkSecurityGroups: []NetworkSecurityGroup{{"NSG1", nsg1}, {"NSG2", nsg2}},
			Subnets: []Subnet{
				{"Subnet1", prefixList("10.0.1.0/24"), "NSG1"}, {"Subnet2", prefixList("10.0.2.0/24"), ""}, {"Subnet3", prefixList("10.0.3.0/24"), ""},
			},
			NetworkInterfaces: []NetworkInterface{{"VM1", addrs("10.0.1.1"), "NSG2"}, {"VM3", addrs("10.0.2.1"), "NSG2"}},
			WithoutGroup:      Open,
		})
	}
	to := func(vm string) Flow { return in("203.0.113.9:1 > " + vm + ":80") }
	from := func(vm string) Flow { return out(vm + ":1 > 203.0.113.9:80") }
	for _, tc := range []struct {
		name       string
		nsg1, nsg2 []SecurityRule
		flow       Flow
		want       Decision
	}{
		{"VM1, neither allows", nil, nil, to("10.0.1.1"), Decision{Deny, SubnetLevel, "NSG1", "DenyAllInbound", 65500}},
		{"VM1, the interface allows", nil, []SecurityRule{newRule("web", 100, Allow, port80)}, to("10.0.1.1"), Decision{Deny, SubnetLevel, "NSG1", "DenyAllInbound", 65500}},
		{"VM1, the subnet allows", []SecurityRule{newRule("web", 100, Allow, port80)}, nil, to("10.0.1.1"), Decision{Deny, InterfaceLevel, "NSG2", "DenyAllInbound", 65500}},
		{"VM1, both allow", []SecurityRule{newRule("a", 100, Allow, port80)}, []SecurityRule{newRule("b", 101, Allow, port80)}, to("10.0.1.1"), Decision{Allow, InterfaceLevel, "NSG2", "b", 101}},
		{"VM2", []SecurityRule{newRule("a", 100, Allow, port80)}, nil, to("10.0.1.2"), Decision{Allow, SubnetLevel, "NSG1", "a", 100}},
		{"VM3", nil, []SecurityRule{newRule("b", 100, Allow, port80)}, to("10.0.2.1"), Decision{Allow, InterfaceLevel, "NSG2", "b", 100}},
		{"VM4", nil, nil, to("10.0.3.1"), Decision{Access: Allow}},
		{"VM1 out, both deny: the interface is first", []SecurityRule{newRule("a", 100, Deny, out80)}, []SecurityRule{newRule("b", 100, Deny, out80)}, from("10.0.1.1"), Decision{Deny, InterfaceLevel, "NSG2", "b", 100}},
		{"VM1 out, the subnet denies", []SecurityRule{newRule("a", 100, Deny, out80)}, nil, from("10.0.1.1"), Decision{Deny, SubnetLevel, "NSG1", "a", 100}},
		{"VM1 out, none denies", nil, nil, from("10.0.1.1"), Decision{Allow, SubnetLevel, "NSG1", "AllowInternetOutBound", 65001}},
		{"VM2 out", []SecurityRule{newRule("a", 100, Deny, out80)}, nil, from("10.0.1.2"), Decision{Deny, SubnetLevel, "NSG1", "a", 100}},
		{"VM3 out", nil, []SecurityRule{newRule("b", 100, Deny, out80)}, from("10.0.2.1"), Decision{Deny, InterfaceLevel, "NSG2", "b", 100}},
		{"VM4 out", nil, nil, from("10.0.3.1"), Decision{Access: Allow}},
		{"inside a subnet", []SecurityRule{newRule("a", 100, Deny, nil)}, nil, in("10.0.1.2:1 > 10.0.1.3:80"), Decision{Deny, SubnetLevel, "NSG1", "a", 100}},
	} {
		if got := make(tc.nsg1, tc.nsg2).Evaluate(tc.flow); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

func TestNSGProtocols(t *testing.T) {
	one := func(p Protocol) *Compiled {
		return mustCompile(t, network(newRule("r", 100, Allow, func(r *SecurityRule) { r.Protocol = p })))
	}
	for name, of := range map[string]Protocol{"udp ": UDP, "icmp ": ICMP, "icmp6 ": ICMP, "esp ": ESP, "ah ": AH, "": TCP, "sctp ": Any, "gre ": Any} {
		for p := range numProtocols {
			decision := "Deny DenyAllInbound"
			if p == of || p == Any {
				decision = "Allow r"
			}
			want(t, one(p), in(name+"203.0.113.9:1 > 10.0.0.4:80"), decision)
		}
	}
}

func TestNSGAugmentedRules(t *testing.T) {
	c := mustCompile(t, network(newRule("r", 100, Allow, func(r *SecurityRule) {
		r.SourceAddressPrefixes = []string{"198.51.100.0/24", "203.0.113.9", "192.0.2.0/31"}
		r.SourcePortRanges = []string{"0-1023", "50000"}
		r.DestinationAddressPrefixes = []string{"10.0.0.4", "10.0.0.8/29"}
		r.DestinationPortRanges = []string{"443", "80", "1000-2000", "65535"}
	})))
	for _, flow := range []string{
		"198.51.100.255:0 > 10.0.0.4:80", "203.0.113.9:1023 > 10.0.0.15:443", "192.0.2.1:50000 > 10.0.0.8:1000",
		"192.0.2.1:50000 > 10.0.0.8:2000", "udp 192.0.2.1:50000 > 10.0.0.8:65535",
	} {
		want(t, c, in(flow), "Allow r")
	}
	for _, flow := range []string{
		"198.51.101.0:0 > 10.0.0.4:80", "203.0.113.9:1024 > 10.0.0.15:443", "192.0.2.2:50000 > 10.0.0.8:1000",
		"192.0.2.1:50000 > 10.0.0.16:2000", "192.0.2.1:50000 > 10.0.0.8:2001", "192.0.2.1:50000 > 10.0.0.8:999", "icmp 192.0.2.1:50000 > 10.0.0.8:1000",
	} {
		want(t, c, in(flow), "Deny DenyAllInbound")
	}
}

func TestNSGServiceTags(t *testing.T) {
	to := func(tag string) func(*SecurityRule) {
		return func(r *SecurityRule) { r.Direction, r.DestinationAddressPrefixes = Outbound, []string{tag} }
	}
	config := network(
		newRule("sql", 100, Allow, to("Sql.WestEurope")), newRule("vnet", 200, Deny, to("VirtualNetwork")), newRule("internet", 300, Deny, to("Internet")),
	)
	config.ServiceTags = []ServiceTag{{"Sql.WestEurope", prefixList("203.0.113.0/24", "2001:db8:1::/48")}}
	config.VirtualNetwork = append(config.VirtualNetwork, prefixList("10.244.0.0/16", "198.51.100.0/24")...) // pods, and a peer with public addresses
	c := mustCompile(t, config)
	want(t, c, out("10.0.0.4:1 > 203.0.113.9:1433"), "Allow sql")
	want(t, c, out("[fd00::4]:1 > [2001:db8:1::9]:1433"), "Allow sql")
	want(t, c, out("10.0.0.4:1 > 203.0.114.9:1433"), "Deny internet")
	want(t, c, out("10.0.0.4:1 > 10.244.7.9:80"), "Deny vnet")
	want(t, c, out("10.0.0.4:1 > 198.51.100.9:80"), "Deny vnet")
}

func TestNSGPlatform(t *testing.T) {
	out := func(f string) Flow { return out("10.0.0.4:1 > " + f) }
	denyAll := newRule("all", 200, Deny, func(r *SecurityRule) { r.Direction = Outbound })
	c := mustCompile(t, network(denyAll))
	want(t, c, out("168.63.129.16:53"), "Allow AzurePlatform") // no group acts on it
	want(t, c, out("169.254.169.254:80"), "Allow AzurePlatform")
	want(t, c, out("203.0.113.9:80"), "Deny all")
	dns := newRule("dns", 100, Deny, func(r *SecurityRule) {
		r.Direction, r.DestinationAddressPrefixes = Outbound, []string{"AzurePlatformDNS"}
	})
	c = mustCompile(t, network(dns, denyAll))
	want(t, c, out("168.63.129.16:53"), "Deny dns")
	want(t, c, out("169.254.169.254:80"), "Allow AzurePlatform")
	// Probes come in, and rules do act on them.
	c = mustCompile(t, network(newRule("probe", 100, Deny, func(r *SecurityRule) { r.SourceAddressPrefixes = []string{"AzureLoadBalancer"} })))
	want(t, c, in("168.63.129.16:1 > 10.0.0.4:80"), "Deny probe")
}

// The example of the document about application security groups.
func TestNSGApplicationSecurityGroups(t *testing.T) {
	config := network(
		SecurityRule{
			Name: "Allow-HTTP-Inbound-Internet", Priority: 100, Access: Allow, Protocol: TCP, SourceAddressPrefixes: []string{"Internet"},
			DestinationApplicationSecurityGroups: []string{"AsgWeb"}, DestinationPortRanges: []string{"80"},
		},
		SecurityRule{
			Name: "Deny-Database-All", Priority: 120, Access: Deny, SourceAddressPrefixes: []string{"*"},
			DestinationApplicationSecurityGroups: []string{"AsgDb"}, DestinationPortRanges: []string{"1433"},
		},
		SecurityRule{
			Name: "Allow-Database-BusinessLogic", Priority: 110, Access: Allow, Protocol: TCP,
			SourceApplicationSecurityGroups:      []string{"AsgLogic"},
			DestinationApplicationSecurityGroups: []string{"AsgDb"}, DestinationPortRanges: []string{"1433"},
		},
	)
	config.ApplicationSecurityGroups = []ApplicationSecurityGroup{{"AsgWeb", addrs("10.0.0.1", "10.0.0.2")}, {"AsgLogic", addrs("10.0.0.3")}, {"AsgDb", addrs("10.0.0.4")}}
	c := mustCompile(t, config)
	want(t, c, in("203.0.113.9:1 > 10.0.0.2:80"), "Allow Allow-HTTP-Inbound-Internet")
	want(t, c, in("203.0.113.9:1 > 10.0.0.3:80"), "Deny DenyAllInbound")
	want(t, c, in("10.0.0.3:1 > 10.0.0.4:1433"), "Allow Allow-Database-BusinessLogic")
	want(t, c, in("10.0.0.1:1 > 10.0.0.4:1433"), "Deny Deny-Database-All")
	want(t, c, in("10.0.0.1:1 > 10.0.0.4:1434"), "Allow AllowVNetInBound")
}

func TestAdmit(t *testing.T) {
	c := mustCompile(t, network(newRule("no", 100, Deny, func(r *SecurityRule) { r.Direction = Outbound })))
	vm, server := netip.MustParseAddrPort("10.0.0.4:40000"), netip.MustParseAddrPort("203.0.113.9:443")
	for _, tc := range []struct {
		d    Direction
		at   string
		want flow.Reason
	}{{Inbound, "", flow.ReasonNSGInbound}, {Outbound, "", flow.ReasonNSGOutbound}, {Outbound, "10.0.7.7", flow.ReasonNone}} {
		at, _ := netip.ParseAddr(tc.at)
		if got := c.Admit(tc.d, 6, vm, server, at); got != tc.want {
			t.Errorf("%v at %q: %v, want %v", tc.d, tc.at, got, tc.want)
		}
	}
}
