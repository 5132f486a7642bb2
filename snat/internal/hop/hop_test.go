package hop_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/hop"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

const (
	inside = "10.0.0.4:5000"
	remote = "203.0.113.9:53"
)

// newHop returns a hop and its outbox, from which at most one error comes.
func newHop(c hop.Config) (*hop.Hop, *icmp.Outbox) {
	var h hop.Hop
	var out icmp.Outbox
	out.Init(new(flow.Notice), [2]bool{}, 1, 1)
	h.Init(c, &out, nil, fragments.NewIDs(1))
	return &h, &out
}

// taken returns what waits in an outbox.
func taken(out *icmp.Outbox) (all []flow.Emission) {
	out.Advance(func(e flow.Emission) { all = append(all, e) })
	return all
}

func TestWhatMayNotBeForwarded(t *testing.T) {
	long := strings.Repeat("x", 1400)
	for _, tt := range []struct {
		name string
		c    hop.Config
		pkt  []byte
		want *icmp.Report
	}{
		{"a transparent hop forwards all", hop.Config{}, pkttest.UDP(inside, remote, long, pkttest.TTL(1)), nil},
		{"one that counts down needs hops", hop.Config{CountsDown: true}, pkttest.UDP(inside, remote, "", pkttest.TTL(1)), &icmp.HopsExceeded},
		{"two are enough", hop.Config{CountsDown: true}, pkttest.UDP(inside, remote, "", pkttest.TTL(2)), nil},
		{"what may not be split must fit", hop.Config{MTU: 1280}, pkttest.UDP(inside, remote, long, pkttest.DF(true)), &icmp.TooBig},
		{"what may be split need not", hop.Config{MTU: 1280}, pkttest.UDP(inside, remote, long, pkttest.DF(false)), nil},
		{"IPv6 is never split", hop.Config{MTU: 1280}, pkttest.UDP("[fd00::4]:5000", "[2001:db8::9]:53", long), &icmp.TooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := newHop(tt.c)
			var p wire.Packet
			require.Equal(t, wire.OK, wire.Parse(tt.pkt, &p))
			assert.Same(t, tt.want, h.Unfit(&p))
		})
	}
}

func TestForwardCountsDownAndSplits(t *testing.T) {
	h, out := newHop(hop.Config{CountsDown: true, MTU: 1280})
	v := flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: 3}
	pkt := pkttest.UDP(inside, remote, "query", pkttest.TTL(7))
	h.Forward(0, pkt, &v)
	assert.Equal(t, flow.Forward, v.Action)
	pkttest.Check(t, pkt, pkttest.TTL(6), pkttest.ChecksumsOK())

	long := pkttest.UDP(inside, remote, strings.Repeat("x", 2000), pkttest.DF(false))
	h.Forward(9, long, &v)
	assert.Equal(t, flow.Queued, v.Action)
	parts := taken(out)
	require.Len(t, parts, 2)
	assert.Equal(t, flow.Emission{At: 9, To: flow.Outside, Instance: 3, Packet: parts[0].Packet}, parts[0])
	assert.LessOrEqual(t, len(parts[0].Packet), 1280)

	for range 4 << 20 / 2000 {
		v.Action = flow.Forward
		h.Forward(9, pkttest.UDP(inside, remote, strings.Repeat("x", 2000), pkttest.DF(false)), &v)
	}
	assert.Equal(t, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFragLimit, Instance: 3}, v, "no room is left")
}

func TestReportsAnswerWithinTheirRate(t *testing.T) {
	h, out := newHop(hop.Config{CountsDown: true})
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(pkttest.UDP(inside, remote, "query"), &p))
	src, dst := p.Addrs()
	for _, from := range [][2]uint64{{}, src, dst, dst} { // no address, the sender's own, another, and one too many
		assert.Equal(t, flow.ReasonTTL, h.Report(1, flow.Inside, 3, &p, from, &icmp.HopsExceeded))
	}
	assert.Len(t, taken(out), 1)
	made, suppressed := out.Errors()
	assert.Equal(t, []uint64{1, 3}, []uint64{made, suppressed})
}

func TestProblemsAreToldIfAsked(t *testing.T) {
	esp := pkttest.IP("10.0.0.4", "203.0.113.9", 50, []byte("sealed"))
	for _, told := range []bool{false, true} {
		h, _ := newHop(hop.Config{ProtocolUnreachable: told})
		var p wire.Packet
		_, ok := h.Problem(esp, flow.ReasonUnsupportedProto, &p)
		assert.Equal(t, told, ok)
		_, ok = h.Problem(esp, flow.ReasonFragTiny, &p)
		assert.False(t, ok, "that is another option")
	}
}
