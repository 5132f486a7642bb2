package lb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// secured is a load balancer for TCP port 80, and an outbound rule, whose two nodes are in a
// subnet with a network security group of these rules.
func secured(t *testing.T, floating bool, rules ...nsg.SecurityRule) Config {
	t.Helper()
	c := publicPool(2, 2, 64)
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip1"}
	c.LoadBalancingRules = []LoadBalancingRule{{
		Name: "web", FrontendIPConfiguration: "ip0", BackendAddressPool: c.BackendAddressPools[0].Name,
		Protocol: snat.TCP, FrontendPort: 80, BackendPort: 8080, DisableOutboundSNAT: true,
	}}
	if floating {
		c.LoadBalancingRules[0].BackendPort, c.LoadBalancingRules[0].EnableFloatingIP = 80, true
	}
	c.Backends[1].Inside = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")} // pods
	c.NetworkSecurity = &nsg.Config{
		VirtualNetwork:        []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16"), netip.MustParsePrefix("10.244.0.0/16")},
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: rules}},
		Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}, NetworkSecurityGroup: "nodes"}},
	}
	return c
}

// sec returns a rule between two prefixes, for a port of the destination.
func sec(name string, d nsg.Direction, access nsg.Access, from, to, port string) nsg.SecurityRule {
	return nsg.SecurityRule{
		Name: name, Priority: 100, Direction: d, Access: access, Protocol: nsg.TCP,
		SourceAddressPrefixes: []string{from}, DestinationAddressPrefixes: []string{to}, DestinationPortRanges: []string{port},
	}
}

// A Standard load balancer is closed until a rule allows, which sees the private address and
// port, and the client itself. A change acts on new flows only.
func TestSecurityGroupsInbound(t *testing.T) {
	l := newLoadBalancer(t, secured(t, false))
	syn := func(client string) flow.Verdict {
		return l.Inbound(flow.At(0), pkttest.TCP(client, "20.50.1.1:80", pkttest.TCPFlags("S")))
	}
	denied := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNSGInbound}
	assert.Equal(t, denied.Reason, syn("203.0.113.9:50000").Reason)
	reconfigure := func(rules ...nsg.SecurityRule) {
		_, err := l.Reconfigure(flow.At(time.Second), secured(t, false, rules...))
		require.NoError(t, err)
	}
	reconfigure(sec("frontend", nsg.Inbound, nsg.Allow, "203.0.113.9", "20.50.1.1", "80"))
	assert.Equal(t, denied.Reason, syn("203.0.113.9:50000").Reason, "the destination is translated before")
	reconfigure(sec("web", nsg.Inbound, nsg.Allow, "203.0.113.9", "10.224.0.0/24", "8080"))
	assert.Equal(t, flow.Forward, syn("203.0.113.9:50000").Action)
	assert.Equal(t, denied.Reason, syn("203.0.113.10:50000").Reason, "another client")

	reconfigure()
	assert.Equal(t, flow.Forward, syn("203.0.113.9:50000").Action, "the flow has begun")
	assert.Equal(t, denied.Reason, syn("203.0.113.9:50001").Reason)
	assert.EqualValues(t, 4, l.Stats().Inbound.Drops[flow.ReasonNSGInbound])
}

// With floating IP the group of the backend sees the frontend as destination.
func TestSecurityGroupsFloatingIP(t *testing.T) {
	l := newLoadBalancer(t, secured(t, true, sec("web", nsg.Inbound, nsg.Allow, "Internet", "20.50.1.1", "80")))
	v := l.Inbound(flow.At(0), pkttest.TCP("203.0.113.9:50000", "20.50.1.1:80", pkttest.TCPFlags("S")))
	assert.Equal(t, flow.Forward, v.Action)
	l = newLoadBalancer(t, secured(t, true))
	v = l.Inbound(flow.At(0), pkttest.TCP("203.0.113.9:50000", "20.50.1.1:80", pkttest.TCPFlags("S")))
	assert.Equal(t, flow.ReasonNSGInbound, v.Reason)
}

