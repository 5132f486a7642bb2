package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

var gatewayIP = netip.MustParseAddr("20.60.0.1")

// withGateway returns c with a NAT gateway of one address on its subnet.
func withGateway(c EgressConfig) EgressConfig {
	c.NATGateway = &NATGateway{Name: "egress", PublicIPAddresses: []netip.Addr{gatewayIP}}
	return c
}

func newGateway(t *testing.T, c GatewayConfig) *Gateway {
	t.Helper()
	g, err := NewGateway(c)
	require.NoError(t, err)
	t.Cleanup(g.Close)
	return g
}

// By hand: two queries of 33 bytes with one answer of 34, a SYN of 40, one packet
// that belongs to nobody.
func TestGatewayMetricsByHand(t *testing.T) {
	g := newGateway(t, GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends, Dataplane: snat.Dataplane{CountTraffic: true}})
	var outside string
	for i := range 2 {
		p := pkttest.UDP(fmt.Sprintf("10.224.0.%d:5000", 4+i), "203.0.113.53:53", "query")
		require.Equal(t, flow.Forward, g.Outbound(0, p).Action)
		require.Len(t, p, 33)
		outside = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), uint16(p[20])<<8|uint16(p[21])).String()
	}
	require.Equal(t, flow.Forward, g.Inbound(0, pkttest.UDP("203.0.113.53:53", outside, "answer")).Action)
	require.Equal(t, flow.Forward, g.Outbound(0, pkttest.TCP("10.224.0.4:5000", "203.0.113.80:443", pkttest.TCPFlags("S"))).Action)
	require.Equal(t, flow.Drop, g.Inbound(0, pkttest.UDP("203.0.113.53:53", "20.60.0.3:9", "answer")).Action)
	assert.Equal(t, []string{
		"ByteCount Protocol=TCP Direction=Outbound 40",
		"PacketCount Protocol=TCP Direction=Outbound 1",
		"ByteCount Protocol=UDP Direction=Inbound 34",
		"PacketCount Protocol=UDP Direction=Inbound 1",
		"ByteCount Protocol=UDP Direction=Outbound 66",
		"PacketCount Protocol=UDP Direction=Outbound 2",
		"SNATConnectionCount Protocol=TCP ConnectionState=attempted 1",
		"TotalConnectionCount Protocol=TCP 1",
		"SNATConnectionCount Protocol=UDP ConnectionState=attempted 2",
		"TotalConnectionCount Protocol=UDP 2",
		"PacketDropCount 1",
		"DatapathAvailability 100",
	}, lines(g.Metrics()))
}

func TestGatewayRefusesBadConfiguration(t *testing.T) {
	c := GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends}
	c.IdleTimeout = time.Minute
	_, err := NewGateway(c)
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	c.IdleTimeout = 0
	c.Backends[1].Addrs = []netip.Addr{netip.MustParseAddr("20.60.0.7")}
	_, err = NewGateway(c)
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.ErrorContains(t, err, "20.60.0.7")
	c.Backends[1].Addrs = []netip.Addr{netip.MustParseAddr("10.9.9.9")}
	c.Shards = -1
	_, err = NewGateway(c)
	assert.ErrorContains(t, err, "Shards")
}

// A gateway on the subnet precedes the public IP and the outbound rule.
func TestAzure_40_gateway_at_run_time(t *testing.T) {
	c := publicPool(2, 1, 0)
	c.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
	without := EgressConfig{LoadBalancer: c}
	e := newEgress(t, without)
	require.Equal(t, netip.MustParseAddr("20.99.0.1"), leaves(t, e, 0, "10.224.0.4:5000"))
	require.Equal(t, netip.MustParseAddr("20.50.1.1"), leaves(t, e, 0, "10.224.0.5:5000"))
	require.Nil(t, e.Gateway())

	update(t, e, 0, withGateway(without))
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5000"), "one to one is without sessions, so it switches at once")
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.5:5001"), "a new flow")
	assert.Equal(t, netip.MustParseAddr("20.50.1.1"), leaves(t, e, 0, "10.224.0.5:5000"), "an existing flow goes on")
	d := decide(t, e, "node0")
	assert.Equal(t, NATGatewaySNAT, d.Option)
	assert.Equal(t, []netip.Addr{gatewayIP}, d.Addrs)
	assert.Equal(t, uint64(2), e.Gateway().Stats().SessionsCreated)

	update(t, e, 0, without)
	assert.Nil(t, e.Gateway())
	assert.Equal(t, netip.MustParseAddr("20.99.0.1"), leaves(t, e, 0, "10.224.0.4:5000"))
	assert.Equal(t, netip.MustParseAddr("20.50.1.1"), leaves(t, e, 0, "10.224.0.5:5001"))
}

