package story

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/egress/testdata"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// oneIP is the dullest cluster there is: a new outside port for every socket,
// never given back. It has so many ports, and a look at what passes.
type oneIP struct {
	flow.Translator // nil: the other doors are not used

	ports  int
	out    map[netip.AddrPort]netip.AddrPort
	in     map[netip.AddrPort]netip.AddrPort
	bypass bool
}

var frontends = []netip.Addr{netip.MustParseAddr("20.50.1.1"), netip.MustParseAddr("2001:db8:50:1::1")}

func (c *oneIP) Outbound(_ flow.Time, b []byte) flow.Verdict {
	var p wire.Packet
	if c.bypass {
		return flow.Verdict{Action: flow.Bypass}
	}
	if problem := wire.Parse(b, &p); problem != wire.OK {
		return flow.Verdict{Reason: flow.Reason(problem)}
	}
	s := shapeOf(b, &p, true)
	src, _ := s.endpoints(b)
	to, ok := c.out[src]
	if !ok {
		if len(c.out) == c.ports {
			return flow.Verdict{Reason: flow.ReasonPorts}
		}
		addr := frontends[0]
		if s.v6 {
			addr = frontends[1]
		}
		to = netip.AddrPortFrom(addr, uint16(1024+len(c.out)))
		c.out[src], c.in[to] = to, src
	}
	s.setSource(b, to)
	return flow.Verdict{Action: flow.Forward, To: flow.Outside, New: !ok}
}

func (c *oneIP) Inbound(_ flow.Time, b []byte) flow.Verdict {
	var p wire.Packet
	if problem := wire.Parse(b, &p); problem != wire.OK {
		return flow.Verdict{Reason: flow.Reason(problem)}
	}
	s := shapeOf(b, &p, true)
	_, dst := s.endpoints(b)
	to, ok := c.in[dst]
	if !ok {
		return flow.Verdict{Reason: flow.ReasonNoFlow}
	}
	s.setDestination(b, to)
	return flow.Verdict{Action: flow.Forward, To: flow.Inside}
}

func (c *oneIP) Advance(flow.Time, flow.Sink)    {}
func (c *oneIP) NextDeadline() (flow.Time, bool) { return 0, false }
func (c *oneIP) DeadlineMoved() bool             { return false }

func newOneIP(ports int) *oneIP {
	return &oneIP{ports: ports, out: make(map[netip.AddrPort]netip.AddrPort), in: make(map[netip.AddrPort]netip.AddrPort)}
}

func builtinRecording(t testing.TB) *recording {
	t.Helper()
	c, err := capture.Read(testdata.Conversations)
	require.NoError(t, err)
	return newRecording(c, carried{})
}

// newReplay returns a replay of copies of the built-in recording on four pods.
func newReplay(t testing.TB, cluster flow.Translator, copies int) *replay {
	var pods []pod
	for i := range byte(4) {
		pods = append(pods, pod{name: string('a' + rune(i)), node: "n", v4: netip.AddrFrom4([4]byte{10, 244, 0, 2 + i}),
			v6: netip.AddrFrom16([16]byte{0: 0xfd, 15: 2 + i})})
	}
	return &replay{
		recording: builtinRecording(t),
		cluster:   cluster,
		pods:      pods,
		frontends: frontends,
		copies:    copies,
		random:    rand.New(rand.NewPCG(1, 0)),
		sample:    func(flow.Time) {},
		progress:  func(float64) {},
	}
}

func TestReplaySendsEverythingOnce(t *testing.T) {
	r := newReplay(t, newOneIP(60_000), 3)
	require.NoError(t, r.play(t.Context()))
	require.NoError(t, r.drain(t.Context()))
	assert.Equal(t, 3*len(r.recording.packets), r.outbound+r.inbound)
	assert.Equal(t, 3*len(r.recording.packets), r.forwarded)
	assert.Equal(t, 3*len(r.recording.conversations), r.conversations)
	assert.Zero(t, r.dropped)
	assert.Zero(t, r.refused)
	assert.Zero(t, r.astray)
	assert.Empty(t, r.live, "finished conversations are forgotten")
	assert.Greater(t, r.trafficEnd.Duration(), time.Minute)
}

