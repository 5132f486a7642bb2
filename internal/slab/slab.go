package slab

import (
	"fmt"
	"math/bits"
	"reflect"
	"slices"
	"sync"
	"unsafe"
)

// Slab is a growable pool of records of type T, named by index. Records never move.
// Index 0 is never handed out, so it can mean "none" in the owner's records, but At(0)
// is a record: one that reads as zero, and must not be written.
//
// New records lie in the chunk in use until that is full, then in the lowest one that
// has room, so that the others can empty. A chunk whose records are all free goes back
// to the Memory, except one, so that a record that comes and goes does not move memory.
// The first three chunks stay; they are small and hold fewer records than there are indexes for them, so
// indexes have gaps: Next walks over them.
//
// Call Init first. A Slab must not be copied after Init, and is not safe for concurrent use.
type Slab[T any] struct {
	dir    directory
	state  []chunkState // of the chunks; none as long as there is only noChunks
	room   bitSet       // chunks that have room, or can be made again
	cur    uint32       // the chunk in use
	vacant int          // chunks that could be given back
	used   int
}

// chunkState says what of a chunk is in use. A free record links to the next one of its
// chunk by its first 4 bytes: its place in the chunk plus one, 0 at the end.
type chunkState struct {
	free uint16 // the record freed last: place plus one, or 0
	next uint16 // the lowest place never handed out
	size uint16 // places; 0 if the chunk has been given back
	used uint16
}

// Init makes s an empty Slab that draws on m. It panics if T contains pointers, if its size
// is not a power of two between 4 and ChunkSize bytes, or if s was initialised before.
func (s *Slab[T]) Init(m *Memory) {
	mustBeRecord(reflect.TypeFor[T]())
	s.dir.init(m, s)
}

// records has the types that mustBeRecord has found good, so that a small world, which has a
// Slab for each of several, does not look at their fields every time.
var records sync.Map

// mustBeRecord panics if values of a type cannot be records.
func mustBeRecord(t reflect.Type) {
	if _, good := records.Load(t); good {
		return
	}
	if size := t.Size(); size < 4 || size > ChunkSize || bits.OnesCount64(uint64(size)) != 1 {
		panic(fmt.Sprintf("slab: size of %v is %d bytes, not a power of two between 4 and %d", t, size, ChunkSize))
	}
	if hasPointers(t) {
		panic(fmt.Sprintf("slab: %v contains pointers", t))
	}
	records.Store(t, nil)
}

// Forget makes s empty because its memory has been released.
func (s *Slab[T]) Forget() {
	s.dir.chunks, s.state, s.room, s.cur, s.vacant, s.used = noChunks, nil, bitSet{}, 0, 0, 0
}

// perChunk is how many indexes belong to a chunk: a power of two.
func (s *Slab[T]) perChunk() uint32 { return uint32(ChunkSize / unsafe.Sizeof(*new(T))) }

// At returns the record with index i, which must have come from Alloc. The pointer stays
// good until Free(i) or Memory.Release. At panics if i lies beyond the last chunk; it does
// not notice an index that is free. It is inlined: a load, a shift and a mask.
func (s *Slab[T]) At(i uint32) *T {
	per := uint32(ChunkSize / unsafe.Sizeof(*new(T))) // a constant power of two
	return (*T)(unsafe.Add(s.dir.chunks[i/per], uintptr(i%per)*unsafe.Sizeof(*new(T))))
}

// Alloc returns the index of a zeroed record: of the chunk in use the one freed last,
// else the lowest never handed out. It returns 0 if the system has no memory left, or if
// all 2^32-1 indexes are taken.
func (s *Slab[T]) Alloc() uint32 {
	for {
		if int(s.cur) < len(s.state) {
			c := &s.state[s.cur]
			i := s.cur * s.perChunk()
			if c.free != 0 {
				i += uint32(c.free - 1)
				link := s.link(i)
				if c.free, *link = uint16(*link), 0; c.free != 0 {
					Prefetch(unsafe.Pointer(s.At(s.cur*s.perChunk() + uint32(c.free-1)))) // the next one handed out
				}
				return s.count(c, i)
			}
			if c.next < c.size {
				i += uint32(c.next)
				c.next++
				return s.count(c, i)
			}
		}
		if !s.turn() {
			return 0
		}
	}
}

// count notes that record i of a chunk is handed out.
func (s *Slab[T]) count(c *chunkState, i uint32) uint32 {
	if c.used == 0 && s.cur >= smallChunks {
		s.vacant--
	}
	c.used++
	s.used++
	return i
}

// Ready reports whether the next Alloc returns an index, and one below limit, which is a
// multiple of the indexes of a chunk.
func (s *Slab[T]) Ready(limit uint32) bool {
	for {
		if int(s.cur) < len(s.state) && s.state[s.cur].hasRoom() {
			return s.cur < limit/s.perChunk()
		}
		if !s.turn() {
			return false
		}
	}
}

func (c *chunkState) hasRoom() bool { return c.free != 0 || c.next < c.size }

