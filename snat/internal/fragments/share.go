package fragments

// Who has a place in the table of datagrams in pieces, and who gives way. Read RFC
// 4787 section 11 (REQ-14 a) first: floods of fragments must not hurt others.
//
// Fragments in order complete their datagram within moments; what a flood leaves
// stays until its lifetime is over. So nobody is refused for those who came before:
// the oldest gives way. Who floods loses its own: datagrams have owners, instances
// that send or receive them, and where there is no room left, the owner that has
// most gives way. A source that has as many as it may gives way itself.
//
// What becomes of a fragment does not depend on who has forgotten what is over
// already: that is the first to give way, and if it is there nothing else is looked
// at. Owners that have the same are told apart by their names.

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
)

// sourceRecord is a source of datagrams of one owner.
type sourceRecord struct {
	addr  [2]uint64
	owner uint32
	all   uint32          // datagrams, spent ones included
	count [numLive]uint32 // by stage
	lists [numLive]list   // by stage, the oldest first
	_     [16]byte
}

// ownerRecord is what an instance has in the table, by direction.
type ownerRecord struct {
	name    uint32 // see ownerOf
	sources uint32
	load    [numLoads]uint32
	place   [numLoads]uint32 // in the ranks
	lists   [numLive]list    // as in a source
	_       [24]byte
}

var (
	_ [64]byte = [unsafe.Sizeof(sourceRecord{})]byte{}
	_ [64]byte = [unsafe.Sizeof(ownerRecord{})]byte{}
)

// numLive is the number of stages in which a datagram has something to lose: waiting
// and open.
const numLive = 2

// load is what owners have of what is short.
type load uint8

const (
	datagramLoad load = iota // that wait or are open
	cellLoad                 // of queued fragments
	numLoads     = 2
)

// list is a list of records by index.
type list struct{ head, tail uint32 }

// linked is a place in a list of datagrams.
type linked struct{ prev, next uint32 }

// The lists that a datagram is in.
const (
	inStage  = iota // with all of its stage
	inSource        // with those of its source, unless it is spent
	inOwner         // with those of its owner, likewise
	numIn
)

// push appends a datagram to a list of a kind.
func (t *Table) push(l *list, kind int, id uint32) {
	t.datagrams.At(id).in[kind] = linked{prev: l.tail}
	if l.tail == 0 {
		l.head = id
	} else {
		t.datagrams.At(l.tail).in[kind].next = id
	}
	l.tail = id
}

// unlink takes a datagram out of a list of a kind.
func (t *Table) unlink(l *list, kind int, id uint32) {
	at := t.datagrams.At(id).in[kind]
	if at.prev == 0 {
		l.head = at.next
	} else {
		t.datagrams.At(at.prev).in[kind].next = at.next
	}
	if at.next == 0 {
		l.tail = at.prev
	} else {
		t.datagrams.At(at.next).in[kind].prev = at.prev
	}
}

// enter puts a datagram into the lists of its stage, which stay in order even if
// goroutines differ a little about the time.
func (t *Table) enter(now flow.Time, id uint32) {
	d := t.datagrams.At(id)
	l := &t.lists[d.stage]
	if d.since = now; l.tail != 0 {
		d.since = max(now, t.datagrams.At(l.tail).since)
	}
	t.soon(d.since + t.limits.Lifetime)
	t.push(l, inStage, id)
	if d.stage == spent {
		return
	}
	s := t.sources.At(d.source)
	s.count[d.stage]++
	t.push(&s.lists[d.stage], inSource, id)
	t.push(&t.owners.At(s.owner).lists[d.stage], inOwner, id)
	t.weigh(s.owner, datagramLoad, 1)
}

// leave is the opposite of enter.
func (t *Table) leave(id uint32) {
	d := t.datagrams.At(id)
	t.unlink(&t.lists[d.stage], inStage, id)
	if d.stage == spent {
		return
	}
	s := t.sources.At(d.source)
	s.count[d.stage]--
	t.unlink(&s.lists[d.stage], inSource, id)
	t.unlink(&t.owners.At(s.owner).lists[d.stage], inOwner, id)
	t.weigh(s.owner, datagramLoad, -1)
}

// outsideOwner marks the names of owners of what comes from outside.
const outsideOwner = 1 << 31

// ownerOf names the owner of a datagram whose first fragment has not come: the
// instance that sends it, or whoever is meant by what comes from outside, which all
// wait together.
func ownerOf(k *flow.Key6) uint32 {
	if k.VNI() == outsider {
		return outsideOwner | outsider
	}
	return k.VNI()
}

// sourceTag returns the tag of the source of a key at an owner.
func (t *Table) sourceTag(k *flow.Key6, owner uint32) uint32 {
	return index.Tag(t.hasher.Hash6(&flow.Key6{Src: k.Src, Dst: [2]uint64{uint64(owner)}, VNIProto: 0xff}))
}

// sourceOf returns the record of the source of a key at an owner, or 0.
func (t *Table) sourceOf(k *flow.Key6, owner uint32) uint32 {
	for p := t.bySource.Probe(t.sourceTag(k, owner)); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if s := t.sources.At(id); s.addr == k.Src && t.owners.At(s.owner).name == owner {
			return id
		}
	}
}

// ownerTag returns the tag of an owner.
func (t *Table) ownerTag(owner uint32) uint32 {
	return index.Tag(t.hasher.Hash6(&flow.Key6{Dst: [2]uint64{uint64(owner)}, VNIProto: 0xfe}))
}

// findOwner returns the record of an owner, or 0.
func (t *Table) findOwner(name uint32) uint32 {
	for p := t.byOwner.Probe(t.ownerTag(name)); ; {
		if id := p.Next(); id == 0 || t.owners.At(id).name == name {
			return id
		}
	}
}

