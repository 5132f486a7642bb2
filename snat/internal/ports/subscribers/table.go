// Package subscribers remembers what each inside address of an instance has, as far as
// something is counted for it, and says what it may have.
//
// It refuses to know ports, blocks and what sessions are: whoever gives and takes these
// counts them in the Record. It is part of what the lock of one shard guards.
//
// Terminology:
//   - Record: what one inside address has. It is there while the address has sessions or
//     blocks, and longer only while its rate is not forgiven: then it is idle.
//   - Half-open: a session that has begun outside and whose handshake is not over. Those
//     of one subscriber are a ring, which begins with the oldest (halfopen.go).
//   - Limits: what a subscriber may have (limits.go).
//
// A session that begins asks Obtain for the record and Limits.Admit whether it may, and
// counts itself; one that is refused calls Drop. One that ends counts itself down, and
// with the last one Leave forgets the record.
package subscribers

import (
	"iter"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Name names a subscriber.
type Name struct {
	Addr     [2]uint64
	Instance uint32
	Family   uint8 // 0 IPv4, 1 IPv6
}

// Kinds is how many kinds of ports are counted apart: of TCP, of UDP, and identifiers.
const Kinds = 3

// Record is what one inside address has of its instance.
type Record struct {
	addr        [2]uint64
	instance    uint32
	Sessions    uint32
	Ports       [Kinds]uint32 // mappings, and sessions that are mapped on their own
	Home        uint16        // index of its frontend among the instance's, plus one
	family      uint8
	idle        bool      // queued to be forgotten
	Told        bool      // the log has been told of its home
	numHalfOpen uint16    // sessions in the ring
	Blocks      uint32    // the first of its blocks: index plus one
	due         flow.Time // when the next session would be due at the limit of the rate

	NumBlocks uint32
	halfOpen  uint32 // the oldest of its half-open sessions, see halfopen.go
}

var _ [64]byte = [unsafe.Sizeof(Record{})]byte{}

// Name returns whose record it is.
func (s *Record) Name() Name { return Name{s.addr, s.instance, s.family} }

// IsIdle reports whether nothing but its rate keeps a record.
func (s *Record) IsIdle() bool { return s.idle }

// Table is the records of one shard, under its lock.
type Table struct {
	hasher flow.Hasher
	slab   slab.Slab[Record]
	index  index.Index
	idle   []idle // in the order in which they ended
	rings  slab.Slab[place]
}

// idle names a record that is kept for its rate.
type idle struct {
	id uint32
	at flow.Time // when it was not worth keeping any more
}

// Init makes an empty table that draws on mem.
func (t *Table) Init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.slab.Init(mem)
	t.index.Init(mem)
	t.rings.Init(mem)
}

// Close forgets everything. The memory that Init was given must have been released.
func (t *Table) Close() { t.idle = nil }

func (n *Name) hash(h *flow.Hasher) uint64 {
	return h.Hash6(&flow.Key6{Src: n.Addr, Dst: [2]uint64{uint64(n.Instance), uint64(n.Family)}})
}

// Find returns the number of a subscriber's record, or 0. At returns the record.
func (t *Table) Find(n *Name) uint32 {
	if t.slab.Len() == 0 {
		return 0
	}
	for p := t.index.Probe(index.Tag(n.hash(&t.hasher))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if s := t.slab.At(id); s.instance == n.Instance && s.family == n.Family && s.addr == n.Addr {
			return id
		}
	}
}

// At is explained at Find.
func (t *Table) At(id uint32) *Record { return t.slab.At(id) }

// Obtain returns the number of a subscriber's record, which it makes if there is none. It
// returns 0 for want of memory.
func (t *Table) Obtain(now flow.Time, n *Name) uint32 {
	id := t.Find(n)
	if id == 0 {
		t.sweep(now)
		if id = t.slab.Alloc(); id == 0 {
			return 0
		}
		if !t.index.Insert(index.Tag(n.hash(&t.hasher)), id) {
			t.slab.Free(id)
			return 0
		}
		*t.slab.At(id) = Record{addr: n.Addr, instance: n.Instance, family: n.Family, due: now}
	}
	return id
}

// Leave is the end of a subscriber's last session at ended. Its record is kept for its
// rate, or dropped.
func (t *Table) Leave(id uint32, ended flow.Time) {
	if s := t.slab.At(id); s.due > ended && !s.idle {
		s.idle = true
		t.idle = append(t.idle, idle{id, s.due})
	}
	t.Drop(id)
}

// Drop forgets a record that nothing needs any more.
func (t *Table) Drop(id uint32) {
	if s := t.slab.At(id); s.Sessions == 0 && !s.idle && s.NumBlocks == 0 {
		n := s.Name()
		t.index.Remove(index.Tag(n.hash(&t.hasher)), id)
		t.slab.Free(id)
	}
}

// sweepStep is how many idle records are looked at when a new one is made: more
// than one, so that they do not pile up.
const sweepStep = 4

// sweep forgets idle records whose rate has been forgiven. A record says nothing
// then that a new one would not, so it does not matter when this happens.
func (t *Table) sweep(now flow.Time) {
	n := 0
	for ; n < min(sweepStep, len(t.idle)) && t.idle[n].at <= now; n++ {
		id := t.idle[n].id
		s := t.slab.At(id)
		if s.Sessions == 0 && s.due > now {
			t.idle = append(t.idle, idle{id, s.due})
			continue
		}
		s.idle = false
		t.Drop(id)
	}
	t.idle = t.idle[n:]
}

// Forget drops the idle records of instances for which gone holds.
func (t *Table) Forget(gone func(instance uint32) bool) {
	kept := t.idle[:0]
	for _, i := range t.idle {
		s := t.slab.At(i.id)
		if !gone(s.instance) {
			kept = append(kept, i)
			continue
		}
		s.idle = false
		t.Drop(i.id)
	}
	t.idle = kept
}

// Len returns how many records there are.
func (t *Table) Len() int { return t.slab.Len() }

// Waiting returns for how many idle records there is room.
func (t *Table) Waiting() int { return cap(t.idle) }

// All returns the records, free ones too, which have no sessions and no home. None may be
// made meanwhile.
func (t *Table) All() iter.Seq[*Record] {
	return func(yield func(*Record) bool) {
		for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
			if !yield(t.slab.At(id)) {
				return
			}
		}
	}
}
