package fragments

import (
	"math"

	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// release is a queue of fragments on their way out.
type release struct {
	rewrite
	at     flow.Time
	next   uint32
	pieces uint32
	from   flow.Side
	action flow.Action
	_      [22]byte
}

var _ [64]byte = [unsafe.Sizeof(release{})]byte{}

// Departure is a fragment that has waited and leaves, with the verdict of its first.
type Departure struct {
	At      flow.Time // when its first came
	From    flow.Side
	Verdict flow.Verdict
	Packet  []byte // translated; valid until the callback returns
}

// release puts what is queued of a datagram on its way out, or drops what there is no
// memory for.
func (t *Table) release(now flow.Time, d *datagram) {
	var id, piece uint32
	var link *uint32
	lost := 0
	for at := d.pieces; at != 0; at = t.pieces.At(at).next {
		q := t.pieces.At(at)
		if q.cell == 0 {
			continue
		}
		if id == 0 {
			if id = t.releases.Alloc(); id != 0 {
				r := t.releases.At(id)
				*r = release{rewrite: d.rewrite, at: now, from: d.from(), action: d.action}
				link = &r.pieces
			}
		}
		if piece = 0; id != 0 {
			piece = t.pieces.Alloc()
		}
		if piece == 0 {
			t.free(q.cell)
			q.cell = 0
			lost++
			continue
		}
		out := t.pieces.At(piece)
		out.cell, out.size, q.cell = q.cell, q.size, 0
		*link, link = piece, &out.next
		t.count(d, int(q.size))
	}
	t.charge(d, -int(d.cells))
	if lost > 0 {
		t.queued -= lost
		t.dropped(d.from(), flow.ReasonMemory, lost)
	}
	switch {
	case id == 0:
		return
	case t.releases.At(id).pieces == 0:
		t.releases.Free(id)
		return
	case t.leaving.tail == 0:
		t.leaving.head = id
		t.soon(t.releases.At(id).at)
	default:
		t.releases.At(t.leaving.tail).next = id
	}
	t.leaving.tail = id
}

// Advance forgets what has reached its lifetime, a bounded step of it, and hands leave
// the fragments whose first has come, at most a number of them. leave may be nil, which
// discards them; no lock is held while it runs. It reports whether nothing is left.
func (t *Table) Advance(now flow.Time, most int, leave func(Departure)) (done bool) {
	if t == nil {
		return true
	}
	t.mu.Lock()
	done = t.expire(now, expireStep)
	t.mem.Tidy(int64(now))
	t.check()
	idle := t.leaving.head == 0
	t.mu.Unlock()
	if idle {
		return done
	}
	buf := t.buffers.Get().(*[maxPacket]byte)
	defer t.buffers.Put(buf)
	for range most {
		r, pkt := t.next(buf)
		if pkt == nil {
			return done
		}
		if leave == nil {
			continue
		}
		var p wire.Packet
		if problem := wire.Parse(pkt, &p); problem != wire.OK {
			panic("fragments: a queued fragment is damaged: " + flow.Reason(problem).String())
		}
		if r.action == flow.Forward {
			r.apply(r.from, &p)
		}
		v := flow.Verdict{Action: r.action, To: flow.Outside - r.from, Instance: r.instance}
		leave(Departure{At: r.at, From: r.from, Verdict: v, Packet: pkt})
	}
	return false
}

// next takes the next fragment that leaves, or nil.
func (t *Table) next(buf *[maxPacket]byte) (release, []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.leaving.head
	if id == 0 {
		return release{}, nil
	}
	r := t.releases.At(id)
	out := *r
	at := r.pieces
	q := *t.pieces.At(at)
	pkt := t.appendTo(buf[:0], &q)
	t.free(q.cell)
	t.pieces.Free(at)
	t.queued--
	if r.pieces = q.next; r.pieces == 0 {
		if t.leaving.head = r.next; t.leaving.head == 0 {
			t.leaving.tail = 0
		}
		t.releases.Free(id)
	}
	return out, pkt
}

// NextDeadline returns when [Table.Advance] has work to do next, and whether it ever has.
func (t *Table) NextDeadline() (at flow.Time, ok bool) {
	if t == nil {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.lists {
		if l.head != 0 {
			if d := t.datagrams.At(l.head).since + t.limits.Lifetime; !ok || d < at {
				at, ok = d, true
			}
		}
	}
	if t.leaving.head != 0 {
		at, ok = t.releases.At(t.leaving.head).at, true
	}
	if t.told = at; !ok {
		t.told = math.MaxInt64
	}
	return at, ok
}

// soon raises the notice if there is something to do at a time before NextDeadline has
// last said. mu must be held.
func (t *Table) soon(at flow.Time) {
	if at < t.told {
		t.told = at
		t.notice.Raise()
	}
}