// Outbound the source is private yet, and what is denied takes no port. A pod meets the
// group of its node. The answer to what is allowed is not asked about.
func TestSecurityGroupsOutbound(t *testing.T) {
	l := newLoadBalancer(t, secured(t, false, sec("no", nsg.Outbound, nsg.Deny, "10.244.1.7", "203.0.113.0/24", "443")))
	syn := func(source, destination string) flow.Verdict {
		return l.Outbound(flow.At(0), pkttest.TCP(source, destination, pkttest.TCPFlags("S")))
	}
	assert.Equal(t, flow.ReasonNSGOutbound, syn("10.244.1.7:40000", "203.0.113.80:443").Reason)
	assert.Zero(t, l.Stats().SessionsCreated)
	assert.Zero(t, l.Stats().ConnectionsFailed)
	assert.Equal(t, flow.Forward, syn("10.244.1.8:40000", "203.0.113.80:443").Action)
	assert.Equal(t, flow.Forward, syn("10.224.0.4:40000", "203.0.113.80:443").Action)
	v := l.Inbound(flow.At(0), pkttest.TCP("203.0.113.80:443", "20.50.1.2:1024", pkttest.TCPFlags("SA")))
	assert.Equal(t, flow.Forward, v.Action, "no inbound rule would allow it")
}

// What is wrong with groups is reported with everything else, by the field's path.
func TestSecurityGroupsAreValidated(t *testing.T) {
	c := secured(t, false, sec("web", nsg.Inbound, nsg.Allow, "203.0.113.9", "10.224.0.0/24", "8080"))
	c.NetworkSecurity.NetworkSecurityGroups[0].SecurityRules[0].Priority = 99
	c.NetworkSecurity.Subnets[0].NetworkSecurityGroup = "none"
	c.Admit = func(snat.NewFlow) flow.Reason { return flow.ReasonNone }
	c.LoadBalancingRules[0].IdleTimeout = time.Second
	check := func(err error, before string) {
		t.Helper()
		for _, path := range []string{
			"NetworkSecurity.NetworkSecurityGroups[0].SecurityRules[0].Priority 99", "NetworkSecurity.Subnets[0].NetworkSecurityGroup \"none\"", `Admit "func": conflict`,
		} {
			assert.ErrorContains(t, err, before+path)
		}
	}
	check(c.Validate(), "")
	assert.ErrorContains(t, c.Validate(), "LoadBalancingRules[0].IdleTimeout")
	_, err := NewEgress(EgressConfig{LoadBalancer: c})
	check(err, "LoadBalancer.")
	check(GatewayConfig{Backends: c.Backends, NetworkSecurity: c.NetworkSecurity, Dataplane: c.Dataplane}.Validate(), "")

	l := newLoadBalancer(t, secured(t, false))
	_, err = l.Reconfigure(flow.At(0), c)
	require.Error(t, err)
	syn := pkttest.TCP("203.0.113.9:50000", "20.50.1.1:80", pkttest.TCPFlags("S"))
	assert.Equal(t, flow.ReasonNSGInbound, l.Inbound(flow.At(0), syn).Reason, "nothing has changed")
}

