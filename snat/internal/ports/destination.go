package ports

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/bitmap"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// scope is a destination as far as it matters for sharing a port: two flows of
// an instance whose scopes differ may use the same outside port. What a scope
// leaves out (the remote port, the whole remote) is zero.
type scope struct {
	instance uint32
	port     uint16
	proto    uint8
	family   uint8 // 0 IPv4, 1 IPv6; for ports at a node with nodeScope or publicScope
	addr     [2]uint64
}

// What is added to the family of a scope that is about ports at an instance's own
// address, or at its public one (nodeport.go).
const (
	nodeScope   = 2
	publicScope = 4
)

// destination knows ports of its instance that are taken for one scope.
//
// The lowest free port of a destination has to be found in the same time
// whether few or nearly all ports are taken. A destination with few flows needs
// no state for that: its flows have the lowest ordinals, and the index of what
// is taken tells which of those are free. Only when the lowest freeProbes
// ordinals are all taken does the destination earn a record with a hierarchical
// bitmap, one bit per ordinal, which grows with the highest ordinal handed out
// and lives until its last bit is cleared.
//
// A set bit means taken. A clear bit means free or not known: the port may have
// been taken before there was a record, or by a mapping that existed already.
// So what the bitmap proposes is looked up once, and the answer remembered.
type destination struct {
	scope
	taken uint32 // bits set
	bits  slab.Run
}

var _ [32]byte = [unsafe.Sizeof(destination{})]byte{}

// freeProbes is how many ordinals are probed in the session index before a
// destination gets a record.
const freeProbes = 4

// destinations are the destination records of one shard, under its lock.
type destinations struct {
	hasher flow.Hasher
	slab   slab.Slab[destination]
	index  index.Index
	runs   slab.Runs
	picked bool // ports are not simply the lowest ones: see marks.go
	nodes  int  // records about ports at nodes
	short  bool // of memory: a search since this was last cleared may have failed for that

	scratch []uint64
}

func (t *destinations) init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.slab.Init(mem)
	t.runs.Init(mem)
	t.index.Init(mem)
}

// hash returns the hash of a scope.
func (s *scope) hash(h *flow.Hasher) uint64 {
	k := flow.Key6{
		Src: s.addr, Dst: [2]uint64{uint64(s.instance), uint64(s.family)},
		DstPort: s.port, VNIProto: uint32(s.proto),
	}
	return h.Hash6(&k)
}

// find returns the record of a scope, or 0.
func (t *destinations) find(s *scope, hash uint64) uint32 {
	if t.slab.Len() == 0 {
		return 0
	}
	for p := t.index.Probe(index.Tag(hash)); ; {
		id := p.Next()
		if id == 0 || t.slab.At(id).scope == *s {
			return id
		}
	}
}

// spans[i] is how many bits a run of minWords<<i words holds with its summary.
var spans = func() (spans [11]int) {
	for i := range spans {
		n := min((minWords<<i)*64, MaxPoolPorts)
		for bitmap.Words(n) > minWords<<i {
			n -= 64
		}
		spans[i] = n
	}
	return spans
}()

const (
	minWords = 8 // the smallest bitmap: one cache line

	// MaxPoolPorts is the largest number of ports of an instance, by family
	// and protocol: the bitmap of a destination is one run of memory.
	MaxPoolPorts = bitmap.MaxBits
)

// span returns how many ordinals the record's bitmap covers, at most ports.
func span(words []uint64, ports int) int {
	i := 0
	for minWords<<i < len(words) {
		i++
	}
	return min(spans[i], ports)
}

