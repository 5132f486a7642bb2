package ports

// Connections that strangers begin and nobody has completed. Read RFC 4987 section 3
// (SYN floods, and that the oldest half-open connection may give way) first.
//
// A mapping that admits everybody takes a session for every SYN that comes to its
// port. Limits.HalfOpen bounds how many of one subscriber are half-open; the oldest
// gives way. So who is flooded loses what the flood has begun, others lose nothing,
// and connections that are established, or that the inside has begun, are not in it.

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
)

// halfOpen is a place in the ring of a subscriber's half-open sessions, which begins
// with the oldest.
type halfOpen struct {
	prev, next uint32
	id         flow.ID
	_          uint32
}

var _ [16]byte = [unsafe.Sizeof(halfOpen{})]byte{}

// MaxHalfOpen bounds Limits.HalfOpen, and with it the search in a ring.
const MaxHalfOpen = 1024

// isHalfOpen reports whether a session in a class is one of those that are limited.
func isHalfOpen(s *flow.Session, class flow.Class) bool {
	return class == flow.ClassTCPOpening && s.Track.Initiator() == flow.Outside
}

// begins notes that a session of a subscriber is half-open, if it is limited.
func (sh *State) begins(subscriber uint32, id flow.ID, s *flow.Session) {
	if sh.space.rules.Limits.HalfOpen == 0 || !isHalfOpen(s, s.Track.Class) {
		return
	}
	u, ring := sh.subscribers.slab.At(subscriber), &sh.halfOpen
	at := ring.Alloc()
	if at == 0 {
		return // for want of memory it is not noted, and will not give way
	}
	r := ring.At(at)
	r.id = id
	if u.halfOpen == 0 {
		u.halfOpen, r.prev, r.next = at, at, at
	} else {
		oldest := ring.At(u.halfOpen)
		r.prev, r.next = oldest.prev, u.halfOpen
		ring.At(r.prev).next, oldest.prev = at, at
	}
	u.numHalfOpen++
}

// Completes undoes begins for a session that has been in a class, if it is noted. The
// newest is looked at first, after the oldest: these are the ones that end, of age and
// by an answer.
func (sh *State) Completes(inst *Instance, id flow.ID, s *flow.Session, class flow.Class) {
	if sh.halfOpen.Len() == 0 || !isHalfOpen(s, class) {
		return
	}
	t := TupleOf(id, s)
	want := subscriberOf(inst, &t)
	u, ring := sh.subscribers.slab.At(sh.subscribers.find(&want)), &sh.halfOpen
	at := u.halfOpen
	for range u.numHalfOpen {
		r := ring.At(at)
		if r.id != id {
			at = r.prev
			continue
		}
		ring.At(r.prev).next, ring.At(r.next).prev = r.next, r.prev
		if u.halfOpen == at {
			u.halfOpen = r.next
		}
		if u.numHalfOpen--; u.numHalfOpen == 0 {
			u.halfOpen = 0
		}
		ring.Free(at)
		return
	}
}

// giveWay ends the oldest half-open session of a tuple's subscriber if that has more than
// it may.
func (sh *State) giveWay(now flow.Time, t *Tuple) {
	u := sh.subscribers.slab.At(t.subscriber)
	if l := sh.space.rules.Limits.HalfOpen; l == 0 || int(u.numHalfOpen) <= l {
		return
	}
	id := sh.halfOpen.At(u.halfOpen).id
	sh.owner.Evict(now, id, sh.At(id))
}
