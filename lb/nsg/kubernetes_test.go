package nsg

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
)

// public and node addresses of a cluster.
var frontend, nodes = addrs("20.50.1.1"), addrs("10.0.0.4", "10.0.0.5")

// cluster compiles the group of a cluster with the rules of Services.
func cluster(t *testing.T, services ...Service) (*Compiled, []SecurityRule) {
	t.Helper()
	var rules []SecurityRule
	for _, s := range services {
		var err error
		if rules, err = AddService(rules, s); err != nil {
			t.Fatal(err)
		}
	}
	c := network(rules...)
	c.VirtualNetwork = append(c.VirtualNetwork, netip.MustParsePrefix("10.244.0.0/16")) // pods
	return mustCompile(t, c), rules
}

func web() Service {
	return Service{Ports: []ServicePort{{TCP, 80, 30080}, {TCP, 443, 30443}}, Frontends: frontend, Nodes: nodes}
}

func TestNSGServiceIsOpenToTheInternetByDefault(t *testing.T) {
	c, rules := cluster(t, web())
	// The name is the one that AKS shows for a Service with ports 80 and 443.
	const name = "k8s-azure-lb_allow_IPv4_556f7044ec033071ec0dfcf7cd85bc93"
	if len(rules) != 1 || rules[0].Name != name || rules[0].Priority != 500 {
		t.Fatalf("rules %+v", rules)
	}
	want(t, c, in("203.0.113.9:1 > 20.50.1.1:443 at 10.0.0.4"), "Allow "+name)
	want(t, c, in("203.0.113.9:1 > 20.50.1.1:444 at 10.0.0.4"), "Deny DenyAllInbound")
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:30443"), "Deny DenyAllInbound")
}

func TestNSGServiceWithoutFloatingIPAllowsNodePort(t *testing.T) {
	s := web()
	s.DisableFloatingIP = true
	c, rules := cluster(t, s)
	if !slices.Equal(rules[0].DestinationAddressPrefixes, []string{"10.0.0.4", "10.0.0.5"}) || !slices.Equal(rules[0].DestinationPortRanges, []string{"30080", "30443"}) {
		t.Fatalf("rules %+v", rules)
	}
	want(t, c, in("203.0.113.9:1 > 10.0.0.5:30443"), "Allow "+rules[0].Name)
	want(t, c, in("203.0.113.9:1 > 10.0.0.5:443"), "Deny DenyAllInbound")
}

func TestNSGServiceSources(t *testing.T) {
	for _, tc := range []struct {
		name     string
		change   func(*Service)
		sources  []string // of each rule
		internet bool     // 203.0.113.9 may send
		range1   bool     // 198.51.100.9
		vnet     bool     // 10.0.1.9 to an internal frontend
	}{
		{"none", nil, []string{"Internet"}, true, true, true},
		{"source ranges", func(s *Service) { s.LoadBalancerSourceRanges = []string{"198.51.100.0/24"} }, []string{"198.51.100.0/24"}, false, true, true},
		{"allowed ranges", func(s *Service) { s.AllowedIPRanges = []string{"198.51.100.0/24"} }, []string{"198.51.100.0/24"}, false, true, true},
		{"a range in another one", func(s *Service) { s.AllowedIPRanges = []string{"198.51.100.0/24", "198.51.0.0/16"} }, []string{"198.51.0.0/16"}, false, true, true},
		{"tags", func(s *Service) { s.AllowedServiceTags = []string{"AzureCloud"} }, []string{"AzureCloud"}, false, false, true},
		{"source ranges and tags", func(s *Service) {
			s.LoadBalancerSourceRanges, s.AllowedServiceTags = []string{"198.51.100.0/24"}, []string{"AzureCloud"}
		}, []string{"AzureCloud", "198.51.100.0/24"}, false, true, true},
		{"everybody", func(s *Service) { s.LoadBalancerSourceRanges = []string{"0.0.0.0/0"} }, []string{"Internet", "0.0.0.0/0"}, true, true, true},
		{"internal", func(s *Service) { s.Internal = true }, nil, false, false, true},
		{"internal, everybody", func(s *Service) { s.Internal, s.AllowedIPRanges = true, []string{"0.0.0.0/0"} }, []string{"Internet", "0.0.0.0/0"}, true, true, true},
		{"internal, denied", func(s *Service) {
			s.Internal, s.DenyAllExceptSourceRanges, s.LoadBalancerSourceRanges = true, true, []string{"198.51.100.0/24"}
		}, []string{"198.51.100.0/24", "*"}, false, true, false},
		{"denied without ranges", func(s *Service) { s.Internal, s.DenyAllExceptSourceRanges = true, true }, nil, false, false, true},
	} {
		s := web()
		s.Frontends = addrs("10.0.0.100")
		if tc.change != nil {
			tc.change(&s)
		}
		rules, err := AddService(nil, s)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var sources []string
		for _, r := range rules {
			sources = append(sources, r.SourceAddressPrefixes...)
			if (r.Access == Deny) != (r.Priority == 4095) {
				t.Errorf("%s: %s has priority %d", tc.name, r.Name, r.Priority)
			}
		}
		if !slices.Equal(sources, tc.sources) {
			t.Errorf("%s: sources %q, want %q", tc.name, sources, tc.sources)
		}
		config := network(rules...)
		config.ServiceTags = []ServiceTag{{Name: "AzureCloud"}}
		c := mustCompile(t, config)
		for from, may := range map[string]bool{"203.0.113.9": tc.internet, "198.51.100.9": tc.range1, "10.0.1.9": tc.vnet} {
			if f := in(from + ":1 > 10.0.0.100:80"); (c.Evaluate(f).Access == Allow) != may {
				t.Errorf("%s: want %v of\n%v", tc.name, may, c.Explain(f))
			}
		}
	}
}

