package resets_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
)

// parse reads a packet.
func parse(t *testing.T, b []byte) *wire.Packet {
	t.Helper()
	var p wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &p))
	return &p
}

func TestAnswersWhomTheRulesName(t *testing.T) {
	tcp := func(options ...pkttest.Field) *wire.Packet {
		return parse(t, pkttest.TCP("198.51.100.7:443", "203.0.113.9:5000", options...))
	}
	ack, syn, rst := tcp(pkttest.TCPFlags("A")), tcp(pkttest.TCPFlags("S")), tcp(pkttest.TCPFlags("R"))
	for _, tt := range []struct {
		name  string
		rules resets.Rules
		from  flow.Side
		p     *wire.Packet
		want  bool
	}{
		{"nobody is told", resets.Rules{}, flow.Inside, ack, false},
		{"the inside, which is told", resets.Rules{Unknown: resets.Inside}, flow.Inside, ack, true},
		{"the outside, which is not", resets.Rules{Unknown: resets.Inside}, flow.Outside, ack, false},
		{"both are told", resets.Rules{Unknown: resets.Sender}, flow.Outside, ack, true},
		{"a SYN has a rule of its own", resets.Rules{Unknown: resets.Sender}, flow.Outside, syn, false},
		{"which tells", resets.Rules{SYN: resets.Sender}, flow.Outside, syn, true},
		{"a RST is never answered", resets.Rules{SYN: resets.Sender, Unknown: resets.Sender}, flow.Outside, rst, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var q resets.Queue
			q.Follow(tt.rules)
			assert.Equal(t, tt.want, q.Answers(tt.from, tt.p))
		})
	}
}

func TestRSTsWaitAndLeaveInSteps(t *testing.T) {
	var q resets.Queue
	var notice flow.Notice
	q.Init(&notice)
	q.Follow(resets.Rules{Unknown: resets.Sender, Rate: 1, Burst: 300})
	p := parse(t, pkttest.TCP("198.51.100.7:443", "203.0.113.9:5000", pkttest.TCPFlags("A")))
	_, waits := q.NextDeadline()
	assert.False(t, waits)
	notice.Clear()
	for range 301 {
		q.Refuse(7, flow.Outside, 3, p)
	}
	assert.True(t, notice.Raised())
	made, suppressed := q.Counts()
	assert.Equal(t, []uint64{300, 1}, []uint64{made, suppressed}, "beyond the burst")
	at, waits := q.NextDeadline()
	assert.True(t, waits)
	assert.Equal(t, flow.Time(7), at)
	step, more := q.Take()
	assert.Len(t, step, 256)
	assert.True(t, more)
	step, more = q.Take()
	assert.Len(t, step, 44)
	assert.False(t, more)
	var out []flow.Emission
	step.Emit(func(e flow.Emission) { out = append(out, e) })
	require.Len(t, out, 44)
	assert.Equal(t, flow.Emission{At: 7, To: flow.Outside, Instance: 3, Packet: out[0].Packet}, out[0])
	assert.NotZero(t, parse(t, out[0].Packet).TCP().Flags()&flow.RST)
	q.Reuse(step)
	q.Refuse(flow.Time(1e9)*300, flow.Outside, 3, p)
	q.Close()
	_, waits = q.NextDeadline()
	assert.False(t, waits, "nothing waits after Close")
}
