package lb

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/snat"
)

func lending(name, frontend string, p snat.Protocol) LoadBalancingRule {
	return LoadBalancingRule{Name: name, FrontendIPConfiguration: frontend, Protocol: p}
}

func silent(name, frontend string) LoadBalancingRule {
	return LoadBalancingRule{Name: name, FrontendIPConfiguration: frontend, DisableOutboundSNAT: true}
}

func TestChooseSNAT(t *testing.T) {
	ip := netip.MustParseAddr("203.0.113.5")
	rule := OutboundRule{Name: "aksOutboundRule", FrontendIPConfigurations: []string{"out1", "out2"}}
	tcpRule := OutboundRule{Name: "tcp", FrontendIPConfigurations: []string{"out3"}, Protocol: snat.TCP}
	aks := Membership{OutboundRules: []OutboundRule{rule}, LoadBalancingRules: []LoadBalancingRule{silent("svc", "svc")}}
	member := func(ms ...Membership) NIC { return NIC{LoadBalancers: ms} }

	for _, tt := range []struct {
		name      string
		nic       NIC
		protocol  snat.Protocol
		want      SNATOption
		frontends []string
	}{
		{"everything at once: the route decides", NIC{NonInternetRoute: true, NATGateway: true, PublicIPAddress: ip, LoadBalancers: []Membership{aks}}, snat.TCP, UserDefinedRoute, nil},
		{"NAT gateway before public IP and rules", NIC{NATGateway: true, PublicIPAddress: ip, LoadBalancers: []Membership{aks}}, snat.TCP, NATGatewaySNAT, nil},
		{"public IP before rules", NIC{PublicIPAddress: ip, LoadBalancers: []Membership{aks}}, snat.TCP, InstancePublicIP, nil},
		{"AKS Standard: outbound rule", member(aks), snat.UDP, OutboundRuleSNAT, []string{"out1", "out2"}},
		{"outbound rule before load-balancing rule", member(Membership{OutboundRules: []OutboundRule{rule}, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.All)}}), snat.TCP, OutboundRuleSNAT, []string{"out1", "out2"}},
		{"outbound rules of two load balancers", member(aks, Membership{OutboundRules: []OutboundRule{tcpRule}}), snat.TCP, OutboundRuleSNAT, []string{"out1", "out2", "out3"}},
		{"outbound rule for the other protocol", member(Membership{OutboundRules: []OutboundRule{tcpRule}}), snat.UDP, NoOutbound, nil},
		{"outbound rule for one, load-balancing rule for the other protocol", member(Membership{OutboundRules: []OutboundRule{tcpRule}, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.UDP)}}), snat.UDP, LoadBalancingRuleSNAT, []string{"a"}},
		{"either protocol will do", member(Membership{OutboundRules: []OutboundRule{tcpRule}}), snat.All, OutboundRuleSNAT, []string{"out3"}},

		{"Standard rules without outbound rule: all frontends, once each", member(Membership{LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP), lending("b", "b", snat.TCP), lending("c", "a", snat.TCP)}}), snat.TCP, LoadBalancingRuleSNAT, []string{"a", "b"}},
		{"Standard rule lends for its own protocol only", member(Membership{LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP)}}), snat.UDP, NoOutbound, nil},
		{"Standard rule with DisableOutboundSNAT", member(Membership{LoadBalancingRules: []LoadBalancingRule{silent("a", "a")}}), snat.TCP, NoOutbound, nil},
		{"Standard with inbound NAT rules only", member(Membership{}), snat.TCP, NoOutbound, nil},
		{"internal Standard", member(Membership{Internal: true, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP)}}), snat.TCP, NoOutbound, nil},
		{"internal Standard and an outbound-only public one", member(Membership{Internal: true}, aks), snat.TCP, OutboundRuleSNAT, []string{"out1", "out2"}},

		{"Basic: first rule, both protocols", member(Membership{SKU: Basic, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP), lending("b", "b", snat.TCP)}}), snat.UDP, LoadBalancingRuleSNAT, []string{"a"}},
		{"Basic: seeded choice", member(Membership{SKU: Basic, BasicFrontend: SeededRule, Seed: 2, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP), lending("b", "b", snat.TCP)}}), snat.TCP, LoadBalancingRuleSNAT, []string{"b"}},
		{"Basic ignores DisableOutboundSNAT", member(Membership{SKU: Basic, LoadBalancingRules: []LoadBalancingRule{silent("a", "a")}}), snat.TCP, LoadBalancingRuleSNAT, []string{"a"}},
		{"Basic without rules", member(Membership{SKU: Basic}), snat.TCP, DefaultOutboundAccess, nil},
		{"internal Basic", member(Membership{SKU: Basic, Internal: true, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP)}}), snat.TCP, DefaultOutboundAccess, nil},
		{"IP-based pool behaves like Basic", member(Membership{IPBasedPool: true, OutboundRules: []OutboundRule{rule}}), snat.TCP, DefaultOutboundAccess, nil},
		{"IP-based pool with a rule", member(Membership{IPBasedPool: true, LoadBalancingRules: []LoadBalancingRule{silent("a", "a")}}), snat.TCP, LoadBalancingRuleSNAT, []string{"a"}},

		{"nothing at all", NIC{}, snat.TCP, DefaultOutboundAccess, nil},
		{"private subnet", NIC{PrivateSubnet: true}, snat.TCP, NoOutbound, nil},
		{"flexible scale set", NIC{FlexibleScaleSet: true}, snat.TCP, NoOutbound, nil},
		{"a Standard member in the group", NIC{GroupHasStandardSKU: true}, snat.TCP, NoOutbound, nil},
		{"Basic rule in a private subnet still lends", NIC{PrivateSubnet: true, LoadBalancers: []Membership{{SKU: Basic, LoadBalancingRules: []LoadBalancingRule{lending("a", "a", snat.TCP)}}}}, snat.TCP, LoadBalancingRuleSNAT, []string{"a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ChooseSNAT(tt.nic, tt.protocol)
			assert.Equal(t, tt.want, got.Option, "%v: %s", got.Option, got.Reason)
			assert.Equal(t, tt.frontends, got.Frontends)
			assert.NotEmpty(t, got.Reason)
		})
	}
}