func TestNSGServicePodsNeedTheirRange(t *testing.T) {
	s := web()
	s.LoadBalancerSourceRanges, s.DenyAllExceptSourceRanges = []string{"203.0.113.0/24"}, true
	c, _ := cluster(t, s)
	want(t, c, in("10.244.1.7:1 > 20.50.1.1:80 at 10.0.0.4"), "Deny k8s-azure-lb_deny-all_IPv4")
	s.LoadBalancerSourceRanges = append(s.LoadBalancerSourceRanges, "10.244.0.0/16")
	c, rules := cluster(t, s)
	want(t, c, in("10.244.1.7:1 > 20.50.1.1:80 at 10.0.0.4"), "Allow "+rules[0].Name)
}

func TestNSGServicesShareRules(t *testing.T) {
	other, dns, dual := web(), web(), web()
	other.Frontends = addrs("20.50.1.2")
	dns.Ports = []ServicePort{{UDP, 53, 30053}, {TCP, 53, 30053}, {Any, 9, 30009}}
	dual.Frontends = addrs("20.50.1.3", "2001:db8::3")
	_, rules := cluster(t, web(), other, dns, dual)
	got := ""
	for _, r := range rules {
		got += fmt.Sprintf("%d %.23s %v %v %v\n", r.Priority, r.Name, r.Protocol, r.DestinationAddressPrefixes, r.DestinationPortRanges)
	}
	const want = `500 k8s-azure-lb_allow_IPv4 Tcp [20.50.1.1 20.50.1.2 20.50.1.3] [443 80]
501 k8s-azure-lb_allow_IPv4 Tcp [20.50.1.1] [53]
502 k8s-azure-lb_allow_IPv4 Udp [20.50.1.1] [53]
503 k8s-azure-lb_allow_IPv4 * [20.50.1.1] [9]
504 k8s-azure-lb_allow_IPv6 Tcp [2001:db8::3] [443 80]
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestNSGServicePriorities(t *testing.T) {
	taken := []SecurityRule{newRule("a", 500, Allow, nil), newRule("b", 502, Allow, nil), newRule("c", 501, Allow, func(r *SecurityRule) { r.Direction = Outbound }), newRule("d", 499, Allow, nil), newRule("e", 4096, Deny, nil)}
	before := slices.Clone(taken)
	s := web()
	s.AllowedServiceTags = []string{"Sql", "Storage"}
	rules, err := AddService(taken, s)
	if err != nil || len(rules) != 7 || rules[5].Priority != 501 || rules[6].Priority != 503 {
		t.Fatalf("%v %+v", err, rules)
	}
	for i := range taken {
		if taken[i].Name != before[i].Name || len(taken) != len(before) {
			t.Error("the argument has changed")
		}
	}
	for p := firstManagedPriority; p < lastManagedPriority; p++ {
		taken = append(taken, newRule(fmt.Sprint("r", p), p, Allow, nil))
	}
	if _, err = AddService(taken, web()); !errors.Is(err, flow.ErrTooMany) {
		t.Errorf("no priority left: %v", err)
	}
}

func TestNSGServiceProblems(t *testing.T) {
	_, err := AddService(nil, Service{
		Ports:                    []ServicePort{{ICMP, 80, 0}, {TCP, 0, 0}},
		Frontends:                addrs("127.0.0.1"),
		Nodes:                    addrs("::"),
		LoadBalancerSourceRanges: []string{"10.0.0.0/33", "10.0.0.1", "10.0.0.1/8"},
		AllowedIPRanges:          []string{"Internet"},
		AllowedServiceTags:       []string{"*", ""},
	})
	const want = `AllowedIPRanges "Internet": conflict: LoadBalancerSourceRanges are set, too
AllowedIPRanges[0] "Internet": cannot be read: want a prefix such as 10.0.0.0/8
AllowedServiceTags[0] "*": cannot be read: want the name of a service tag
AllowedServiceTags[1] "": cannot be read: want the name of a service tag
Frontends[0] 127.0.0.1: not the address of a single host
LoadBalancerSourceRanges[0] "10.0.0.0/33": prefix is not valid, or its host bits are not zero: SecurityRuleInvalidAddressPrefix: want a prefix such as 10.0.0.0/8
LoadBalancerSourceRanges[1] "10.0.0.1": cannot be read: want a prefix such as 10.0.0.0/8
LoadBalancerSourceRanges[2] "10.0.0.1/8": prefix is not valid, or its host bits are not zero: SecurityRuleInvalidAddressPrefix: did you mean 10.0.0.0/8?
Nodes[0] ::: not the address of a single host
Ports[0].Protocol 3: out of range: 0..2
Ports[1].Port 0: out of range: 1..65535`
	if fmt.Sprint(err) != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := AddService(nil, Service{DisableFloatingIP: true}); !errors.Is(err, flow.ErrMissing) {
		t.Error(err)
	}
	if _, err := AddService(nil, Service{DisableFloatingIP: true, Ports: []ServicePort{{TCP, 80, 0}}}); !errors.Is(err, flow.ErrOutOfRange) {
		t.Error(err)
	}
}

func TestAllowedHostPorts(t *testing.T) {
	for text, n := range map[string]int{
		"80/tcp": 1, "80/tcp,443/tcp": 2, "53/udp,80/tcp": 2, "50000-60000/tcp": 1, "80/tcp,443/tcp,53/udp,40000-60000/tcp,40000-50000/udp": 5,
		" 80 / TCP , 1-65535/Udp": 2, "80": -1, "80/icmp": -1, "443-80/tcp": -1, "": -1, "80/tcp,": -1, "0/tcp": -1, "65536/tcp": -1, "*/tcp": -1, "80/*": -1, "80/any": -1, "-1/tcp": -1, "1-2-3/tcp": -1,
	} {
		ports, err := ParseHostPorts(text)
		if n < 0 && !errors.Is(err, flow.ErrSyntax) || n >= 0 && (err != nil || len(ports) != n) {
			t.Errorf("%q: %v %v", text, ports, err)
		}
	}
	ports, _ := ParseHostPorts("40000-60000/tcp,8080/tcp,40000-50000/udp")
	config := network()
	config.Subnets = nil
	config.NetworkInterfaces = []NetworkInterface{{"node0", addrs("10.0.0.4"), "g"}, {"node1", addrs("10.0.0.5"), "g"}}
	config.ApplicationSecurityGroups = []ApplicationSecurityGroup{{"pool1", addrs("10.0.0.4")}}
	want(t, mustCompile(t, config), in("203.0.113.9:1 > 10.0.0.4:46645"), "Deny DenyAllInbound") // before they are allowed
	rules, err := AddHostPorts(nil, ports, "pool1")
	if err != nil {
		t.Fatal(err)
	}
	config.NetworkSecurityGroups[0].SecurityRules = rules
	c := mustCompile(t, config)
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:46645"), "Allow aks-allowed-host-ports_Tcp_pool1")
	want(t, c, in("203.0.113.9:1 > 10.0.0.4:8080"), "Allow aks-allowed-host-ports_Tcp_pool1")
	want(t, c, in("udp 203.0.113.9:1 > 10.0.0.4:50000"), "Allow aks-allowed-host-ports_Udp_pool1")
	want(t, c, in("udp 203.0.113.9:1 > 10.0.0.4:50001"), "Deny DenyAllInbound")
	want(t, c, in("203.0.113.9:1 > 10.0.0.5:46645"), "Deny DenyAllInbound") // a node of another pool
}
