package fragments

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// What must be true of the records of a table: of every table, which builds that check invariants look
// at, and of one that somebody may have forged, which is read from a snapshot. So no link is trusted
// before it is known where it leads.

// verifier walks the records of a table, and says what is wrong with them: the first thing only.
type verifier struct {
	*Table
	refuse func(format string, args ...any)
	wrong  bool

	// Records in use; of the first four, those that no list has led to yet.
	unmet                   struct{ datagrams, pieces, cells, releases set }
	known                   struct{ sources, owners set }
	sources                 map[uint32]sourceRecord // counts of what there turns out to be
	owned                   map[uint32]*ownerCount
	pieces, packets, stored int // pieces, queued packets and cells
}

// set is a set of records by index.
type set []bool

func used[T any](s *slab.Slab[T]) set {
	all := make(set, s.Bound())
	for id := range s.Used() {
		all[id] = true
	}
	return all
}

func (s set) has(id uint32) bool { return int64(id) < int64(len(s)) && s[id] }

// take reports whether a record is in a set, and takes it out.
func (s set) take(id uint32) bool {
	has := s.has(id)
	if has {
		s[id] = false
	}
	return has
}

// ownerCount is what an owner turns out to have.
type ownerCount struct {
	load    [numLoads]uint32
	sources map[uint32]bool
}

// verify calls refuse once if any counter, list or rank disagrees with the others, and then returns false.
// It looks at no index. Cost: O(datagrams + pieces).
func (t *Table) verify(refuse func(format string, args ...any)) bool {
	v := verifier{Table: t, refuse: refuse, sources: map[uint32]sourceRecord{}, owned: map[uint32]*ownerCount{}}
	v.unmet.datagrams, v.unmet.pieces, v.unmet.cells, v.unmet.releases = used(&t.datagrams), used(&t.pieces), used(&t.cells), used(&t.releases)
	v.known.sources, v.known.owners = used(&t.sources), used(&t.owners)
	datagrams := 0
	for at := range stage(numLists) {
		datagrams += v.stage(at)
	}
	v.releases()
	v.shares()
	v.ranked()
	v.check(datagrams == t.datagrams.Len() && datagrams <= t.limits.MaxDatagrams, "%d datagrams in lists, of %d, and %d may be", datagrams, t.datagrams.Len(), t.limits.MaxDatagrams)
	v.check(v.pieces == t.pieces.Len() && v.packets == t.queued, "%d pieces of datagrams, of %d, and %d packets that wait, of %d", v.pieces, t.pieces.Len(), v.packets, t.queued)
	v.check(v.stored == t.cells.Len() && v.stored <= t.maxCells, "%d cells of packets, of %d, and %d may be", v.stored, t.cells.Len(), t.maxCells)
	return !v.wrong
}

// check reports whether nothing has been wrong so far.
func (v *verifier) check(ok bool, format string, args ...any) bool {
	if !ok && !v.wrong {
		v.wrong = true
		v.refuse(format, args...)
	}
	return !v.wrong
}

// stage walks the datagrams of a stage, and returns how many there are.
func (v *verifier) stage(at stage) (n int) {
	last, since := uint32(0), flow.Time(0)
	for id := v.lists[at].head; id != 0; n++ {
		if !v.check(v.unmet.datagrams.take(id), "datagram %d is in a list twice, or none", id) {
			return n
		}
		d := v.datagrams.At(id)
		if !v.check(d.stage == at && d.in[inStage].prev == last && d.since >= since && v.known.sources.has(d.source),
			"datagram %d is not where it belongs: %+v", id, *d) || !v.datagram(id, d) {
			return n
		}
		last, since, id = id, d.since, d.in[inStage].next
	}
	v.check(last == v.lists[at].tail, "a list of datagrams ends with %d, not %d", last, v.lists[at].tail)
	return n
}

// datagram looks at a datagram whose source there is.
func (v *verifier) datagram(id uint32, d *datagram) bool {
	source := v.Table.sources.At(d.source)
	if !v.check(source.addr == d.key.Src && v.known.owners.has(source.owner), "datagram %d is not of source %+v", id, *source) {
		return false
	}
	name, key := v.owners.At(source.owner).name, ownerOf(&d.key)
	v.check(name == key || d.stage != waiting && d.from() == flow.Outside && name&outsideOwner != 0, "datagram %d is owner %#x's", id, name)
	v.check(d.reason < flow.NumReasons && d.action <= flow.Bypass && (d.stage != open || d.action != flow.Drop), "datagram %d has the verdict %d, %d", id, d.action, d.reason)
	count, received, end, last, cells := 0, 0, -1, uint32(0), v.stored
	for at := d.pieces; at != 0; count++ {
		if !v.check(v.unmet.pieces.take(at), "piece %d of datagram %d is another's, or none", at, id) {
			return false
		}
		q := v.Table.pieces.At(at)
		if !v.check(int(q.start) >= end && q.end > q.start && (q.cell == 0 || d.stage == waiting), "piece %+v after %d of datagram %+v", *q, end, *d) || !v.packet(q) {
			return false
		}
		received, end, last, at = received+int(q.end-q.start), int(q.end), at, q.next
	}
	v.pieces += count
	cells = v.stored - cells
	s := v.sources[d.source]
	s.all++
	if v.owned[source.owner] == nil {
		v.owned[source.owner] = &ownerCount{sources: map[uint32]bool{}}
	}
	o := v.owned[source.owner]
	o.sources[d.source] = true
	o.load[cellLoad] += uint32(cells)
	if d.stage != spent {
		o.load[datagramLoad]++
		s.count[d.stage]++
	}
	v.sources[d.source] = s
	return v.check(count == int(d.count) && cells == int(d.cells) && last == d.last && (d.stage == spent || received == int(d.received)) &&
		(d.stage != spent || count == 0) && (d.stage != open || d.received != d.total), "%d pieces of %d bytes in datagram %+v", count, received, *d)
}

