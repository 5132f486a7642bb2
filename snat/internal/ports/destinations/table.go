// Package destinations remembers which ports are taken towards a destination, so that a
// free one is found in the same time however many are taken.
//
// It refuses to know sessions, instances and who owns a port: its caller supplies a
// function that says what is really taken, and whatever a record proposes is checked by
// it. It is part of what the lock of one shard guards.
//
// Terminology:
//   - Scope: as much of a destination as matters for sharing a port.
//   - Record: what is known of the ports that are taken for a scope. Most scopes have
//     none. Where ports are the lowest ones (table.go) it is a bitmap that grows with the
//     highest; where they are spread (marks.go), a list or a bitmap of all; where all
//     instances share the ports (flows.go), a count of flows and seldom a bitmap.
//   - Mark: what says in a record that a port is taken. No mark means free, or not known.
//
// A new flow asks Lowest, or Record and Marked and then Mark, or Flows and Add. When it
// ends, Free or Drop forgets it. Memory that is short is remembered until BeginSearch.
package destinations

import (
	"iter"
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/bitmap"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Scope is a destination as far as it matters for sharing a port: two flows of
// an instance whose scopes differ may use the same outside port. What a scope
// leaves out (the remote port, the whole remote) is zero.
type Scope struct {
	Instance uint32 // or index of the frontend, where instances share the ports
	Port     uint16
	Proto    uint8
	Family   uint8 // 0 IPv4, 1 IPv6; of ports at a node with AtNode or AtPublic
	Addr     [2]uint64
}

// What is added to the family of a scope that is about ports at an instance's own
// address, or at its public one.
const (
	AtNode   = 2
	AtPublic = 4
)

// Record knows ports of its instance that are taken for one scope.
//
// The lowest free port of a destination has to be found in the same time
// whether few or nearly all ports are taken. A destination with few flows needs
// no state for that: its flows have the lowest ordinals, and the index of what
// is taken tells which of those are free. Only when the lowest FreeProbes
// ordinals are all taken does the destination earn a record with a hierarchical
// bitmap, one bit per ordinal, which grows with the highest ordinal handed out
// and lives until its last bit is cleared.
//
// A set bit means taken. A clear bit means free or not known: the port may have
// been taken before there was a record, or by a mapping that existed already.
// So what the bitmap proposes is looked up once, and the answer remembered.
type Record struct {
	Scope
	Taken uint32 // ports that are marked, or flows
	bits  slab.Run
}

var _ [32]byte = [unsafe.Sizeof(Record{})]byte{}

// FreeProbes is how many ordinals are probed in the session index before a
// destination gets a record.
const FreeProbes = 4

// Table is the records of one shard, under its lock.
type Table struct {
	hasher flow.Hasher
	slab   slab.Slab[Record]
	index  index.Index
	runs   slab.Runs
	last   uint32 // record that was sought last, or 0
	nodes  int    // records about ports at nodes
	short  bool   // of memory: a search since this was last cleared may have failed for that

	// Spread says that ports are not simply the lowest ones, so that a record marks any.
	Spread bool

	scratch []uint64
}

// Init makes an empty table that draws on mem.
func (t *Table) Init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.slab.Init(mem)
	t.runs.Init(mem)
	t.index.Init(mem)
}

// Close forgets everything. The memory that Init was given must have been released.
func (t *Table) Close() { t.nodes, t.last = 0, 0 }

// Hash returns the hash of a scope.
func (s *Scope) Hash(h *flow.Hasher) uint64 {
	if s.Family&1 == 0 {
		return h.HashParts(uint32(s.Addr[0]), s.Instance, uint32(s.Port), uint32(s.Family)<<8|uint32(s.Proto))
	}
	k := flow.Key6{
		Src: s.Addr, Dst: [2]uint64{uint64(s.Instance), uint64(s.Family)},
		DstPort: s.Port, VNIProto: uint32(s.Proto),
	}
	return h.Hash6(&k)
}

