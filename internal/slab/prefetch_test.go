package slab

import (
	"testing"
	"unsafe"
)

// TestPrefetchIsHarmless would crash the process if a prefetch could fault or write.
func TestPrefetchIsHarmless(t *testing.T) {
	m := new(Memory)
	gone := m.Chunk(ChunkSize)
	m.Release()
	line := [8]uint64{1, 2, 3, 4, 5, 6, 7, 8}
	want := line
	ps := [5]unsafe.Pointer{nil, gone, unsafe.Pointer(&line), unsafe.Add(gone, 1), unsafe.Pointer(&line[7])}
	kept := ps
	for _, p := range ps {
		Prefetch(p)
	}
	PrefetchEach(nil)
	PrefetchEach(ps[:0])
	for n := range ps {
		PrefetchEach(ps[:n+1])
	}
	if line != want || ps != kept {
		t.Errorf("memory changed: %v, %v", line, ps)
	}
}
