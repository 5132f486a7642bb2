// Package permits remembers which flows without a session have been let through, so that
// what belongs to them passes unasked: the answers, and all after the first packet.
//
// Terminology:
//   - Flow: an inside and a remote socket of an instance, in one protocol, whoever has begun.
//     Queries have their identifier as the inside port, protocols without ports have none.
//   - Permit: that a flow has been let through, and which side has begun it. It ends when for
//     [Lifetime] no packet of the flow has passed.
//   - Passed on: begun inside, and carried by somebody else. That is remembered as long, and lets
//     nothing through; but what comes from outside meanwhile begins nothing.
//
// It refuses to know who decides, and what becomes of packets ([Table.Meet] reads them). A [Table]
// is safe for concurrent use. What is remembered of a flow is in a cache line of its own, where a
// packet finds it by a hash. Its locks, one for each of [stripes] stripes, are taken after that of any
// shard; no packet takes another one under them.
package permits

import (
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Lifetime is how long a permit outlives the last packet of its flow: the idle timeout of an
// instance-level public IP in Azure (public IP addresses document), in all protocols, which is
// our choice.
const Lifetime = 4 * time.Minute

// MaxFlows is the most permits of a table. A flow beyond that is asked about packet by packet.
const MaxFlows = stripes * parts * maxPerPart

const (
	stripes    = 64
	parts      = 16      // of a stripe
	maxPerPart = 1 << 12 // permits, so that what a call does with all of them is soon done
	sweepFrom  = 8       // permits of a part, a power of two
)

// Flow names a flow. Addresses are as in [ports.Tuple].
type Flow struct {
	Inside, Remote         [2]uint64
	InsidePort, RemotePort uint16
	Instance               uint32 // index
	Proto                  uint8  // IP protocol
	V6                     bool
}

// Family returns 1 for IPv6, else 0.
func (f *Flow) Family() uint8 {
	if f.V6 {
		return 1
	}
	return 0
}

// Table has permits. The zero Table has none.
type Table struct {
	// Key is that of the hash. It must not change while the table is in use.
	Key uint64

	stripes [stripes]stripe
}

// stripe is the share of a table that has a lock.
type stripe struct {
	mu    sync.Mutex
	parts *[parts]part // guarded by mu; nil until there is a permit

	_ [48]byte // one cache line each
}

// permit is what is remembered of a flow: a cache line.
type permit struct {
	flow Flow
	last flow.Time // when a packet has last passed
	by   begun
	used bool // else the slot is free
}

// begun is the side that has begun a flow, or that it is passed on: then it has no permit.
type begun uint8

const (
	byInside  = begun(flow.Inside)
	byOutside = begun(flow.Outside)
	passedOn  = byInside + byOutside + 1
)

// of returns the stripe of a flow with a hash, of which it takes the highest 6 bits.
func (t *Table) of(hash uint64) *stripe { return &t.stripes[hash>>58] }

// part returns the part of a flow with a hash, of which it takes the next 4. The lock must be
// held, and there must be parts.
func (s *stripe) part(hash uint64) *part { return &s.parts[hash>>54%parts] }

// Passes reports whether a flow has a permit at now, which a packet of it prolongs. Cost:
// a lock and a look-up, without allocation.
func (t *Table) Passes(now flow.Time, f Flow) bool {
	by, ok := t.look(now, &f, true)
	return ok && by != passedOn
}

// Knows is Passes for a packet about the flow, which prolongs nothing.
func (t *Table) Knows(now flow.Time, f Flow) bool {
	by, ok := t.look(now, &f, false)
	return ok && by != passedOn
}

// Entered is Knows of a flow that has begun outside.
func (t *Table) Entered(now flow.Time, f Flow) bool {
	by, ok := t.look(now, &f, false)
	return ok && by == byOutside
}

// look returns what is remembered of a flow, and prolongs its permit if it has one.
func (t *Table) look(now flow.Time, f *Flow, prolong bool) (by begun, ok bool) {
	hash := f.hash(t.Key)
	s := t.of(hash)
	s.mu.Lock()
	if s.parts != nil {
		if p := s.part(hash); p.n > 0 {
			if at := p.find(f, hash); at.used && !over(at.last, now) {
				if by, ok = at.by, true; prolong && by != passedOn && now > at.last {
					at.last = now
				}
			}
		}
	}
	s.mu.Unlock()
	return by, ok
}

// over reports whether a permit has ended by now.
func over(last, now flow.Time) bool { return now >= last.Add(Lifetime) }

// Grant gives a flow that a side begins a permit at now, if there is room. What is over goes whenever there are
// twice as many permits as were left the last time, and where all room is taken, now and then.
func (t *Table) Grant(now flow.Time, f Flow, from flow.Side) { t.remember(now, f, begun(from)) }

// remember is Grant, also of what is passed on.
func (t *Table) remember(now flow.Time, f Flow, by begun) {
	hash := f.hash(t.Key)
	s := t.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts == nil {
		s.parts = new([parts]part)
	}
	p := s.part(hash)
	if p.n >= p.sweepAt && (p.n < maxPerPart || now >= p.swept.Add(Lifetime/8)) {
		p.keep(t.Key, func(s *permit) bool { return !over(s.last, now) })
		p.swept = now
	}
	if at := p.find(&f, hash); at.used {
		at.last, at.by = now, by
	} else if p.n < maxPerPart {
		*at = permit{f, now, by, true}
		p.n++
	}
}

// Revoke ends the permits of flows for which gone is true. Cost: O(permits).
func (t *Table) Revoke(gone func(*Flow) bool) {
	t.each(func(p *part) { p.keep(t.Key, func(s *permit) bool { return !gone(&s.flow) }) })
}

// Len returns how many permits there are, those that are over and have not gone included.
func (t *Table) Len() (n int) {
	t.each(func(p *part) { n += p.n })
	return n
}

// each calls do for the parts that have permits, with the lock of their stripe.
func (t *Table) each(do func(*part)) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		if s.parts != nil {
			for k := range s.parts {
				if p := &s.parts[k]; p.n > 0 {
					do(p)
				}
			}
		}
		s.mu.Unlock()
	}
}
