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

// ownIP is an egress of two machines, of which the first has a public IP.
func ownIP(routes ...snat.Route) EgressConfig {
	c := EgressConfig{LoadBalancer: publicPool(2, 1, 64)}
	c.LoadBalancer.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
	c.LoadBalancer.Routes = routes
	return c
}

// guarded gives c groups with rules for both machines.
func guarded(c EgressConfig, rules ...nsg.SecurityRule) EgressConfig {
	for i := range rules {
		rules[i].Protocol, rules[i].Priority = nsg.Any, 100+i
	}
	c.LoadBalancer.NetworkSecurity = &nsg.Config{
		VirtualNetwork:        []netip.Prefix{netip.MustParsePrefix("10.224.0.0/16")},
		NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "nodes", SecurityRules: rules}},
		Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.224.0.0/24")}, NetworkSecurityGroup: "nodes"}},
	}
	return c
}

// withAndWithout runs a test of what must not depend on a gateway.
func withAndWithout(t *testing.T, c EgressConfig, test func(*testing.T, *Egress)) {
	for name, c := range map[string]EgressConfig{"without gateway": c, "with gateway": withGateway(c)} {
		t.Run(name, func(t *testing.T) { test(t, newEgress(t, c)) })
	}
}

// said is what becomes of a packet: its verdict, and its source.
func said(v flow.Verdict, p []byte) string {
	if v.Action == flow.Drop {
		return v.Reason.String()
	}
	src := netip.AddrFrom4([4]byte(p[12:16]))
	if p[0]>>4 == 6 {
		src = netip.AddrFrom16([16]byte(p[8:24]))
	}
	return fmt.Sprintf("%v %v", v.Action, src)
}

func goesOut(e *Egress, now flow.Time, p []byte) string { return said(e.Outbound(now, p), p) }
func comesIn(e *Egress, now flow.Time, p []byte) string { return said(e.Inbound(now, p), p) }

const byPublicIP, byGateway = "forward 20.99.0.1", "forward 20.60.0.1"

