package subscribers

import "github.com/seed-a61be3fe/natplane/internal/snapshot"

// How subscribers get into a snapshot. What a subscriber has is counted anew, by whoever has it: here is
// only what nothing else tells.

// landed is where a record has come to.
type landed struct {
	table *Table
	id    uint32
}

// Archive writes the records of t, or reads them, each into the table that of names. each follows
// with what else is known of one. It reports whether there was memory.
func (t *Table) Archive(a *snapshot.Archive, of func(n Name) *Table, each func(at *Table, id uint32)) (ok bool) {
	numbers, n := map[uint32]uint32{}, 0
	var all []landed // by number
	one := func(at *Table, id uint32, s *Record) {
		snapshot.Num(a, &s.due)
		snapshot.Num(a, &s.Home)
		a.Bool(&s.idle)
		a.Bool(&s.Told)
		if a.OK() {
			each(at, id)
		}
		n++
	}
	if a.Writing() {
		count := t.slab.Len()
		snapshot.Num(a, &count)
		for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
			if s := t.slab.At(id); !t.isFree(id) {
				numbers[id] = uint32(n)
				name := s.Name()
				name.archive(a)
				one(t, id, s)
			}
		}
		t.archiveIdle(a, nil, numbers)
		return true
	}
	count := 0
	for snapshot.Num(a, &count); n < count && a.OK(); {
		var name Name
		if name.archive(a); !a.OK() {
			return true
		}
		at := of(name)
		if !a.OK() || !a.Check(at.Find(&name) == 0, "subscriber %+v is there twice", name) {
			return true
		}
		id := at.Obtain(-1<<63, &name)
		if id == 0 {
			return false
		}
		all = append(all, landed{at, id})
		one(at, id, at.slab.At(id))
	}
	t.archiveIdle(a, all, nil)
	return true
}

func (n *Name) archive(a *snapshot.Archive) {
	snapshot.Nums(a, &n.Addr[0], &n.Addr[1])
	snapshot.Num(a, &n.Instance)
	snapshot.Num(a, &n.Family)
	a.Check(n.Family <= 1, "a subscriber of family %d", n.Family)
}

// archiveIdle writes or reads the queue of those that are to be forgotten.
func (t *Table) archiveIdle(a *snapshot.Archive, all []landed, numbers map[uint32]uint32) {
	queue, queued := t.idle, map[uint32]bool{}
	if !a.Writing() {
		queue = nil
	}
	snapshot.Slice(a, &queue, 1<<31-1, func(i *idle) {
		number := numbers[i.id]
		snapshot.Num(a, &number)
		snapshot.Num(a, &i.at)
		if a.Writing() || !a.Check(number < uint32(len(all)) && !queued[number], "subscriber %d is to be forgotten twice, or is none", number) {
			return
		}
		queued[number] = true
		at := all[number]
		if a.Check(at.table.slab.At(at.id).idle, "subscriber %d is to be forgotten, and is not", number) {
			at.table.idle = append(at.table.idle, idle{at.id, i.at})
		}
	})
	if !a.Writing() && a.OK() {
		for n, at := range all {
			a.Check(at.table.slab.At(at.id).idle == queued[uint32(n)], "subscriber %d is never forgotten", n)
		}
	}
}

// Whole refuses records that nothing keeps. It comes when all is read.
func (t *Table) Whole(a *snapshot.Archive) {
	for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
		s := t.slab.At(id)
		a.Check(s.Sessions > 0 || s.idle || s.NumBlocks > 0 || t.isFree(id), "subscriber %+v has nothing", s.Name())
	}
}

// isFree reports whether nobody has a record.
func (t *Table) isFree(id uint32) bool {
	n := t.slab.At(id).Name()
	return t.Find(&n) != id
}