// packet looks at the cells of a piece, if it is queued.
func (v *verifier) packet(q *piece) bool {
	if q.cell == 0 {
		return true
	}
	left := int(q.size)
	for c := q.cell; c != 0; c = v.cells.At(c).next {
		if !v.check(left > 0 && v.unmet.cells.take(c), "cell %d of a fragment of %d bytes is another's, or none", c, q.size) {
			return false
		}
		v.stored++
		left -= cellSize
	}
	v.packets++
	return v.check(left <= 0 && left > -cellSize, "cells of a fragment of %d bytes end with %d bytes to go", q.size, left)
}

// releases walks what leaves.
func (v *verifier) releases() {
	last, n := uint32(0), 0
	for id := v.leaving.head; id != 0 && !v.wrong; n++ {
		if !v.check(v.unmet.releases.take(id), "release %d is in the list twice, or none", id) {
			return
		}
		r := v.Table.releases.At(id)
		v.check(r.from <= flow.Outside && r.action <= flow.Bypass && r.pieces != 0, "release %d is %+v", id, *r)
		for at := r.pieces; at != 0; v.pieces++ {
			if !v.check(v.unmet.pieces.take(at), "piece %d of release %d is another's, or none", at, id) {
				return
			}
			q := v.Table.pieces.At(at)
			if !v.check(q.cell != 0, "piece %d of release %d has no packet", at, id) || !v.packet(q) {
				return
			}
			at = q.next
		}
		last, id = id, r.next
	}
	v.check(last == v.leaving.tail && n == v.Table.releases.Len(), "the list of %d releases, of %d, ends with %d, not %d", n, v.Table.releases.Len(), last, v.leaving.tail)
}

// shares looks at sources and owners, and their lists.
func (v *verifier) shares() {
	if v.wrong {
		return
	}
	v.check(len(v.sources) == v.Table.sources.Len() && len(v.owned) == v.owners.Len(), "%d sources of datagrams, of %d, and %d owners, of %d", len(v.sources), v.Table.sources.Len(), len(v.owned), v.owners.Len())
	for id, is := range v.sources {
		s := v.Table.sources.At(id)
		v.check(s.count == is.count && s.all == is.all, "source %+v has %d and %d datagrams", *s, is.count, is.all)
		for at := range stage(numLive) {
			v.share(s.lists[at], inSource, at, s.count[at], func(d *datagram) bool { return d.source == id })
		}
	}
	for id, is := range v.owned {
		o, n := v.owners.At(id), uint32(0)
		v.check(o.load == is.load && int(o.sources) == len(is.sources), "owner %+v has %d of %d sources", *o, is.load, len(is.sources))
		for source := range is.sources {
			n += v.sources[source].count[waiting]
		}
		for at, n := range [numLive]uint32{n, o.load[datagramLoad] - n} {
			v.share(o.lists[at], inOwner, stage(at), n, func(d *datagram) bool { return v.Table.sources.At(d.source).owner == id })
		}
	}
}

// share walks n datagrams of a list of a kind, which all are where they belong in that of their stage. It ends, for
// the list names the one before each.
func (v *verifier) share(l list, kind int, at stage, n uint32, is func(d *datagram) bool) {
	last, since, bound := uint32(0), flow.Time(0), v.datagrams.Bound()
	for id := l.head; id != 0; n-- {
		if !v.check(id < bound && v.datagrams.Has(id) && n > 0, "datagram %d is in list %d, and is none", id, kind) {
			return
		}
		d := v.datagrams.At(id)
		if !v.check(d.stage == at && d.in[kind].prev == last && d.since >= since && is(d), "datagram %d is not where it belongs in list %d: %+v", id, kind, *d) {
			return
		}
		last, since, id = id, d.since, d.in[kind].next
	}
	v.check(last == l.tail && n == 0, "list %d ends with %d, not %d, and lacks %d", kind, last, l.tail, n)
}

// ranked looks at the places of owners in the ranks.
func (v *verifier) ranked() {
	for m, h := range v.ranks {
		if v.wrong || !v.check(len(h) == v.owners.Len(), "rank %d has %d owners, of %d", m, len(h), v.owners.Len()) {
			return
		}
		for i, id := range h {
			if !v.check(v.known.owners.has(id) && v.owners.At(id).place[m] == uint32(i) && (i == 0 || !v.above(id, h[(i-1)/2], load(m))), "owner %d is at place %d of rank %d", id, i, m) {
				return
			}
		}
	}
}