// The flows of a gateway that is made anew, or detached, are in the Change, and hooks hear of
// them; closing it oneself does no harm.
func TestFlowsOfAFormerGatewayAreCut(t *testing.T) {
	cut := 0
	c := withGateway(EgressConfig{LoadBalancer: publicPool(2, 0, 0)})
	c.LoadBalancer.OutboundRules = nil
	c.LoadBalancer.Hooks.SessionCut = func(_ flow.Time, _ uint32, _ flow.Info, cause snat.CutCause) {
		assert.Equal(t, snat.CutRemoved, cause)
		cut++
	}
	e := newEgress(t, c)
	begin := func() {
		leaves(t, e, 0, "10.224.0.4:5000")
		leaves(t, e, 0, "10.224.0.4:5001")
		leaves(t, e, 0, "10.224.0.5:5000")
	}
	begin()
	for _, change := range []func(){
		func() { c.NATGateway.IdleTimeout = 30 * time.Minute }, // made anew
		func() { c.NATGateway = nil },
		func() { c = withGateway(c) },
		func() { e.Gateway().Close(); c.NATGateway.IdleTimeout = 30 * time.Minute },
	} {
		change()
		had := cut
		sessions := 0
		if g := e.Gateway(); g != nil {
			sessions = int(g.Stats().SessionsActive)
		}
		got, err := e.Reconfigure(0, c)
		require.NoError(t, err)
		want := map[string]int{}
		if sessions > 0 {
			want = map[string]int{"node0": 2, "node1": 1}
		}
		is := map[string]int{}
		for _, i := range got.Instances {
			if n := i.Cut[snat.CutRemoved]; n > 0 {
				is[i.Name] = n
			}
		}
		assert.Equal(t, want, is)
		assert.Equal(t, sessions, cut-had)
		if c.NATGateway != nil {
			begin()
		}
	}
	assert.Equal(t, 6, cut)
}

// The gateway precedes default outbound access, whose flows go on too, and gives
// egress to those that had none.
func TestGatewayBeforeDefaultOutbound(t *testing.T) {
	none := EgressConfig{LoadBalancer: publicPool(2, 0, 0)}
	none.LoadBalancer.OutboundRules, none.LoadBalancer.BackendAddressPools = nil, nil
	e := newEgress(t, none)
	first := leaves(t, e, 0, "10.224.0.4:5000")
	update(t, e, 0, withGateway(none))
	assert.Equal(t, first, leaves(t, e, 0, "10.224.0.4:5000"))
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5001"))

	private := none
	private.PrivateSubnet = true
	update(t, e, 0, private)
	assert.False(t, leaves(t, e, 0, "10.224.0.4:5002").IsValid())
	update(t, e, 0, withGateway(private))
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5002"))
}

// Routes of the user precede the gateway.
func TestRoutesBeforeGateway(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	c.LoadBalancer.Routes = []snat.Route{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Action: snat.PassThrough},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Action: snat.Blackhole},
	}
	e := newEgress(t, c)
	for dst, want := range map[string]flow.Action{"10.9.9.9:53": flow.Bypass, "203.0.113.53:53": flow.Drop, "198.51.100.7:53": flow.Forward} {
		assert.Equal(t, want, e.Outbound(0, pkttest.UDP("10.224.0.4:5000", dst, "query")).Action, dst)
	}
	assert.Equal(t, 1, e.Gateway().Stats().SessionsActive)
}

