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
// It refuses to know who decides, and what becomes of packets ([Table.Meet] reads them). A [Table] is safe for concurrent
// use. Its locks, one for each of [stripes] parts, are taken after that of any shard, and no
// other is taken under them.
package permits

import (
	"math/bits"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Lifetime is how long a permit outlives the last packet of its flow: the idle timeout of an
// instance-level public IP in Azure (public IP addresses document), in all protocols, which is
// our choice.
const Lifetime = 4 * time.Minute

// MaxFlows is the most permits of a table. A flow beyond that is asked about packet by packet.
const MaxFlows = stripes * maxPerStripe

const (
	stripes      = 64
	maxPerStripe = 1 << 16
	sweepFrom    = 64 // permits of a stripe
)

// Flow names a flow. Addresses are as in [ports.Tuple].
type Flow struct {
	Inside, Remote         [2]uint64
	InsidePort, RemotePort uint16
	Instance               uint32 // index
	Proto                  uint8  // IP protocol
	V6                     bool
}

// Table has permits. The zero Table has none.
type Table struct {
	stripes [stripes]stripe
}

// stripe is the part of a table with some flows.
type stripe struct {
	mu      sync.Mutex
	all     map[Flow]permit // guarded by mu, as are those below
	sweepAt int             // permits; then what is over goes
	swept   flow.Time       // when it last did

	_ [32]byte // one cache line each
}

// permit is what is remembered of a flow.
type permit struct {
	last flow.Time // when a packet has last passed
	by   begun
}

// begun is the side that has begun a flow, or that it is passed on: then it has no permit.
type begun uint8

const (
	byInside  = begun(flow.Inside)
	byOutside = begun(flow.Outside)
	passedOn  = byInside + byOutside + 1
)

// of returns the stripe of a flow.
func (t *Table) of(f *Flow) *stripe {
	hi, lo := bits.Mul64(f.Remote[0]^f.Remote[1]^uint64(f.RemotePort)<<32, 0x9e3779b97f4a7c15)
	inHi, inLo := bits.Mul64(f.Inside[0]^f.Inside[1]^uint64(f.InsidePort)<<32, 0xd6e8feb86659fd93)
	return &t.stripes[(hi^lo^inHi^inLo)%stripes]
}

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
	s := t.of(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.all[*f]
	if !ok || over(p.last, now) {
		return 0, false
	}
	if prolong && p.by != passedOn && now > p.last {
		s.all[*f] = permit{now, p.by}
	}
	return p.by, true
}

// over reports whether a permit has ended by now.
func over(last, now flow.Time) bool { return now >= last.Add(Lifetime) }

// Grant gives a flow that a side begins a permit at now, if there is room. What is over goes whenever there are
// twice as many permits as were left the last time, and where all room is taken, now and then.
func (t *Table) Grant(now flow.Time, f Flow, from flow.Side) { t.remember(now, f, begun(from)) }

// remember is Grant, also of what is passed on.
func (t *Table) remember(now flow.Time, f Flow, by begun) {
	s := t.of(&f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all, s.sweepAt = map[Flow]permit{}, sweepFrom
	}
	if n := len(s.all); n >= s.sweepAt && (n < maxPerStripe || now >= s.swept.Add(Lifetime/8)) {
		for k, p := range s.all {
			if over(p.last, now) {
				delete(s.all, k)
			}
		}
		s.sweepAt, s.swept = min(max(sweepFrom, 2*len(s.all)), maxPerStripe), now
	}
	if _, known := s.all[f]; known || len(s.all) < maxPerStripe {
		s.all[f] = permit{now, by}
	}
}

// Revoke ends the permits of flows for which gone is true. Cost: O(permits).
func (t *Table) Revoke(gone func(*Flow) bool) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for k := range s.all {
			if gone(&k) {
				delete(s.all, k)
			}
		}
		s.mu.Unlock()
	}
}

// Len returns how many permits there are, those that are over and have not gone included.
func (t *Table) Len() (n int) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		n += len(s.all)
		s.mu.Unlock()
	}
	return n
}
