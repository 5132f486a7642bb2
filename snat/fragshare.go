package snat

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

// fragmentSource is a source of datagrams of one owner.
type fragmentSource struct {
	addr  [2]uint64
	owner uint32
	all   uint32          // datagrams, spent ones included
	count [numLive]uint32 // by state
	lists [numLive]list   // by state, the oldest first
	_     [16]byte
}

// fragmentOwner is what an instance has in the table, by direction.
type fragmentOwner struct {
	name    uint32 // see ownerOf
	sources uint32
	load    [numLoads]uint32
	place   [numLoads]uint32 // in the ranks
	lists   [numLive]list    // as in a source
	_       [24]byte
}

var (
	_ [64]byte = [unsafe.Sizeof(fragmentSource{})]byte{}
	_ [64]byte = [unsafe.Sizeof(fragmentOwner{})]byte{}
)

// numLive is the number of states in which a datagram has something to lose: waiting
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
	inState  = iota // with all of its state
	inSource        // with those of its source, unless it is spent
	inOwner         // with those of its owner, likewise
	numIn
)

// push appends a datagram to a list of a kind.
func (f *fragments) push(l *list, kind int, id uint32) {
	f.datagrams.At(id).in[kind] = linked{prev: l.tail}
	if l.tail == 0 {
		l.head = id
	} else {
		f.datagrams.At(l.tail).in[kind].next = id
	}
	l.tail = id
}

// unlink takes a datagram out of a list of a kind.
func (f *fragments) unlink(l *list, kind int, id uint32) {
	at := f.datagrams.At(id).in[kind]
	if at.prev == 0 {
		l.head = at.next
	} else {
		f.datagrams.At(at.prev).in[kind].next = at.next
	}
	if at.next == 0 {
		l.tail = at.prev
	} else {
		f.datagrams.At(at.next).in[kind].prev = at.prev
	}
}

// enter puts a datagram into the lists of its state, which stay in order even if
// goroutines differ a little about the time.
func (f *fragments) enter(now flow.Time, id uint32) {
	d := f.datagrams.At(id)
	l := &f.lists[d.state]
	if d.since = now; l.tail != 0 {
		d.since = max(now, f.datagrams.At(l.tail).since)
	}
	f.push(l, inState, id)
	if d.state == spent {
		return
	}
	s := f.sources.At(d.source)
	s.count[d.state]++
	f.push(&s.lists[d.state], inSource, id)
	f.push(&f.owners.At(s.owner).lists[d.state], inOwner, id)
	f.weigh(s.owner, datagramLoad, 1)
}

// leave is the opposite of enter.
func (f *fragments) leave(id uint32) {
	d := f.datagrams.At(id)
	f.unlink(&f.lists[d.state], inState, id)
	if d.state == spent {
		return
	}
	s := f.sources.At(d.source)
	s.count[d.state]--
	f.unlink(&s.lists[d.state], inSource, id)
	f.unlink(&f.owners.At(s.owner).lists[d.state], inOwner, id)
	f.weigh(s.owner, datagramLoad, -1)
}

// outsideOwner marks the names of owners of what comes from outside.
const outsideOwner = 1 << 31

// ownerOf names the owner of a datagram whose first fragment has not come: the
// instance that sends it, or whoever is meant by what comes from outside, which all
// wait together.
func ownerOf(k *flow.Key6) uint32 {
	if k.VNI() == outsideRealm {
		return outsideOwner | outsideRealm
	}
	return k.VNI()
}

// sourceTag returns the tag of the source of a key at an owner.
func (f *fragments) sourceTag(k *flow.Key6, owner uint32) uint32 {
	return index.Tag(f.hasher.Hash6(&flow.Key6{Src: k.Src, Dst: [2]uint64{uint64(owner)}, VNIProto: 0xff}))
}

// sourceOf returns the record of the source of a key at an owner, or 0.
func (f *fragments) sourceOf(k *flow.Key6, owner uint32) uint32 {
	for p := f.bySource.Probe(f.sourceTag(k, owner)); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if s := f.sources.At(id); s.addr == k.Src && f.owners.At(s.owner).name == owner {
			return id
		}
	}
}

// ownerTag returns the tag of an owner.
func (f *fragments) ownerTag(owner uint32) uint32 {
	return index.Tag(f.hasher.Hash6(&flow.Key6{Dst: [2]uint64{uint64(owner)}, VNIProto: 0xfe}))
}

// owner returns the record of an owner, which it makes if there is none.
func (f *fragments) owner(name uint32) uint32 {
	for p := f.byOwner.Probe(f.ownerTag(name)); ; {
		id := p.Next()
		if id == 0 {
			break
		}
		if f.owners.At(id).name == name {
			return id
		}
	}
	id := f.owners.Alloc()
	f.owners.At(id).name = name
	f.insert(&f.byOwner, f.ownerTag(name), id)
	for m := range load(numLoads) {
		f.ranks[m] = append(f.ranks[m], id)
		f.owners.At(id).place[m] = uint32(len(f.ranks[m]) - 1)
		f.weigh(id, m, 0)
	}
	return id
}