// A Standard gateway has IPv4 only; IPv6 stays with the load balancer.
func TestGatewayLeavesIPv6ToTheLoadBalancer(t *testing.T) {
	c := publicPool(1, 1, 8)
	c.FrontendIPConfigurations = append(c.FrontendIPConfigurations, FrontendIPConfiguration{Name: "ip6", PublicIPAddress: netip.MustParseAddr("2001:db8::1")})
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0", "ip6"}
	c.Backends[0].Addrs = append(c.Backends[0].Addrs, netip.MustParseAddr("fd00::4"))
	e := newEgress(t, withGateway(EgressConfig{LoadBalancer: c}))
	p := pkttest.UDP("[fd00::4]:5000", "[2001:db8:5::7]:53", "query")
	require.Equal(t, flow.Forward, e.Outbound(0, p).Action)
	pkttest.Check(t, p, pkttest.Src("[2001:db8::1]:1024"), pkttest.ChecksumsOK())
	answer := pkttest.UDP("[2001:db8:5::7]:53", "[2001:db8::1]:1024", "answer")
	require.Equal(t, flow.Forward, e.Inbound(0, answer).Action)
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5000"))
	d, _ := e.Decide("node0", snat.UDP, true)
	assert.Equal(t, OutboundRuleSNAT, d.Option)
}

// Packets of both translators in one batch, in any order; answers find their way.
func TestEgressBatchesThroughBothTranslators(t *testing.T) {
	const n = 300
	without := EgressConfig{LoadBalancer: publicPool(1, 1, 0)}
	e := newEgress(t, without)
	batch := func() (pkts [][]byte) {
		for i := range n {
			pkts = append(pkts, pkttest.UDP(fmt.Sprintf("10.224.0.4:%d", 5000+i), "203.0.113.53:53", "query"))
		}
		return pkts
	}
	old := batch()
	verdicts := make([]flow.Verdict, n)
	for i := 0; i < n; i += 3 { // these begin before the gateway comes
		require.Equal(t, flow.Forward, e.Outbound(0, slices.Clone(old[i])).Action)
	}
	update(t, e, 0, withGateway(without))
	pkts := batch()
	e.OutboundBatch(0, pkts, verdicts)
	var answers [][]byte
	for i, p := range pkts {
		require.Equal(t, flow.Forward, verdicts[i].Action)
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), uint16(p[20])<<8|uint16(p[21]))
		want := gatewayIP
		if i%3 == 0 {
			want = netip.MustParseAddr("20.50.1.1")
		}
		require.Equal(t, want, src.Addr(), "packet %d", i)
		answers = append(answers, pkttest.UDP("203.0.113.53:53", src.String(), "answer"))
	}
	answers = append(answers, []byte{0x45}, []byte{0x60}, nil)
	verdicts = make([]flow.Verdict, n+3)
	e.InboundBatch(0, answers, verdicts)
	for i, p := range answers[:n] {
		require.Equal(t, flow.Forward, verdicts[i].Action)
		pkttest.Check(t, p, pkttest.Dst(fmt.Sprintf("10.224.0.4:%d", 5000+i)), pkttest.ChecksumsOK())
	}
	for _, v := range verdicts[n:] {
		assert.Equal(t, flow.Drop, v.Action)
	}
	sessions := 0
	for range e.Sessions() {
		sessions++
	}
	assert.Equal(t, n, sessions)

	assert.True(t, e.DeadlineMoved(), "by flows of the gateway too")
	at, ok := e.NextDeadline()
	require.True(t, ok)
	assert.LessOrEqual(t, at.Duration(), 4*time.Minute)
	assert.False(t, e.DeadlineMoved())
	assert.False(t, e.Gateway().DeadlineMoved())
	for steps := 1; !e.AdvanceStep(flow.At(10*time.Minute), nil); steps++ {
		require.LessOrEqual(t, steps, n, "each does something")
	}
	assert.Zero(t, e.Stats().SessionsActive)
	assert.Zero(t, e.Gateway().Stats().SessionsActive)
}

func TestEgressBatchAllocatesNothing(t *testing.T) {
	e := newEgress(t, withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 0)}))
	query := pkttest.UDP("10.224.0.4:5000", "203.0.113.53:53", "query")
	scratch := [][]byte{slices.Clone(query), slices.Clone(query)}
	verdicts := make([]flow.Verdict, 2)
	assert.LessOrEqual(t, testing.AllocsPerRun(500, func() {
		copy(scratch[0], query)
		copy(scratch[1], query)
		e.OutboundBatch(0, scratch, verdicts)
	}), 0.1)
	require.Equal(t, flow.Forward, verdicts[1].Action)
}

