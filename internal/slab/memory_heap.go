//go:build !linux || race

package slab

import "unsafe"

// reserve returns size zeroed bytes of Go memory aligned to ChunkSize. The pointer kept
// by the Memory holds the whole allocation, which the garbage collector never scans.
func reserve(size int, _ pages) unsafe.Pointer {
	b := make([]byte, size+ChunkSize)
	p := unsafe.Pointer(unsafe.SliceData(b))
	return unsafe.Add(p, -int(uintptr(p))&(ChunkSize-1))
}

// touchesAhead says that memory is not touched before it is needed.
const touchesAhead = false

// touch and populate are never called here.
func touch(unsafe.Pointer, int)         {}
func populate(unsafe.Pointer, int) bool { return false }

// headroom cannot be asked for here.
func headroom() bool { return true }

// unreserve leaves the region to the garbage collector.
func unreserve(unsafe.Pointer, int) {}

// discard zeroes size bytes at p, as they are when they are handed out.
func discard(p unsafe.Pointer, size int) { clear(unsafe.Slice((*byte)(p), size)) }
