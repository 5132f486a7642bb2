package flow

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestConcurrent lets goroutines observe flows of their own and shared ones, in
// all shards, while others expire, iterate and count. No session may get lost,
// none may be created twice.
func TestConcurrent(t *testing.T) {
	const workers, perWorker, shared = 6, 3000, 50
	table := newTable(t, Config{Shards: 4, Timeouts: Timeouts{UDP: time.Second, ICMP: MaxTimeout}})
	var clock atomic.Int64 // ticks
	var created, expired atomic.Int64
	var working, watching sync.WaitGroup
	for worker := range uint32(workers) {
		working.Go(func() {
			for i := range uint32(perWorker) {
				now := tick(uint64(clock.Add(1)))
				own := Key{Src: worker, Dst: i, SrcPort: 1, DstPort: 2, VNIProto: 17}
				if _, _, isNew := table.Observe(now, own, nil); !isNew {
					t.Errorf("%v seen before", own)
				}
				common := Key{Src: 1000, Dst: 2000 + i%shared, VNIProto: protoICMP}
				if worker%2 == 1 {
					common = common.Reverse()
				}
				if _, _, isNew := table.Observe6(now, mapped(common), nil); isNew {
					created.Add(1)
				}
			}
		})
	}
	done := make(chan struct{})
	for _, watch := range []func(){
		func() {
			if at, ok := table.NextDeadline(); ok {
				expired.Add(int64(table.Expire(min(at, tick(uint64(clock.Load()))), nil)))
			}
		},
		func() {
			table.Expire(tick(uint64(clock.Load())), func(_ Time, in Info) {
				assert.Equal(t, ClassUDP, in.Class)
				expired.Add(1)
			})
		},
		func() {
			seen := 0
			for in := range table.Sessions() {
				assert.NotEqual(t, ClassNone, in.Class)
				seen++
			}
			assert.LessOrEqual(t, seen, workers*perWorker+shared)
			assert.GreaterOrEqual(t, table.Bytes(), 0)
			assert.LessOrEqual(t, table.Len(), workers*perWorker+shared)
		},
	} {
		watching.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					watch()
				}
			}
		})
	}
	working.Wait()
	close(done)
	watching.Wait()

	assert.Equal(t, int64(shared), created.Load(), "each shared flow is created once, by either side")
	require.Equal(t, workers*perWorker+shared-int(expired.Load()), table.Len())
	expired.Add(int64(table.Expire(tick(uint64(clock.Load()))+Time(day), nil)))
	assert.Equal(t, int64(workers*perWorker), expired.Load())
	assert.Equal(t, shared, table.Len())
}

// TestShardsAreIndependent holds the lock of one shard while another is used.
func TestShardsAreIndependent(t *testing.T) {
	table := newTable(t, Config{Shards: 2})
	table.Shard(0).Lock()
	defer table.Shard(0).Unlock()
	k := Key{VNIProto: 17}
	for r := k.Reverse(); table.shardOf(table.seeded.Hash(&k), table.seeded.Hash(&r)) != table.Shard(1); r = k.Reverse() {
		k.Src++
	}
	_, _, created := table.Observe(0, k, nil)
	assert.True(t, created)
	assert.Equal(t, 1, table.Shard(1).Len())
}