func TestGatewayInAnEgressIsValidated(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	c.NATGateway.IdleTimeout = time.Minute
	_, err := NewEgress(c)
	assert.ErrorContains(t, err, "NATGateway.IdleTimeout 1m0s: out of range")

	c = withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	c.NATGateway.PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.50.1.1")}
	_, err = NewEgress(c)
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.ErrorContains(t, err, "NATGateway.PublicIPAddresses 20.50.1.1/32: overlap: with LoadBalancer.FrontendIPConfigurations[0]")

	c = withGateway(basicCluster(1, "A"))
	c.InternalLoadBalancers = internals(Basic)
	_, err = NewEgress(c)
	assert.ErrorIs(t, err, flow.ErrConflict)
	assert.ErrorContains(t, err, "LoadBalancer.SKU Basic: conflict: a Basic load balancer cannot coexist")
	assert.ErrorContains(t, err, "InternalLoadBalancers[0].SKU Basic: conflict")
}

// A failed update leaves the gateway as it was; one that does not touch it keeps its
// flows.
func TestGatewaySurvivesUpdates(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	e := newEgress(t, c)
	leaves(t, e, 0, "10.224.0.4:5000")
	g := e.Gateway()

	bad := c
	bad.LoadBalancer.Seed = 1
	_, err := e.Reconfigure(0, bad)
	require.ErrorIs(t, err, snat.ErrFixed)
	assert.Same(t, g, e.Gateway())

	more := withGateway(EgressConfig{LoadBalancer: publicPool(1, 2, 8)})
	update(t, e, 0, more)
	assert.Same(t, g, e.Gateway())
	assert.Equal(t, 1, g.Stats().SessionsActive)

	more.LoadBalancer.NetworkSecurity = secured(t, false, sec("no", nsg.Outbound, nsg.Deny, "*", "203.0.113.53", "53")).NetworkSecurity
	more.LoadBalancer.NetworkSecurity.NetworkSecurityGroups[0].SecurityRules[0].Protocol = nsg.UDP
	update(t, e, 0, more)
	assert.Same(t, g, e.Gateway(), "the first group")
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5000"), "the flow has begun")
	assert.False(t, leaves(t, e, 0, "10.224.0.4:5001").IsValid(), "the group refuses it")
	more.LoadBalancer.NetworkSecurity = nil
	update(t, e, 0, more)
	assert.Same(t, g, e.Gateway(), "no group any more")
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.4:5001"))

	more.NATGateway.PublicIPAddresses = []netip.Addr{gatewayIP.Next()}
	update(t, e, 0, more)
	assert.NotSame(t, g, e.Gateway(), "other addresses: a new gateway")
	assert.Equal(t, gatewayIP.Next(), leaves(t, e, 0, "10.224.0.4:5000"))
}

// An update that changes nothing but hooks reaches the gateway, which keeps its flows.
func TestGatewayHearsOfOtherHooks(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	e := newEgress(t, c)
	g := e.Gateway()
	leaves(t, e, 0, "10.224.0.4:5000")

	var told []string
	tells := func(who string) snat.Hooks {
		return snat.Hooks{SessionCreated: func(flow.Time, uint32, flow.Info) { told = append(told, who) }}
	}
	for port, hooks := range []snat.Hooks{tells("first"), tells("second"), {}, tells("third")} {
		c.LoadBalancer.Hooks = hooks
		update(t, e, 0, c)
		leaves(t, e, 0, fmt.Sprintf("10.224.0.4:%d", 5001+port))
	}
	assert.Equal(t, []string{"first", "second", "third"}, told)
	assert.Same(t, g, e.Gateway())
	assert.Equal(t, 5, g.Stats().SessionsActive)
}

// Gateways come and go while packets flow: every packet is forwarded.
func TestGatewayComesAndGoesWhileTrafficRuns(t *testing.T) {
	without := EgressConfig{LoadBalancer: publicPool(4, 1, 0)}
	e := newEgress(t, without)
	done := make(chan struct{})
	for g := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			verdicts := make([]flow.Verdict, 8)
			for i := range 400 {
				var pkts [][]byte
				for k := range 8 {
					pkts = append(pkts, pkttest.UDP(fmt.Sprintf("10.224.0.%d:%d", 4+2*g+k%2, 5000+8*i+k), "203.0.113.53:53", "query"))
				}
				// Some flows end with a gateway, but no packet is lost or untranslated.
				e.OutboundBatch(flow.At(time.Duration(i)*time.Second), pkts, verdicts)
				for k, v := range verdicts {
					if v.Action != flow.Forward {
						t.Errorf("packet %d: %v", 8*i+k, v)
						return
					}
				}
			}
		}()
	}
	for running, i := 2, 0; running > 0; i++ {
		select {
		case <-done:
			running--
		default:
		}
		c := without
		if i%2 == 0 {
			c = withGateway(c)
		}
		update(t, e, 0, c)
	}
}

