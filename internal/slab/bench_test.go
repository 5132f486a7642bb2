package slab

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// benchRecords is a Slab of n 64-byte records and a random order to visit 4096 of them in.
func benchRecords(b *testing.B, n int) (*Slab[[16]uint32], []uint32) {
	s := new(Slab[[16]uint32])
	s.Init(newMemory(b))
	for range n {
		s.At(s.Alloc())[1] = 1
	}
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	order := make([]uint32, 1<<20)
	for i := range order {
		order[i] = 1 + rng.Uint32N(uint32(n))
	}
	return s, order
}

// BenchmarkAt reads random records in batches of 64, with and without a prefetch of the
// whole batch in advance. ns/op is per record.
func BenchmarkAt(b *testing.B) {
	for _, bm := range []struct {
		name     string
		prefetch bool
	}{{"prefetch=no", false}, {"prefetch=each", true}} {
		b.Run(bm.name+"/records=1048576", func(b *testing.B) {
			s, order := benchRecords(b, 1<<20)
			var ps [64]unsafe.Pointer
			var sum uint32
			for i := 0; i < b.N; i += len(ps) {
				batch := order[i%len(order):][:len(ps)]
				if bm.prefetch {
					for k, r := range batch {
						ps[k] = unsafe.Pointer(s.At(r))
					}
					PrefetchEach(ps[:])
				}
				for _, r := range batch {
					p := s.At(r + sum>>31) // depends on the record before, as real work does
					sum = (sum + p[1]) & 0xffff
				}
			}
		})
	}
}

func BenchmarkAllocFree(b *testing.B) {
	var s Slab[[16]uint32]
	s.Init(newMemory(b))
	for b.Loop() {
		s.Free(s.Alloc())
	}
}
