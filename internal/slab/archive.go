package slab

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// How a Slab gets into a snapshot: its records at their indexes, and in which order the places that are
// free will be handed out. What a record holds is its owner's business.

// chunkLayout is a chunk in a snapshot: how many of its places have been handed out, and those of them
// that are free again, the next one first. One that has been given back has none.
type chunkLayout struct {
	gone bool
	next uint16
	free []uint16
}

// Archive writes s, or reads it into s, which is empty then. each writes or reads one record, and gets
// its index; records come in the order of their indexes. It reports whether there was memory.
func (s *Slab[T]) Archive(a *snapshot.Archive, each func(i uint32, record *T)) bool {
	if !a.Writing() {
		return s.read(a, func(c int, l *chunkLayout) bool { return s.adopt(c, l) }, func(i uint32) { each(i, s.At(i)) })
	}
	n := a.Len(len(s.state), len(s.state))
	for c := range n {
		l := s.layout(c)
		used := l.archive(a, int(s.state[c].size), c)
		for at, is := range used {
			if i := uint32(c)*s.perChunk() + uint32(at); is {
				each(i, s.At(i))
			}
		}
	}
	snapshot.Num(a, &s.cur)
	return true
}

// layout returns how a chunk is.
func (s *Slab[T]) layout(c int) chunkLayout {
	state := &s.state[c]
	l := chunkLayout{gone: state.size == 0, next: state.next}
	for at := state.free; at != 0; at = uint16(*s.link(uint32(c)*s.perChunk() + uint32(at-1))) {
		l.free = append(l.free, at-1)
	}
	return l
}

// Used iterates over the indexes of the records in use, in order. Records may be changed meanwhile, but none made
// or freed.
func (s *Slab[T]) Used() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for c := range s.state {
			l := s.layout(c)
			for at, is := range l.used(c) {
				if is && !yield(uint32(c)*s.perChunk()+uint32(at)) {
					return
				}
			}
		}
	}
}

// used returns which places of a chunk are in use.
func (l *chunkLayout) used(c int) []bool {
	used := make([]bool, l.next)
	for at := range used {
		used[at] = c > 0 || at > 0 // index 0 names none
	}
	for _, at := range l.free {
		used[at] = false
	}
	return used
}

// Has reports whether a record has ever been made at an index, which may be any number: At does not panic
// then. A record that is free is zero except for its first 4 bytes.
func (s *Slab[T]) Has(i uint32) bool {
	chunk := i / s.perChunk()
	return int64(chunk) < int64(len(s.state)) && i%s.perChunk() < uint32(s.state[chunk].next)
}

// Scan reads what Archive of a Slab has written, and leaves s as it is: each record is a zeroed one of
// its own, and is gone when each returns.
func (s *Slab[T]) Scan(a *snapshot.Archive, each func(i uint32, record *T)) {
	cur := s.cur
	s.read(a, func(int, *chunkLayout) bool { return true }, func(i uint32) {
		var record T
		each(i, &record)
	})
	s.cur = cur
}

// read reads chunks, and calls each for the indexes in use in each of them after adopt.
func (s *Slab[T]) read(a *snapshot.Archive, adopt func(c int, l *chunkLayout) bool, each func(i uint32)) bool {
	n := a.Len(0, int((1<<32-1)/uint64(s.perChunk())))
	gone := false
	for c := range n {
		var l chunkLayout
		used := l.archive(a, s.places(c), c)
		if gone = l.gone; !a.OK() {
			return true
		}
		if !adopt(c, &l) {
			return false
		}
		for at, is := range used {
			if is && a.OK() {
				each(uint32(c)*s.perChunk() + uint32(at))
			}
		}
	}
	a.Check(!gone, "the last of %d chunks is none", n)
	snapshot.Num(a, &s.cur)
	a.Check(s.cur == 0 || int(s.cur) < n, "chunk %d of %d is the one in use", s.cur, n)
	return true
}

// places returns how many records a chunk has.
func (s *Slab[T]) places(c int) int {
	record := ChunkSize / int(s.perChunk())
	return chunkSize(c, uintptr(record)) / record
}

// archive writes or reads the layout of a chunk, and returns which of its places are in use.
func (l *chunkLayout) archive(a *snapshot.Archive, places, c int) (used []bool) {
	a.Bool(&l.gone)
	if l.gone {
		a.Check(c >= smallChunks, "chunk %d is none", c)
		return nil
	}
	snapshot.Num(a, &l.next)
	if !a.Check(int(l.next) <= places && (c > 0 || l.next > 0), "a chunk of %d records has %d", places, l.next) {
		return nil
	}
	used = (&chunkLayout{next: l.next}).used(c)
	snapshot.Slice(a, &l.free, int(l.next), func(at *uint16) {
		if snapshot.Num(a, at); a.Check(int(*at) < len(used) && used[*at], "record %d of chunk %d is free, and was never in use", *at, c) {
			used[*at] = false
		}
	})
	return used
}

// adopt makes chunk c, which is the next one.
func (s *Slab[T]) adopt(c int, l *chunkLayout) bool {
	if l.gone {
		s.dir.chunks, s.state = s.dir.with(c, nil), append(s.state, chunkState{})
		s.room.add(c)
		return true
	}
	if !s.add(c) {
		return false
	}
	state := &s.state[c]
	state.next, state.used = l.next, l.next-uint16(len(l.free))
	if c == 0 {
		state.used--
	}
	for i := len(l.free) - 1; i >= 0; i-- {
		*s.link(uint32(c)*s.perChunk() + uint32(l.free[i])) = uint32(state.free)
		state.free = l.free[i] + 1
	}
	if s.used += int(state.used); c >= smallChunks && state.used > 0 {
		s.vacant--
	}
	if !state.hasRoom() {
		s.room.remove(c)
	}
	return true
}
