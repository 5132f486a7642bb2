package udp_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// newShard returns a shard and timers by rules.
func newShard(t *testing.T, r udp.Rules) (*flow.Shard, *udp.Timers) {
	t.Helper()
	table, err := flow.NewTable(flow.Config{Shards: 1})
	require.NoError(t, err)
	sh := table.Shard(0)
	sh.SetTimeouts(flow.Timeouts{UDP: time.Minute, UDPReplied: time.Minute})
	var timers udp.Timers
	timers.Follow(r, sh)
	return sh, &timers
}

// begin returns a session to a port that a side has begun at tick 0.
func begin(t *testing.T, sh *flow.Shard, timers *udp.Timers, port uint16, from flow.Side) (flow.ID, *flow.Session) {
	t.Helper()
	require.True(t, sh.Ready(false))
	id, s := sh.New(false)
	s.Key = flow.Key{Src: 1, Dst: 2, SrcPort: 5000, DstPort: port, VNIProto: uint32(wire.ProtoUDP)}
	s.SetKind(flow.KindTranslated)
	timers.Begin(s, port, from, 0)
	require.True(t, sh.Insert(id, s, 0))
	return id, s
}

func TestWhichPacketsRefresh(t *testing.T) {
	for refresh, want := range map[udp.Refresh][2]time.Duration{ // when a session ends whose last packet, at 30 s, is of a side
		udp.Either:       {90 * time.Second, 90 * time.Second},
		udp.PerDirection: {60 * time.Second, 60 * time.Second},
		udp.Outbound:     {90 * time.Second, 60 * time.Second},
	} {
		for from, end := range want {
			sh, timers := newShard(t, udp.Rules{Refresh: refresh})
			_, s := begin(t, sh, timers, 53, flow.Inside)
			timers.Touch(s, flow.Side(from), flow.TickOf(flow.Time(30*time.Second)))
			at := flow.TickOf(flow.Time(end))
			assert.False(t, sh.Expired(s, at-1), "refresh %d, from %d", refresh, from)
			assert.True(t, sh.Expired(s, at), "refresh %d, from %d", refresh, from)
		}
	}
}

func TestClassesFollowPorts(t *testing.T) {
	sh, timers := newShard(t, udp.Rules{Ports: [udp.MaxPorts]udp.Port{1: {Port: 53, Timeout: time.Second}}})
	_, dns := begin(t, sh, timers, 53, flow.Outside)
	_, other := begin(t, sh, timers, 54, flow.Inside)
	_, asked := begin(t, sh, timers, 55, flow.Outside)
	class := func() [3]flow.Class {
		return [3]flow.Class{dns.Track.Class, other.Track.Class, asked.Track.Class}
	}
	assert.Equal(t, [3]flow.Class{flow.FirstCustomClass + 1, flow.ClassUDP, flow.ClassUDPReplied}, class())
	assert.True(t, sh.Expired(dns, flow.TickOf(flow.Time(time.Second))))
	assert.False(t, sh.Expired(other, flow.TickOf(flow.Time(time.Second))))

	timers.Follow(udp.Rules{Ports: [udp.MaxPorts]udp.Port{0: {Port: 54, Timeout: time.Second}}}, sh)
	for _, s := range []*flow.Session{dns, other, asked} {
		timers.Reclassify(s)
	}
	assert.Equal(t, [3]flow.Class{flow.ClassUDP, flow.FirstCustomClass, flow.ClassUDPReplied}, class(), "after the rules have changed")
}

// Where nothing is mapped, nothing has been asked for: who begins from outside has no reply yet.
func TestTrackedBeginsUnreplied(t *testing.T) {
	for _, from := range []flow.Side{flow.Inside, flow.Outside} {
		_, timers := newShard(t, udp.Rules{})
		var s flow.Session
		s.SetKind(flow.KindTracked)
		timers.Begin(&s, 53, from, 0)
		assert.Equal(t, flow.ClassUDP, s.Track.Class)
		assert.Equal(t, from, s.Track.Initiator())
	}
}