// What groups refuse to begin opens nothing for what comes the other way.
func TestWhatGroupsRefuseLetsNothingIn(t *testing.T) {
	withAndWithout(t, guarded(ownIP(), sec("out", nsg.Outbound, nsg.Deny, "*", "*", "*")), func(t *testing.T, e *Egress) {
		assert.Equal(t, flow.ReasonNSGOutbound.String(), goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")))
		assert.Equal(t, flow.ReasonNSGInbound.String(), comesIn(e, 0, dgram("203.0.113.9:4000", "20.99.0.1:53")))
	})
	e := newEgress(t, withGateway(guarded(ownIP())))
	assert.Equal(t, byGateway, goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")))
	assert.Equal(t, flow.ReasonNSGInbound.String(), comesIn(e, 0, dgram("203.0.113.9:4000", "20.99.0.1:53")), "the gateway has another address")
}

// What groups have let in by a route of the user is answered.
func TestAnswersByRoutesAreNotAskedAbout(t *testing.T) {
	for _, a := range []snat.RouteAction{snat.PassThrough, snat.NodeAddress} {
		c := guarded(ownIP(snat.Route{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: a, BothWays: true}),
			sec("in", nsg.Inbound, nsg.Allow, "10.9.9.9", "*", "*"), sec("out", nsg.Outbound, nsg.Deny, "*", "*", "*"))
		withAndWithout(t, c, func(t *testing.T, e *Egress) {
			for _, own := range []string{"10.224.0.4:53", "10.224.0.5:53"} {
				assert.NotEqual(t, flow.ReasonNSGInbound.String(), comesIn(e, 0, dgram("10.9.9.9:4000", own)))
				assert.NotEqual(t, flow.ReasonNSGOutbound.String(), goesOut(e, 0, dgram(own, "10.9.9.9:4000")), a)
				assert.Equal(t, flow.ReasonNSGOutbound.String(), goesOut(e, 0, dgram(own, "10.9.9.9:4001")), a)
			}
		})
	}
}

// withFrontend gives c an internal load balancer with one frontend, 10.224.9.9, and a rule for its port 80, which
// leads to the first machine.
func withFrontend(c EgressConfig) EgressConfig {
	c.InternalLoadBalancers = []InternalLoadBalancer{{
		Name: "internal", FrontendIPConfigurations: []FrontendIPConfiguration{{Name: "f", PrivateIPAddress: netip.MustParseAddr("10.224.9.9")}},
		BackendAddressPools: []BackendAddressPool{{Name: "pool", Backends: []string{"node0"}}},
		LoadBalancingRules: []LoadBalancingRule{{
			Name: "web", FrontendIPConfiguration: "f", BackendAddressPool: "pool", Protocol: snat.TCP, FrontendPort: 80, BackendPort: 80,
		}},
	}}
	return c
}

// Routes of the user are for internal frontends, too: what has no rule there does not go another way
// where a gateway is attached.
func TestRoutesOfTheUserAreForInternalFrontends(t *testing.T) {
	for name, routes := range map[string][]snat.Route{
		"none":     nil,
		"shorter":  {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough}},
		"the same": {{Prefix: netip.MustParsePrefix("10.224.9.9/32"), Action: snat.PassThrough}},
		"of UDP":   {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough, Protocol: snat.UDP}},
		"of TCP":   {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough, Protocol: snat.TCP}},
		"a port":   {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough, FirstPort: 81}, {Prefix: netip.MustParsePrefix("10.0.0.0/7"), Action: snat.Blackhole}},
		"longer":   {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough}, {Prefix: netip.MustParsePrefix("10.224.9.0/24")}},
		"its own":  {{Prefix: netip.MustParsePrefix("10.224.9.9/32")}},
	} {
		c := withFrontend(ownIP(routes...))
		without, with := newEgress(t, c), newEgress(t, withGateway(c))
		for _, port := range []string{":81", ":82"} {
			want := goesOut(without, 0, dgram("10.224.0.5:5000", "10.224.9.9"+port))
			assert.Equal(t, want, goesOut(with, 0, dgram("10.224.0.5:5000", "10.224.9.9"+port)), name+port)
			want = goesOut(without, 0, syn("10.224.0.5:5000", "10.224.9.9"+port))
			assert.Equal(t, want, goesOut(with, 0, syn("10.224.0.5:5000", "10.224.9.9"+port)), name+port)
		}
	}
}

