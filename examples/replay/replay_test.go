package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

func query(from, to string) []byte { return pkttest.UDP(from, to, "query") }

func TestDirections(t *testing.T) {
	for name, c := range map[string]struct {
		packets [][]byte
		forward int
		bypass  int
		reasons map[string]int
	}{
		"request and answer":             {[][]byte{query(a+":4000", remote+":53"), query(remote+":53", a+":4000")}, 2, 0, nil},
		"of IPv6":                        {[][]byte{query("[fd00::4]:4000", "[2001:db8:5::7]:53"), query("[2001:db8:5::7]:53", "[fd00::4]:4000")}, 2, 0, nil},
		"between inside hosts":           {[][]byte{query(a+":4000", b+":53"), query(b+":53", a+":4000")}, 0, 2, nil},
		"answer without a request":       {[][]byte{query(remote+":53", a+":4000")}, 0, 0, map[string]int{"no_flow": 1}},
		"answer of somebody else":        {[][]byte{query(a+":4000", remote+":53"), query("203.0.113.9:53", a+":4000")}, 1, 0, map[string]int{"filtered": 1}},
		"answer to another port":         {[][]byte{query(a+":4000", remote+":53"), query(remote+":53", a+":4001")}, 1, 0, map[string]int{"no_flow": 1}},
		"between others":                 {[][]byte{query(a+":4000", b+":53"), query(remote+":53", "203.0.113.9:4000")}, 0, 1, map[string]int{"not_ours": 1}},
		"connection under way":           {handshake(a+":4000", remote+":80")[1:], 0, 0, map[string]int{"no_flow": 2}},
		"to a multicast group":           {[][]byte{query(a+":5353", "224.0.0.251:5353")}, 0, 0, map[string]int{"martian_dst": 1}},
		"ICMP out":                       {[][]byte{pkttest.ICMPEcho(a, remote, 7, 1)}, 0, 0, map[string]int{"unsupported_proto": 1}},
		"ICMP in":                        {[][]byte{pkttest.ICMPEchoReply(remote, a, 7, 1)}, 0, 0, map[string]int{"unsupported_proto": 1}},
		"fragments out":                  {pkttest.Fragments(pkttest.UDP(a+":4000", remote+":53", string(make([]byte, 100))), 48, 9), 0, 0, map[string]int{"fragment": 3}},
		"fragments in":                   {pkttest.Fragments(pkttest.UDP(remote+":53", a+":4000", string(make([]byte, 100))), 48, 9), 0, 0, map[string]int{"fragment": 3}},
		"a source that is no host":       {[][]byte{query(a+":4000", b+":53"), pkttest.IP("10.0.0.9", remote, 17, nil)}, 0, 1, map[string]int{"udp_short": 1}},
		"an answer from an unknown port": {[][]byte{query(a+":4000", remote+":53"), query(remote+":1024", a+":4000")}, 1, 0, map[string]int{"filtered": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			d := replayJSON(t, captureOf(t, c.packets...))
			assert.Equal(t, c.forward, d.Verdicts.Forward)
			assert.Equal(t, c.bypass, d.Verdicts.Bypass)
			assert.Equal(t, c.forward+c.bypass, d.Roundtrip.Identical)
			if c.reasons == nil {
				c.reasons = map[string]int{}
			}
			assert.Equal(t, c.reasons, d.Reasons)
		})
	}
}

// An outside that knows a frontend only must not hit, by chance, the port of
// another inside host that talks to the same remote.
func TestUnsolicitedPacketHitsNobody(t *testing.T) {
	var packets [][]byte
	for port := 1000; port < 1100; port++ {
		packets = append(packets, query(fmt.Sprintf("%s:%d", a, port), remote+":53"))
	}
	for port := 1000; port < 1100; port++ {
		packets = append(packets, query(remote+":53", fmt.Sprintf("%s:%d", b, port)))
	}
	d := replayJSON(t, captureOf(t, packets...))
	assert.Equal(t, 100, d.Verdicts.Forward)
	assert.Equal(t, map[string]int{"no_flow": 100}, d.Reasons)
}

