package slab

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"unsafe"
)

// Slab is a growable pool of records of type T, named by index. Records never move.
// Index 0 is never handed out, so it can mean "none" in the owner's records.
//
// Call Init first. A Slab must not be copied after Init, and is not safe for concurrent use.
type Slab[T any] struct {
	dir  directory
	free uint32 // head of the free list, linked through the records' first 4 bytes; 0 ends it
	next uint32 // lowest index never handed out
	used int
}

// Init makes s an empty Slab that draws on m. It panics if T contains pointers, if its size
// is not a power of two between 4 and ChunkSize bytes, or if s was initialised before.
func (s *Slab[T]) Init(m *Memory) {
	t := reflect.TypeFor[T]()
	if size := t.Size(); size < 4 || size > ChunkSize || bits.OnesCount64(uint64(size)) != 1 {
		panic(fmt.Sprintf("slab: size of %v is %d bytes, not a power of two between 4 and %d", t, size, ChunkSize))
	}
	if hasPointers(t) {
		panic(fmt.Sprintf("slab: %v contains pointers", t))
	}
	s.dir.init(m)
	s.next = 1
}

// At returns the record with index i, which must have come from Alloc. The pointer stays
// good until Free(i) or Memory.Release. At panics if i lies beyond the last chunk; it does
// not notice an index that is free. It is inlined: a load, a shift and a mask.
func (s *Slab[T]) At(i uint32) *T {
	per := uint32(ChunkSize / unsafe.Sizeof(*new(T))) // a constant power of two
	return (*T)(unsafe.Add(s.dir.chunks[i/per], uintptr(i%per)*unsafe.Sizeof(*new(T))))
}

// Alloc returns the index of a zeroed record: the one freed last, else the lowest never
// handed out. It panics when all 2^32-2 indexes are in use or the system has no memory left.
func (s *Slab[T]) Alloc() uint32 {
	i := s.free
	if i != 0 {
		link := s.link(i)
		s.free, *link = *link, 0
	} else {
		i = s.fresh()
	}
	s.used++
	return i
}

// Free returns record i to the Slab. The record is zeroed except for its first 4 bytes,
// which link the free list. It panics if i was never handed out, or was the one freed
// last; any other double free is a bug that goes unnoticed.
func (s *Slab[T]) Free(i uint32) {
	if i == 0 || i >= s.next || i == s.free {
		panic(fmt.Sprintf("slab: Free of index %d, which is not in use", i))
	}
	*s.At(i) = *new(T)
	*s.link(i) = s.free
	s.free = i
	s.used--
}

// Len returns the number of records in use.
func (s *Slab[T]) Len() int { return s.used }

// Cap returns a bound above every index handed out so far, from 1 to 2^32-1. It never
// shrinks.
func (s *Slab[T]) Cap() uint32 { return s.next }

func (s *Slab[T]) link(i uint32) *uint32 { return (*uint32)(unsafe.Pointer(s.At(i))) }

// fresh hands out the lowest index never used, adding a chunk when the last one is full.
func (s *Slab[T]) fresh() uint32 {
	i := s.next
	if i == math.MaxUint32 {
		panic("slab: all 2^32-2 indexes are in use")
	}
	per := ChunkSize / unsafe.Sizeof(*new(T))
	for uintptr(i)/per >= uintptr(len(s.dir.chunks)) { // a record of ChunkSize bytes at index 1 needs two
		s.dir.add()
	}
	s.next++
	return i
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