// Routes of the user precede what is remembered of public IPs.
func TestRoutesOfTheUserPrecedeThePublicIP(t *testing.T) {
	c := ownIP(snat.Route{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Action: snat.PassThrough})
	withAndWithout(t, c, func(t *testing.T, e *Egress) {
		require.Equal(t, flow.Forward, e.Inbound(0, dgram("203.0.113.9:4000", "20.99.0.1:53")).Action)
		assert.Equal(t, "bypass 10.224.0.4", goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")))
		assert.False(t, e.AnswersPublicIP(0, snat.NewFlow{Name: "node0", Protocol: 17,
			Inside: netip.MustParseAddrPort("10.224.0.4:53"), Remote: netip.MustParseAddrPort("203.0.113.9:4000")}))
	})
}

// Connections that have come by a public IP go on when a gateway is attached, and attached again; what
// the machine has begun goes by the gateway.
func TestConnectionsByPublicIPsOutliveAttaching(t *testing.T) {
	c := ownIP()
	e := newEgress(t, c)
	require.Equal(t, flow.Forward, e.Inbound(0, syn("203.0.113.9:4000", "20.99.0.1:22")).Action)
	require.Equal(t, byPublicIP, goesOut(e, 0, synAck("10.224.0.4:22", "203.0.113.9:4000")))
	require.Equal(t, flow.Forward, e.Inbound(0, ack("203.0.113.9:4000", "20.99.0.1:22")).Action)
	require.Equal(t, byPublicIP, goesOut(e, 0, dgram("10.224.0.4:5000", "203.0.113.9:53")))
	require.Equal(t, flow.Forward, e.Inbound(0, dgram("203.0.113.9:53", "20.99.0.1:5000")).Action)
	for i := range 4 {
		now := time.Duration(i) * 3 * time.Minute
		with := c
		if i%2 == 0 {
			with = withGateway(c)
		}
		update(t, e, now, with)
		assert.Equal(t, byPublicIP, goesOut(e, flow.At(now), ackBack("10.224.0.4:22", "203.0.113.9:4000")), i)
		if i == 0 {
			assert.Equal(t, byGateway, goesOut(e, flow.At(now), dgram("10.224.0.4:5000", "203.0.113.9:53")))
		}
	}
}

// A stray packet makes nothing that the machine begins leave by its public IP.
func TestWhatAMachineBeginsGoesByTheGateway(t *testing.T) {
	e := newEgress(t, withGateway(ownIP()))
	rst := pkttest.TCP("203.0.113.9:443", "20.99.0.1:5000", pkttest.TCPFlags("R"))
	require.Equal(t, flow.Forward, e.Inbound(0, rst).Action)
	assert.Equal(t, byGateway, goesOut(e, 0, syn("10.224.0.4:5000", "203.0.113.9:443")))
	require.Equal(t, flow.Forward, e.Inbound(0, ack("203.0.113.9:443", "20.99.0.1:5000")).Action)
	assert.Equal(t, byGateway, goesOut(e, 0, ack("10.224.0.4:5000", "203.0.113.9:443")))
	for _, in := range [][]byte{pkttest.ICMPEcho("203.0.113.9", "20.99.0.1", 7, 1), pkttest.ICMPEchoReply("203.0.113.9", "20.99.0.1", 7, 1)} {
		require.Equal(t, flow.Forward, e.Inbound(0, in).Action)
		assert.Equal(t, flow.ReasonUnsupportedProto.String(), goesOut(e, 0, pkttest.ICMPEcho("10.224.0.4", "203.0.113.9", 7, 1)), "no gateway carries it")
	}
	require.Equal(t, flow.Forward, e.Inbound(0, syn("203.0.113.9:443", "20.99.0.1:6000")).Action)
	require.Equal(t, byPublicIP, goesOut(e, 0, synAck("10.224.0.4:6000", "203.0.113.9:443")))
	assert.Equal(t, byGateway, goesOut(e, 0, syn("10.224.0.4:6000", "203.0.113.9:443")), "it begins another one")
	assert.Equal(t, byGateway, goesOut(e, 0, ack("10.224.0.4:6000", "203.0.113.9:443")))
}

// A datagram to a public IP between the sockets of a flow that the machine has begun by the gateway begins
// nothing while that lives: it is let in if groups say so, and the machine's own go on by the gateway.
func TestAStrayDatagramBeginsNothing(t *testing.T) {
	const own, remote, public = "10.224.0.4:53", "203.0.113.9:4000", "20.99.0.1:53"
	anything := sec("in", nsg.Inbound, nsg.Allow, "*", "*", "*")
	for name, c := range map[string]EgressConfig{"no groups": ownIP(), "allowed": guarded(ownIP(), anything)} {
		t.Run(name, func(t *testing.T) {
			e := newEgress(t, withGateway(c))
			now := flow.Time(0)
			for range 3 {
				assert.Equal(t, byGateway, goesOut(e, now, dgram(own, remote)))
				now = now.Add(4*time.Minute - flow.Tick)
				assert.Equal(t, flow.Forward, e.Inbound(now, dgram(remote, public)).Action)
				assert.False(t, e.AnswersPublicIP(now, snat.NewFlow{Name: "node0", Protocol: 17,
					Inside: netip.MustParseAddrPort(own), Remote: netip.MustParseAddrPort(remote)}))
			}
			now = now.Add(flow.Tick)
			require.Equal(t, flow.Forward, e.Inbound(now, dgram(remote, public)).Action)
			assert.Equal(t, byPublicIP, goesOut(e, now, dgram(own, remote)), "the flow by the gateway is over, and this one has begun outside")
			assert.Equal(t, flow.Forward, e.Inbound(now, dgram(remote, public)).Action)
			assert.Equal(t, byPublicIP, goesOut(e, now, dgram(own, remote)))
		})
	}
}

// What groups have let in or out by a public IP is over after 4 minutes without a packet, in every protocol
// that has no connections: then it is asked about as if it were the first.
func TestStraysAfterTheirEntryAreAskedAbout(t *testing.T) {
	const own, remote, public = "10.224.0.4", "203.0.113.9", "20.99.0.1"
	for name, tt := range map[string]struct{ in, out func() []byte }{
		"UDP":  {func() []byte { return dgram(remote+":4000", public+":53") }, func() []byte { return dgram(own+":53", remote+":4000") }},
		"ICMP": {func() []byte { return pkttest.ICMPEchoReply(remote, public, 7, 1) }, func() []byte { return pkttest.ICMPEcho(own, remote, 7, 1) }},
		"ESP":  {func() []byte { return pkttest.IP(remote, public, 50, make([]byte, 20)) }, func() []byte { return pkttest.IP(own, remote, 50, make([]byte, 20)) }},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEgress(t, guarded(ownIP()))
			assert.Equal(t, flow.ReasonNSGInbound.String(), comesIn(e, 0, tt.in()), "nobody has asked for it")
			require.Equal(t, byPublicIP, goesOut(e, 0, tt.out()))
			now := flow.At(4*time.Minute - flow.Tick)
			assert.Equal(t, "forward "+remote, comesIn(e, now, tt.in()))
			now = now.Add(4*time.Minute - flow.Tick)
			assert.Equal(t, "forward "+remote, comesIn(e, now, tt.in()), "answers prolong it")
			assert.Equal(t, flow.ReasonNSGInbound.String(), comesIn(e, now.Add(4*time.Minute), tt.in()))
			require.Equal(t, byPublicIP, goesOut(e, now.Add(4*time.Minute), tt.out()))
			assert.Equal(t, "forward "+remote, comesIn(e, now.Add(4*time.Minute), tt.in()))
		})
	}
}

