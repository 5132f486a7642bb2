//go:build linux && !race

package slab

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// spare is the address space that stays free for the Go runtime, which ends the process
// where it finds none: its heap grows by 64 MiB (4 MiB on 32-bit machines).
const spare = 8 << 20 << (4 * (^uintptr(0) >> 63))

// reserve maps size zeroed bytes aligned to ChunkSize, or to hugePage if size reaches it,
// and returns nil if the system refuses. It maps more than it needs and returns what lies
// outside the alignment, or is only to be spare.
func reserve(size int, p pages) unsafe.Pointer {
	align := ChunkSize
	if size >= hugePage && p == hugePages {
		align = hugePage
	}
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
	all, err := unix.MmapPtr(-1, 0, nil, uintptr(size+align+spare), prot, flags)
	if err != nil {
		return nil
	}
	head := -int(uintptr(all)) & (align - 1)
	if head > 0 {
		unreserve(all, head)
	}
	base := unsafe.Add(all, head)
	unreserve(unsafe.Add(base, size), align-head+spare)
	// Advice only: a kernel without transparent huge pages refuses it.
	switch {
	case p == smallPages:
		_ = unix.Madvise(unsafe.Slice((*byte)(base), size), unix.MADV_NOHUGEPAGE)
	case size >= hugePage:
		_ = unix.Madvise(unsafe.Slice((*byte)(base), size), unix.MADV_HUGEPAGE)
	}
	return base
}

// touchesAhead says that memory is touched before it is needed.
const touchesAhead = true

// touch makes size bytes at p resident, which nobody uses yet.
func touch(p unsafe.Pointer, size int) {
	if !populate(p, size) {
		for i := 0; i < size; i += 4096 {
			*(*byte)(unsafe.Add(p, i)) = 0
		}
	}
}

// populate makes size bytes at p resident, which may be in use, and reports whether the kernel
// can: it is not older than 5.14. An emulator may say so and do nothing. The Go runtime does not wait for it.
func populate(p unsafe.Pointer, size int) bool {
	return unix.Madvise(unsafe.Slice((*byte)(p), size), unix.MADV_POPULATE_WRITE) == nil
}

// headroom reports whether the Go runtime would find address space.
func headroom() bool {
	p, err := unix.MmapPtr(-1, 0, nil, spare, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return false
	}
	unreserve(p, spare)
	return true
}

// unreserve unmaps size bytes at p. The kernel may refuse to divide a mapping where the
// process has as many as it may: then the pages are given back all the same, and the
// addresses are lost.
func unreserve(p unsafe.Pointer, size int) {
	if unix.MunmapPtr(p, uintptr(size)) != nil {
		discard(p, size)
	}
}

// discard gives the pages of size bytes at p back to the system; they read as zero then.
func discard(p unsafe.Pointer, size int) {
	b := unsafe.Slice((*byte)(p), size)
	if unix.Madvise(b, unix.MADV_DONTNEED) != nil {
		clear(b) // an emulator may refuse
	}
}
