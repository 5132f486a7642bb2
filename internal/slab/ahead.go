package slab

import (
	"runtime"
	"sync"
	"unsafe"
)

// How memory is there before it is needed.
//
// The first touch of a huge page waits while the kernel zeroes 2 MiB: 0.2 to 0.4 ms on a
// 2-core virtual machine, 2 to 12 ms where its host had to find the memory first (2026-11).
// That of the 16 small pages of a chunk waits for 25 to 100 µs. No packet should wait as long,
// so a goroutine touches what comes next while the last is handed out, and ends. If it is
// late, chunks come from small pages, or from the Go heap while there is no region. So what
// has to wait is bounded however busy the machine is; only how much of the memory is in huge
// pages depends on that.
//
//	later ─┐                                       ┌─► Chunk
//	plain ─┴─touched by a goroutine: coming──► ready ┤
//	plain, or the heap, if that is late ─────────────┘
//
// Who copies a whole table would wait for the goroutine all the time, and does not mind a
// pause: it takes from later directly (CopyChunk).

// stretch is memory of a region that has not been handed out.
type stretch struct {
	p unsafe.Pointer // if n > 0
	n int            // bytes, whole chunks
}

// cut takes n bytes off the front.
func (s *stretch) cut(n int) unsafe.Pointer {
	p := s.p
	if s.n -= n; s.n > 0 {
		s.p = unsafe.Add(p, n)
	}
	return p
}

// page takes off the front what lies in one huge page.
func (s *stretch) page() stretch {
	return s.part(hugePage - int(uintptr(s.p)&(hugePage-1)))
}

// part takes off the front up to n bytes.
func (s *stretch) part(n int) stretch {
	n = min(n, s.n)
	return stretch{s.cut(n), n}
}

const (
	hugeFrom   = 1 << 20       // a Memory of this size gets huge pages
	smallBite  = 2 * ChunkSize // what a goroutine touches until then
	smallFirst = 1 << 20       // the region of small pages that it is in

	// leastPlain is kept of small pages beside huge ones: to map more while a goroutine touches
	// a huge page would wait for that.
	leastPlain = 8 * ChunkSize
)

// coming is what a goroutine makes ready: a huge page, or some small ones. All but pages belongs
// to the goroutine until it unlocks busy.
type coming struct {
	pages  pages
	busy   sync.Mutex // and no channel: one of a testing/synctest bubble may not be used outside it
	mapped region     // that it had to add, if its size is not 0
	part   stretch    // ready; empty if there was no memory
	later  stretch    // rest of the region
	spares bool       // it is to add a region of small pages, too
	spare  region     // that one
	beside stretch    // small pages, perhaps in use, to be there while the huge one is not
}

// fresh returns a chunk that was never handed out, or nil if the system has no memory left.
func (m *Memory) fresh() unsafe.Pointer {
	if !touchesAhead {
		return m.untouched()
	}
	if m.ready.n == 0 && m.coming != nil && m.coming.busy.TryLock() {
		m.collect()
	}
	if m.ready.n <= m.mark() && m.coming == nil {
		m.order()
	}
	switch {
	case m.ready.n > 0:
		return m.ready.cut(ChunkSize)
	case m.plain.n > 0:
		return m.plain.cut(ChunkSize)
	case m.coming != nil && m.coming.pages == smallPages:
		return m.fromHeap(ChunkSize)
	case !m.grow(&m.plain, hugePage, smallPages):
		return nil
	}
	return m.plain.cut(ChunkSize)
}

// mark is how much is left of what is ready when more is ordered: the less, the smaller
// the Memory is, so that what lies ready is never much beside what is used.
func (m *Memory) mark() int {
	if m.used < hugeFrom {
		return ChunkSize
	}
	return min(hugePage, max(smallBite, m.huge/8)) &^ (ChunkSize - 1)
}

// untouched returns a chunk that may be the first of a huge page to be touched.
func (m *Memory) untouched() unsafe.Pointer {
	switch {
	case m.later.n > 0:
	case m.ready.n > 0:
		return m.ready.cut(ChunkSize)
	case m.heap+ChunkSize <= maxHeap:
		return m.fromHeap(ChunkSize)
	case !m.grow(&m.later, m.nextRegion(), hugePages):
		return nil
	}
	return m.later.cut(ChunkSize)
}

// order starts the goroutine that makes more ready.
func (m *Memory) order() {
	c, size := &coming{}, smallFirst
	if m.used < hugeFrom {
		c.pages, c.part = smallPages, m.plain.part(smallBite)
	} else {
		size, c.part, c.spares = m.nextRegion(), m.later.page(), m.plain.n < leastPlain
		c.beside = stretch{m.plain.p, min(m.plain.n, 2*smallBite)}
	}
	if (c.part.n == 0 || c.spares) && Fault != nil && Fault() {
		return
	}
	m.coming = c
	c.busy.Lock() // fill unlocks it
	go c.fill(m, size)
}

// fill makes its part ready, which may have to come from a region of a size that it adds to
// m. It changes nothing of that.
func (c *coming) fill(m *Memory, size int) {
	defer c.busy.Unlock()
	if c.spares {
		if c.spare = newRegion(m, hugePage, smallPages); c.spare.size > 0 {
			c.beside = stretch{c.spare.base, min(c.spare.size, 2*smallBite)}
		}
	}
	if c.beside.n > 0 {
		populate(c.beside.p, c.beside.n)
	}
	if c.part.n == 0 {
		if c.mapped = newRegion(m, size, c.pages); c.mapped.size == 0 {
			return
		}
		if c.later = (stretch{c.mapped.base, c.mapped.size}); c.pages == smallPages {
			c.part = c.later.part(smallBite)
		} else {
			c.part = c.later.page()
		}
	}
	touch(c.part.p, c.part.n)
	runtime.KeepAlive(m) // which returns its regions when nobody has it any more
}

// collect takes over what was coming. The goroutine must be done: m.coming.busy is held.
func (m *Memory) collect() {
	c := m.coming
	m.coming = nil
	for _, r := range []region{c.mapped, c.spare} {
		if r.size > 0 {
			m.include(r)
		}
	}
	rest := &m.later
	if c.pages == smallPages {
		rest = &m.plain
	}
	m.keep(&m.ready, c.part)
	m.keep(rest, c.later)
	if c.spare.size > 0 {
		m.keep(&m.plain, stretch{c.spare.base, c.spare.size})
	}
}

// keep makes a stretch what it is or s, whichever is longer. The other one, of which little or
// nothing is left, becomes clean chunks.
func (m *Memory) keep(to *stretch, s stretch) {
	if s.n > to.n {
		s, *to = *to, s
	}
	for s.n > 0 {
		m.clean = append(m.clean, s.cut(ChunkSize))
	}
}