// Nothing is left of a rule that led to a machine with a public IP.
func TestWhatComesByARuleDoesNotComeByThePublicIP(t *testing.T) {
	c := ownIP()
	c.LoadBalancer.LoadBalancingRules = []LoadBalancingRule{{
		Name: "dns", FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool",
		Protocol: snat.UDP, FrontendPort: 53, BackendPort: 53, DisableOutboundSNAT: true,
	}}
	c.LoadBalancer.BackendAddressPools[0].Backends = []string{"node0"}
	e := newEgress(t, withGateway(c))
	require.Equal(t, flow.Forward, e.Inbound(0, dgram("203.0.113.9:4000", "20.50.1.1:53")).Action)
	require.Equal(t, "forward 20.50.1.1", goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")))
	c.LoadBalancer.LoadBalancingRules = nil
	update(t, e, 0, withGateway(c))
	assert.Equal(t, byGateway, goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")))
}

// Another public IP has no part in what came to the former one, nor has another machine.
func TestEntriesEndWithTheirPublicIP(t *testing.T) {
	for name, change := range map[string]func(*EgressConfig){
		"another address": func(c *EgressConfig) {
			c.LoadBalancer.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.2")}
		},
		"none, and again": func(c *EgressConfig) { c.LoadBalancer.Backends[0].PublicIPAddresses = nil },
		"another machine": func(c *EgressConfig) {
			c.LoadBalancer.Backends[0].Name, c.LoadBalancer.BackendAddressPools[0].Backends[0] = "other", "other"
		},
	} {
		e := newEgress(t, withGateway(ownIP()))
		require.Equal(t, flow.Forward, e.Inbound(0, dgram("203.0.113.9:4000", "20.99.0.1:53")).Action)
		c := withGateway(ownIP())
		change(&c)
		update(t, e, 0, c)
		if name == "none, and again" {
			update(t, e, 0, withGateway(ownIP()))
		}
		assert.Equal(t, byGateway, goesOut(e, 0, dgram("10.224.0.4:53", "203.0.113.9:4000")), name)
	}
}

// What no gateway carries has not been begun by it: a machine that has tried answers who comes by its public IP.
func TestWhatNoGatewayCarriesIsNotBegunByIt(t *testing.T) {
	e := newEgress(t, withGateway(ownIP()))
	esp := func(src, dst string) []byte { return pkttest.IP(src, dst, 50, make([]byte, 20)) }
	assert.Equal(t, flow.ReasonUnsupportedProto.String(), goesOut(e, 0, esp("10.224.0.4", "203.0.113.9")))
	require.Equal(t, flow.Forward, e.Inbound(0, esp("203.0.113.9", "20.99.0.1")).Action)
	assert.Equal(t, byPublicIP, goesOut(e, 0, esp("10.224.0.4", "203.0.113.9")))
}

// All that can come by a public IP is answered by it: every protocol, fragments, errors; and the machine's
// counters say so.
func TestEveryProtocolAnswersByThePublicIP(t *testing.T) {
	withAndWithout(t, ownIP(), func(t *testing.T, e *Egress) {
		const remote, own, public = "203.0.113.9", "10.224.0.4", "20.99.0.1"
		n := uint64(0)
		exchange := func(in, out []byte) {
			require.Equal(t, flow.Forward, e.Inbound(0, in).Action)
			for range 2 {
				again := append([]byte(nil), out...)
				assert.Equal(t, byPublicIP, goesOut(e, 0, again))
				pkttest.Check(t, again, pkttest.Src(public))
				n++
			}
		}
		for _, proto := range []uint8{132, 50, 47} {
			exchange(pkttest.IP(remote, public, proto, make([]byte, 20)), pkttest.IP(own, remote, proto, make([]byte, 20)))
		}
		exchange(pkttest.ICMP(remote, public, 13, 0, 7<<16, make([]byte, 12)), pkttest.ICMP(own, remote, 14, 0, 7<<16, make([]byte, 12)))
		exchange(pkttest.ICMPEcho(remote, public, 8, 1), pkttest.ICMPEchoReply(own, remote, 8, 1))
		exchange(dgram(remote+":4000", public+":53"), pkttest.ICMP(own, remote, 3, 3, 0, dgram(remote+":4000", own+":53")))
		pieces := pkttest.Fragments(pkttest.UDP(own+":53", remote+":4000", string(make([]byte, 100))), 48, 1)
		for _, p := range pieces {
			assert.Equal(t, byPublicIP, goesOut(e, 0, p))
			n++
		}
		assert.EqualValues(t, n, e.Stats().Outbound.OneToOne)
		var of uint64
		for _, inst := range e.Instances() {
			of += inst.OutboundOneToOne
		}
		assert.EqualValues(t, n, of)
	})
}

// A machine that gets a public IP still answers what groups have let in before.
func TestAFirstPublicIPForgetsNothing(t *testing.T) {
	c := guarded(ownIP(snat.Route{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough, BothWays: true}),
		sec("in", nsg.Inbound, nsg.Allow, "10.9.9.9", "*", "*"), sec("out", nsg.Outbound, nsg.Deny, "*", "*", "*"))
	withAndWithout(t, c, func(t *testing.T, e *Egress) {
		require.Equal(t, flow.Bypass, e.Inbound(0, dgram("10.9.9.9:4000", "10.224.0.5:53")).Action)
		next := e.state.config.clone()
		next.LoadBalancer.Backends[1].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.2")}
		update(t, e, 0, next)
		assert.Equal(t, "bypass 10.224.0.5", goesOut(e, 0, dgram("10.224.0.5:53", "10.9.9.9:4000")))
	})
}
