package destinations

import (
	"math/bits"

	"github.com/seed-a61be3fe/natplane/internal/bitmap"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Archive writes the records of t, or reads them, each into the table that of says for its scope. Which ports
// a record has marked is what has been found out about its scope, so it is written as it is; flows are
// counted anew, see Restore. ports returns how many ports a scope has, or refuses one that there cannot
// be; flows says that records of ports that are not at nodes count flows. It reports whether there was memory.
func (t *Table) Archive(a *snapshot.Archive, of func(s *Scope) *Table, ports func(s *Scope) int, flows bool) bool {
	count := t.Len()
	snapshot.Num(a, &count)
	if a.Writing() {
		for d := range t.All() {
			d.Scope.archive(a)
			t.archive(a, d, ports(&d.Scope), flows)
		}
		return true
	}
	for ; count > 0; count-- {
		var s Scope
		if s.archive(a); !a.OK() || !a.Check(s.Proto != 0, "a destination without a protocol") {
			return true
		}
		n := ports(&s)
		if !a.OK() {
			return true
		}
		at := of(&s)
		if !a.Check(at.find(&s, s.Hash(&at.hasher)) == 0, "destination %+v is there twice", s) {
			return true
		}
		id := at.begin(&s, 0)
		if id == 0 || !at.archive(a, at.slab.At(id), n, flows) {
			return false
		}
	}
	return true
}

func (s *Scope) archive(a *snapshot.Archive) {
	snapshot.Num(a, &s.Instance)
	snapshot.Num(a, &s.Port)
	snapshot.Nums(a, &s.Proto, &s.Family)
	snapshot.Nums(a, &s.Addr[0], &s.Addr[1])
}

// archive writes or reads what a record knows of so many ports.
func (t *Table) archive(a *snapshot.Archive, d *Record, ports int, flows bool) bool {
	n := a.Len(len(t.Words(d)), 2*bitmap.Words(MaxPorts))
	if !a.Writing() && n > 0 {
		if !a.Check(bits.OnesCount(uint(n)) == 1 && n >= minWords && n/2 < max(bitmap.Words(ports), minWords), "a bitmap of %d words for %d ports", n, ports) {
			return true
		}
		if d.bits = t.alloc(n); d.bits == 0 {
			return false
		}
	}
	words := t.Words(d)
	switch atNode := d.Family >= AtNode; {
	case flows && !atNode:
	case !a.Check(n > 0, "destination %+v knows of no port", d.Scope):
	case (t.Spread || atNode) && listed(words, ports):
		t.archiveList(a, d, words, ports)
	case t.Spread || atNode:
		d.archiveBits(a, words, ports)
	default:
		d.archiveBits(a, words, span(words, ports))
	}
	return true
}

// archiveList writes or reads a list of marked ports, in its order.
func (t *Table) archiveList(a *snapshot.Archive, d *Record, words []uint64, ports int) {
	for i := range a.Len(int(d.Taken), 2*len(words)) {
		o := item(words, i)
		if snapshot.Num(a, &o); a.Writing() {
			continue
		}
		if !a.Check(o >= 0 && o < ports && d.position(words, o) < 0, "port %d of %d is in a list, or twice", o, ports) {
			return
		}
		setItem(words, i, o)
		d.Taken++
	}
	a.Check(d.Taken > 0, "destination %+v knows of no port", d.Scope)
}

// archiveBits writes or reads a bitmap of n marked ports.
func (d *Record) archiveBits(a *snapshot.Archive, words []uint64, n int) {
	taken := uint32(0)
	for i := range bitmap.Bits(words, n) {
		w := uint64(0)
		if left := n - 64*i; a.Writing() {
			if w = bitmap.Bits(words, n)[i]; left < 64 {
				w &= 1<<left - 1 // those behind have no meaning
			}
		}
		for snapshot.Num(a, &w); w != 0; w &= w - 1 {
			at := 64*i + bits.TrailingZeros64(w)
			if taken++; a.Writing() {
				continue
			}
			if !a.Check(at < n, "port %d of %d is marked", at, n) {
				return
			}
			bitmap.Set(words, n, at)
		}
	}
	if !a.Writing() {
		d.Taken = taken
	}
	a.Check(taken > 0, "destination %+v knows of no port", d.Scope)
}

// Restore counts a flow to s on one of so many ports in the record that has been read, and reports
// whether there is one.
func (t *Table) Restore(s *Scope, ports, port int) bool {
	return t.Record(s) != nil && t.Add(s, ports, port)
}

// Whole refuses records that count no flow. It comes when all is read.
func (t *Table) Whole(a *snapshot.Archive) {
	for d := range t.All() {
		a.Check(d.Taken > 0, "destination %+v has no flows", d.Scope)
	}
}
