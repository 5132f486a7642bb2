package index

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// twin drives an index and its dull twin, a Go map, with the same operations.
type twin struct {
	testing.TB
	x       *Index
	model   map[uint32][]uint32 // tag -> IDs in ascending order
	live    []entry
	id      uint32 // the last one used
	refused int
}

type entry struct{ tag, id uint32 }

func newTwin(t testing.TB) *twin {
	return &twin{TB: t, x: newIndex(t), model: map[uint32][]uint32{}}
}

func (w *twin) insert(tag uint32) {
	w.id++
	if !w.x.Insert(tag, w.id) {
		w.refused++
		if len(w.model[tag]) < 2000 && len(w.live) < 50_000 { // what nobody but an enemy has
			w.Fatalf("tag %#x is refused, after %d entries, %d of them its own", tag, len(w.live), len(w.model[tag]))
		}
		return
	}
	w.model[tag] = append(w.model[tag], w.id)
	w.live = append(w.live, entry{tag, w.id})
}

// remove removes the live entry i.
func (w *twin) remove(i int) {
	e := w.live[i]
	w.live[i] = w.live[len(w.live)-1]
	w.live = w.live[:len(w.live)-1]
	w.x.Remove(e.tag, e.id)
	ids := w.model[e.tag]
	at, _ := slices.BinarySearch(ids, e.id)
	if ids = slices.Delete(ids, at, at+1); len(ids) == 0 {
		delete(w.model, e.tag)
	} else {
		w.model[e.tag] = ids
	}
}

// compare compares what both know of one tag.
func (w *twin) compare(tag uint32) {
	w.Helper()
	if got, want := w.x.all(tag), w.model[tag]; !slices.Equal(got, want) {
		w.Fatalf("tag %#x: candidates %v, want %v", tag, got, want)
	}
	if id := w.x.hint(tag); id != 0 && !slices.Contains(w.model[tag], id) {
		w.Fatalf("tag %#x: hint %d, want one of %v", tag, id, w.model[tag])
	}
}

// fork goes on with a copy, and the original is gone.
func (w *twin) fork() {
	w.Helper()
	mem, old := new(slab.Memory), w.x
	w.Cleanup(mem.Release)
	w.x = new(Index)
	if !old.ForkTo(w.x, mem) {
		w.Fatal("no memory for a copy")
	}
	if err := old.check(); err != nil {
		w.Fatalf("the original after a copy: %v", err)
	}
	old.mem.Release()
}

// compareSome is compare for most tags, but not always for those that have many
// entries.
func (w *twin) compareSome(rng *rand.Rand, tag uint32) {
	w.Helper()
	if n := len(w.model[tag]); n < 50 || rng.IntN(n/10) == 0 {
		w.compare(tag)
	}
}

// compareAll checks the structure, which includes that every entry is where a
// search finds it, and compares a thousand tags.
func (w *twin) compareAll() {
	w.Helper()
	if err := w.x.check(); err != nil {
		w.Fatal(err)
	}
	if w.x.Len() != len(w.live) {
		w.Fatalf("Len %d, want %d", w.x.Len(), len(w.live))
	}
	done := 0
	for i := 0; i < len(w.live) && done < 100_000; i += 1 + len(w.live)/1000 {
		w.compare(w.live[i].tag)
		done += len(w.model[w.live[i].tag])
	}
}

