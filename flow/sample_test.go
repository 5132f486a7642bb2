package flow

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A sample is of sessions that there are, the same with the same seed, and reaches all of both families alike.
func TestSample(t *testing.T) {
	table, err := NewTable(Config{Shards: 1})
	require.NoError(t, err)
	defer table.Close()
	sh := table.Shard(0)
	sh.Lock()
	defer sh.Unlock()
	var ids []ID
	for i := range 3000 {
		id, s := sh.New(i%3 == 0)
		s.Key.SrcPort, s.Key.DstPort, s.Key.VNIProto = uint16(i), 80, 17
		s.OutsidePort = uint16(i)
		require.True(t, sh.Insert(id, s, 0))
		ids = append(ids, id)
	}
	for i, id := range ids {
		if i%2 == 0 {
			sh.Remove(id, sh.At(id))
		}
	}
	seen := map[ID]int{}
	for seed := range uint64(1000) {
		sample := sh.Sample(make([]ID, 0, 64), seed)
		assert.Equal(t, sample, sh.Sample(make([]ID, 0, 64), seed))
		for _, id := range sample {
			seen[id]++
		}
	}
	least, most := 1<<30, 0
	for i, id := range ids {
		if i%2 == 0 {
			require.NotContains(t, seen, id)
			continue
		}
		least, most = min(least, seen[id]), max(most, seen[id])
	}
	assert.Greater(t, least, most/6, "%d to %d", least, most)
	assert.Len(t, sh.Sample(make([]ID, 0, 5000), 1), 1500)
	assert.False(t, slices.Contains(sh.Sample(make([]ID, 0, 64), 1), 0))
}