// find returns the record of a scope, or 0. The home bucket is searched without the
// machinery of a probe, which costs more than the search.
func (t *Table) find(s *Scope, hash uint64) uint32 {
	tag := index.Tag(hash)
	home := t.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := home.ID(bits.TrailingZeros32(m)); t.slab.At(id).Scope == *s {
			return id
		}
	}
	if !home.Full() && !t.index.Overflown() {
		return 0
	}
	for p := t.index.Probe(tag); ; {
		id := p.Next()
		if id == 0 || t.slab.At(id).Scope == *s {
			return id
		}
	}
}

// seek is find for a scope whose hash is not known yet. What was sought last is found
// without a hash: flows begin and end in bursts, and many in a row have one destination.
func (t *Table) seek(s *Scope) uint32 {
	if t.last != 0 && t.slab.At(t.last).Scope == *s {
		return t.last
	}
	if t.slab.Len() == 0 {
		return 0
	}
	id := t.find(s, s.Hash(&t.hasher))
	if id != 0 {
		t.last = id
	}
	return id
}

// spans[i] is how many bits a run of minWords<<i words holds with its summary.
var spans = func() (spans [11]int) {
	for i := range spans {
		n := min((minWords<<i)*64, MaxPorts)
		for bitmap.Words(n) > minWords<<i {
			n -= 64
		}
		spans[i] = n
	}
	return spans
}()

const (
	minWords = 8 // the smallest bitmap: one cache line

	// MaxPorts is the largest number of ports that a record can mark: its bitmap is one
	// run of memory.
	MaxPorts = bitmap.MaxBits
)

// span returns how many ordinals the record's bitmap covers, at most ports.
func span(words []uint64, ports int) int {
	return min(spans[bits.Len(uint(max(len(words)-1, 0))/minWords)], ports)
}

// Lowest returns the lowest ordinal below ports that is free for a scope, and
// remembers it as taken. taken looks an ordinal up; it must not change anything.
// It fails if none is free, or for want of memory. Cost is independent of how many
// ports are taken.
func (t *Table) Lowest(s *Scope, ports int, taken func(ordinal int) bool) (ordinal int, ok bool) {
	q := NewSearch(s, ports)
	for t.Next(&q) {
		if !taken(q.Ordinal) {
			return q.Ordinal, true
		}
	}
	return 0, false
}

// Search is Lowest for a caller that asks itself whether what it proposes is taken, by
// calling [Table.Next] until it is not. Nothing else may change the Table meanwhile.
type Search struct {
	Ordinal int // what Next has proposed

	scope  *Scope
	ports  int
	record *Record
	probed int // ordinals that have been proposed without a record
}

// NewSearch begins one for a scope, below so many ports.
func NewSearch(s *Scope, ports int) Search { return Search{scope: s, ports: ports} }

// Next proposes the lowest ordinal that is not known to be taken, higher than what it has
// proposed before, and reports whether there is one. Where there is a record it remembers
// it as taken.
func (t *Table) Next(q *Search) bool {
	if q.record == nil {
		if q.probed == 0 {
			if id := t.seek(q.scope); id != 0 {
				q.record = t.slab.At(id)
				return t.propose(q)
			}
		}
		if q.probed < min(FreeProbes, q.ports) {
			q.Ordinal = q.probed
			q.probed++
			return true
		}
		if q.ports <= FreeProbes || !t.enlist(q) {
			return false
		}
	}
	return t.propose(q)
}

// enlist gives the scope of a search a record, in which what has been proposed is marked.
func (t *Table) enlist(q *Search) bool {
	id := t.begin(q.scope, minWords)
	if id == 0 {
		return false
	}
	q.record = t.slab.At(id)
	q.record.Taken = FreeProbes
	words := t.runs.Words(q.record.bits)
	for o := range FreeProbes {
		bitmap.Set(words, span(words, q.ports), o)
	}
	return true
}

// propose is Next by the record.
func (t *Table) propose(q *Search) bool {
	d := q.record
	for {
		words := t.runs.Words(d.bits)
		n := span(words, q.ports)
		if o, ok := bitmap.Take(words, n); ok {
			q.Ordinal = o
			d.Taken++
			return true
		}
		if n == q.ports || !t.grow(d, q.ports) {
			return false
		}
	}
}

