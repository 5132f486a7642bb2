// Package agenda keeps what is due when, for a driver that moves in steps of virtual time.
//
// Terminology:
//   - Step: a number of equal steps since the beginning; what is due within one is due together.
//   - Entry: an owner and a ticket, which both mean something to the caller only.
//   - Slot: a list of entries, in a ring of slots for the steps that come next.
//
// Entries of a step come in the order in which they were put. One that is further ahead than the
// ring is long waits in the last slot and is put again from there; it then comes behind those of
// its step that were put while it waited. Putting and taking cost O(1), and a look for the next
// step that has entries a word for every 64 slots. Entries lie in one slice without pointers, so
// that an Agenda is copied by [Agenda.Clone]. It is for one goroutine.
package agenda

import (
	"math/bits"
	"slices"
)

const (
	slots = 1 << 14 // of the ring
	none  = ^uint32(0)
)

// Entry is what is due.
type Entry struct {
	Owner, Ticket uint32
}

// entry is an Entry in a list.
type entry struct {
	Entry
	next uint32 // in the slot, or of the free ones
	step int64  // that it is due in
}

// Agenda is what is due when. Create one with New.
type Agenda struct {
	entries     []entry
	free        uint32
	first, last [slots]uint32
	used        [slots / 64]uint64 // slots that have entries
	now         int64              // the step that is under way; all before it are empty
	n           int
}

// New returns an agenda that begins at step 0.
func New() *Agenda {
	a := &Agenda{free: none}
	for i := range a.first {
		a.first[i], a.last[i] = none, none
	}
	return a
}

// Len returns how many entries there are.
func (a *Agenda) Len() int { return a.n }

// Clone returns a copy that is independent of a.
func (a *Agenda) Clone() *Agenda {
	c := *a
	c.entries = slices.Clone(a.entries)
	return &c
}

// Put enters what is due in a step, which must not lie before the one that is under way.
func (a *Agenda) Put(step int64, e Entry) {
	i := a.free
	if i == none {
		i = uint32(len(a.entries))
		a.entries = append(a.entries, entry{})
	} else {
		a.free = a.entries[i].next
	}
	a.entries[i] = entry{Entry: e, step: step}
	a.n++
	a.link(i)
}

// link puts an entry into its slot, or the last one.
func (a *Agenda) link(i uint32) {
	a.entries[i].next = none
	slot := min(a.entries[i].step, a.now+slots-1) % slots
	if a.first[slot] == none {
		a.first[slot] = i
		a.used[slot/64] |= 1 << (slot % 64)
	} else {
		a.entries[a.last[slot]].next = i
	}
	a.last[slot] = i
}

// Next returns the first step from the one under way on that may have entries, and false if there
// are none. What waits in the last slot makes it name a step in which there may be none.
func (a *Agenda) Next() (step int64, ok bool) {
	if a.n == 0 {
		return 0, false
	}
	from := a.now % slots
	if w := a.used[from/64] >> (from % 64); w != 0 {
		return a.now + int64(bits.TrailingZeros64(w)), true
	}
	for i := int64(1); i <= slots/64; i++ {
		word := (from/64 + i) % (slots / 64)
		if w := a.used[word]; w != 0 {
			slot := word*64 + int64(bits.TrailingZeros64(w))
			return a.now + (slot-from+slots)%slots, true
		}
	}
	return 0, false
}

// Take moves to a step, which must not lie behind Next, and removes and returns its next entry;
// false if there are no more. What is put meanwhile for the same step comes, too.
func (a *Agenda) Take(step int64) (Entry, bool) {
	a.now = step
	slot := step % slots
	for {
		i := a.first[slot]
		if i == none {
			return Entry{}, false
		}
		e := &a.entries[i]
		if a.first[slot] = e.next; e.next == none {
			a.last[slot] = none
			a.used[slot/64] &^= 1 << (slot % 64)
		}
		if e.step > step {
			a.link(i) // never into this slot: the ring ends just before it
			continue
		}
		taken := e.Entry
		e.next, a.free = a.free, i
		a.n--
		return taken, true
	}
}
