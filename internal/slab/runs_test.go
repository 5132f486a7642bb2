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
		if p := uintptr(unsafe.Pointer(&w[0])); p%lineBytes != 0 {
			t.Errorf("run of %d words at %#x is not aligned to a cache line", tt.want, p)
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
	var all []Run
	for want := 0; want < 5*ChunkSize; { // the sizes of the chunks so far
		if want += chunkSize(len(r.state), 0); len(all)*lineBytes != m.Bytes() {
			t.Fatalf("%d lines take %d bytes", len(all), m.Bytes())
		}
		for len(all)*lineBytes < want {
			all = append(all, r.Alloc(1))
		}
		if m.Bytes() != want {
			t.Fatalf("%d lines take %d bytes, want %d", len(all), m.Bytes(), want)
		}
	}
	for _, h := range all {
		r.Free(h)
	}
	if m.Bytes() > 2*ChunkSize {
		t.Errorf("without a run Bytes() = %d, want one chunk", m.Bytes())
	}
	if h := r.Alloc(MaxRunWords); h == 0 || !isZero(r.Words(h)) {
		t.Errorf("the largest run is %#x", h)
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
