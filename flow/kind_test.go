package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKindNames(t *testing.T) {
	seen := map[string]bool{}
	for k := range numSessionKinds {
		assert.NotContains(t, k.String(), "?")
		seen[k.String()] = true
	}
	assert.Len(t, seen, int(numSessionKinds))
	assert.Equal(t, "kind(?)", numSessionKinds.String())
	assert.Equal(t, KindTracked, Kind(0), "a session that nobody translates has said nothing")
}

// A session's kind shares a word with a timer's link. Neither disturbs the other, in
// lists of several sessions whose timers move.
func TestKindAmongTimers(t *testing.T) {
	table, err := NewTable(Config{Shards: 1})
	require.NoError(t, err)
	defer table.Close()
	sh := table.Shard(0)
	sh.Lock()
	defer sh.Unlock()
	kinds := map[ID]Kind{}
	add := func(at Time, i uint32) {
		id, s := sh.New(i%2 == 1)
		s.Key = Key{Src: i, Dst: i, VNIProto: 17}
		if id.Is6() {
			*s.Addrs6() = Addrs6{Inside: [2]uint64{1, uint64(i)}, Remote: [2]uint64{2, uint64(i)}, Outside: [2]uint64{3, uint64(i)}}
		}
		s.Track.Class = ClassUDP
		s.SetKind(Kind(i) % numSessionKinds)
		require.True(t, sh.Insert(id, s, at))
		kinds[id] = s.Kind()
	}
	check := func() {
		t.Helper()
		for id, kind := range kinds {
			require.Equal(t, kind, sh.At(id).Kind())
			require.Equal(t, kind, sh.Info(id).Kind)
		}
	}
	for i := range uint32(60) {
		add(At(time.Duration(i/5)*time.Second), i+1) // five in each slot
	}
	check()
	for id := range kinds {
		s := sh.At(id)
		s.Touch(At(20 * time.Second))
		sh.Rearm(id, s)
	}
	check()
	for now := Time(0); len(kinds) > 0; now = now.Add(time.Second) {
		ids, _, _ := sh.Expire(now)
		for _, id := range ids {
			require.Equal(t, kinds[id], sh.At(id).Kind())
			sh.Remove(id, sh.At(id))
			delete(kinds, id)
		}
		check()
	}
}