// TestModel runs long random scripts over tags that collide in several ways.
func TestModel(t *testing.T) {
	pkttest.OneGoroutine(t)
	for _, c := range []struct {
		name string
		peak int // entries at which removals begin to prevail
		tag  func(rng *rand.Rand) uint32
	}{
		{"uniform", 30_000, func(rng *rand.Rand) uint32 { return max(rng.Uint32(), 1) }},
		{"homes around the end", 1_500, func(rng *rand.Rand) uint32 {
			return 1<<20 | rng.Uint32N(64)<<10 | (1020+rng.Uint32N(8))&(segBuckets-1)
		}},
		{"one home", 1_000, func(rng *rand.Rand) uint32 { return rng.Uint32N(1<<22)<<10 | 1023 }},
		{"few tags", 800, func(rng *rand.Rand) uint32 { return 1 + rng.Uint32N(7)*0x08000400 }},
		{"all equal", 9_000, func(rng *rand.Rand) uint32 { return 0xabcdef }},
		{"two tags at each end", 12_000, func(rng *rand.Rand) uint32 { return 1 + rng.Uint32N(2)*0xfffffffe }},
		{"low entropy", 12_000, func(rng *rand.Rand) uint32 { return 1 << rng.Uint32N(32) }},
		{"10 low bits agree", 25_000, func(rng *rand.Rand) uint32 { return rng.Uint32()&^(segBuckets-1) | 0x123 }},
		{"20 high bits agree", 25_000, func(rng *rand.Rand) uint32 { return 0x77700000 | rng.Uint32N(1<<12) }},
		{"one corner of the directory", 20_000, func(rng *rand.Rand) uint32 { return 0xfff00000 | rng.Uint32N(1<<20) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			const seed = 1
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, uint64(len(c.name))))
			w := newTwin(t)
			grow := true
			for op := range pkttest.Operations(2, 4, 40) * c.peak {
				switch {
				case len(w.live) >= c.peak:
					grow = false
				case len(w.live) <= c.peak/8:
					grow = true
				}
				if insert := rng.IntN(4) != 0 == grow; insert || len(w.live) == 0 {
					if w.insert(c.tag(rng)); len(w.live) > 0 {
						w.compareSome(rng, w.live[len(w.live)-1].tag)
					}
				} else {
					i := rng.IntN(len(w.live))
					tag := w.live[i].tag
					w.remove(i)
					w.compareSome(rng, tag)
				}
				w.compareSome(rng, c.tag(rng))
				if op%(c.peak/2) == 0 {
					w.fork()
					w.compareAll()
				}
			}
			w.compareAll()
			for len(w.live) > 0 {
				w.remove(rng.IntN(len(w.live)))
			}
			w.compareAll()
		})
	}
}

// FuzzIndex runs a script of 4-byte operations: kind, home, high bits, count.
// Operations work on runs of entries, so that short scripts build long probe
// paths and split segments.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0, 255, 0, 80, 0, 0, 0, 80, 2, 3, 1, 100, 3, 0, 0, 60})
	f.Add(slices.Repeat([]byte{1, 0, 0, 255}, 40))
	f.Add(slices.Repeat([]byte{0, 254, 9, 255, 2, 7, 1, 200}, 20))
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		script := make([]byte, 4*60)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newTwin(t)
		for ; len(script) >= 4 && w.id < 20_000; script = script[4:] {
			kind, home, high, n := script[0]%5, uint32(int32(int8(script[1])))&(segBuckets-1), uint32(script[2]), int(script[3])
			switch kind {
			case 0: // n tags of one home: probes get long, and chains
				for i := range n {
					w.insert(max(high<<24|uint32(i)<<10|home, 1))
				}
			case 1: // 4n tags all over a corner of the directory
				for i := range 4 * n {
					w.insert(max(high<<24|uint32(i)*0x9e3779b1>>8, 1))
				}
			case 2: // remove n entries, stepping through the live ones
				for i := range min(n, len(w.live)) {
					w.remove((int(high)<<8 + i*int(home)) % len(w.live))
				}
			case 4: // 4n equal tags
				for range 4 * n {
					w.insert(max(high<<24|home, 1))
				}
			case 3: // remove the n entries inserted last
				for range min(n, len(w.live)) {
					w.remove(len(w.live) - 1)
				}
			}
			w.compare(max(binary.BigEndian.Uint32(script), 1))
		}
		w.fork()
		w.compareAll()
	})
}

// TestNoAllocs pins what packets do; only a split of a segment may allocate.
func TestNoAllocs(t *testing.T) {
	x := newIndex(t)
	for i := range uint32(2000) {
		x.Insert(max(i*0x9e3779b1, 1), i+1)
	}
	var sum uint32
	for name, f := range map[string]func(){
		"Insert, Remove": func() {
			x.Insert(1234567, 9999)
			x.Remove(1234567, 9999)
		},
		"Probe": func() {
			for p := x.Probe(0x9e3779b1); ; {
				id := p.Next()
				if id == 0 {
					break
				}
				sum += id
			}
		},
		"Home, Hint": func() { sum += x.hint(0x9e3779b1) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocs, want 0", name, n)
		}
	}
	if sum == 0 {
		t.Error("nothing was found")
	}
}

// TestSplitRecyclesMemory holds a split to the chunks it needs: the old segment
// becomes one of the next.
func TestSplitRecyclesMemory(t *testing.T) {
	x := newIndex(t)
	for i := range uint32(200_000) {
		x.Insert(max(i*0x9e3779b1, 1), i+1)
	}
	if err := x.check(); err != nil {
		t.Fatal(err)
	}
	if live, reserved := x.mem.Bytes(), x.mem.Reserved(); reserved > 2*live+4<<20 {
		t.Errorf("%d bytes reserved for %d in use", reserved, live)
	}
}