// Of an instance-level public IP, where ports stay and there is no session, groups are asked about
// flows of all protocols, in both directions, alone and in an egress; answers pass, and go on to
// pass when the groups change.
func TestSecurityGroupsOfPublicIPs(t *testing.T) {
	allow := func(rules ...nsg.SecurityRule) Config {
		c := secured(t, false, rules...)
		c.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
		return c
	}
	dns := sec("dns", nsg.Inbound, nsg.Allow, "203.0.113.53", "10.224.0.4", "53")
	dns.Protocol = nsg.UDP
	esp := sec("esp", nsg.Inbound, nsg.Allow, "203.0.113.53", "10.224.0.4", "*")
	esp.Protocol, esp.Priority = nsg.ESP, 101
	no := sec("no", nsg.Outbound, nsg.Deny, "*", "203.0.113.99", "*")
	no.Protocol = nsg.Any
	for _, egress := range []bool{false, true} {
		c, other := allow(dns, esp, no), allow()
		var s *site
		var change func()
		if egress {
			e := newEgress(t, EgressConfig{LoadBalancer: c})
			s = &site{T: t, carrier: e}
			change = func() { update(t, e, time.Duration(s.now), EgressConfig{LoadBalancer: other}) }
		} else {
			l := newLoadBalancer(t, c)
			s = &site{T: t, carrier: l}
			change = func() { _, err := l.Reconfigure(s.now, other); require.NoError(t, err) }
		}
		in := func(p []byte) string { return s.Inbound(s.now, p).Reason.String() }
		out := func(p []byte) string { return s.Outbound(s.now, p).Reason.String() }
		none, denied := flow.ReasonNone.String(), flow.ReasonNSGInbound.String()
		ask := func(from string) []byte { return dgram(from+":5000", "20.99.0.1:53") }
		encrypted := func(src, dst string) []byte { return pkttest.IP(src, dst, 50, []byte("x")) }
		assert.Equal(t, none, in(ask("203.0.113.53")))
		assert.Equal(t, denied, in(ask("203.0.113.54")))
		assert.Equal(t, none, in(encrypted("203.0.113.53", "20.99.0.1")))
		assert.Equal(t, denied, in(encrypted("203.0.113.54", "20.99.0.1")))
		assert.Equal(t, denied, in(pkttest.ICMPEcho("203.0.113.53", "20.99.0.1", 7, 1)))
		assert.Equal(t, flow.ReasonNSGOutbound.String(), out(dgram("10.224.0.4:7000", "203.0.113.99:53")))
		assert.Equal(t, denied, in(dgram("203.0.113.80:53", "20.99.0.1:7000")))
		assert.Equal(t, none, out(dgram("10.224.0.4:7000", "203.0.113.80:53")))
		assert.Equal(t, none, in(dgram("203.0.113.80:53", "20.99.0.1:7000")), "an answer")
		assert.Equal(t, none, out(pkttest.ICMPEcho("10.224.0.4", "203.0.113.80", 7, 1)))
		assert.Equal(t, none, in(pkttest.ICMPEchoReply("203.0.113.80", "20.99.0.1", 7, 1)), "an answer")

		change()
		assert.Equal(t, none, in(ask("203.0.113.53")), "it has begun")
		assert.Equal(t, none, out(dgram("10.224.0.4:53", "203.0.113.53:5000")))
		assert.Equal(t, denied, in(dgram("203.0.113.53:5001", "20.99.0.1:53")), "a new one")
		s.pass(4 * time.Minute)
		assert.Equal(t, denied, in(ask("203.0.113.53")), "it is over")
		assert.Equal(t, denied, in(encrypted("203.0.113.53", "20.99.0.1")))
	}
}

// The groups in force explain what they have decided, and none are in force without.
func TestSecurityGroupsExplain(t *testing.T) {
	l := newLoadBalancer(t, secured(t, false))
	f := nsg.Flow{
		Direction: nsg.Inbound, Protocol: 6, Source: netip.MustParseAddrPort("203.0.113.9:50000"), Destination: netip.MustParseAddrPort("10.224.0.4:8080"),
	}
	assert.Equal(t, "DenyAllInbound", l.SecurityGroups().Explain(f).Decision.Rule)
	_, err := l.Reconfigure(flow.At(0), secured(t, false, sec("web", nsg.Inbound, nsg.Allow, "203.0.113.9", "10.224.0.0/24", "8080")))
	require.NoError(t, err)
	assert.Equal(t, "web", l.SecurityGroups().Explain(f).Decision.Rule)
	_, err = l.Reconfigure(flow.At(0), publicPool(2, 2, 64))
	require.NoError(t, err)
	assert.Nil(t, l.SecurityGroups())
	c := GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends}
	assert.Nil(t, newGateway(t, c).SecurityGroups())
	c.NetworkSecurity = secured(t, false).NetworkSecurity
	assert.Equal(t, "DenyAllInbound", newGateway(t, c).SecurityGroups().Explain(f).Decision.Rule)
}

