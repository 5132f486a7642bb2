package slab

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// forkRecord is large, so that few of them take many chunks.
type forkRecord struct{ words [256]uint64 }

// A copy of a slab hands out what the original does, record by record, and neither sees
// what the other writes.
func TestForkedSlab(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, 10, 40, 3000} {
		var s Slab[forkRecord]
		s.Init(newMemory(t))
		live := []uint32{}
		churn := func(on *Slab[forkRecord], live []uint32, r *rand.Rand, mark uint64) []uint32 {
			for range n {
				if r.IntN(5) < 3 || len(live) == 0 {
					i := on.Alloc()
					if *on.At(i) != (forkRecord{}) {
						t.Fatalf("seed %d: record %d is not zero", seed, i)
					}
					on.At(i).words[0], on.At(i).words[255] = mark, uint64(i)
					live = append(live, i)
				} else {
					k := r.IntN(len(live))
					on.Free(live[k])
					live = slices.Delete(live, k, k+1)
				}
			}
			return live
		}
		for round := range uint64(3) {
			live = churn(&s, live, rng, 1)
			marks := [2]uint64{2 + 2*round, 3 + 2*round} // of the copy and of the original
			var twin Slab[forkRecord]
			m := newMemory(t)
			require.True(t, s.ForkTo(&twin, m))
			require.Equal(t, s.dir.m.Bytes(), m.Bytes())
			for i := s.Next(0); ; i = s.Next(i) {
				require.Equal(t, s.Next(i), twin.Next(i))
				if i == 0 {
					break
				}
				if s.At(i) == twin.At(i) || *s.At(i) != *twin.At(i) {
					t.Fatalf("seed %d: record %d is not a copy", seed, i)
				}
			}
			step := rng.Uint64()
			same := churn(&twin, slices.Clone(live), rand.New(rand.NewPCG(step, 0)), marks[0])
			live = churn(&s, live, rand.New(rand.NewPCG(step, 0)), marks[1])
			require.Equal(t, live, same)
			for _, i := range live {
				require.Equal(t, s.At(i).words[255], twin.At(i).words[255])
				require.NotEqual(t, marks[0], s.At(i).words[0])
				require.NotEqual(t, marks[1], twin.At(i).words[0])
			}
			m.Release()
			for _, i := range live {
				require.Equal(t, uint64(i), s.At(i).words[255])
			}
		}
	}
}

// Likewise of runs.
func TestForkedRuns(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	var r Runs
	r.Init(newMemory(t))
	var live []Run
	churn := func(on *Runs, live []Run, rng *rand.Rand, mark uint64) []Run {
		for range 400 {
			if rng.IntN(5) < 3 || len(live) == 0 {
				h := on.Alloc(1 + rng.IntN(1<<rng.IntN(13)))
				require.True(t, isZero(on.Words(h)), "seed %d", seed)
				for i := range on.Words(h) {
					on.Words(h)[i] = mark<<32 | uint64(h)
				}
				live = append(live, h)
			} else {
				k := rng.IntN(len(live))
				on.Free(live[k])
				live = slices.Delete(live, k, k+1)
			}
		}
		return live
	}
	for round := range uint64(8) {
		live = churn(&r, live, rng, 1)
		marks := [2]uint64{2 + 2*round, 3 + 2*round}
		var twin Runs
		m := newMemory(t)
		require.True(t, r.ForkTo(&twin, m))
		for _, h := range live {
			require.Equal(t, r.Words(h), twin.Words(h))
		}
		step := rng.Uint64()
		same := churn(&twin, slices.Clone(live), rand.New(rand.NewPCG(step, 0)), marks[0])
		live = churn(&r, live, rand.New(rand.NewPCG(step, 0)), marks[1])
		require.Equal(t, live, same)
		for _, h := range live {
			for i, w := range r.Words(h) {
				if x := twin.Words(h)[i]; uint32(w) != uint32(x) || w>>32 == marks[0] || x>>32 == marks[1] {
					t.Fatalf("seed %d: word %d of run %#x is %#x, and %#x in the copy", seed, i, h, w, x)
				}
			}
		}
		require.Equal(t, r.dir.m.Bytes(), m.Bytes())
	}
}

// Without memory there is no copy, and the original is as it was.
func TestForkWithoutMemory(t *testing.T) {
	var s Slab[forkRecord]
	var r Runs
	m := newMemory(t)
	s.Init(m)
	r.Init(m)
	for range 200 {
		s.At(s.Alloc()).words[7] = 7
		r.Words(r.Alloc(1000))[7] = 7
	}
	before := bytes.Clone(chunkBytes(s.dir.chunks[4]))
	left := 0
	Fault = func() bool { left--; return left < 0 }
	defer func() { Fault = nil }()
	for _, left = range []int{0, 1, 3} {
		var s2 Slab[forkRecord]
		m2 := newMemory(t)
		require.False(t, s.ForkTo(&s2, m2))
		require.Zero(t, s2.Len())
		require.Zero(t, s2.Next(0))
	}
	left = 0
	var r2 Runs
	require.False(t, r.ForkTo(&r2, newMemory(t)))
	require.Equal(t, before, chunkBytes(s.dir.chunks[4]))
	require.Equal(t, 200, s.Len())
}