// Record returns the record of a scope, or nil.
func (t *Table) Record(s *Scope) *Record {
	if id := t.seek(s); id != 0 {
		return t.slab.At(id)
	}
	return nil
}

// NodeRecord is Record for a scope of ports at a node, whose hash is known.
func (t *Table) NodeRecord(s *Scope, hash uint64) *Record {
	if t.nodes > 0 {
		if id := t.find(s, hash); id != 0 {
			return t.slab.At(id)
		}
	}
	return nil
}

// BeginSearch forgets that memory was short, Short reports whether it has been since, and
// Blame returns the reason for which a flow gets no port: the one that is given, unless
// memory has been short.
func (t *Table) BeginSearch() { t.short = false }

// Short is explained at BeginSearch.
func (t *Table) Short() bool { return t.short }

// Blame is explained at BeginSearch.
func (t *Table) Blame(reason flow.Reason) flow.Reason {
	if t.short {
		return flow.ReasonMemory
	}
	return reason
}

// alloc returns memory for so many words, or 0.
func (t *Table) alloc(words int) slab.Run {
	bits := t.runs.Alloc(words)
	if bits == 0 {
		t.short = true
	}
	return bits
}

// grow doubles the bitmap of d, if there is memory.
func (t *Table) grow(d *Record, ports int) bool {
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
func (t *Table) begin(s *Scope, words int) uint32 {
	id, bits := t.slab.Alloc(), slab.Run(0)
	if words > 0 {
		bits = t.alloc(words)
	}
	if id == 0 || words > 0 && bits == 0 || !t.index.Insert(index.Tag(s.Hash(&t.hasher)), id) {
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
	d.Scope, d.bits = *s, bits
	if s.Family >= AtNode {
		t.nodes++
	}
	return id
}

// end removes a record.
func (t *Table) end(id uint32) {
	d := t.slab.At(id)
	if t.last == id {
		t.last = 0
	}
	if d.Family >= AtNode {
		t.nodes--
	}
	if d.bits != 0 {
		t.runs.Free(d.bits)
	}
	t.index.Remove(index.Tag(d.Hash(&t.hasher)), id)
	t.slab.Free(id)
}

// Free forgets that an ordinal is taken.
func (t *Table) Free(s *Scope, ports, ordinal int) {
	if ordinal >= ports {
		return // it awaits removal, and no record knows of such
	}
	id := t.seek(s)
	if id == 0 {
		return
	}
	d := t.slab.At(id)
	if t.Spread || s.Family >= AtNode {
		if !t.unmark(d, ports, ordinal) {
			return
		}
	} else {
		words := t.runs.Words(d.bits)
		n := span(words, ports)
		if ordinal >= n || !bitmap.Clear(words, n, ordinal) {
			return
		}
		d.Taken--
	}
	if d.Taken == 0 {
		t.end(id)
	}
}

// Forget drops the records of the instances for which gone holds; that loses
// knowledge, not truth. Cost: O(records).
func (t *Table) Forget(gone func(instance uint32) bool) {
	for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
		if d := t.slab.At(id); d.Proto != 0 && gone(d.Instance) { // a free record has protocol 0
			t.end(id)
		}
	}
}

// Len returns how many records there are, and AtNodes how many of them are about ports at
// nodes.
func (t *Table) Len() int { return t.slab.Len() }

// AtNodes is explained at Len.
func (t *Table) AtNodes() int { return t.nodes }

// All returns the records. Nothing may change meanwhile.
func (t *Table) All() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
			if d := t.slab.At(id); d.Proto != 0 && !yield(d) {
				return
			}
		}
	}
}

// Words returns the memory of a record, nil if it has none.
func (t *Table) Words(d *Record) []uint64 {
	if d.bits == 0 {
		return nil
	}
	return t.runs.Words(d.bits)
}

// Scratch returns how many words of memory searches have taken.
func (t *Table) Scratch() int { return len(t.scratch) }
