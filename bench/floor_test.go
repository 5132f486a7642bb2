package bench

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// floor is the memory that BenchmarkFloor walks: as large as a table.
type floor struct {
	work  func(t *traffic, pkts [][]byte) // of an established flow's packets: batch, or chase where they come one by one
	mem   slab.Memory
	lines slab.Slab[[8]uint64]
	n     uint32
	seen  uint64 // keeps the reads of chase
}

func newFloor(b testing.TB, bytes int) *floor {
	f := &floor{}
	f.work = f.batch
	f.lines.Init(&f.mem)
	b.Cleanup(f.mem.Release)
	for f.n < uint32(max(bytes/64, 1)) {
		i := f.lines.Alloc()
		if *f.lines.At(i) = [8]uint64{1}; i >= floorFirst {
			f.n++
		}
	}
	return f
}

// floorFirst is the first record of the first chunk that is not small: from there on
// the indexes of a slab have no gaps.
const floorFirst = 3 * slab.ChunkSize / 64

// batch copies packets in and touches two random lines for each. The addresses
// come from the packet's bytes, as a table's do.
func (f *floor) batch(t *traffic, pkts [][]byte) {
	t.copyIn(pkts)
	f.update(t, pkts)
}

// update touches two random lines for each packet.
func (f *floor) update(t *traffic, pkts [][]byte) {
	var lines [2 * 64]unsafe.Pointer
	for k, p := range pkts {
		x := binary.LittleEndian.Uint64(p[12:]) ^ uint64(binary.LittleEndian.Uint32(p[20:]))<<13 ^ binary.LittleEndian.Uint64(p[36:])*3 ^ uint64(t.next)<<40
		x *= 0x9e3779b97f4a7c15
		x ^= x >> 29
		x *= 0xbf58476d1ce4e5b9
		lines[2*k] = unsafe.Pointer(f.lines.At(floorFirst + uint32(uint64(uint32(x))*uint64(f.n)>>32)))
		lines[2*k+1] = unsafe.Pointer(f.lines.At(floorFirst + uint32(uint64(uint32(x>>32))*uint64(f.n)>>32)))
	}
	slab.PrefetchEach(lines[:2*len(pkts)])
	for _, l := range lines[:2*len(pkts)] {
		(*[8]uint64)(l)[3]++
	}
}

// opening is the floor of a new flow: packets copied in, and four random lines for each.
func (f *floor) opening(t *traffic, pkts [][]byte) {
	t.copyIn(pkts)
	f.four(t, pkts)
}

// closing is the floor of the end of a flow, without a packet: four random lines. The packets are only
// where their addresses come from.
func (f *floor) closing(t *traffic, pkts [][]byte) {
	t.next = (t.next + len(pkts)) % t.n
	f.four(t, pkts)
}

// mixed is the floor of a batch of BenchmarkMixed.
func (f *floor) mixed(t *traffic, pkts [][]byte, shares [3]int) {
	f.batch(t, pkts)
	t.next++ // other lines
	for more := batch * (shares[1] + 2*shares[2]) / 100; more > 0; more -= batch {
		f.update(t, pkts[:min(more, batch)])
	}
	t.next--
}

// four touches four random lines for each packet.
func (f *floor) four(t *traffic, pkts [][]byte) {
	f.update(t, pkts)
	t.next++ // other lines
	f.update(t, pkts)
	t.next--
}

// chase is the floor of packets that come one by one: for each copied in, a random line is
// read, and another one whose place depends on it.
func (f *floor) chase(t *traffic, pkts [][]byte) {
	t.copyIn(pkts)
	var seen uint64
	for _, p := range pkts {
		x := (binary.LittleEndian.Uint64(p[12:]) ^ uint64(binary.LittleEndian.Uint32(p[20:]))<<13 ^ uint64(t.next)<<40 ^ seen) * 0x9e3779b97f4a7c15
		first := f.line(x)[5]
		seen = f.line((x ^ first) * 0xbf58476d1ce4e5b9)[6]
	}
	f.seen += seen
}

// line returns a line by the upper half of a hash.
func (f *floor) line(x uint64) *[8]uint64 {
	return f.lines.At(floorFirst + uint32(x>>32*uint64(f.n)>>32))
}