// StandardV2 carries echo and its replies, of both families, and nothing else of
// ICMP; Standard carries none of it.
func TestGatewayStandardV2CarriesEcho(t *testing.T) {
	c := GatewayConfig{
		NATGateway: NATGateway{
			SKU:               GatewayStandardV2,
			PublicIPAddresses: []netip.Addr{gatewayIP, netip.MustParseAddr("2001:db8:f::1")},
		},
		Backends:  []Backend{{Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4"), netip.MustParseAddr("fd00:224::4")}}},
		Dataplane: snat.Dataplane{CountTraffic: true},
	}
	for _, e := range []struct{ inside, outside, remote string }{
		{"10.224.0.4", "20.60.0.1", "203.0.113.80"}, {"fd00:224::4", "2001:db8:f::1", "2001:db8:5::80"},
	} {
		g := newGateway(t, c)
		ping := pkttest.ICMPEcho(e.inside, e.remote, 77, 1)
		v := g.Outbound(0, ping)
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		is6 := netip.MustParseAddr(e.inside).Is6()
		l4 := 20
		if is6 {
			l4 = 40
		}
		id := uint16(ping[l4+4])<<8 | uint16(ping[l4+5])
		pkttest.Check(t, ping, pkttest.Src(e.outside), pkttest.Dst(e.remote), pkttest.ChecksumsOK())
		pong := pkttest.ICMPEchoReply(e.remote, e.outside, id, 1)
		v = g.Inbound(0, pong)
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		pkttest.Check(t, pong, pkttest.Dst(e.inside), pkttest.ChecksumsOK())
		unreachable, port := uint8(3), uint8(3)
		if is6 {
			unreachable, port = 1, 4
		}
		about := pkttest.ICMP(e.inside, e.remote, unreachable, port, 0, pong)
		assert.Equal(t, flow.ReasonICMPType, g.Outbound(0, about).Reason)
		assert.Equal(t, flow.ReasonNoFlow, g.Inbound(0, pkttest.ICMPEchoReply(e.remote, e.outside, id+1, 1)).Reason)
		for _, m := range g.Metrics() {
			assert.True(t, m.Value == 0 || m.Metric == monitor.PacketDropCount && m.Value == 2 || m.Metric == monitor.DatapathAvailability, "%v", m)
		}
	}
	c.SKU, c.PublicIPAddresses = GatewayStandard, c.PublicIPAddresses[:1]
	g := newGateway(t, c)
	assert.Equal(t, flow.Drop, g.Outbound(0, pkttest.ICMPEcho("10.224.0.4", "203.0.113.80", 77, 1)).Action)
}

// What the translator refuses, the gateway does not hear of: no flow ends.
func TestGatewayKeepsItsFlowsWhenAChangeIsRefused(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(2, 1, 8)})
	e := newEgress(t, c)
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.5:5000"))
	less := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	less.LoadBalancer.UDP.Share = snat.ShareNever
	_, err := e.Reconfigure(0, less)
	require.ErrorIs(t, err, snat.ErrFixed)
	assert.Equal(t, 1, e.Gateway().Stats().SessionsActive)
	assert.Equal(t, gatewayIP, leaves(t, e, 0, "10.224.0.5:5000"))
}

// Whether traffic is counted, how flows are spread, and another spelling of the default
// number of shards are nothing that a gateway is made anew for.
func TestGatewayGoesOnWhereNothingOfItChanges(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	e := newEgress(t, c)
	g := e.Gateway()
	leaves(t, e, 0, "10.224.0.4:5000")
	c.LoadBalancer.CountTraffic, c.LoadBalancer.DistributionKey, c.LoadBalancer.Shards = true, 7, flow.DefaultShards
	update(t, e, 0, c)
	c.NATGateway.PublicIPPrefixes = []netip.Prefix{}
	update(t, e, 0, c)
	assert.Same(t, g, e.Gateway())
	leaves(t, e, 0, "10.224.0.4:5000")
	assert.Equal(t, 1, g.Stats().SessionsActive)
	assert.NotEmpty(t, g.Traffic(), "it counts now")
}

