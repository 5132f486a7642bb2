package slab

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// scripts returns random operation scripts as seeds for the fuzz targets.
func scripts(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1, 1, 1, 0, 0, 0, 0})
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 200*(seed+1))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
}

// FuzzSlab runs a script against a Slab and a Go map. The records are large, so that
// short scripts cross chunks.
func FuzzSlab(f *testing.F) {
	type record struct {
		id   uint32
		body [2047]uint32
	}
	scripts(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		var s Slab[record]
		s.Init(newMemory(t))
		m := s.dir.m
		model := map[uint32]uint32{} // index to content
		var live []uint32
		for k, op := range script {
			if op%3 != 0 || len(live) == 0 { // grow twice as often as shrink
				i := s.Alloc()
				if model[i] != 0 || i == 0 {
					t.Fatalf("op %d: Alloc() = %d, which is in use", k, i)
				}
				p := s.At(i)
				if *p != (record{}) {
					t.Fatalf("op %d: record %d is not zero", k, i)
				}
				p.id, p.body[2046] = uint32(k)+1, uint32(k)+1
				model[i] = uint32(k) + 1
				live = append(live, i)
			} else {
				j := int(op/3) % len(live)
				i := live[j]
				live = slices.Delete(live, j, j+1)
				s.Free(i)
				delete(model, i)
			}
			if s.Len() != len(model) {
				t.Fatalf("op %d: Len() = %d, want %d", k, s.Len(), len(model))
			}
		}
		seen := 0
		for i := s.Next(0); i != 0; i = s.Next(i) {
			if model[i] != 0 {
				seen++
			} else if s.At(i).body != [2047]uint32{} {
				t.Fatalf("record %d is free and not zero", i)
			}
		}
		if seen != len(model) {
			t.Fatalf("Next finds %d of %d records", seen, len(model))
		}
		for i, want := range model {
			if p := s.At(i); p.id != want || p.body[2046] != want {
				t.Fatalf("record %d holds %d and %d, want %d", i, p.id, p.body[2046], want)
			}
			s.Free(i)
		}
		if m.Bytes() > 2*ChunkSize {
			t.Fatalf("%d bytes without a record", m.Bytes())
		}
	})
}

// FuzzRuns runs a script against a Runs and a Go map. Every live run is filled with a
// mark of its own, so that an overlap shows.
func FuzzRuns(f *testing.F) {
	scripts(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 4000)]
		m := newMemory(t)
		var r Runs
		r.Init(m)
		type run struct {
			h    Run
			mark uint64
		}
		words := 0 // in live runs
		var live []run
		for k, op := range script {
			if op%3 != 0 || len(live) == 0 {
				n := 1 + int(op)*int(op)/8 // 1 to 8,129
				h := r.Alloc(n)
				w := r.Words(h)
				if h == 0 || len(w) < n || len(w) > max(8, 2*n-1) {
					t.Fatalf("op %d: Alloc(%d) = %#x with %d words", k, n, h, len(w))
				}
				if !isZero(w) {
					t.Fatalf("op %d: run %#x is not zero", k, h)
				}
				for i := range w {
					w[i] = uint64(k) + 1
				}
				words += len(w)
				live = append(live, run{h, uint64(k) + 1})
			} else {
				j := int(op/3) % len(live)
				words -= len(r.Words(live[j].h))
				r.Free(live[j].h)
				live = slices.Delete(live, j, j+1)
			}
		}
		for _, x := range live {
			for i, got := range r.Words(x.h) {
				if got != x.mark {
					t.Fatalf("word %d of run %#x is %d, want %d", i, x.h, got, x.mark)
				}
			}
		}
		if 8*words > m.Bytes() {
			t.Fatalf("%d bytes in live runs, but only %d in chunks", 8*words, m.Bytes())
		}
		for _, x := range live {
			r.Free(x.h)
		}
		if m.Bytes() > 4*ChunkSize {
			t.Fatalf("%d bytes without a run", m.Bytes())
		}
	})
}
