package slab

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

func TestSlabInitChecksTheRecord(t *testing.T) {
	m := newMemory(t)
	bad := map[string]func(){
		"2 bytes":        func() { new(Slab[uint16]).Init(m) },
		"12 bytes":       func() { new(Slab[[3]uint32]).Init(m) },
		"empty":          func() { new(Slab[struct{}]).Init(m) },
		"two chunks":     func() { new(Slab[[2 * ChunkSize]byte]).Init(m) },
		"pointer":        func() { new(Slab[*int]).Init(m) },
		"unsafe pointer": func() { new(Slab[unsafe.Pointer]).Init(m) },
		"string":         func() { new(Slab[string]).Init(m) },
		"interface":      func() { new(Slab[any]).Init(m) },
		"slice":          func() { new(Slab[[8][]byte]).Init(m) },
		"map":            func() { new(Slab[map[int]int]).Init(m) },
		"nested pointers": func() {
			new(Slab[[4]struct {
				A uint32
				B [2]struct{ C []int }
			}]).Init(m)
		},
	}
	for what, init := range bad {
		mustPanic(t, what, init)
	}
	new(Slab[uint32]).Init(m)
	new(Slab[[ChunkSize]byte]).Init(m)
	new(Slab[struct {
		a uint32
		b [0]*int // takes no room and holds nothing
		c uint32
	}]).Init(m)
	var s Slab[uint64]
	s.Init(m)
	mustPanic(t, "second Init", func() { s.Init(m) })
}

func TestSlabReusesLastFreedFirst(t *testing.T) {
	var s Slab[[2]uint32]
	s.Init(newMemory(t))
	a, b, c := s.Alloc(), s.Alloc(), s.Alloc()
	if a != 1 || b != 2 || c != 3 {
		t.Fatalf("first indexes are %d, %d, %d, want 1, 2, 3", a, b, c)
	}
	if p := s.At(0); *p != [2]uint32{} {
		t.Errorf("record 0 is %v", *p)
	}
	s.Free(a)
	s.Free(c)
	s.Free(b)
	if x, y, z, n := s.Alloc(), s.Alloc(), s.Alloc(), s.Alloc(); x != b || y != c || z != a || n != 4 {
		t.Errorf("indexes after Free are %d, %d, %d, %d, want %d, %d, %d, 4", x, y, z, n, b, c, a)
	}
}

func TestSlabFreeZeroesAllButTheLink(t *testing.T) {
	var s Slab[[8]uint32]
	s.Init(newMemory(t))
	i := s.Alloc()
	for k := range s.At(i) {
		s.At(i)[k] = ^uint32(0)
	}
	s.Free(i)
	if rest := s.At(i)[1:]; !isZero(rest) {
		t.Errorf("freed record keeps %x after its link", rest)
	}
	if s.Alloc() != i || *s.At(i) != [8]uint32{} {
		t.Errorf("recycled record is %x", *s.At(i))
	}
}

func TestSlabFreeRefusesWhatIsNotInUse(t *testing.T) {
	var s Slab[uint64]
	s.Init(newMemory(t))
	i := s.Alloc()
	mustPanic(t, "index 0", func() { s.Free(0) })
	mustPanic(t, "never handed out", func() { s.Free(i + 1) })
	s.Free(i)
	mustPanic(t, "double free", func() { s.Free(i) })
	mustPanic(t, "At beyond the last chunk", func() { s.At(ChunkSize) })
}

func TestSlabOfWholeChunks(t *testing.T) {
	var s Slab[[ChunkSize]byte]
	s.Init(newMemory(t))
	if *s.At(0) != [ChunkSize]byte{} {
		t.Error("record 0 is not zero")
	}
	for want := uint32(1); want < 4; want++ {
		i := s.Alloc()
		if s.At(i)[ChunkSize-1]++; i != want || s.At(i)[ChunkSize-1] != 1 {
			t.Fatalf("record %d ends in %d, want record %d and 1", i, s.At(i)[ChunkSize-1], want)
		}
	}
}

// A record that comes and goes at the border of a chunk moves no memory.
func TestSlabKeepsOneChunk(t *testing.T) {
	m := newMemory(t)
	var s Slab[[1024]uint32] // 16 in a chunk
	s.Init(m)
	var all []uint32
	for range 40 {
		all = append(all, s.Alloc())
	}
	for m.Bytes() > 3*ChunkSize {
		s.Free(all[len(all)-1])
		all = all[:len(all)-1]
	}
	before, reserved := m.Bytes(), m.Reserved()
	for range 100 {
		i := s.Alloc()
		s.Free(i)
	}
	if m.Bytes() != before || m.Reserved() != reserved {
		t.Errorf("Bytes() went from %d to %d, Reserved() from %d to %d", before, m.Bytes(), reserved, m.Reserved())
	}
}

// New records fill the lowest chunk with room, so that the higher ones empty although
// records are as many all the time.
func TestSlabFillsLowChunksFirst(t *testing.T) {
	m := newMemory(t)
	var s Slab[[16]uint32]
	s.Init(m)
	rng := rand.New(rand.NewPCG(1, 2))
	var all []uint32
	for range 20_000 {
		all = append(all, s.Alloc())
	}
	free := func() {
		k := rng.IntN(len(all))
		s.Free(all[k])
		all[k] = all[len(all)-1]
		all = all[:len(all)-1]
	}
	for len(all) > 2_000 {
		free()
	}
	for range 100_000 {
		free()
		all = append(all, s.Alloc())
	}
	if got, most := m.Bytes(), 2_000*64+3*ChunkSize; got > most {
		t.Errorf("%d records take %d bytes, want %d at most", s.Len(), got, most)
	}
}
