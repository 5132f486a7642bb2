package slab

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// newMemory returns a Memory released at the end of the test.
func newMemory(t testing.TB) *Memory {
	m := new(Memory)
	t.Cleanup(m.Release)
	return m
}

func chunkBytes(p unsafe.Pointer) []byte { return unsafe.Slice((*byte)(p), ChunkSize) }

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func isZero[E comparable](s []E) bool {
	for _, e := range s {
		if e != *new(E) {
			return false
		}
	}
	return true
}

func TestChunksAreAlignedZeroedAndDistinct(t *testing.T) {
	m := newMemory(t)
	seen := map[unsafe.Pointer]bool{}
	const n = 100 // into the first huge region
	for i := range n {
		p := m.Chunk()
		if uintptr(p)%ChunkSize != 0 {
			t.Fatalf("chunk %d at %p is not aligned", i, p)
		}
		if seen[p] {
			t.Fatalf("chunk %d at %p was handed out before", i, p)
		}
		seen[p] = true
		if b := chunkBytes(p); !isZero(b) {
			t.Fatalf("chunk %d is not zero", i)
		} else {
			b[0], b[ChunkSize-1] = 1, 2
		}
	}
	if got := m.Bytes(); got != n*ChunkSize {
		t.Errorf("Bytes() = %d, want %d", got, n*ChunkSize)
	}
	for p := range seen {
		if b := chunkBytes(p); b[0] != 1 || b[ChunkSize-1] != 2 {
			t.Fatalf("chunk at %p was overwritten", p)
		}
	}
}

func TestRegionsDouble(t *testing.T) {
	m := newMemory(t)
	if m.Reserved() != 0 {
		t.Fatalf("an unused Memory reserves %d bytes", m.Reserved())
	}
	for _, want := range []int{1, 2, 4, 4, 8, 8, 8, 8, 16} {
		if m.Chunk(); m.Reserved() != want*ChunkSize {
			t.Fatalf("after %d chunks Reserved() = %d chunks, want %d", m.Bytes()/ChunkSize, m.Reserved()/ChunkSize, want)
		}
	}
	for m.Reserved() < 3*maxRegion {
		m.Chunk()
	}
	if last := m.regions[len(m.regions)-1].size; last != maxRegion {
		t.Errorf("region beyond 64 MiB has %d bytes, want %d", last, maxRegion)
	}
}

func TestFreedChunkIsReusedAndZeroed(t *testing.T) {
	m := newMemory(t)
	p, q := m.Chunk(), m.Chunk()
	chunkBytes(p)[7], chunkBytes(q)[ChunkSize-1] = 1, 1
	m.FreeChunk(p)
	m.FreeChunk(q)
	if m.Bytes() != 0 {
		t.Errorf("Bytes() = %d after all chunks were freed", m.Bytes())
	}
	reserved := m.Reserved()
	for _, want := range []unsafe.Pointer{q, p} {
		if got := m.Chunk(); got != want {
			t.Errorf("Chunk() = %p, want the one freed last, %p", got, want)
		} else if !isZero(chunkBytes(got)) {
			t.Errorf("recycled chunk is not zero")
		}
	}
	if m.Reserved() != reserved {
		t.Errorf("Reserved() went from %d to %d for recycled chunks", reserved, m.Reserved())
	}
}

func TestReleaseReturnsEverything(t *testing.T) {
	before := liveRegions.Load()
	var m Memory
	var s Slab[[16]uint32]
	var r Runs
	s.Init(&m)
	r.Init(&m)
	i, h := s.Alloc(), r.Alloc(8)
	for range 40 {
		m.Chunk()
	}
	if got, want := liveRegions.Load()-before, int64(len(m.regions)); got != want || want < 6 {
		t.Fatalf("%d more live regions, Memory knows %d", got, want)
	}
	m.Release()
	m.Release()
	if m.Reserved() != 0 || m.Bytes() != 0 || liveRegions.Load() != before {
		t.Errorf("after Release: Reserved() = %d, Bytes() = %d, %d live regions, want 0, 0, %d",
			m.Reserved(), m.Bytes(), liveRegions.Load(), before)
	}
	mustPanic(t, "Chunk", func() { m.Chunk() })
	mustPanic(t, "FreeChunk", func() { m.FreeChunk(unsafe.Pointer(&m)) })
	mustPanic(t, "Slab.At", func() { s.At(i) })
	mustPanic(t, "Slab.Alloc", func() { s.Alloc() })
	mustPanic(t, "Slab.Free", func() { s.Free(i) })
	mustPanic(t, "Runs.Words", func() { r.Words(h) })
	mustPanic(t, "Runs.Alloc", func() { r.Alloc(8) })
	mustPanic(t, "Init", func() { new(Runs).Init(&m) })
}

// collected reports whether the live regions fall to want within a few collections.
func collected(want int64) bool {
	for range 200 {
		if runtime.GC(); liveRegions.Load() == want {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

func TestForgottenMemoryIsReclaimed(t *testing.T) {
	before := liveRegions.Load()
	func() {
		shard := &struct { // a cycle, as in a real owner
			m    Memory
			s    Slab[uint64]
			self any
		}{}
		shard.self = shard
		shard.s.Init(&shard.m)
		for range 3 * ChunkSize / 8 {
			shard.s.Alloc()
		}
		if liveRegions.Load() == before {
			t.Fatal("nothing was mapped")
		}
	}()
	if !collected(before) {
		t.Errorf("%d regions of a forgotten Memory were not reclaimed", liveRegions.Load()-before)
	}
}

func TestSlabKeepsItsMemory(t *testing.T) {
	before := liveRegions.Load()
	s := new(Slab[uint64])
	s.Init(new(Memory))
	i := s.Alloc()
	*s.At(i) = 42
	if collected(before) {
		t.Fatal("the Memory of a live Slab was reclaimed")
	}
	if got := *s.At(i); got != 42 {
		t.Errorf("record is %d, want 42", got)
	}
	s.dir.m.Release()
}

func TestRecordsNeverMove(t *testing.T) {
	type record struct {
		id   uint64
		body [3]uint64
	}
	m := newMemory(t)
	var s Slab[record]
	s.Init(m)
	const n = 100_000
	at := make([]*record, n+1)
	for k := 1; k <= n; k++ {
		i := s.Alloc()
		if i != uint32(k) {
			t.Fatalf("Alloc() number %d = %d", k, i)
		}
		at[i] = s.At(i)
		*at[i] = record{uint64(i), [3]uint64{2: ^uint64(i)}}
	}
	for i := 1; i <= n; i++ {
		if p := s.At(uint32(i)); p != at[i] || *p != (record{uint64(i), [3]uint64{2: ^uint64(i)}}) {
			t.Fatalf("record %d moved or changed: %p %+v, was %p", i, p, *p, at[i])
		}
	}
	if s.Len() != n || s.Cap() != n+1 {
		t.Errorf("Len, Cap = %d, %d, want %d, %d", s.Len(), s.Cap(), n, n+1)
	}
	if got, want := m.Bytes(), (n*32+ChunkSize)/ChunkSize*ChunkSize; got != want {
		t.Errorf("Bytes() = %d, want %d", got, want)
	}
	// Freed in any order, all come back before the Slab grows.
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
		s.Free(uint32(i + 1))
	}
	for range n {
		if i := s.Alloc(); *s.At(i) != (record{}) {
			t.Fatalf("recycled record %d is not zero", i)
		}
	}
	if s.Cap() != n+1 {
		t.Errorf("Cap() grew to %d although %d records were free", s.Cap(), n)
	}
}
