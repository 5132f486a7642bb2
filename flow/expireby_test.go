package flow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// ExpireBy makes a session expire sooner, never later, and only until a packet
// comes.
func TestShard_ExpireBy(t *testing.T) {
	for _, is6 := range []bool{false, true} {
		table, err := flow.NewTable(flow.Config{Timeouts: flow.Timeouts{UDP: time.Minute}})
		require.NoError(t, err)
		defer table.Close()
		sh := table.Shard(0)
		sh.Lock()
		now := flow.At(100 * time.Second)
		id, s := sh.New(is6)
		s.Key, s.Track.Class = flow.Key{Src: 1, Dst: 2, VNIProto: 17}, flow.ClassUDP
		sh.Insert(id, s, now)
		assert.Equal(t, flow.TickOf(now), sh.ExpireBy(id, s, flow.At(170*time.Second)), "it ends before that")
		assert.Equal(t, flow.At(160*time.Second), sh.Deadline(s))
		assert.Equal(t, flow.TickOf(flow.At(70*time.Second)), sh.ExpireBy(id, s, flow.At(130*time.Second)))
		assert.Equal(t, flow.At(130*time.Second), sh.Deadline(s))
		ids, _, _ := sh.Expire(flow.At(130*time.Second - flow.Tick))
		assert.Empty(t, ids)
		s.Touch(flow.At(129 * time.Second))
		ids, _, _ = sh.Expire(flow.At(188 * time.Second))
		assert.Empty(t, ids)
		ids, at, _ := sh.Expire(flow.At(190 * time.Second))
		assert.Equal(t, []flow.ID{id}, ids)
		assert.Equal(t, flow.At(189*time.Second), at)
		sh.Remove(id, s)
		sh.Unlock()
	}
}
