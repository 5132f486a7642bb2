//go:build linux && !race

package slab

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident reports whether the page at p is in memory.
func resident(t *testing.T, p unsafe.Pointer) bool {
	var vec [1]byte
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(p), 1, uintptr(unsafe.Pointer(&vec))); e != 0 {
		t.Fatalf("mincore at %p: %v", p, e)
	}
	return vec[0]&1 != 0
}

// last returns the newest region of huge pages.
func last(m *Memory) region {
	all := slices.Clone(m.regions)
	slices.Reverse(all)
	return all[slices.IndexFunc(all, func(r region) bool { return r.pages == hugePages })]
}

// What has been made ready is there.
func TestReadyMemoryIsResident(t *testing.T) {
	p, err := unix.MmapPtr(-1, 0, nil, ChunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.MunmapPtr(p, ChunkSize)
	if touch(p, ChunkSize); populate(p, ChunkSize) && !resident(t, p) {
		t.Skip("an emulator says that it has populated memory, and has not")
	}
	m := newMemory(t)
	for m.huge < maxRegion {
		m.Chunk(ChunkSize)
		settle(m)
		for at := 0; at < m.ready.n; at += 4096 {
			if !resident(t, unsafe.Add(m.ready.p, at)) {
				t.Fatalf("byte %d of %d that are ready is not resident", at, m.ready.n)
			}
		}
	}
}

func TestUntouchedMemoryIsNotResident(t *testing.T) {
	m := newMemory(t)
	for m.huge < 4*maxRegion {
		m.Chunk(ChunkSize)
		settle(m)
	}
	r := last(m)
	if uintptr(r.base)%hugePage != 0 {
		t.Errorf("region of %d bytes at %p is not aligned to %d", r.size, r.base, hugePage)
	}
	*(*byte)(r.base) = 1
	if !resident(t, r.base) {
		t.Errorf("touched page at %p is not resident", r.base)
	}
	if last := unsafe.Add(r.base, r.size-hugePage); resident(t, last) {
		t.Errorf("untouched page at %p is resident", last)
	}
}

func TestLargeRegionsAskForHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil {
		t.Skipf("kernel without transparent huge pages: %v", err)
	}
	// An emulator of another machine may take the advice and forget it.
	p, err := unix.MmapPtr(-1, 0, nil, 2*hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.MunmapPtr(p, 2*hugePage)
	if err := unix.Madvise(unsafe.Slice((*byte)(p), 2*hugePage), unix.MADV_HUGEPAGE); err != nil || !asksForHugePages(t, p) {
		t.Skipf("this system does not take the advice: %v", err)
	}
	m := newMemory(t)
	for m.huge < 2*hugePage {
		m.Chunk(ChunkSize)
		settle(m)
	}
	if base := last(m).base; !asksForHugePages(t, base) {
		t.Errorf("the mapping at %p does not ask for huge pages", base)
	}
}

// asksForHugePages reports whether the flags of the mapping that holds p say so.
func asksForHugePages(t *testing.T, p unsafe.Pointer) bool {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	mapping := regexp.MustCompile(`(?ms)^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags: ([^\n]*)$`)
	for _, f := range mapping.FindAllSubmatch(smaps, -1) {
		lo, _ := strconv.ParseUint(string(f[1]), 16, 64)
		hi, _ := strconv.ParseUint(string(f[2]), 16, 64)
		if at := uint64(uintptr(p)); at >= lo && at < hi {
			return strings.Contains(" "+string(f[3])+" ", " hg ")
		}
	}
	return false
}

func TestReleaseUnmaps(t *testing.T) {
	// An emulator of another machine may say of any address that it is mapped.
	p, err := unix.MmapPtr(-1, 0, nil, hugePage, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.MunmapPtr(p, hugePage); err != nil {
		t.Fatal(err)
	}
	if unix.Msync(unsafe.Slice((*byte)(p), hugePage), unix.MS_ASYNC) == nil {
		t.Skip("this system does not tell what is mapped")
	}
	var m Memory
	for m.Reserved() < maxRegion {
		m.Chunk(ChunkSize)
	}
	regions := m.regions
	for _, r := range regions {
		if err := unix.Msync(unsafe.Slice((*byte)(r.base), r.size), unix.MS_ASYNC); err != nil {
			t.Fatalf("msync of a live region: %v", err)
		}
	}
	m.Release()
	for _, r := range regions {
		if err := unix.Msync(unsafe.Slice((*byte)(r.base), r.size), unix.MS_ASYNC); !errors.Is(err, unix.ENOMEM) {
			t.Errorf("region of %d bytes at %p is still mapped: msync = %v", r.size, r.base, err)
		}
	}
}
