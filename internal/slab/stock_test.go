package slab

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// noSpares returns all spares to the system.
func noSpares() {
	spares.mu.Lock()
	defer spares.mu.Unlock()
	spares.discard(len(spares.kept))
}

// Memories that have their parts of a stock hand out zeroed chunks which do not overlap, whatever
// was in the stock before, and more when those are used up.
func TestStock(t *testing.T) {
	pkttest.OneGoroutine(t)
	defer noSpares()
	noSpares()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 10 {
		var from, to [5]Memory
		var s Stock
		want := 0
		for i := range from {
			n := rng.IntN(40)
			if i == 0 {
				n = 0
			}
			for range n {
				p := from[i].Chunk(ChunkSize)
				if rng.IntN(4) == 0 {
					from[i].FreeChunk(p, ChunkSize)
					n--
				}
			}
			from[i].Chunk(minChunk)
			s.Add(&to[i], &from[i])
			want += n * ChunkSize
		}
		s.Take()
		if want >= maxHeap {
			reserved := 0
			for i := range to {
				reserved += to[i].Reserved()
			}
			require.Equal(t, want, reserved, "round %d", round)
		}
		seen := map[unsafe.Pointer]bool{}
		for i := range to {
			for k := range 50 {
				var c []byte
				if k%2 == 0 {
					c = chunkBytes(to[i].Chunk(ChunkSize))
					require.True(t, isZero(c), "round %d: chunk %d of %d", round, k, i)
				} else {
					src := from[i].Chunk(ChunkSize)
					used := rng.IntN(ChunkSize)
					for j := range used {
						chunkBytes(src)[j] = 0x5a
					}
					c = chunkBytes(to[i].CopyChunk(src, ChunkSize, used))
					require.Equal(t, chunkBytes(src), c, "round %d: chunk %d of %d", round, k, i)
				}
				require.False(t, seen[unsafe.Pointer(&c[0])])
				seen[unsafe.Pointer(&c[0])] = true
				for j := range c {
					c[j] = 0xa5
				}
			}
		}
		for i := range to {
			to[i].Release()
			from[i].Release()
		}
	}
}

// A stock that has been released serves the next one, until nobody has asked for it during two
// garbage collections.
func TestStockIsUsedAgain(t *testing.T) {
	defer noSpares()
	noSpares()
	var from Memory
	defer from.Release()
	for range 100 {
		from.Chunk(ChunkSize)
	}
	take := func() *Memory {
		m, s := new(Memory), Stock{}
		s.Add(m, &from)
		s.Take()
		require.Len(t, m.regions, 1)
		return m
	}
	m := take()
	base := m.regions[0].base
	m.Release()
	m = take()
	require.Equal(t, base, m.regions[0].base)
	other := take()
	require.NotEqual(t, base, other.regions[0].base)
	m.Release()
	other.Release()
	for range 100 {
		runtime.GC()
		time.Sleep(time.Millisecond)
		spares.mu.Lock()
		n := len(spares.kept)
		spares.mu.Unlock()
		if n == 0 {
			return
		}
	}
	t.Fatal("spares are kept for ever")
}

// Where the system has no memory a stock is empty, and nothing is wrong.
func TestStockWithoutMemory(t *testing.T) {
	noSpares()
	var from, to Memory
	defer from.Release()
	defer to.Release()
	for range 100 {
		from.Chunk(ChunkSize)
	}
	Fault = func() bool { return true }
	defer func() { Fault = nil }()
	var s Stock
	s.Add(&to, &from)
	s.Take()
	require.Zero(t, to.Reserved())
	require.Nil(t, to.Chunk(ChunkSize))
	Fault = nil
	require.NotNil(t, to.Chunk(ChunkSize))
}
