package ports

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// The table of subscribers: records by inside address, and their end.

// subscriber is what one inside address has of its instance.
type subscriber struct {
	addr        [2]uint64
	instance    uint32
	sessions    uint32
	ports       [NumPools]uint32 // mappings, and sessions that are mapped on their own
	home        uint16           // index of its frontend among the instance's homes, plus one
	family      uint8
	idle        bool      // queued to be forgotten
	bound       bool      // the log has been told of its home
	numHalfOpen uint16    // sessions in the ring
	blocks      uint32    // the first of its blocks: index plus one
	due         flow.Time // when the next session would be due at the limit of the rate

	numBlocks uint32
	halfOpen  uint32 // the oldest of its half-open sessions, see halfopen.go
}

var _ [64]byte = [unsafe.Sizeof(subscriber{})]byte{}

// subscribers are the records of one shard, under its lock.
type subscribers struct {
	hasher flow.Hasher
	slab   slab.Slab[subscriber]
	index  index.Index
	idle   []idleSubscriber // in the order in which they ended
}

// idleSubscriber names a record that is kept for its rate.
type idleSubscriber struct {
	id uint32
	at flow.Time // when it was not worth keeping any more
}

func (t *subscribers) init(hasher *flow.Hasher, mem *slab.Memory) {
	t.hasher = *hasher
	t.slab.Init(mem)
	t.index.Init(mem)
}

func (s *subscriber) hash(h *flow.Hasher) uint64 {
	return h.Hash6(&flow.Key6{Src: s.addr, Dst: [2]uint64{uint64(s.instance), uint64(s.family)}})
}

// find returns the record of the subscriber that want names, or 0.
func (t *subscribers) find(want *subscriber) uint32 {
	if t.slab.Len() == 0 {
		return 0
	}
	for p := t.index.Probe(index.Tag(want.hash(&t.hasher))); ; {
		id := p.Next()
		if id == 0 {
			return 0
		}
		if s := t.slab.At(id); s.instance == want.instance && s.family == want.family && s.addr == want.addr {
			return id
		}
	}
}

// subscriberOf names the subscriber of a tuple.
func subscriberOf(inst *Instance, t *Tuple) subscriber {
	return subscriber{addr: t.Inside, instance: inst.Index, family: t.Family}
}

// obtain returns the record of the subscriber that want names, which it makes if
// there is none. It returns 0 for want of memory.
func (t *subscribers) obtain(now flow.Time, want *subscriber) uint32 {
	id := t.find(want)
	if id == 0 {
		t.sweep(now)
		if id = t.slab.Alloc(); id == 0 {
			return 0
		}
		if !t.index.Insert(index.Tag(want.hash(&t.hasher)), id) {
			t.slab.Free(id)
			return 0
		}
		*t.slab.At(id) = *want
		t.slab.At(id).due = now
	}
	return id
}

// drop forgets a record that nothing needs any more.
func (t *subscribers) drop(id uint32) {
	if s := t.slab.At(id); s.sessions == 0 && !s.idle && s.numBlocks == 0 {
		t.index.Remove(index.Tag(s.hash(&t.hasher)), id)
		t.slab.Free(id)
	}
}

// sweepStep is how many idle records are looked at when a new one is made: more
// than one, so that they do not pile up.
const sweepStep = 4

// sweep forgets idle records whose rate has been forgiven. A record says nothing
// then that a new one would not, so it does not matter when this happens.
func (t *subscribers) sweep(now flow.Time) {
	n := 0
	for ; n < min(sweepStep, len(t.idle)) && t.idle[n].at <= now; n++ {
		id := t.idle[n].id
		s := t.slab.At(id)
		if s.sessions == 0 && s.due > now {
			t.idle = append(t.idle, idleSubscriber{id, s.due})
			continue
		}
		s.idle = false
		t.drop(id)
	}
	t.idle = t.idle[n:]
}

// forget drops the records of instances for which gone holds.
func (t *subscribers) forget(gone func(instance uint32) bool) {
	kept := t.idle[:0]
	for _, i := range t.idle {
		s := t.slab.At(i.id)
		if !gone(s.instance) {
			kept = append(kept, i)
			continue
		}
		s.idle = false
		t.drop(i.id)
	}
	t.idle = kept
}
