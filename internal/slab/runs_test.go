package slab

import (
	"testing"
	"unsafe"
)

func TestRunSizes(t *testing.T) {
	var r Runs
	r.Init(newMemory(t))
	for _, tt := range []struct{ words, want int }{
		{1, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 32}, {1000, 1024}, {1024, 1024}, {1025, 2048},
		{4097, 8192}, {MaxRunWords, MaxRunWords},
	} {
		h := r.Alloc(tt.words)
		w := r.Words(h)
		if len(w) != tt.want || cap(w) != tt.want {
			t.Errorf("Alloc(%d) has %d words, capacity %d, want %d", tt.words, len(w), cap(w), tt.want)
		}
		if p := uintptr(unsafe.Pointer(&w[0])); p%uintptr(8*tt.want) != 0 {
			t.Errorf("run of %d words at %#x is not aligned to its size", tt.want, p)
		}
	}
	for _, words := range []int{-1, 0, MaxRunWords + 1} {
		mustPanic(t, "Alloc out of range", func() { r.Alloc(words) })
	}
}

func TestRunsFillTheirChunks(t *testing.T) {
	m := newMemory(t)
	var r Runs
	r.Init(m)
	for range chunkLines {
		r.Alloc(1)
	}
	if m.Bytes() != ChunkSize {
		t.Errorf("a chunk full of single lines takes %d bytes, want %d", m.Bytes(), ChunkSize)
	}
	if r.Alloc(1); m.Bytes() != 2*ChunkSize {
		t.Errorf("one line more takes %d bytes, want %d", m.Bytes(), 2*ChunkSize)
	}
}

func TestRunsFreeRefusesWhatIsNotInUse(t *testing.T) {
	var r Runs
	r.Init(newMemory(t))
	h := r.Alloc(8)
	mustPanic(t, "zero Run", func() { r.Free(0) })
	mustPanic(t, "Words beyond the last chunk", func() { r.Words(h + chunkLines<<4) })
	r.Free(h)
	mustPanic(t, "double free", func() { r.Free(h) })
	if again := r.Alloc(8); again != h {
		t.Errorf("Alloc after Free = %#x, want the run freed last, %#x", again, h)
	}
}