// A late packet of a flow whose outside port now serves another socket is not
// delivered to that one.
func TestLatePacketOfARecycledPort(t *testing.T) {
	d := replayJSON(t, captureAt(t,
		timed{0, query(a+":4000", remote+":53")},
		timed{300, query(a+":5000", remote+":53")}, // the first flow is over, this one has its port
		timed{301, query(remote+":53", a+":4000")},
		timed{302, query(remote+":53", a+":5000")},
		timed{303, query(a+":4000", remote+":53")}, // has another port from now on
		timed{304, query(remote+":53", a+":4000")},
	))
	assert.Equal(t, 5, d.Verdicts.Forward)
	assert.Equal(t, map[string]int{"no_flow": 1}, d.Reasons)
	assert.Equal(t, 3, d.Flows)
}

// A connection that is silent for longer than the idle timeout is over; with
// -tcp-reset both ends are told, at that moment.
func TestIdleConnection(t *testing.T) {
	p := handshake(a+":4000", remote+":80")
	in := captureAt(t, timed{0, p[0]}, timed{0.001, p[1]}, timed{0.002, p[2]}, timed{600, p[2]})
	d := replayJSON(t, in)
	assert.Zero(t, d.RST.Generated)
	assert.Equal(t, map[string]int{"no_flow": 1}, d.Reasons)

	out := filepath.Join(t.TempDir(), "out.pcap")
	d = replayJSON(t, in, "-tcp-reset", "-out", out)
	assert.Equal(t, 2, d.RST.Generated)
	packets := packetsOf(t, out).Packets
	require.Len(t, packets, 4, "what was dropped inside never got out")
	assert.Equal(t, 240.002, packets[3].At.Seconds())
	pkttest.Check(t, packets[3].Data, pkttest.Src(front+":1024"), pkttest.Dst(remote+":80"), pkttest.TCPFlags("R"), pkttest.Seq(101))
}

// Times may be anywhere, and as far apart as the file format allows.
func TestAgesBetweenPackets(t *testing.T) {
	var packets []timed
	for i := range 6 {
		for j, p := range handshake(fmt.Sprintf("%s:%d", a, 4000+i), remote+":80") {
			packets = append(packets, timed{float64(i)*5e8 + float64(j), p})
		}
	}
	packets[0], packets[15] = packets[15], packets[0] // the order of the file is not that of time
	d := replayJSON(t, captureAt(t, packets...), "-tcp-reset")
	assert.Equal(t, 18, d.Verdicts.Forward)
	assert.Equal(t, 6, d.Flows)
	assert.Equal(t, 10, d.RST.Generated, "of all connections but the last")
}

func TestPortsOfHosts(t *testing.T) {
	var packets [][]byte
	for port := range 100 {
		packets = append(packets, query(fmt.Sprintf("%s:%d", a, 2000+port), remote+":53"), query(fmt.Sprintf("%s:%d", b, 2000+port), remote+":53"))
	}
	in := captureOf(t, packets...)
	assert.Equal(t, 200, replayJSON(t, in).Verdicts.Forward, "automatic ports suffice")
	d := replayJSON(t, in, "-ports", "16")
	assert.Equal(t, 32, d.Verdicts.Forward)
	assert.Equal(t, map[string]int{"ports": 168}, d.Reasons)

	status, _, stderr := invoke(t, "-in", in, "-inside", insides, "-frontend", front, "-ports", "40000")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "-ports 40000: 2 inside hosts need 2 IPv4 addresses in -frontend, there are 1; or use -ports 32000 or fewer")
	assert.Equal(t, 200, result(t, "-in", in, "-inside", insides, "-frontend", front+",198.51.100.8", "-ports", "40000").Verdicts.Forward)
	assert.Equal(t, map[string]int{"no_outbound": 200}, result(t, "-in", in, "-inside", insides, "-frontend", front6).Reasons)
}