func TestReplayGivesUpRefusedConversations(t *testing.T) {
	c := newOneIP(10)
	r := newReplay(t, c, 1)
	require.NoError(t, r.play(t.Context()))
	assert.Equal(t, len(r.recording.conversations)-10, r.refused)
	assert.Equal(t, r.refused, r.dropped, "one packet each, then silence")
	assert.Equal(t, r.dropped, r.drops[flow.ReasonPorts])
	assert.Zero(t, r.astray)
}

func TestReplayOfBypassedConversationsHasNoReplies(t *testing.T) {
	c := newOneIP(10)
	c.bypass = true
	r := newReplay(t, c, 1)
	require.NoError(t, r.play(t.Context()))
	assert.Equal(t, r.outbound, r.bypassed)
	assert.Zero(t, r.inbound)
	assert.Equal(t, len(r.recording.conversations), r.local)
}

// A translator that delivers to the wrong pod must not go unnoticed.
func TestReplayNoticesStrayReplies(t *testing.T) {
	c := newOneIP(60_000)
	r := newReplay(t, crossed{c}, 1)
	require.NoError(t, r.play(t.Context()))
	assert.Positive(t, r.astray)
}

// crossed delivers every reply one port too high.
type crossed struct{ *oneIP }

func (c crossed) Inbound(now flow.Time, b []byte) flow.Verdict {
	v := c.oneIP.Inbound(now, b)
	var p wire.Packet
	if wire.Parse(b, &p) == wire.OK && v.Action == flow.Forward {
		s := shapeOf(b, &p, true)
		_, dst := s.endpoints(b)
		s.setDestination(b, netip.AddrPortFrom(dst.Addr(), dst.Port()+1))
	}
	return v
}

// What the cluster drops was never seen by anybody, so nobody answers it, whoever
// has the port by now.
func TestReplayEndsConversationsWhoseRequestIsDropped(t *testing.T) {
	r := newReplay(t, &forgetful{oneIP: newOneIP(100)}, 1)
	const from, to = "192.0.2.1:4000", "203.0.113.1:9000"
	r.recording = record(udp4(t, from, to), udp4(t, to, from), udp4(t, from, to), udp4(t, to, from), udp4(t, from, to))
	require.NoError(t, r.play(t.Context()))
	assert.Equal(t, 2, r.outbound)
	assert.Equal(t, 1, r.inbound)
	assert.Equal(t, 1, r.refused)
}

// forgetful has no port any more for the second packet from inside.
type forgetful struct {
	*oneIP
	packets int
}

func (c *forgetful) Outbound(now flow.Time, b []byte) flow.Verdict {
	if c.packets++; c.packets == 2 {
		return flow.Verdict{Reason: flow.ReasonPorts}
	}
	return c.oneIP.Outbound(now, b)
}

// The agenda against sorting everything again for every event.
func TestAgendaIsInOrder(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	var got agenda
	var want []event
	sort := func() {
		slices.SortFunc(want, func(a, b event) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order)) })
	}
	for i := range 2000 {
		switch n := random.IntN(4); {
		case len(want) == 0 || n == 0:
			e := event{at: flow.Time(random.IntN(50)), order: i}
			got.push(e)
			want = append(want, e)
		case n == 1:
			got.pop()
			want = want[1:]
		default:
			got[0].at += flow.Time(random.IntN(20))
			want[0].at = got[0].at
			got.settle()
		}
		sort()
		require.Len(t, got, len(want))
		if len(want) > 0 {
			require.Equal(t, want[0], got[0], "seed %d, operation %d", seed, i)
		}
	}
}