// The groups of an egress also decide about flows through its NAT gateway, and those that
// have begun there go on when the groups change. An egress keeps no reference to groups.
func TestSecurityGroupsOfEgress(t *testing.T) {
	config := func(gateway bool, rules ...nsg.SecurityRule) EgressConfig {
		c := EgressConfig{LoadBalancer: secured(t, false, rules...)}
		if gateway {
			c.NATGateway = &NATGateway{Name: "gateway", PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.60.0.1")}}
		}
		return c
	}
	deny := func() nsg.SecurityRule {
		return sec("no", nsg.Outbound, nsg.Deny, "10.224.0.4", "203.0.113.0/24", "443")
	}
	for _, gateway := range []bool{false, true} {
		e := newEgress(t, config(gateway))
		send := func(port string) flow.Verdict {
			return e.Outbound(flow.At(0), pkttest.TCP("10.224.0.4:"+port, "203.0.113.80:443", pkttest.TCPFlags("S")))
		}
		require.Equal(t, flow.Forward, send("40000").Action)
		before := e.Gateway()
		c := config(gateway, deny())
		update(t, e, 0, c)
		assert.Same(t, before, e.Gateway())
		v := e.Outbound(flow.At(0), pkttest.TCP("10.224.0.4:40000", "203.0.113.80:443", pkttest.TCPFlags("A")))
		assert.Equal(t, flow.Forward, v.Action, "the flow has begun: %v, gateway: %v", v.Reason, gateway)
		assert.Equal(t, flow.ReasonNSGOutbound, send("40001").Reason, "gateway: %v", gateway)

		assert.Equal(t, "no", e.SecurityGroups().Evaluate(nsg.Flow{
			Direction: nsg.Outbound, Protocol: 6, Source: netip.MustParseAddrPort("10.224.0.4:40001"), Destination: netip.MustParseAddrPort("203.0.113.80:443"),
		}).Rule)
		c.LoadBalancer.NetworkSecurity.NetworkSecurityGroups[0].SecurityRules[0].Priority = 1
		_, err := e.Redeploy(0)
		require.NoError(t, err)
		update(t, e, 0, config(gateway))
		assert.Equal(t, flow.Forward, send("40001").Action)
		update(t, e, 0, EgressConfig{LoadBalancer: publicPool(2, 2, 64), NATGateway: config(gateway).NATGateway})
		assert.Equal(t, flow.Forward, send("40002").Action)
		assert.Nil(t, e.SecurityGroups())
	}
}

// What a node sends to the frontend of its internal load balancer leaves the node first: its
// own group sees the frontend as the destination, and the group of the node that gets it sees
// that node's address. Established flows go on.
func TestSecurityGroupsOfAnInternalFrontend(t *testing.T) {
	for _, tt := range []struct {
		name string
		deny nsg.SecurityRule
		want flow.Reason
	}{
		{"out of the sender", sec("no", nsg.Outbound, nsg.Deny, "10.224.0.4", "10.225.0.4", "80"), flow.ReasonNSGOutbound},
		{"into the receiver", sec("no", nsg.Inbound, nsg.Deny, "10.224.0.4", "10.224.0.5", "8080"), flow.ReasonNSGInbound},
		{"to the receiver, which the sender does not see", sec("no", nsg.Outbound, nsg.Deny, "10.224.0.4", "10.224.0.5", "*"), flow.ReasonNone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := internalPool(2)
			c.BackendAddressPools[0].Backends = []string{"node1"}
			l := newLoadBalancer(t, c)
			begin := func(from string) flow.Verdict { return l.Outbound(0, syn(from, "10.225.0.4:80")) }
			require.Equal(t, flow.Forward, begin("10.224.0.4:5000").Action)
			subnet := nsg.Subnet{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}, NetworkSecurityGroup: "nodes"}
			c.NetworkSecurity = &nsg.Config{
				VirtualNetwork:        []netip.Prefix{netip.MustParsePrefix("10.224.0.0/15")},
				NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: []nsg.SecurityRule{tt.deny}}},
				Subnets:               []nsg.Subnet{subnet},
			}
			_, err := l.Reconfigure(0, c)
			require.NoError(t, err)
			assert.Equal(t, tt.want, begin("10.224.0.4:5001").Reason)
			assert.Equal(t, flow.ReasonNone, begin("10.224.0.4:5000").Reason, "again")
		})
	}
}

// Standard is closed where there is no group, and Basic open; nothing else is to be had.
func TestWithoutGroupIsThatOfTheSKU(t *testing.T) {
	for _, sku := range []SKU{Standard, Basic} {
		for _, without := range []nsg.WithoutGroup{nsg.Closed, nsg.Open} {
			c := web(sku, 1, nil)
			c.NetworkSecurity = &nsg.Config{WithoutGroup: without}
			if int(sku) != int(without) {
				assert.ErrorContains(t, c.Validate(), fmt.Sprintf("NetworkSecurity.WithoutGroup %v: conflict: SKU %v is ", without, sku))
				continue
			}
			want := map[SKU]string{Standard: flow.ReasonNSGInbound.String(), Basic: "0"}[sku]
			assert.Equal(t, want, newSite(t, c).in(syn(client(1), "20.50.1.1:80")), "%v", sku)
			c.FrontendIPConfigurations, c.LoadBalancingRules, c.OutboundRules = nil, nil, nil
			c.NetworkSecurity.WithoutGroup = nsg.Open
			assert.NoError(t, c.Validate(), "without load balancer it is the user's")
		}
	}
}