// lowest returns the lowest ordinal below ports that is free for a scope, and
// remembers it as taken. taken looks an ordinal up; it must not change anything.
// It fails if none is free, or for want of memory. Cost is independent of how many
// ports are taken.
func (t *destinations) lowest(s *scope, ports int, taken func(ordinal int) bool) (ordinal int, ok bool) {
	hash := s.hash(&t.hasher)
	id := t.find(s, hash)
	if id == 0 {
		for o := range min(freeProbes, ports) {
			if !taken(o) {
				return o, true
			}
		}
		if ports <= freeProbes {
			return 0, false
		}
		if id = t.begin(s, hash, minWords); id == 0 {
			return 0, false
		}
		d := t.slab.At(id)
		d.taken = freeProbes
		words := t.runs.Words(d.bits)
		for o := range freeProbes {
			bitmap.Set(words, span(words, ports), o)
		}
	}
	d := t.slab.At(id)
	for {
		words := t.runs.Words(d.bits)
		n := span(words, ports)
		o, ok := bitmap.FirstZero(words, n)
		switch {
		case ok:
			bitmap.Set(words, n, o)
			d.taken++
			if !taken(o) {
				return o, true
			}
		case n == ports:
			return 0, false
		case !t.grow(d, ports):
			return 0, false
		}
	}
}

// blame returns the reason for which a flow gets no port: the one that is given, unless
// memory has been short.
func (t *destinations) blame(reason flow.Reason) flow.Reason {
	if t.short {
		return flow.ReasonMemory
	}
	return reason
}

// alloc returns memory for so many words, or 0.
func (t *destinations) alloc(words int) slab.Run {
	bits := t.runs.Alloc(words)
	if bits == 0 {
		t.short = true
	}
	return bits
}

// grow doubles the bitmap of d, if there is memory.
func (t *destinations) grow(d *destination, ports int) bool {
	old := t.runs.Words(d.bits)
	bits := t.alloc(2 * len(old))
	if bits == 0 {
		return false
	}
	words := t.runs.Words(bits)
	bitmap.Grow(words, span(words, ports), old, span(old, ports))
	t.runs.Free(d.bits)
	d.bits = bits
	return true
}

// begin stores a new record of a scope, which has none, with so many words if there
// are any. It returns 0 for want of memory.
func (t *destinations) begin(s *scope, hash uint64, words int) uint32 {
	id, bits := t.slab.Alloc(), slab.Run(0)
	if words > 0 {
		bits = t.alloc(words)
	}
	if id == 0 || words > 0 && bits == 0 || !t.index.Insert(index.Tag(hash), id) {
		t.short = true
		if bits != 0 {
			t.runs.Free(bits)
		}
		if id != 0 {
			t.slab.Free(id)
		}
		return 0
	}
	d := t.slab.At(id)
	d.scope, d.bits = *s, bits
	if s.family >= nodeScope {
		t.nodes++
	}
	return id
}

// end removes a record.
func (t *destinations) end(id uint32, hash uint64) {
	d := t.slab.At(id)
	if d.family >= nodeScope {
		t.nodes--
	}
	if d.bits != 0 {
		t.runs.Free(d.bits)
	}
	t.index.Remove(index.Tag(hash), id)
	t.slab.Free(id)
}

// free forgets that an ordinal is taken.
func (t *destinations) free(s *scope, ports, ordinal int) {
	if ordinal >= ports {
		return // it awaits removal, and no record knows of such
	}
	hash := s.hash(&t.hasher)
	id := t.find(s, hash)
	if id == 0 {
		return
	}
	d := t.slab.At(id)
	if t.picked || s.family >= nodeScope {
		if !t.unmark(d, ports, ordinal) {
			return
		}
	} else {
		words := t.runs.Words(d.bits)
		n := span(words, ports)
		if ordinal >= n || !bitmap.Test(words, n, ordinal) {
			return
		}
		bitmap.Clear(words, n, ordinal)
		d.taken--
	}
	if d.taken == 0 {
		t.end(id, hash)
	}
}

// forget drops the records of the instances for which gone holds; that loses
// knowledge, not truth. Cost: O(records).
func (t *destinations) forget(gone func(instance uint32) bool) {
	for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
		d := t.slab.At(id)
		if d.proto == 0 || !gone(d.instance) { // a free record has protocol 0
			continue
		}
		t.end(id, d.hash(&t.hasher))
	}
}
