package flow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A session that moves to another shard is found there, by both keys and not in
// the old one, and expires when it would have, by the timeouts of the new shard.
func TestShard_Move(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		table, err := flow.NewTable(flow.Config{Shards: 2})
		require.NoError(t, err)
		defer table.Close()
		from, to, h := table.Shard(0), table.Shard(1), table.Hasher()
		from.Lock()
		to.Lock()
		to.SetTimeouts(flow.Timeouts{UDP: time.Minute})
		other, o := to.New(is6) // takes the ID that the session has in its own shard
		o.Key, o.Track.Class = flow.Key{Src: 9, Dst: 9, VNIProto: 17}, flow.ClassUDP
		to.Insert(other, o, 0)

		id, s := from.New(is6)
		s.Key = flow.Key{SrcPort: 5000, DstPort: 53, VNIProto: 7<<8 | 17}
		s.OutsidePort, s.Data, s.Track.Class = 1024, [3]uint16{1, 2, 3}, flow.ClassUDP
		var inside, outside func(sh *flow.Shard) flow.ID
		if is6 {
			*s.Addrs6() = flow.Addrs6{Inside: [2]uint64{1, 1}, Remote: [2]uint64{2, 2}, Outside: [2]uint64{3, 3}}
			k, r := s.KeyInside6(), s.KeyOutside6()
			inside = func(sh *flow.Shard) flow.ID { return sh.LookupInside6(&k, h.Hash6(&k)) }
			outside = func(sh *flow.Shard) flow.ID { return sh.LookupOutside6(&r, h.Hash6(&r)) }
		} else {
			s.Key.Src, s.Key.Dst, s.Outside = 1, 2, 3
			k, r := s.Key, s.KeyOutside()
			inside = func(sh *flow.Shard) flow.ID { return sh.LookupInside(&k, h.Hash(&k)) }
			outside = func(sh *flow.Shard) flow.ID { return sh.LookupOutside(&r, h.Hash(&r)) }
		}
		s.SetKind(flow.KindForwarded)
		from.Insert(id, s, 0)
		s.Touch(flow.At(10 * time.Second))
		want := from.Info(id)

		now := flow.At(30 * time.Second)
		_, _, more := from.Expire(now)
		require.False(t, more)
		_, _, more = to.Expire(now)
		require.False(t, more)
		moved := from.Move(id, to, now)
		assert.Zero(t, from.Len())
		assert.Zero(t, inside(from))
		assert.Zero(t, outside(from))
		assert.Equal(t, 2, to.Len())
		require.NotZero(t, moved)
		assert.Equal(t, moved, inside(to))
		assert.Equal(t, moved, outside(to))
		got := to.Info(moved)
		assert.Equal(t, 20*time.Second, got.Idle)
		got.Idle, got.Due = want.Idle, want.Due
		assert.Equal(t, want, got)

		ids, at, _ := to.Expire(flow.At(time.Hour))
		require.Equal(t, []flow.ID{other}, ids)
		assert.Equal(t, flow.At(time.Minute), at)
		to.Remove(other, to.At(other))
		ids, at, _ = to.Expire(flow.At(time.Hour))
		require.Equal(t, []flow.ID{moved}, ids)
		assert.Equal(t, flow.At(70*time.Second), at)
		to.Remove(moved, to.At(moved))
		_, ok := from.NextDeadline()
		assert.False(t, ok, "no timer is left behind")
		to.Unlock()
		from.Unlock()
	}
}
