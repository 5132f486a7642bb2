//go:build linux && !race

package slab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reserve maps size zeroed bytes aligned to ChunkSize, or to hugePage if size reaches it.
// It maps more than it needs and returns what lies outside the alignment. It panics
// if the system refuses.
func reserve(size int) unsafe.Pointer {
	align := ChunkSize
	if size >= hugePage {
		align = hugePage
	}
	p, err := unix.MmapPtr(-1, 0, nil, uintptr(size+align), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(fmt.Sprintf("slab: out of memory: mmap of %d bytes: %v", size+align, err))
	}
	head := -int(uintptr(p)) & (align - 1)
	if head > 0 {
		unreserve(p, head)
	}
	base := unsafe.Add(p, head)
	if tail := align - head; tail > 0 {
		unreserve(unsafe.Add(base, size), tail)
	}
	if align == hugePage {
		// Advice only: a kernel without transparent huge pages refuses it.
		_ = unix.Madvise(unsafe.Slice((*byte)(base), size), unix.MADV_HUGEPAGE)
	}
	return base
}

// unreserve unmaps size bytes at p.
func unreserve(p unsafe.Pointer, size int) {
	if err := unix.MunmapPtr(p, uintptr(size)); err != nil {
		panic(fmt.Sprintf("slab: munmap of %d bytes at %p: %v", size, p, err))
	}
}