func TestAzure_40_public_ip_and_nat_gateway(t *testing.T) {
	nic := NIC{
		PublicIPAddress: netip.MustParseAddr("203.0.113.5"),
		LoadBalancers:   []Membership{{OutboundRules: []OutboundRule{{Name: "out", FrontendIPConfigurations: []string{"ip"}}}}},
	}
	got := ChooseSNAT(nic, snat.TCP)
	assert.Equal(t, InstancePublicIP, got.Option)
	assert.False(t, got.Option.TranslatesPorts())

	nic.NATGateway = true
	got = ChooseSNAT(nic, snat.TCP)
	assert.Equal(t, NATGatewaySNAT, got.Option)
	assert.True(t, got.Option.TranslatesPorts())
}

func TestAzure_41_internal_load_balancer_only(t *testing.T) {
	for sku, want := range map[SKU]SNATOption{Standard: NoOutbound, Basic: DefaultOutboundAccess} {
		nic := NIC{LoadBalancers: []Membership{{SKU: sku, Internal: true}}}
		assert.Equal(t, want, ChooseSNAT(nic, snat.All).Option, "%v", sku)
	}
}

func TestAzure_42_basic_services_come_and_go(t *testing.T) {
	a, b := lending("A", "ipA", snat.TCP), lending("B", "ipB", snat.TCP)
	for _, tt := range []struct {
		services []LoadBalancingRule
		want     SNATOption
		frontend []string
	}{
		{nil, DefaultOutboundAccess, nil},
		{[]LoadBalancingRule{a}, LoadBalancingRuleSNAT, []string{"ipA"}},
		{[]LoadBalancingRule{a, b}, LoadBalancingRuleSNAT, []string{"ipA"}},
		{[]LoadBalancingRule{b}, LoadBalancingRuleSNAT, []string{"ipB"}},
		{nil, DefaultOutboundAccess, nil},
	} {
		got := ChooseSNAT(NIC{LoadBalancers: []Membership{{SKU: Basic, LoadBalancingRules: tt.services}}}, snat.TCP)
		assert.Equal(t, tt.want, got.Option)
		assert.Equal(t, tt.frontend, got.Frontends)
	}
}

// Default outbound access is what Azure leaves when everything else is gone, so
// it must be the last option of the enumeration and none the zero value.
func TestSNATOptionNames(t *testing.T) {
	assert.Equal(t, "no outbound connectivity", SNATOption(0).String())
	assert.Equal(t, "default outbound access", DefaultOutboundAccess.String())
	assert.Equal(t, "lb.SNATOption(7)", (DefaultOutboundAccess + 1).String())
	for o := NoOutbound; o <= DefaultOutboundAccess; o++ {
		want := o == NATGatewaySNAT || o == OutboundRuleSNAT || o == LoadBalancingRuleSNAT || o == DefaultOutboundAccess
		assert.Equal(t, want, o.TranslatesPorts(), "%v", o)
	}
}
