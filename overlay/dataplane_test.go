package overlay

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// layer makes a translator of some layer with a dataplane. Its machine has the address
// 10.244.0.9.
type layer struct {
	name string
	make func(snat.Dataplane) (flow.Translator, error)
}

// start makes the layer's translator for the duration of a test.
func (l layer) start(t *testing.T, d snat.Dataplane) (flow.Translator, error) {
	n, err := l.make(d)
	if err == nil {
		t.Cleanup(n.(interface{ Close() }).Close)
	}
	return n, err
}

const layerHost = "10.244.0.9"

// balancerOf is a load balancer with one machine.
func balancerOf(d snat.Dataplane) lb.Config {
	return lb.Config{
		FrontendIPConfigurations: []lb.FrontendIPConfiguration{{Name: "f", PublicIPAddress: netip.MustParseAddr("20.50.1.1")}},
		Backends:                 []lb.Backend{{Name: "vm", Addrs: []netip.Addr{netip.MustParseAddr(layerHost)}}},
		BackendAddressPools:      []lb.BackendAddressPool{{Name: "p", Backends: []string{"vm"}}},
		OutboundRules:            []lb.OutboundRule{{Name: "r", FrontendIPConfigurations: []string{"f"}, BackendAddressPool: "p"}},
		Dataplane:                d,
	}
}