// turn makes another chunk the one in use, because that is full or has been given back.
func (s *Slab[T]) turn() bool {
	if int(s.cur) < len(s.state) && s.state[s.cur].size > 0 {
		s.room.remove(int(s.cur))
	}
	c, ok := s.room.lowest()
	if !ok {
		if c = len(s.state); uint64(c) >= 1<<32/uint64(s.perChunk()) {
			return false
		}
	}
	if c == len(s.state) || s.state[c].size == 0 {
		if !s.add(c) {
			c = slices.IndexFunc(s.state, func(c chunkState) bool { return c.hasRoom() })
		}
	}
	if c < 0 {
		return false
	}
	s.cur = uint32(c)
	return true
}

// add makes chunk c, which is the next one or has been given back.
func (s *Slab[T]) add(c int) bool {
	record := unsafe.Sizeof(*new(T))
	size := chunkSize(c, record)
	p := s.dir.m.Chunk(size)
	if p == nil {
		return false
	}
	state := chunkState{size: uint16(uintptr(size) / record)}
	if c == 0 {
		state.next = 1 // index 0 names none
	}
	if c < len(s.state) {
		s.dir.chunks[c], s.state[c] = p, state
	} else {
		s.dir.chunks, s.state = s.dir.with(c, p), append(s.state, state)
	}
	s.room.add(c)
	if c >= smallChunks {
		s.vacant++
	}
	return true
}

// Free returns record i to the Slab. The record is zeroed except for its first 4 bytes,
// which link the free list. It panics if i was never handed out, or was the one of its
// chunk freed last; any other double free is a bug that goes unnoticed.
func (s *Slab[T]) Free(i uint32) {
	chunk, place := i/s.perChunk(), uint16(i%s.perChunk())
	if i == 0 || int(chunk) >= len(s.state) || place >= s.state[chunk].next || place+1 == s.state[chunk].free {
		panic(fmt.Sprintf("slab: Free of index %d, which is not in use", i))
	}
	c := &s.state[chunk]
	if !c.hasRoom() {
		s.room.add(int(chunk))
	}
	*s.At(i) = *new(T)
	*s.link(i) = uint32(c.free)
	c.free = place + 1
	c.used--
	s.used--
	if c.used == 0 && chunk >= smallChunks {
		if s.vacant++; s.vacant > 1 {
			s.giveBack(int(chunk))
		}
	}
}

// giveBack returns a chunk without records to the Memory.
func (s *Slab[T]) giveBack(c int) {
	s.dir.m.FreeChunk(s.dir.chunks[c], chunkSize(c, unsafe.Sizeof(*new(T))))
	s.vacant--
	s.dir.chunks[c], s.state[c] = nil, chunkState{}
	for n := len(s.state) - 1; n > 0 && s.state[n].size == 0; n-- {
		s.room.remove(n)
		s.dir.chunks, s.state = s.dir.chunks[:n], s.state[:n]
	}
}

// Len returns the number of records in use.
func (s *Slab[T]) Len() int { return s.used }

// Next returns the lowest index above i that a record may be in use at, or 0 at the end.
// A record that is free then is zero except for its first 4 bytes.
func (s *Slab[T]) Next(i uint32) uint32 {
	i++
	per := s.perChunk()
	for chunk, place := i/per, i%per; int(chunk) < len(s.state); chunk, place = chunk+1, 0 {
		if place < uint32(s.state[chunk].next) {
			return chunk*per + place
		}
	}
	return 0
}

// Bound returns an index that all records lie below.
func (s *Slab[T]) Bound() uint32 { return uint32(len(s.state)) * s.perChunk() }

func (s *Slab[T]) link(i uint32) *uint32 { return (*uint32)(unsafe.Pointer(s.At(i))) }

// bitSet is a set of small numbers that finds its lowest.
type bitSet struct {
	bits    []uint64
	summary []uint64 // of the words of bits that are not 0
}

// add adds a number.
func (b *bitSet) add(n int) {
	for n>>6 >= len(b.bits) {
		b.bits = append(b.bits, 0)
	}
	for n>>12 >= len(b.summary) {
		b.summary = append(b.summary, 0)
	}
	b.bits[n>>6] |= 1 << (n & 63)
	b.summary[n>>12] |= 1 << (n >> 6 & 63)
}

// remove removes a number that has been added once.
func (b *bitSet) remove(n int) {
	if b.bits[n>>6] &^= 1 << (n & 63); b.bits[n>>6] == 0 {
		b.summary[n>>12] &^= 1 << (n >> 6 & 63)
	}
}

// lowest returns the lowest number, and whether there is one.
func (b *bitSet) lowest() (int, bool) {
	for i, s := range b.summary {
		if s != 0 {
			w := i<<6 + bits.TrailingZeros64(s)
			return w<<6 + bits.TrailingZeros64(b.bits[w]), true
		}
	}
	return 0, false
}

// hasPointers reports whether a value of type t holds anything the garbage collector
// would have to see.
func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && hasPointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if hasPointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Bool, reflect.Uintptr, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return false
	}
	return true
}