// Queries that a gateway cannot do are told before it is made, and by their field.
func TestGatewayQueriesAreValidated(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: publicPool(1, 1, 8)})
	c.LoadBalancer.ICMP.RandomIDs = true
	err := c.Validate()
	require.ErrorIs(t, err, snat.ErrShared)
	assert.ErrorContains(t, err, "LoadBalancer.ICMP.RandomIDs true")
}

// A gateway does not translate what is for a port of an internal frontend that no rule
// serves, and default outbound access has none of its addresses.
func TestGatewayLeavesOtherAddressesAlone(t *testing.T) {
	pool := publicPool(4, 1, 8)
	pool.Backends = internalPool(4).Backends
	c := withGateway(EgressConfig{LoadBalancer: pool, InternalLoadBalancers: []InternalLoadBalancer{besides(internalPool(4))}})
	e := newEgress(t, c)
	v := e.Outbound(0, pkttest.TCP("10.224.0.4:1024", "10.225.0.4:81", pkttest.SYN))
	assert.Equal(t, flow.ReasonHairpin, v.Reason)
	assert.Equal(t, flow.Drop, v.Action)

	c.DefaultOutboundRange = netip.MustParsePrefix("20.60.0.0/30")
	r, err := c.resolve()
	require.NoError(t, err)
	assert.False(t, c.mayUse(r, gatewayIP))
	assert.True(t, c.mayUse(r, gatewayIP.Next()))
}

// A backend has one index, in verdicts, emissions and hooks, whichever translator of an
// egress carries its packets: also where a gateway comes, or is made anew, after backends
// have gone, and when others take their places.
func TestBackendHasOneIndex(t *testing.T) {
	c := EgressConfig{LoadBalancer: publicPool(4, 1, 64)}
	told := map[uint32]int{}
	c.LoadBalancer.Hooks.SessionCreated = func(_ flow.Time, instance uint32, _ flow.Info) { told[instance]++ }
	s := &site{T: t, carrier: newEgress(t, c)}
	e := s.carrier.(*Egress)
	all := slices.Clone(c.LoadBalancer.Backends)
	port := 5000
	check := func(what string) {
		t.Helper()
		indexes := map[string]uint32{}
		for i, inst := range e.Instances() {
			indexes[inst.Name] = uint32(i)
		}
		require.Len(t, indexes, len(c.LoadBalancer.Backends))
		for _, b := range c.LoadBalancer.Backends {
			clear(told)
			port++
			p := dgram(netip.AddrPortFrom(b.Addrs[0], uint16(port)).String(), "203.0.113.9:53")
			v := e.Outbound(s.now, p)
			require.Equal(t, flow.Forward, v.Action, "%s: %s: %v", what, b.Name, v.Reason)
			assert.Equal(t, indexes[b.Name], v.Instance, "%s: %s", what, b.Name)
			assert.Equal(t, map[uint32]int{indexes[b.Name]: 1}, told, "%s: %s", what, b.Name)
		}
	}
	change := func(what string, backends ...int) {
		t.Helper()
		c.LoadBalancer.Backends, c.LoadBalancer.BackendAddressPools = nil, slices.Clone(c.LoadBalancer.BackendAddressPools)
		pool := &c.LoadBalancer.BackendAddressPools[0]
		pool.Backends = nil
		for _, i := range backends {
			c.LoadBalancer.Backends, pool.Backends = append(c.LoadBalancer.Backends, all[i]), append(pool.Backends, all[i].Name)
		}
		update(t, e, time.Duration(s.now), c)
		check(what)
	}
	check("at first")
	change("one has gone", 0, 2, 3)
	c = withGateway(c)
	change("a gateway comes, and another one goes", 3, 2)
	c.NATGateway.IdleTimeout = 10 * time.Minute
	change("the gateway is made anew, and one comes", 2, 3, 1)
	change("the gateway goes on, and all are there", 3, 2, 1, 0)
	c.NATGateway = nil
	change("no gateway, in another order", 1, 3)
	c = withGateway(c)
	change("a gateway comes, and others with it", 0, 1, 2, 3)
}