// egressOf is that, perhaps behind a NAT gateway.
func egressOf(d snat.Dataplane, gateway bool) lb.EgressConfig {
	c := lb.EgressConfig{LoadBalancer: balancerOf(d)}
	if gateway {
		c.NATGateway = &lb.NATGateway{PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.60.1.1")}}
	}
	return c
}

// layers are all that hand a dataplane down.
var layers = []layer{
	{"load balancer", func(d snat.Dataplane) (flow.Translator, error) { return lb.New(balancerOf(d)) }},
	{"NAT gateway", func(d snat.Dataplane) (flow.Translator, error) {
		c := egressOf(d, true)
		return lb.NewGateway(lb.GatewayConfig{NATGateway: *c.NATGateway, Backends: c.LoadBalancer.Backends, Dataplane: d})
	}},
	{"egress", func(d snat.Dataplane) (flow.Translator, error) { return lb.NewEgress(egressOf(d, false)) }},
	{"egress with a NAT gateway", func(d snat.Dataplane) (flow.Translator, error) { return lb.NewEgress(egressOf(d, true)) }},
	{"cluster", func(d snat.Dataplane) (flow.Translator, error) {
		return New(ClusterConfig{NodePools: []NodePool{{Count: 1}}, Dataplane: d})
	}},
}

// Each field of a dataplane does through every layer what it does in package snat, and
// nothing else; the zero value carries and tells nothing, as Azure.
func TestDataplaneThroughEveryLayer(t *testing.T) {
	for _, l := range layers {
		for _, tc := range []struct {
			field string
			set   func(*snat.Dataplane)
			want  []string
		}{
			{"none", func(d *snat.Dataplane) {}, nil},
			{"ICMP.Queries", func(d *snat.Dataplane) { d.ICMP.Queries = true }, []string{"ping"}},
			{"ICMP.Errors", func(d *snat.Dataplane) { d.ICMP.Errors = true }, []string{"error"}},
			{"Fragments", func(d *snat.Dataplane) { d.Fragments.Mode = snat.FragmentsVirtual }, []string{"fragments", "reversed fragments"}},
			{"HoldSYN", func(d *snat.Dataplane) { d.HoldSYN.Max = 4 }, []string{"held SYN"}},
			{"Log", func(d *snat.Dataplane) { d.Log.Sessions = true }, []string{"event"}},
			{"Lenient", func(d *snat.Dataplane) { d.Lenient.UDPPortZero = true }, []string{"port 0"}},
			{"Seed, HashKey and Shards", func(d *snat.Dataplane) { d.Seed, d.HashKey, d.Shards = 1, 2, 3 }, nil},
			{"CountTraffic", func(d *snat.Dataplane) { d.CountTraffic = true }, nil},
		} {
			t.Run(l.name+"/"+tc.field, func(t *testing.T) {
				var d snat.Dataplane
				var told []snat.Event
				d.Hooks.Event = func(e snat.Event) { told = append(told, e) }
				tc.set(&d)
				n, err := l.start(t, d)
				require.NoError(t, err)
				got := carried(t, n)
				if slices.ContainsFunc(told, func(e snat.Event) bool { return e.Kind == snat.EventSessionCreate }) {
					got = append(got, "event")
				}
				require.Equal(t, tc.want, got)
			})
		}
	}
}

// carried returns what a translator does besides translating TCP and UDP. Its frontend
// is told by what a datagram leaves with.
func carried(t *testing.T, n flow.Translator) (all []string) {
	const host, remote = layerHost, "203.0.113.80"
	forwarded := func(v flow.Verdict) bool { return v.Action == flow.Forward }
	query := pkttest.UDP(host+":5000", remote+":53", "query")
	require.Equal(t, flow.Forward, n.Outbound(0, query).Action)
	frontend := source(query)
	outside := endpoint(frontend, int(query[20])<<8|int(query[21]))

	ping := pkttest.ICMPEcho(host, remote, 77, 1)
	if forwarded(n.Outbound(0, ping)) {
		pkttest.Check(t, ping, pkttest.Src(frontend), pkttest.ChecksumsOK())
		pong := pkttest.ICMPEchoReply(remote, frontend, uint16(ping[24])<<8|uint16(ping[25]), 1)
		require.True(t, forwarded(n.Inbound(0, pong)))
		pkttest.Check(t, pong, pkttest.Dst(host), pkttest.EchoID(77), pkttest.ChecksumsOK())
		all = append(all, "ping")
	}
	unreachable := pkttest.ICMP(remote, frontend, 3, 3, 0, query)
	if forwarded(n.Inbound(0, unreachable)) {
		pkttest.Check(t, unreachable, pkttest.Dst(host), pkttest.ChecksumsOK())
		all = append(all, "error")
	}

	var emitted [][]byte
	collect := func(e flow.Emission) { emitted = append(emitted, slices.Clone(e.Packet)) }
	fragments := pkttest.Fragments(pkttest.UDP(host+":5000", remote+":53", "in two pieces, more or less"), 24, 7)
	if forwarded(n.Outbound(0, slices.Clone(fragments[0]))) {
		last := slices.Clone(fragments[1])
		require.True(t, forwarded(n.Outbound(0, last)))
		pkttest.Check(t, last, pkttest.Src(frontend))
		all = append(all, "fragments")
	}
	fragments = pkttest.Fragments(pkttest.UDP(host+":5000", remote+":53", "in two pieces, more or less"), 24, 8)
	if n.Outbound(0, fragments[1]).Action == flow.Queued {
		require.True(t, forwarded(n.Outbound(0, fragments[0])))
		for done := false; !done; {
			done = n.AdvanceStep(0, collect)
		}
		n.Advance(0, collect)
		require.Len(t, emitted, 1)
		pkttest.Check(t, emitted[0], pkttest.Src(frontend))
		require.Equal(t, fragments[0][4:6], emitted[0][4:6], "one identification")
		all, emitted = append(all, "reversed fragments"), nil
	}

	require.Equal(t, flow.Drop, n.Inbound(0, pkttest.TCP(remote+":9000", outside, pkttest.SYN, pkttest.Seq(1))).Action)
	if forwarded(n.Outbound(0, pkttest.UDP(host+":0", remote+":53", "query"))) {
		all = append(all, "port 0")
	}
	n.Advance(flow.At(7*time.Second), collect)
	if len(emitted) > 0 {
		require.Len(t, emitted, 1)
		pkttest.Check(t, emitted[0], pkttest.Src(frontend), pkttest.Dst(remote), pkttest.ICMPType(3, 3), pkttest.ChecksumsOK())
		all = append(all, "held SYN")
	}
	return all
}

// What was made under one rule would contradict another, so of a dataplane only what is
// counted, told and granted for a while changes while traffic flows.
func TestDataplaneReconfigured(t *testing.T) {
	l, err := lb.New(balancerOf(snat.Dataplane{}))
	require.NoError(t, err)
	e, err := lb.NewEgress(egressOf(snat.Dataplane{}, false))
	require.NoError(t, err)
	nodes := func(d snat.Dataplane) ClusterConfig {
		return ClusterConfig{NodePools: []NodePool{{Count: 1}}, Dataplane: d}
	}
	c, err := New(nodes(snat.Dataplane{}))
	require.NoError(t, err)
	t.Cleanup(l.Close)
	t.Cleanup(e.Close)
	t.Cleanup(c.Close)
	for name, of := range map[string]struct {
		flow.Translator
		reconfigure func(snat.Dataplane) error
	}{
		"load balancer": {l, func(d snat.Dataplane) error { _, err := l.Reconfigure(0, balancerOf(d)); return err }},
		"egress":        {e, func(d snat.Dataplane) error { _, err := e.Reconfigure(0, egressOf(d, false)); return err }},
		"cluster":       {c, func(d snat.Dataplane) error { _, err := c.Reconfigure(0, nodes(d)); return err }},
	} {
		for field, d := range map[string]snat.Dataplane{
			"Shards": {Shards: 3}, "Seed": {Seed: 1}, "HashKey": {HashKey: 1}, "ICMP": {ICMP: snat.ICMP{Queries: true}},
			"Fragments": {Fragments: snat.Fragments{Mode: snat.FragmentsUDP}}, "HoldSYN": {HoldSYN: snat.HoldSYN{Max: 1}},
			"Lenient": {Lenient: snat.Leniency{UDP6Zero: true}}, "Log": {Log: snat.Log{Sessions: true}},
		} {
			err := of.reconfigure(d)
			require.ErrorIs(t, err, snat.ErrFixed, name)
			require.ErrorContains(t, err, field, name)
		}
		created := 0
		require.NoError(t, of.reconfigure(snat.Dataplane{
			ReclaimGrace: time.Second, CountTraffic: true,
			Hooks: snat.Hooks{SessionCreated: func(flow.Time, uint32, flow.Info) { created++ }},
		}), name)
		of.Outbound(0, pkttest.UDP(layerHost+":5000", "203.0.113.80:53", "query"))
		require.Equal(t, 1, created, name)
		require.NoError(t, of.reconfigure(snat.Dataplane{}), name)
	}
}

// What a layer cannot honor is an error that names the field, and so is what the
// translator refuses.
func TestDataplaneRefused(t *testing.T) {
	for _, l := range layers {
		_, err := l.start(t, snat.Dataplane{Fragments: snat.Fragments{Mode: 9}})
		require.ErrorContains(t, err, "Fragments.Mode 9", l.name)
		_, err = l.start(t, snat.Dataplane{ReclaimGrace: time.Second})
		switch l.name {
		case "NAT gateway":
			require.ErrorContains(t, err, "ReclaimGrace 1s", l.name)
		default:
			require.NoError(t, err, l.name)
		}
		_, err = l.start(t, snat.Dataplane{ICMP: snat.ICMP{Queries: true, RandomIDs: true}})
		switch l.name {
		case "NAT gateway", "egress with a NAT gateway":
			require.ErrorIs(t, err, snat.ErrShared, l.name)
			require.ErrorContains(t, err, "ICMP.RandomIDs true", l.name)
		default:
			require.NoError(t, err, l.name)
		}
	}
}