// Two UDP sockets that share a port may end up at the same remote. With a port
// for every socket they do not share any.
func TestSharedPortsStandInNobodysWay(t *testing.T) {
	in := captureOf(t, query(a+":4000", "203.0.113.1:53"), query(a+":5000", "203.0.113.2:53"), query(a+":4000", "203.0.113.2:53"))
	assert.Equal(t, 3, replayJSON(t, in).Verdicts.Forward)
	d := replayJSON(t, in, "-ports", "8")
	assert.Equal(t, 3, d.Verdicts.Forward, "Azure's sharing: where the sockets meet, one takes another port")
	assert.Empty(t, d.Reasons)
}

func TestPortsAreSharedOutWhenTheyAreScarce(t *testing.T) {
	o := options{frontends: list[netip.Addr]{values: []netip.Addr{netip.MustParseAddr(front)}}, preset: "azure-lb"}
	var hosts []host
	for i := range 9000 {
		hosts = append(hosts, host{addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), sends: true, sockets: [3]int{i, 3}})
	}
	_, err := o.translator(hosts)
	require.EqualError(t, err, "-frontend: 9000 inside hosts need 2 IPv4 addresses, to have 8 ports each; there are 1")

	config, err := o.translator(hosts[:4000])
	require.NoError(t, err)
	require.NoError(t, config.Validate())
	total := 0
	for i, inst := range config.Instances {
		require.NotEmpty(t, inst.Ports, "%d", i)
		for _, r := range inst.Ports {
			total += r.Count
		}
	}
	assert.LessOrEqual(t, total, 64000)
	assert.Equal(t, 64000, total)

	o.frontends.values = append(o.frontends.values, netip.MustParseAddr("198.51.100.8"))
	config, err = o.translator([]host{{addr: netip.MustParseAddr(a), sends: true, sockets: [3]int{60000}}, {addr: netip.MustParseAddr(b), sends: true, sockets: [3]int{0, 60001}}})
	require.NoError(t, err)
	require.NoError(t, config.Validate())
	assert.Equal(t, []snat.PortRange{{Frontend: netip.MustParseAddr(front), First: 1024 + 60000, Count: 4000},
		{Frontend: netip.MustParseAddr("198.51.100.8"), First: 1024, Count: 56008}}, config.Instances[1].Ports)
}

