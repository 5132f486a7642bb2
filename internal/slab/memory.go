package slab

import (
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

// ChunkSize is the largest chunk in bytes, and the size of all chunks of a table that
// is not small.
const ChunkSize = 64 << 10

const (
	usualTables = 12 // that draw on a Memory

	minChunk  = 256      // the smallest chunk
	maxHeap   = 1 << 20  // what a Memory takes from the Go heap where nothing is touched ahead
	look      = 1 << 20  // what all take from the Go heap between two looks at the address space
	beginning = 32 << 10 // what somebody takes from it for all that surrounds a new Memory
	hugePage  = 2 << 20  // regions from this size on are aligned to it and ask for huge pages
	minRegion = hugePage // the first region, if it can be had
	maxRegion = 32 << 20 // regions double up to this size

	tidyInterval = 30 * time.Second
	tidyStep     = 8 // chunks
)

// liveRegions counts the regions of this process that have not been returned.
var liveRegions atomic.Int64

// Fault, if not nil, is asked before a Memory takes memory from the system, and says
// whether there is none. It is for tests, which set it while nothing else runs.
var Fault func() bool

// Memory hands out chunks. Those of less than ChunkSize are ordinary Go memory in which the
// garbage collector finds no pointers, so that a small world costs little and needs no mapping.
// What comes after is cut from regions; those of huge pages double in size, from 2 up to 32 MiB.
// On Linux they are anonymous mappings: a page becomes resident when it is first touched, and
// goroutines that end when they are done touch it ahead of use, so that whoever takes a chunk
// does not wait for many (ahead.go). Elsewhere, and under the race detector, regions are Go
// memory too, the first MiB is not in regions, and there are no goroutines.
//
// Where the system has no memory left, Chunk returns nil. So that the Go runtime, which
// would end the process, is not the first to notice, a Memory takes nothing if 128 MiB
// of address space (8 MiB on 32-bit machines) would not be left after it; for the Go heap that
// is asked once in a MiB, whoever takes it.
//
// The zero Memory is ready for use. It must not be copied after first use, and is not
// safe for concurrent use. A Memory that becomes unreachable returns its regions by itself
// some time after a garbage collection; Release returns them at once.
type Memory struct {
	_        noCopy
	ready    stretch          // that has been touched, of either pages
	plain    stretch          // of small pages
	later    stretch          // of huge pages
	coming   *coming          // what a goroutine makes ready, or nil
	stock    stretch          // that a Stock has given
	soiled   bool             // stock is not zero
	free     []unsafe.Pointer // recycled chunks of ChunkSize, last in first out
	clean    []unsafe.Pointer // those that are zero and perhaps not resident
	least    int              // the fewest free chunks in this interval; see Tidy
	surplus  int              // free chunks that Tidy may give back
	due      int64            // when the interval ends
	regions  []region
	tables   []Table // that draw on this Memory; emptied by Release
	used     int     // bytes in chunks handed out
	large    int     // of them, chunks of ChunkSize
	heap     int     // bytes in chunks of the Go heap, handed out or recycled
	reserved int     // bytes in regions
	huge     int     // of these, in regions of huge pages
	released bool
}

// region is one piece of memory from the operating system or the Go heap.
type region struct {
	base    unsafe.Pointer
	size    int
	pages   pages
	of      *arena // that it is a part of, if it is not a mapping of its own; see Stock
	cleanup runtime.Cleanup
}

// pages says which ones a region asks for.
type pages uint8

const (
	hugePages pages = iota
	smallPages
)

// Table is what draws on a Memory. Forget is called when that is released: all chunks
// are gone.
type Table interface{ Forget() }

// Available reports whether the system has memory for another Memory.
func Available() bool { return heapHas(beginning) }

// unlooked is how many bytes of the Go heap may still be taken before the next look at the address
// space, which costs as much as several allocations.
var unlooked atomic.Int64

// heapHas reports whether so many bytes of the Go heap can be taken, and counts them.
func heapHas(size int) bool {
	if Fault != nil && Fault() {
		return false
	}
	if unlooked.Add(-int64(size)) < 0 {
		if !headroom() {
			return false
		}
		unlooked.Store(look)
	}
	return true
}

// Own makes t one of those that Release tells.
func (m *Memory) Own(t Table) {
	if m.tables == nil {
		m.tables = make([]Table, 0, usualTables)
	}
	m.tables = append(m.tables, t)
}

// Chunk returns size zeroed bytes, a power of two from 256 to ChunkSize, aligned to 256
// bytes at least. It returns nil if the system has no memory left, or if the Memory was
// released. It prefers the chunk freed last.
func (m *Memory) Chunk(size int) unsafe.Pointer { return m.chunk(size, 0, (*Memory).fresh) }

// chunk is Chunk, which asks fresh for what was never handed out. The first bytes, as many as
// overwritten says, need not be zero.
func (m *Memory) chunk(size, overwritten int, fresh func(*Memory) unsafe.Pointer) unsafe.Pointer {
	if size < minChunk || size > ChunkSize || bits.OnesCount(uint(size)) != 1 {
		panic("slab: a chunk has from 256 to 65,536 bytes, a power of two")
	}
	if m.released {
		return nil
	}
	p := m.take(size, overwritten, fresh)
	if p != nil {
		m.used += size
		m.large += size / ChunkSize
	}
	return p
}

// take is chunk without the counts. fresh is asked for a chunk where none has become free.
func (m *Memory) take(size, overwritten int, fresh func(*Memory) unsafe.Pointer) unsafe.Pointer {
	switch n, c := len(m.free), len(m.clean); {
	case size < ChunkSize:
		return m.fromHeap(size)
	case n > 0:
		p := m.free[n-1]
		m.free = m.free[:n-1]
		m.least = min(m.least, n-1)
		clear(unsafe.Slice((*byte)(p), ChunkSize)[overwritten:])
		return p
	case m.stock.n > 0:
		p := m.stock.cut(ChunkSize)
		if m.soiled {
			clear(unsafe.Slice((*byte)(p), ChunkSize)[overwritten:])
		}
		return p
	case c > 0:
		p := m.clean[c-1]
		m.clean = m.clean[:c-1]
		return p
	}
	return fresh(m)
}

// fromHeap returns Go memory, or nil if the runtime might not get any.
func (m *Memory) fromHeap(size int) unsafe.Pointer {
	if !heapHas(size) {
		return nil
	}
	m.heap += size
	return unsafe.Pointer(unsafe.SliceData(make([]byte, size)))
}

// FreeChunk takes back a chunk of a size, which a later Chunk zeroes and hands out again.
// The chunk must come from m and must not be used any more.
func (m *Memory) FreeChunk(p unsafe.Pointer, size int) {
	if p == nil {
		panic("slab: FreeChunk of nil")
	}
	if m.released {
		return
	}
	if m.used -= size; size < ChunkSize {
		m.heap -= size // the collector has it
		return
	}
	m.large--
	m.free = append(m.free, p)
}

// Tidy gives free chunks back to the system: as many as nobody has needed from one
// interval of 30 seconds to the next, so that what comes and goes is kept, and 8 a call
// at most. now is in nanoseconds of a clock that does not go back. What has been mapped
// stays reserved. Cost: 0.1 ms at most.
func (m *Memory) Tidy(now int64) {
	if now >= m.due {
		m.surplus, m.least, m.due = m.least, len(m.free), now+int64(tidyInterval)
	}
	n := min(tidyStep, m.surplus, len(m.free))
	if n == 0 {
		return
	}
	m.surplus -= n
	for _, p := range m.free[:n] { // those that were freed first
		if r := m.regionOf(p); r == nil {
			m.heap -= ChunkSize
		} else {
			discard(p, ChunkSize)
			m.clean = append(m.clean, p)
		}
	}
	m.free = slices.Delete(m.free, 0, n)
	m.least = min(m.least, len(m.free))
}

// regionOf returns the region of a chunk, or nil if it is of the Go heap.
func (m *Memory) regionOf(p unsafe.Pointer) *region {
	for i := range m.regions {
		if r := &m.regions[i]; uintptr(p)-uintptr(r.base) < uintptr(r.size) {
			return r
		}
	}
	return nil
}

// Bytes returns the number of bytes in chunks that are handed out.
func (m *Memory) Bytes() int { return m.used }

// Reserved returns the number of bytes held in regions and on the Go heap. How many of
// them are resident depends on what was touched.
func (m *Memory) Reserved() int { return m.reserved + m.heap }

// Release returns all regions at once; those that a [Stock] has given it wait for another Stock
// until two garbage collections are over. Every chunk, record and run drawn from m is gone:
// touching one through a pointer kept from before may fault. The tables that drew on m
// are empty and stay so: nothing can be allocated any more. Releasing twice is harmless.
// It waits for a page that is being made ready, some milliseconds at most.
func (m *Memory) Release() {
	if m.coming != nil {
		m.coming.busy.Lock()
		m.collect()
	}
	for _, t := range m.tables {
		t.Forget()
	}
	for _, r := range m.regions {
		r.cleanup.Stop()
		release(r)
	}
	*m = Memory{released: true}
}

// Released reports whether Release has been called.
func (m *Memory) Released() bool { return m.released }

// nextRegion is the size of the next region of huge pages: as large as all before it
// together, within bounds.
func (m *Memory) nextRegion() int { return min(max(m.huge, minRegion), maxRegion) }

// grow adds a region of a size to a stretch that is empty, or if there is no memory for that
// a smaller one. It reports whether there was any.
func (m *Memory) grow(to *stretch, size int, p pages) bool {
	if Fault != nil && Fault() {
		return false
	}
	r := newRegion(m, size, p)
	if r.size == 0 {
		return false
	}
	m.include(r)
	*to = stretch{r.base, r.size}
	return true
}

// include adds a region to those of m.
func (m *Memory) include(r region) {
	m.regions = append(m.regions, r)
	m.reserved += r.size
	if r.pages == hugePages {
		m.huge += r.size
	}
}

// newRegion returns a region for m of a size, or a smaller one; its size is 0 if there is no
// memory. It is returned when m is unreachable.
func newRegion(m *Memory, size int, p pages) (r region) {
	for ; size >= ChunkSize; size /= 2 {
		if base := reserve(size, p); base != nil {
			r = region{base: base, size: size, pages: p}
			liveRegions.Add(1)
			r.cleanup = runtime.AddCleanup(m, release, r)
			return r
		}
	}
	return r
}

// release returns one region. As a cleanup it runs once its Memory is unreachable.
func release(r region) {
	if r.of != nil {
		r.of.drop()
	} else {
		unreserve(r.base, r.size)
	}
	liveRegions.Add(-1)
}

// nothing is what a table without chunks points to: readable, all zero, never written.
var nothing [ChunkSize]byte

// noChunks is the list of chunks of such a table.
var noChunks = []unsafe.Pointer{unsafe.Pointer(&nothing)}

// firstChunks are the sizes of the first chunks of a table; all others are of ChunkSize.
var firstChunks = [smallChunks]int{2 << 10, 8 << 10, 32 << 10}

const smallChunks = 3

// chunkSize returns the size of chunk c of a table whose records have so many bytes.
func chunkSize(c int, record uintptr) int {
	if c < len(firstChunks) {
		return max(firstChunks[c], int(record))
	}
	return ChunkSize
}

// A directory lists the chunks of one table in index order. nil stands for one that has
// been given back.
type directory struct {
	_      noCopy
	m      *Memory // also keeps the chunks mapped
	chunks []unsafe.Pointer
}

func (d *directory) init(m *Memory, t Table) {
	if m.released {
		panic("slab: Init with a released Memory")
	}
	if d.m != nil {
		panic("slab: Init called twice")
	}
	d.m, d.chunks = m, noChunks
	m.Own(t)
}

// with returns the chunks with a further one, number c.
func (d *directory) with(c int, p unsafe.Pointer) []unsafe.Pointer {
	if c == 0 {
		return []unsafe.Pointer{p} // in the place of noChunks
	}
	return append(d.chunks, p)
}

// noCopy lets go vet report copies of what contains it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
