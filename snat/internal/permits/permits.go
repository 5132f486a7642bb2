// Package permits remembers which flows without a session have been let through, so that
// what belongs to them passes unasked: the answers, and all after the first packet.
//
// Terminology:
//   - Flow: an inside and a remote socket of an instance, in one protocol, whoever has begun.
//     Queries have their identifier as the inside port, protocols without ports have none.
//   - Permit: that a flow has been let through. It ends when for [Lifetime] no packet of the
//     flow has passed.
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
	last    map[Flow]flow.Time // when a packet has last passed; guarded by mu, as are those below
	sweepAt int                // permits; then what is over goes
	swept   flow.Time          // when it last did

	_ [32]byte // one cache line each
}

// of returns the stripe of a flow.
func (t *Table) of(f *Flow) *stripe {
	hi, lo := bits.Mul64(f.Remote[0]^f.Remote[1]^uint64(f.RemotePort)<<32, 0x9e3779b97f4a7c15)
	inHi, inLo := bits.Mul64(f.Inside[0]^f.Inside[1]^uint64(f.InsidePort)<<32, 0xd6e8feb86659fd93)
	return &t.stripes[(hi^lo^inHi^inLo)%stripes]
}

// Passes reports whether a flow has a permit at now, which a packet of it prolongs. Cost:
// a lock and a look-up, without allocation.
func (t *Table) Passes(now flow.Time, f Flow) bool { return t.look(now, &f, true) }

// Knows is Passes for a packet about the flow, which prolongs nothing.
func (t *Table) Knows(now flow.Time, f Flow) bool { return t.look(now, &f, false) }

func (t *Table) look(now flow.Time, f *Flow, prolong bool) bool {
	s := t.of(f)
	s.mu.Lock()
	defer s.mu.Unlock()
	last, ok := s.last[*f]
	if !ok || over(last, now) {
		return false
	}
	if prolong && now > last {
		s.last[*f] = now
	}
	return true
}

// over reports whether a permit has ended by now.
func over(last, now flow.Time) bool { return now >= last.Add(Lifetime) }

// Grant gives a flow a permit at now, if there is room. What is over goes whenever there are
// twice as many permits as were left the last time, and where all room is taken, now and then.
func (t *Table) Grant(now flow.Time, f Flow) {
	s := t.of(&f)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last, s.sweepAt = map[Flow]flow.Time{}, sweepFrom
	}
	if n := len(s.last); n >= s.sweepAt && (n < maxPerStripe || now >= s.swept.Add(Lifetime/8)) {
		for k, last := range s.last {
			if over(last, now) {
				delete(s.last, k)
			}
		}
		s.sweepAt, s.swept = min(max(sweepFrom, 2*len(s.last)), maxPerStripe), now
	}
	if _, known := s.last[f]; known || len(s.last) < maxPerStripe {
		s.last[f] = now
	}
}

// Revoke ends the permits of flows for which gone is true. Cost: O(permits).
func (t *Table) Revoke(gone func(*Flow) bool) {
	for i := range t.stripes {
		s := &t.stripes[i]
		s.mu.Lock()
		for k := range s.last {
			if gone(&k) {
				delete(s.last, k)
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
		n += len(s.last)
		s.mu.Unlock()
	}
	return n
}