// owner returns the record of an owner, which it makes if there is none.
func (t *Table) owner(name uint32) uint32 {
	if id := t.findOwner(name); id != 0 {
		return id
	}
	id := t.owners.Alloc()
	t.owners.At(id).name = name
	t.insert(&t.byOwner, t.ownerTag(name), id)
	for m := range load(numLoads) {
		t.ranks[m] = append(t.ranks[m], id)
		t.owners.At(id).place[m] = uint32(len(t.ranks[m]) - 1)
		t.weigh(id, m, 0)
	}
	return id
}

// join makes a datagram one of the source that its key names, at an owner.
func (t *Table) join(d *datagram, owner uint32) {
	d.source = t.sourceOf(&d.key, owner)
	if d.source == 0 {
		d.source = t.sources.Alloc()
		s := t.sources.At(d.source)
		s.addr, s.owner = d.key.Src, t.owner(owner)
		t.owners.At(s.owner).sources++
		t.insert(&t.bySource, t.sourceTag(&d.key, owner), d.source)
	}
	t.sources.At(d.source).all++
}

// part is the opposite of join. The datagram must be in no list.
func (t *Table) part(d *datagram) {
	s := t.sources.At(d.source)
	if s.all--; s.all > 0 {
		return
	}
	id, o := s.owner, t.owners.At(s.owner)
	t.bySource.Discard(t.sourceTag(&d.key, o.name), d.source)
	t.sources.Free(d.source)
	if o.sources--; o.sources > 0 {
		return
	}
	for m := range load(numLoads) {
		h := t.ranks[m]
		last := h[len(h)-1]
		t.ranks[m] = h[:len(h)-1]
		if last != id {
			h[o.place[m]] = last
			t.owners.At(last).place[m] = o.place[m]
			t.weigh(last, m, 0)
		}
	}
	t.byOwner.Discard(t.ownerTag(o.name), id)
	t.owners.Free(id)
}

// charge counts cells that a datagram takes, or gives back.
func (t *Table) charge(d *datagram, cells int) {
	if cells != 0 {
		d.cells = uint16(int(d.cells) + cells)
		t.weigh(t.sources.At(d.source).owner, cellLoad, cells)
	}
}

// cellsOf returns how many cells a packet of a size takes.
func cellsOf(size int) int { return (size + cellSize - 1) / cellSize }

// weigh changes what an owner has, and its rank. Cost: O(log owners).
func (t *Table) weigh(id uint32, m load, change int) {
	o := t.owners.At(id)
	o.load[m] = uint32(int(o.load[m]) + change)
	h, i := t.ranks[m], int(o.place[m])
	for i > 0 && t.above(id, h[(i-1)/2], m) {
		t.seat(m, i, h[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		c := 2*i + 1
		if c+1 < len(h) && t.above(h[c+1], h[c], m) {
			c++
		}
		if c >= len(h) || !t.above(h[c], id, m) {
			break
		}
		t.seat(m, i, h[c])
		i = c
	}
	t.seat(m, i, id)
}

// seat puts an owner at a place of a rank.
func (t *Table) seat(m load, i int, id uint32) {
	t.ranks[m][i] = id
	t.owners.At(id).place[m] = uint32(i)
}

// above reports whether an owner has more than another, or as much and the lower
// name.
func (t *Table) above(a, b uint32, m load) bool {
	p, q := t.owners.At(a), t.owners.At(b)
	return p.load[m] > q.load[m] || p.load[m] == q.load[m] && p.name < q.name
}

// giveWay forgets a datagram for another.
func (t *Table) giveWay(now flow.Time, id uint32) {
	switch {
	case t.over(now, id):
		t.end(now, id)
		return
	case t.datagrams.At(id).stage == waiting:
		t.discard(now, id, flow.ReasonFragLimit)
	}
	t.remove(id)
}

// limit makes room for another datagram of a source, if there is such a source, in a
// stage.
func (t *Table) limit(now flow.Time, source uint32, stage stage) {
	if source == 0 {
		return
	}
	if s := t.sources.At(source); s.count[stage] >= uint32(t.limits.MaxPerSource) {
		t.giveWay(now, s.lists[stage].head)
	}
}

// dispense forgets a datagram that is over or has nothing to lose, if there is one.
func (t *Table) dispense(now flow.Time) bool {
	for _, l := range &t.lists {
		if l.head != 0 && t.over(now, l.head) {
			t.end(now, l.head)
			return true
		}
	}
	if id := t.lists[spent].head; id != 0 {
		t.remove(id)
		return true
	}
	return false
}

// room makes room for a datagram of an owner, and reports whether there is any. One
// whose first fragment has come always finds it. Another does not take it from those
// that have their first, if its owner has most of them.
func (t *Table) room(now flow.Time, owner uint32, first bool) bool {
	if !t.crowded() || t.dispense(now) {
		return true
	}
	most := t.owners.At(t.ranks[datagramLoad][0])
	victim := most.lists[waiting].head
	if victim == 0 && (first || most.name != owner) {
		victim = most.lists[open].head
	}
	if victim == 0 {
		return false
	}
	t.giveWay(now, victim)
	return true
}

// space makes space for cells of a fragment of a datagram, or of a new one if that is
// 0, and reports whether there is any.
func (t *Table) space(now flow.Time, cells int, of uint32) bool {
	for t.cells.Len()+cells > t.maxCells {
		victim := t.lists[waiting].head
		if victim == 0 {
			return false // all of them leave with the next Advance
		}
		if !t.over(now, victim) {
			victim = t.owners.At(t.ranks[cellLoad][0]).lists[waiting].head
		}
		if victim == of {
			return false
		}
		t.giveWay(now, victim)
	}
	return true
}
