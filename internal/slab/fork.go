package slab

import (
	"slices"
	"unsafe"
)

// How tables copy themselves. A copy has the same records at the same indexes, and hands
// out the same ones from then on, so nothing that names records by index has to change.
//
// A copy that others wait for takes its memory before from a [Stock].
//
// ForkTo is not Init for to, but takes its place. It reports whether there was memory: if
// not, the copy is of no use, and its Memory is to be released. The original must not
// change meanwhile. Cost: that of copying its chunks.

// Clone returns a copy of a slice of values that has the same capacity, so that it grows as
// the original does. That of nil is nil.
func Clone[S ~[]E, E any](s S) S {
	if s == nil {
		return nil
	}
	return append(S(nil), s[:cap(s)]...)[:len(s):cap(s)] // not made first: that would zero it
}

// CopyChunk is Chunk for a copy of the first used bytes of a chunk; the others are zero.
func (m *Memory) CopyChunk(from unsafe.Pointer, size, used int) unsafe.Pointer {
	p := m.chunk(size, used, (*Memory).untouched)
	if p != nil {
		copy(unsafe.Slice((*byte)(p), used), unsafe.Slice((*byte)(from), used))
	}
	return p
}

// forkTo copies the chunks of a table to that of to, of which used says how many bytes each
// has and how many of them may not be zero. Chunks that have been given back have none.
func (d *directory) forkTo(to *directory, m *Memory, t Table, used func(chunk int) (size, used int)) bool {
	to.init(m, t)
	if d.chunks[0] == unsafe.Pointer(&nothing) {
		return true
	}
	to.chunks = make([]unsafe.Pointer, len(d.chunks))
	for c, p := range d.chunks {
		if p == nil {
			continue
		}
		size, n := used(c)
		if to.chunks[c] = m.CopyChunk(p, size, n); to.chunks[c] == nil {
			to.chunks = noChunks
			return false
		}
	}
	return true
}

// ForkTo makes to a copy of s in m.
func (s *Slab[T]) ForkTo(to *Slab[T], m *Memory) bool {
	to.state, to.room, to.cur, to.vacant, to.used = slices.Clone(s.state), s.room.clone(), s.cur, s.vacant, s.used
	record := unsafe.Sizeof(*new(T))
	ok := s.dir.forkTo(&to.dir, m, to, func(c int) (size, used int) {
		return chunkSize(c, record), int(s.state[c].next) * int(record)
	})
	if !ok {
		to.Forget()
	}
	return ok
}

// ForkTo makes to a copy of r in m.
func (r *Runs) ForkTo(to *Runs, m *Memory) bool {
	to.state, to.gone, to.vacant, to.free = slices.Clone(r.state), r.gone.clone(), r.vacant, r.free
	ok := r.dir.forkTo(&to.dir, m, to, func(c int) (size, used int) {
		size = int(r.state[c].lines) * lineBytes
		return size, size
	})
	if !ok {
		to.Forget()
	}
	return ok
}

func (b *bitSet) clone() bitSet { return bitSet{slices.Clone(b.bits), slices.Clone(b.summary)} }