// join makes a datagram one of the source that its key names, at an owner.
func (f *fragments) join(d *datagram, owner uint32) {
	d.source = f.sourceOf(&d.key, owner)
	if d.source == 0 {
		d.source = f.sources.Alloc()
		s := f.sources.At(d.source)
		s.addr, s.owner = d.key.Src, f.owner(owner)
		f.owners.At(s.owner).sources++
		f.insert(&f.bySource, f.sourceTag(&d.key, owner), d.source)
	}
	f.sources.At(d.source).all++
}

// part is the opposite of join. The datagram must be in no list.
func (f *fragments) part(d *datagram) {
	s := f.sources.At(d.source)
	if s.all--; s.all > 0 {
		return
	}
	id, o := s.owner, f.owners.At(s.owner)
	f.bySource.Discard(f.sourceTag(&d.key, o.name), d.source)
	f.sources.Free(d.source)
	if o.sources--; o.sources > 0 {
		return
	}
	for m := range load(numLoads) {
		h := f.ranks[m]
		last := h[len(h)-1]
		f.ranks[m] = h[:len(h)-1]
		if last != id {
			h[o.place[m]] = last
			f.owners.At(last).place[m] = o.place[m]
			f.weigh(last, m, 0)
		}
	}
	f.byOwner.Discard(f.ownerTag(o.name), id)
	f.owners.Free(id)
}

// charge counts cells that a datagram takes, or gives back.
func (f *fragments) charge(d *datagram, cells int) {
	if cells != 0 {
		d.cells = uint16(int(d.cells) + cells)
		f.weigh(f.sources.At(d.source).owner, cellLoad, cells)
	}
}

// cellsOf returns how many cells a packet of a size takes.
func cellsOf(size int) int { return (size + cellSize - 1) / cellSize }

// weigh changes what an owner has, and its rank. Cost: O(log owners).
func (f *fragments) weigh(id uint32, m load, change int) {
	o := f.owners.At(id)
	o.load[m] = uint32(int(o.load[m]) + change)
	h, i := f.ranks[m], int(o.place[m])
	for i > 0 && f.above(id, h[(i-1)/2], m) {
		f.seat(m, i, h[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		c := 2*i + 1
		if c+1 < len(h) && f.above(h[c+1], h[c], m) {
			c++
		}
		if c >= len(h) || !f.above(h[c], id, m) {
			break
		}
		f.seat(m, i, h[c])
		i = c
	}
	f.seat(m, i, id)
}

// seat puts an owner at a place of a rank.
func (f *fragments) seat(m load, i int, id uint32) {
	f.ranks[m][i] = id
	f.owners.At(id).place[m] = uint32(i)
}

// above reports whether an owner has more than another, or as much and the lower
// name.
func (f *fragments) above(a, b uint32, m load) bool {
	p, q := f.owners.At(a), f.owners.At(b)
	return p.load[m] > q.load[m] || p.load[m] == q.load[m] && p.name < q.name
}

// giveWay forgets a datagram for another.
func (f *fragments) giveWay(now flow.Time, id uint32) {
	switch {
	case f.over(now, id):
		f.end(now, id)
		return
	case f.datagrams.At(id).state == waiting:
		f.discard(now, id, flow.ReasonFragLimit)
	}
	f.remove(id)
}

// limit makes room for another datagram of a source, if there is such a source, in a
// state.
func (f *fragments) limit(now flow.Time, source uint32, state fragmentState) {
	if source == 0 {
		return
	}
	if s := f.sources.At(source); s.count[state] >= uint32(f.limits.MaxPerSource) {
		f.giveWay(now, s.lists[state].head)
	}
}

// dispense forgets a datagram that is over or has nothing to lose, if there is one.
func (f *fragments) dispense(now flow.Time) bool {
	for _, l := range &f.lists {
		if l.head != 0 && f.over(now, l.head) {
			f.end(now, l.head)
			return true
		}
	}
	if id := f.lists[spent].head; id != 0 {
		f.remove(id)
		return true
	}
	return false
}

// room makes room for a datagram of an owner, and reports whether there is any. One
// whose first fragment has come always finds it. Another does not take it from those
// that have their first, if its owner has most of them.
func (f *fragments) room(now flow.Time, owner uint32, first bool) bool {
	if !f.crowded() || f.dispense(now) {
		return true
	}
	most := f.owners.At(f.ranks[datagramLoad][0])
	victim := most.lists[waiting].head
	if victim == 0 && (first || most.name != owner) {
		victim = most.lists[open].head
	}
	if victim == 0 {
		return false
	}
	f.giveWay(now, victim)
	return true
}

// space makes space for cells of a fragment of a datagram, or of a new one if that is
// 0, and reports whether there is any.
func (f *fragments) space(now flow.Time, cells int, of uint32) bool {
	for f.cells.Len()+cells > f.maxCells {
		victim := f.lists[waiting].head
		if victim == 0 {
			return false // all of them leave with the next Advance
		}
		if !f.over(now, victim) {
			victim = f.owners.At(f.ranks[cellLoad][0]).lists[waiting].head
		}
		if victim == of {
			return false
		}
		f.giveWay(now, victim)
	}
	return true
}
