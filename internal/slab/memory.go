package slab

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// ChunkSize is the size and the alignment, in bytes, of what [Memory.Chunk] returns.
const ChunkSize = 64 << 10

const (
	hugePage  = 2 << 20  // regions from this size on are aligned to it and ask for huge pages
	maxRegion = 32 << 20 // regions double up to this size
)

// liveRegions counts the regions of this process that have not been returned.
var liveRegions atomic.Int64

// Memory hands out chunks cut from regions that double in size, from one chunk up to
// 32 MiB. On Linux regions are anonymous mappings: a page becomes resident when it is
// first touched, and regions from 2 MiB on are advised to use huge pages. Elsewhere, and
// under the race detector, regions are ordinary Go memory.
//
// The first touch of a huge page waits while the kernel zeroes 2 MiB: 0.2 to 0.4 ms on a
// 2-core virtual machine, 5 ms where its host had to find the memory first (2026-11).
//
// The zero Memory is ready for use. It must not be copied after first use, and is not
// safe for concurrent use. A Memory that becomes unreachable returns its regions by itself
// some time after a garbage collection; Release returns them at once.
type Memory struct {
	_        noCopy
	fresh    unsafe.Pointer   // next chunk never handed out, if freshLen > 0
	freshLen int              // bytes from fresh to the end of the newest region
	free     []unsafe.Pointer // recycled chunks, last in first out
	regions  []region
	dirs     []*directory // of the tables drawing on this Memory; emptied by Release
	used     int          // bytes in chunks handed out
	reserved int          // bytes in regions
	released bool
}

// region is one piece of memory from the operating system or the Go heap.
type region struct {
	base    unsafe.Pointer
	size    int
	cleanup runtime.Cleanup
}

// Chunk returns ChunkSize zeroed bytes, aligned to ChunkSize. It prefers the chunk freed
// last. It panics if the Memory was released, or if the system has no memory left.
func (m *Memory) Chunk() unsafe.Pointer {
	if m.released {
		panic("slab: Chunk of a released Memory")
	}
	m.used += ChunkSize
	if n := len(m.free); n > 0 {
		p := m.free[n-1]
		m.free = m.free[:n-1]
		clear(unsafe.Slice((*byte)(p), ChunkSize))
		return p
	}
	if m.freshLen == 0 {
		m.grow()
	}
	p := m.fresh
	if m.freshLen -= ChunkSize; m.freshLen > 0 {
		m.fresh = unsafe.Add(p, ChunkSize)
	}
	return p
}

// FreeChunk takes back a chunk, which a later Chunk zeroes and hands out again. The chunk
// must come from m and must not be used any more. It stays reserved until Release.
func (m *Memory) FreeChunk(p unsafe.Pointer) {
	if p == nil || m.released {
		panic("slab: FreeChunk of nil, or to a released Memory")
	}
	m.used -= ChunkSize
	m.free = append(m.free, p)
}

// Bytes returns the number of bytes in chunks that are handed out.
func (m *Memory) Bytes() int { return m.used }

// Reserved returns the number of bytes of address space held in regions. How many of them
// are resident depends on what was touched.
func (m *Memory) Reserved() int { return m.reserved }

// Release returns all regions at once. Every chunk, record and run drawn from m is gone:
// touching one through its Slab or Runs panics, touching one through a pointer kept from
// before faults. Releasing twice is harmless.
func (m *Memory) Release() {
	for _, d := range m.dirs {
		d.chunks = nil
	}
	for _, r := range m.regions {
		r.cleanup.Stop()
		release(r)
	}
	*m = Memory{released: true}
}

// grow adds a region as large as all before it together, within bounds.
func (m *Memory) grow() {
	size := min(max(m.reserved, ChunkSize), maxRegion)
	r := region{base: reserve(size), size: size}
	liveRegions.Add(1)
	r.cleanup = runtime.AddCleanup(m, release, r)
	m.regions = append(m.regions, r)
	m.reserved += size
	m.fresh, m.freshLen = r.base, size
}

// release returns one region. As a cleanup it runs once its Memory is unreachable.
func release(r region) {
	unreserve(r.base, r.size)
	liveRegions.Add(-1)
}

// A directory lists the chunks of one table in index order.
type directory struct {
	_      noCopy
	m      *Memory // also keeps the chunks mapped
	chunks []unsafe.Pointer
}

func (d *directory) init(m *Memory) {
	if m.released {
		panic("slab: Init with a released Memory")
	}
	if d.m != nil {
		panic("slab: Init called twice")
	}
	d.m = m
	m.dirs = append(m.dirs, d)
}

// add appends a zeroed chunk.
func (d *directory) add() { d.chunks = append(d.chunks, d.m.Chunk()) }

// noCopy lets go vet report copies of what contains it.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
