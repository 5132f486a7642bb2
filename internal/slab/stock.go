package slab

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Stocks: memory for several new Memories at once, that is resident before anybody has to
// wait for it. A page that the system has yet to find costs up to 9 µs where it is first
// touched, so a copy under locks takes its memory before them.
//
//	Stock ──► arena, one mapping ──► a region of each Memory
//	            ▲                        │ Release of the last one
//	            └──────── spares ◄───────┘ for two garbage collections
//
// An arena that is used again is resident, but not zero.

// Stock is what some Memories are going to need. The zero Stock is empty. It is for one
// goroutine.
type Stock struct {
	to    []*Memory
	sizes []int // bytes of each, in whole chunks
	size  int   // of all
}

// Add notes that to, which nothing has been taken from, will hold a copy of what from holds
// now: as many chunks of ChunkSize.
func (s *Stock) Add(to, from *Memory) {
	size := from.large * ChunkSize
	s.to, s.sizes, s.size = append(s.to, to), append(s.sizes, size), s.size+size
}

// Take takes the memory from the system, makes it resident and gives each Memory its part, in
// one mapping. It does nothing if all need less than 1 MiB, or the system has none: they take
// theirs as always then. Those that need more after all do so, too. Cost: up to 9 µs for 4 KiB
// that the system has yet to find, 0.1 µs for those that it has, none for what a stock has had
// before.
func (s *Stock) Take() {
	if s.size < maxHeap || Fault != nil && Fault() {
		return
	}
	a := spares.take(s.size)
	used := a != nil
	if !used {
		base := reserve(s.size, hugePages)
		if base == nil {
			return
		}
		touch(base, s.size)
		a = &arena{base: base, size: s.size}
		a.cleanup = runtime.AddCleanup(a, unmap, mapping{base, s.size})
	}
	parts := int32(0)
	for _, size := range s.sizes {
		if size > 0 {
			parts++
		}
	}
	a.parts.Store(parts)
	at := a.base
	for i, m := range s.to {
		if size := s.sizes[i]; size > 0 {
			r := region{base: at, size: size, of: a}
			liveRegions.Add(1)
			r.cleanup = runtime.AddCleanup(m, release, r)
			m.include(r)
			m.stock, m.soiled = stretch{at, size}, used
			at = unsafe.Add(a.base, uintptr(at)-uintptr(a.base)+uintptr(size))
		}
	}
}

// arena is a mapping that several Memories have parts of.
type arena struct {
	base    unsafe.Pointer
	size    int
	parts   atomic.Int32 // that have not been released
	cleanup runtime.Cleanup
}

// mapping is what the cleanup of an arena knows of it.
type mapping struct {
	base unsafe.Pointer
	size int
}

// unmap returns the mapping of an arena that nobody has any more.
func unmap(m mapping) { unreserve(m.base, m.size) }

// drop gives back a part. With the last one the arena can be used again.
func (a *arena) drop() {
	if a.parts.Add(-1) == 0 {
		spares.put(a)
	}
}

// spares are the arenas that wait to be used again.
var spares store

// store keeps arenas for a while.
type store struct {
	mu   sync.Mutex
	kept []kept // guarded by mu; the oldest first
	told bool   // guarded by mu; the next garbage collection will be told
}

// kept is an arena in the store.
type kept struct {
	*arena
	collections int // of garbage that it has waited for
}

const (
	maxSpares = 4 // arenas: those of two copies

	// spareCollections is how many garbage collections a spare waits for; there is one in two
	// minutes at least.
	spareCollections = 2
)

// take returns the smallest spare that has so many bytes, and no more than twice as many; nil
// if there is none.
func (s *store) take(size int) *arena {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := -1
	for i, k := range s.kept {
		if k.size >= size && k.size <= 2*size && (best < 0 || k.size < s.kept[best].size) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	a := s.kept[best].arena
	s.kept = slices.Delete(s.kept, best, best+1)
	return a
}

// put keeps an arena, and gives the oldest one back to the system if there are too many.
func (s *store) put(a *arena) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.kept) == maxSpares {
		s.discard(1)
	}
	s.kept = append(s.kept, kept{arena: a})
	s.listen()
}

// discard gives the n oldest spares back to the system. s.mu must be held.
func (s *store) discard(n int) {
	for _, k := range s.kept[:n] {
		k.cleanup.Stop()
		unreserve(k.base, k.size)
	}
	s.kept = slices.Delete(s.kept, 0, n)
}

// listen lets the next garbage collection be told. s.mu must be held.
func (s *store) listen() {
	if !s.told && len(s.kept) > 0 {
		s.told = true
		runtime.AddCleanup(new([64]byte), (*store).collected, s)
	}
}

// collected follows a garbage collection.
func (s *store) collected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = false
	old := 0
	for i := range s.kept {
		if s.kept[i].collections++; s.kept[i].collections >= spareCollections {
			old = i + 1
		}
	}
	s.discard(old)
	s.listen()
}
