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
// It refuses to know who decides, and what becomes of packets ([Table.Meet] reads them). What is
// remembered of a flow is in a cache line of its own, where a packet finds it by a hash.
//
// # State and locks
//
// A [Table] is safe for concurrent use. Packets of flows that are known take no lock: they find the
// slot, and prolong the permit by a compare-and-swap. What names a flow never changes in a slot that is
// used, and a slot is published by its state, written last. What comes new, and goes, does so under the
// lock of one of [stripes] stripes, which is taken after that of any shard; no packet takes another one
// under it. Permits go by making the slots anew (part.keep): who has prolonged one in the old ones
// finds out, and does it again in the new ones, and what keep has missed meanwhile it fetches
// afterwards, so that no packet is lost.
//
// A [Batch] puts off what packets do to permits, where their verdict does not depend on that, and does
// it for all of them together, so that the cache misses of one hide behind those of the others.
package permits

import (
	"sync"
	"sync/atomic"
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

	making  sync.Mutex                      // taken before the locks of stripes
	stripes atomic.Pointer[[stripes]stripe] // set under making, once; nil until there is a permit
}

// stripe is the share of a table that has a lock.
type stripe struct {
	mu    sync.Mutex
	parts atomic.Pointer[[parts]part] // set under mu, once; nil until there is a permit

	_ [48]byte // one cache line each
}

// permit is what is remembered of a flow: a cache line.
type permit struct {
	flow  Flow         // immutable once the slot is used
	last  atomic.Int64 // a flow.Time: when a packet has last passed
	state atomic.Uint32
}

// What a slot's state is: free, or who has begun the flow, plus 1.
const free = 0

// begun is the side that has begun a flow, or that it is passed on: then it has no permit.
type begun uint8

const (
	byInside  = begun(flow.Inside)
	byOutside = begun(flow.Outside)
	passedOn  = byInside + byOutside + 1
)

// of returns the stripe of a flow with a hash, of which it takes the highest 6 bits.
func (t *Table) of(hash uint64) *stripe { return &t.all()[hash>>58] }

// all returns the stripes, which it makes if there are none.
func (t *Table) all() *[stripes]stripe {
	if all := t.stripes.Load(); all != nil {
		return all
	}
	t.making.Lock()
	defer t.making.Unlock()
	if t.stripes.Load() == nil {
		t.stripes.Store(new([stripes]stripe))
	}
	return t.stripes.Load()
}

// made returns the stripes, none if there has been no permit.
func (t *Table) made() []stripe {
	if all := t.stripes.Load(); all != nil {
		return all[:]
	}
	return nil
}

// part returns the part of a flow with a hash, of which it takes the next 4. There must be parts.
func (s *stripe) part(hash uint64) *part { return &s.parts.Load()[hash>>54%parts] }

// Passes reports whether a flow has a permit at now, which a packet of it prolongs. Cost:
// a look-up and an atomic operation, without a lock and without allocation.
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
	return t.lookBy(now, f, f.hash(t.Key), prolong)
}

// lookBy is look for a flow with a hash.
func (t *Table) lookBy(now flow.Time, f *Flow, hash uint64, prolong bool) (by begun, ok bool) {
	for {
		slots := t.slots(hash)
		if slots == nil {
			return by, ok
		}
		at, used := slots.find(f, hash)
		if !used || over(flow.Time(at.last.Load()), now) {
			return by, ok
		}
		by, ok = begun(at.state.Load()-1), true // read after last, which remember writes after it
		if !prolong || by == passedOn || !at.prolong(now) || t.slots(hash) == slots {
			return by, ok
		}
	}
}

// prolong says that a packet has passed at now, and reports whether that is news.
func (p *permit) prolong(now flow.Time) bool {
	for {
		last := p.last.Load()
		if flow.Time(last) >= now {
			return false
		}
		if p.last.CompareAndSwap(last, int64(now)) {
			return true
		}
	}
}

// slots returns where a flow with a hash is, if anywhere.
func (t *Table) slots(hash uint64) *slots {
	all := t.stripes.Load()
	if all == nil {
		return nil
	}
	s := &all[hash>>58]
	if s.parts.Load() == nil {
		return nil
	}
	return s.part(hash).slots.Load()
}

// over reports whether a permit has ended by now.
func over(last, now flow.Time) bool { return now >= last.Add(Lifetime) }

// Grant gives a flow that a side begins a permit at now, if there is room. What is over goes whenever there are
// twice as many permits as were left the last time, and where all room is taken, now and then.
func (t *Table) Grant(now flow.Time, f Flow, from flow.Side) { t.remember(now, f, begun(from)) }

// remember is Grant, also of what is passed on.
func (t *Table) remember(now flow.Time, f Flow, by begun) { t.rememberBy(now, &f, f.hash(t.Key), by) }

// rememberBy is remember for a flow with a hash.
func (t *Table) rememberBy(now flow.Time, f *Flow, hash uint64, by begun) {
	s := t.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts.Load() == nil {
		s.parts.Store(new([parts]part))
	}
	p := s.part(hash)
	if p.n >= p.sweepAt && (p.n < maxPerPart || now >= p.swept.Add(Lifetime/8)) {
		p.keep(t.Key, func(s *permit) bool { return !over(flow.Time(s.last.Load()), now) })
		p.swept = now
	}
	at, used := p.slots.Load().find(f, hash)
	if !used {
		if p.n == maxPerPart {
			return
		}
		p.n++
		at.flow = *f
		at.last.Store(int64(now)) // before the state, which publishes the slot
	}
	at.state.Store(uint32(by) + 1)
	at.last.Store(int64(now)) // after the state, which who reads looks at next
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
	all := t.made()
	for i := range all {
		s := &all[i]
		s.mu.Lock()
		if parts := s.parts.Load(); parts != nil {
			for k := range parts {
				if p := &parts[k]; p.n > 0 {
					do(p)
				}
			}
		}
		s.mu.Unlock()
	}
}
