package subscribers

// Connections that strangers begin and nobody has completed. Read RFC 4987 section 3
// (SYN floods, and that the oldest half-open connection may give way) first.
//
// A mapping that admits everybody takes a session for every SYN that comes to its
// port. Limits.HalfOpen bounds how many of one subscriber are half-open; the oldest
// gives way. So who is flooded loses what the flood has begun, others lose nothing,
// and connections that are established, or that the inside has begun, are not in it.

import (
	"fmt"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
)

// place is one in the ring of a subscriber's half-open sessions.
type place struct {
	prev, next uint32
	session    flow.ID
	_          uint32
}

var _ [16]byte = [unsafe.Sizeof(place{})]byte{}

// MaxHalfOpen bounds Limits.HalfOpen, and with it the search in a ring.
const MaxHalfOpen = 1024

// Begin notes that a session of a subscriber is half-open. For want of memory it is not
// noted, and will not give way.
func (t *Table) Begin(id uint32, session flow.ID) {
	at := t.rings.Alloc()
	if at == 0 {
		return
	}
	u, p := t.slab.At(id), t.rings.At(at)
	p.session = session
	if u.halfOpen == 0 {
		u.halfOpen, p.prev, p.next = at, at, at
	} else {
		oldest := t.rings.At(u.halfOpen)
		p.prev, p.next = oldest.prev, u.halfOpen
		t.rings.At(p.prev).next, oldest.prev = at, at
	}
	u.numHalfOpen++
}

// Complete undoes Begin, if the session was noted. The newest is looked at first, after
// the oldest: these are the ones that end, of age and by an answer.
func (t *Table) Complete(id uint32, session flow.ID) {
	u := t.slab.At(id)
	at := u.halfOpen
	for range u.numHalfOpen {
		p := t.rings.At(at)
		if p.session != session {
			at = p.prev
			continue
		}
		t.rings.At(p.prev).next, t.rings.At(p.next).prev = p.next, p.prev
		if u.halfOpen == at {
			u.halfOpen = p.next
		}
		if u.numHalfOpen--; u.numHalfOpen == 0 {
			u.halfOpen = 0
		}
		t.rings.Free(at)
		return
	}
}

// Oldest returns the half-open session of a subscriber that gives way if it has more than
// so many; 0 if none has to.
func (t *Table) Oldest(id uint32, limit int) flow.ID {
	u := t.slab.At(id)
	if int(u.numHalfOpen) <= limit {
		return 0
	}
	return t.rings.At(u.halfOpen).session
}

// NumHalfOpen returns how many sessions of all subscribers are noted as half-open.
func (t *Table) NumHalfOpen() int { return t.rings.Len() }

// HalfOpen returns the sessions in the ring of a subscriber, from the oldest. It panics if
// the ring is damaged.
func (t *Table) HalfOpen(u *Record) (all []flow.ID) {
	at := u.halfOpen
	for range u.numHalfOpen {
		p := t.rings.At(at)
		if t.rings.At(p.next).prev != at {
			panic(fmt.Sprintf("subscribers: the ring of %+v is torn at %d", *u, at))
		}
		all, at = append(all, p.session), p.next
	}
	if at != u.halfOpen || (at == 0) != (u.numHalfOpen == 0) {
		panic(fmt.Sprintf("subscribers: the ring of %+v does not close", *u))
	}
	return all
}
