package slab

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
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
	const n = 100 // into the second region
	for i := range n {
		p := m.Chunk(ChunkSize)
		if uintptr(p)%4096 != 0 {
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

// settle waits for what a goroutine makes ready.
func settle(m *Memory) {
	if m.coming != nil {
		m.coming.busy.Lock()
		defer m.coming.busy.Unlock()
	}
}

// Regions of huge pages double up to a limit. What is reserved beside what is used is small.
func TestRegionsDouble(t *testing.T) {
	m := newMemory(t)
	if m.Reserved() != 0 {
		t.Fatalf("an unused Memory reserves %d bytes", m.Reserved())
	}
	for m.huge < 3*maxRegion {
		m.Chunk(ChunkSize)
		if settle(m); m.Reserved() > 2*m.Bytes()+8<<20 {
			t.Fatalf("%d bytes are reserved for %d", m.Reserved(), m.Bytes())
		}
	}
	var sizes []int
	for _, r := range m.regions {
		if r.pages == hugePages {
			sizes = append(sizes, r.size>>20)
		}
	}
	if want := []int{2, 2, 4, 8, 16, 32, 32}; touchesAhead && !slices.Equal(sizes, want) {
		t.Errorf("regions of huge pages have %v MiB, want %v", sizes, want)
	}
}

// Whoever takes chunks does not wait for what is being made ready: they come from small pages
// until that is done, and then from it. Whoever copies does not wait either. Nothing is lost.
func TestNobodyWaits(t *testing.T) {
	if !touchesAhead {
		t.Skip("nothing is made ready here")
	}
	for _, copies := range []bool{false, true} {
		m := newMemory(t)
		for m.ready.n == 0 || m.used < 2*hugeFrom {
			m.Chunk(ChunkSize)
			settle(m)
		}
		for m.coming == nil || m.ready.n > 0 {
			m.Chunk(ChunkSize)
		}
		settle(m)
		real, late := m.coming, &coming{}
		late.busy.Lock() // for ever
		m.coming = late
		defer func() {
			if m.coming == late { // Release would wait for it
				m.coming = real
			}
		}()
		seen := map[unsafe.Pointer]bool{}
		for k := range 100 {
			p, place := unsafe.Pointer(nil), smallPages
			if copies {
				p, place = m.CopyChunk(unsafe.Pointer(&nothing), ChunkSize, 0), hugePages
			} else {
				p = m.Chunk(ChunkSize)
			}
			if r := m.regionOf(p); r != nil && r.pages != place || r == nil && !copies {
				t.Fatalf("chunk %d is in region %+v, not of pages %d", k, r, place)
			}
			if seen[p] || !isZero(chunkBytes(p)) {
				t.Fatalf("chunk %d is not zero, or handed out twice", k)
			}
			seen[p], *(*byte)(p) = true, 1
		}
		m.coming = real
		n := real.part.n / ChunkSize
		for range n {
			p := m.Chunk(ChunkSize)
			if seen[p] || !isZero(chunkBytes(p)) || uintptr(p)-uintptr(real.part.p) >= uintptr(real.part.n) {
				t.Fatalf("chunk at %p is not one of the %d bytes at %p that are ready", p, real.part.n, real.part.p)
			}
		}
	}
}

// A Memory can be used inside and outside of testing/synctest bubbles, whatever is being made
// ready when one begins or ends.
func TestBubbles(t *testing.T) {
	m := newMemory(t)
	taken := 0
	take := func() {
		for from := m.used; m.used < from+2*hugePage || touchesAhead && m.coming == nil; taken++ {
			if p := m.Chunk(ChunkSize); p == nil || !isZero(chunkBytes(p)) {
				t.Fatalf("chunk %d at %p is not zero", taken, p)
			}
		}
	}
	take()
	for range 3 {
		synctest.Test(t, func(*testing.T) { take() })
		take()
	}
	take()
	synctest.Test(t, func(*testing.T) { m.Release() })
}

func TestFreedChunkIsReusedAndZeroed(t *testing.T) {
	m := newMemory(t)
	p, q := m.Chunk(ChunkSize), m.Chunk(ChunkSize)
	chunkBytes(p)[7], chunkBytes(q)[ChunkSize-1] = 1, 1
	m.FreeChunk(p, ChunkSize)
	m.FreeChunk(q, ChunkSize)
	if m.Bytes() != 0 {
		t.Errorf("Bytes() = %d after all chunks were freed", m.Bytes())
	}
	reserved := m.Reserved()
	for _, want := range []unsafe.Pointer{q, p} {
		if got := m.Chunk(ChunkSize); got != want {
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
	before := live()
	var m Memory
	var s Slab[[16]uint32]
	var r Runs
	s.Init(&m)
	r.Init(&m)
	i, h := s.Alloc(), r.Alloc(8)
	for m.Reserved() < 2*maxRegion || touchesAhead && m.coming == nil {
		m.Chunk(ChunkSize)
	}
	settle(&m)
	if got, want := liveRegions.Load()-before, int64(len(m.regions)); got < want || got > want+2 || want < 4 {
		t.Fatalf("%d more live regions, Memory knows %d", got, want)
	}
	m.Release()
	m.Release()
	if m.Reserved() != 0 || m.Bytes() != 0 || liveRegions.Load() != before {
		t.Errorf("after Release: Reserved() = %d, Bytes() = %d, %d live regions, want 0, 0, %d",
			m.Reserved(), m.Bytes(), liveRegions.Load(), before)
	}
	if p := m.Chunk(ChunkSize); p != nil {
		t.Errorf("Chunk() of a released Memory = %p", p)
	}
	if a, b := s.Alloc(), r.Alloc(8); a != 0 || b != 0 || s.Next(0) != 0 || s.Len() != 0 {
		t.Errorf("after Release a record %d and a run %d can be had, and record %d of %d is there", a, b, s.Next(0), s.Len())
	}
	if *s.At(0) != [16]uint32{} {
		t.Error("record 0 is not zero")
	}
	m.FreeChunk(unsafe.Pointer(&m), ChunkSize) // to nobody
	mustPanic(t, "Slab.Free", func() { s.Free(i) })
	mustPanic(t, "Runs.Free", func() { r.Free(h) })
	mustPanic(t, "Init", func() { new(Runs).Init(&m) })
}

// live returns the number of live regions, when those that other tests have forgotten are gone.
func live() int64 {
	for last := int64(-1); ; {
		for range 3 {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		n := liveRegions.Load()
		if n == last {
			return n
		}
		last = n
	}
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
	before := live()
	func() {
		shard := &struct { // a cycle, as in a real owner
			m    Memory
			s    Slab[uint64]
			self any
		}{}
		shard.self = shard
		shard.s.Init(&shard.m)
		for len(shard.m.regions) == 0 {
			shard.s.Alloc()
		}
	}()
	if !collected(before) {
		t.Errorf("%d regions of a forgotten Memory were not reclaimed", liveRegions.Load()-before)
	}
}

func TestSlabKeepsItsMemory(t *testing.T) {
	before := live()
	s := new(Slab[uint64])
	s.Init(new(Memory))
	i := s.Alloc()
	for ; liveRegions.Load() == before; i = s.Alloc() {
	}
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
	at, last := map[uint32]*record{}, uint32(0)
	for range n {
		i := s.Alloc()
		if i <= last {
			t.Fatalf("Alloc() = %d after %d, and nothing was freed", i, last)
		}
		last = i
		at[i] = s.At(i)
		*at[i] = record{uint64(i), [3]uint64{2: ^uint64(i)}}
	}
	i := uint32(0)
	for k := range n {
		if i = s.Next(i); s.At(i) != at[i] || *s.At(i) != (record{uint64(i), [3]uint64{2: ^uint64(i)}}) {
			t.Fatalf("record %d, number %d, moved or changed: %p, was %p", i, k, s.At(i), at[i])
		}
	}
	if s.Len() != n || s.Next(i) != 0 {
		t.Errorf("Len() = %d, want %d; Next(%d) = %d, want 0", s.Len(), n, i, s.Next(i))
	}
	if got, most := m.Bytes(), n*32+2*ChunkSize; got > most {
		t.Errorf("Bytes() = %d, want %d at most", got, most)
	}
	// Freed in any order, all but one chunk are given back.
	all := slices.Collect(maps.Keys(at))
	slices.Sort(all)
	for _, k := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
		s.Free(all[k])
	}
	if got := m.Bytes(); got > 2*ChunkSize {
		t.Errorf("Bytes() = %d without a record, want one chunk and the small ones", got)
	}
	for range n {
		if i := s.Alloc(); *s.At(i) != (record{}) {
			t.Fatalf("recycled record %d is not zero", i)
		}
	}
}

// A Memory gives back what has been idle for a while, in steps, and has it again when it
// is needed.
func TestTrim(t *testing.T) {
	m := newMemory(t)
	const n = 200
	var chunks []unsafe.Pointer
	for range n {
		p := m.Chunk(ChunkSize)
		chunkBytes(p)[5] = 7
		chunks = append(chunks, p)
	}
	for _, p := range chunks[10:] {
		m.FreeChunk(p, ChunkSize)
	}
	const second = int64(time.Second)
	m.Tidy(0)
	if len(m.free) != n-10 {
		t.Error("chunks that have just been freed are given back")
	}
	m.Tidy(29 * second)
	p := m.Chunk(ChunkSize) // one is needed meanwhile
	m.FreeChunk(p, ChunkSize)
	for now := 30 * second; now < 60*second; now += second {
		before := len(m.free)
		if m.Tidy(now); before-len(m.free) > 8 {
			t.Errorf("%d chunks in one step", before-len(m.free))
		}
	}
	if len(m.free) != 1 {
		t.Errorf("%d chunks kept, want the one that was needed", len(m.free))
	}
	m.Tidy(60 * second)
	if len(m.free) != 0 {
		t.Errorf("%d chunks kept that nobody has needed for an interval", len(m.free))
	}
	if m.heap >= maxHeap {
		t.Errorf("%d bytes are still on the heap", m.heap)
	}
	seen := map[unsafe.Pointer]bool{}
	for range n - 10 {
		p := m.Chunk(ChunkSize)
		if seen[p] || !isZero(chunkBytes(p)) {
			t.Fatalf("chunk %p is not zero or handed out twice", p)
		}
		seen[p] = true
	}
	for _, p := range chunks[:10] {
		if chunkBytes(p)[5] != 7 {
			t.Error("a chunk in use was given back")
		}
	}
}

// Where there is no memory, nothing is had and nothing is lost.
func TestFault(t *testing.T) {
	m := newMemory(t)
	none := false
	Fault = func() bool { return none }
	defer func() { Fault = nil }()
	var s Slab[[16]uint32]
	var r Runs
	s.Init(m)
	r.Init(m)
	for k := range 3 * maxHeap / 64 {
		for none = k%2 == 0; ; none = false {
			i, h := s.Alloc(), r.Alloc(8)
			if i == 0 || h == 0 {
				if !none {
					t.Fatalf("number %d: record %d, run %#x although there is memory", k, i, h)
				}
				if i != 0 {
					s.Free(i)
				}
				if h != 0 {
					r.Free(h)
				}
				continue
			}
			s.At(i)[0], r.Words(h)[0] = 1, 1
			break
		}
	}
	if s.Len() != 3*maxHeap/64 {
		t.Errorf("%d records", s.Len())
	}
}

// The address space is looked at once for what many small Memories take, not for each.
func TestLooksSeldom(t *testing.T) {
	unlooked.Store(0)
	for range look/beginning + 1 {
		if !Available() {
			t.Fatal("no memory")
		}
	}
	if left := unlooked.Load(); left != 0 {
		t.Errorf("%d bytes are left until the next look, want 0", left)
	}
	if !Available() || unlooked.Load() != look {
		t.Errorf("%d bytes are left after a look, want %d", unlooked.Load(), look)
	}
}