// A translator that lets in whom the inside has not addressed: what was sent to a
// socket reaches it, but only for as long as its outside port is its own.
func TestOutsideBeginsFlows(t *testing.T) {
	for filter, want := range map[snat.Filtering][2]int{ // identical, dropped
		snat.EndpointIndependentFiltering:     {6, 2},
		snat.AddressDependentFiltering:        {5, 3},
		snat.AddressAndPortDependentFiltering: {4, 4},
	} {
		all := []timed{
			{0, query(a+":4000", remote+":53")},
			{1, query(remote+":53", a+":4000")},
			{2, query(remote+":99", a+":4000")},       // another port
			{3, query("203.0.113.9:53", a+":4000")},   // another host
			{300, query(b+":4000", remote+":99")},     // now this has the outside port
			{301, query(remote+":53", a+":4000")},     // which that remote does not know
			{302, query("203.0.113.9:53", a+":4000")}, // nor that one
			{303, query(remote+":99", b+":4000")},
		}
		o, err := parseOptions([]string{"-in", "x", "-inside", insides, "-frontend", frontIPs}, nil)
		require.NoError(t, err)
		var packets []capture.Packet
		for _, p := range all {
			packets = append(packets, capture.Packet{At: time.Duration(p.at * 1e9), Data: p.packet})
		}
		c := capture.Capture{Packets: packets}
		hosts, err := o.hosts(&c)
		require.NoError(t, err)
		config, err := o.translator(hosts)
		require.NoError(t, err)
		owned(&config).UDP = snat.Behavior{Filtering: filter, Share: snat.ShareNever}
		config.Instances = []snat.Instance{{Name: "inside", Inside: o.inside.values, Ports: config.Instances[0].Ports[:1]}}
		nat, err := snat.New(config)
		require.NoError(t, err)
		r := newReplay(nat, &o, &config, time.Time{}, nil)
		require.NoError(t, r.play(t.Context(), packets))
		nat.Close()
		assert.Zero(t, r.different, "%v: %s", filter, r.firstDifference)
		assert.Equal(t, want, [2]int{r.alike[identical], r.dropped}, "%v", filter)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := newReplay(&broken{}, &options{}, &snat.Config{}, time.Time{}, nil)
	assert.EqualError(t, r.play(ctx, []capture.Packet{{Data: []byte{0}}}), "interrupted")
}

// broken is a translator of one host that does something wrong.
type broken struct {
	flow.Translator // nil: the other doors are not used
	out, in         func(pkt []byte)
}

func (d *broken) Outbound(_ flow.Time, pkt []byte) flow.Verdict {
	f := locate(pkt)
	f.setSource(pkt, netip.MustParseAddrPort(front+":1024"))
	d.out(pkt)
	return flow.Verdict{Action: flow.Forward, To: flow.Outside}
}

func (d *broken) Inbound(_ flow.Time, pkt []byte) flow.Verdict {
	f := locate(pkt)
	f.setDestination(pkt, netip.MustParseAddrPort(a+":4000"))
	d.in(pkt)
	return flow.Verdict{Action: flow.Forward, To: flow.Inside}
}

func (*broken) Advance(flow.Time, flow.Sink)    {}
func (*broken) NextDeadline() (flow.Time, bool) { return 0, false }
func (*broken) DeadlineMoved() bool             { return false }
func (*broken) Stats() snat.Stats               { return snat.Stats{} }

// Whatever a translator does wrong, the round trip shows it.
func TestRoundTripFindsWrongTranslators(t *testing.T) {
	right := func([]byte) {}
	flip := func(at int) func([]byte) { return func(pkt []byte) { pkt[at] ^= 1 } }
	packets := handshake(a+":4000", remote+":80")[:2]
	for name, c := range map[string]struct {
		broken
		first string // "" if nothing is wrong
	}{
		"none":             {broken{out: right, in: right}, ""},
		"TTL":              {broken{out: flip(8), in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from byte 8 on"},
		"checksum":         {broken{out: flip(37), in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from byte 37 on"},
		"header checksum":  {broken{out: right, in: flip(11)}, "packet 2 of the capture, 203.0.113.80:80 > 10.0.0.4:4000, from byte 11 on"},
		"destination":      {broken{out: flip(19), in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from byte 19 on"},
		"another host":     {broken{out: right, in: flip(19)}, "packet 2 of the capture, 203.0.113.80:80 > 10.0.0.4:4000, from byte 19 on"},
		"another port":     {broken{out: right, in: flip(23)}, "packet 2 of the capture, 203.0.113.80:80 > 10.0.0.4:4000, from byte 23 on"},
		"no frontend":      {broken{out: flip(14), in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from a source that is no frontend"},
		"not translated":   {broken{out: func(pkt []byte) { copy(pkt, packets[0]) }, in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from a source that is no frontend"},
		"identification":   {broken{out: func(pkt []byte) { binary.BigEndian.PutUint16(pkt[4:], 9) }, in: right}, "packet 1 of the capture, 10.0.0.4:4000 > 203.0.113.80:80, from byte 5 on"},
		"source of remote": {broken{out: right, in: flip(15)}, "packet 2 of the capture, 203.0.113.80:80 > 10.0.0.4:4000, from byte 15 on"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{
				inside:    list[netip.Prefix]{values: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
				frontends: list[netip.Addr]{values: []netip.Addr{netip.MustParseAddr(front)}},
			}
			r := newReplay(&c.broken, &o, &snat.Config{}, time.Time{}, nil)
			require.NoError(t, r.play(t.Context(), []capture.Packet{{Data: packets[0]}, {Data: packets[1]}}))
			assert.Equal(t, 2, r.compared)
			if c.first == "" {
				assert.Equal(t, 2, r.alike[identical])
				return
			}
			assert.Equal(t, 1, r.different)
			assert.Contains(t, r.firstDifference, c.first)
		})
	}
}
