package fragments

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Decide stores in v what becomes of p, a fragment that a parser has accepted, from a
// side. sender tells apart inside hosts that may have the same address; it is below
// [flow.MaxVNI], and ignored for what comes from the outside.
//
// If p is the first fragment of a datagram that is not known yet, translate stores in
// v what becomes of it, and rewrites it if it is forwarded, as a whole packet; the
// identification is the table's. It runs under the table's lock. All other fragments
// get the verdict of their first, are copied and get [flow.Queued], or are dropped. A
// drop that translate has not returned is told to [Config].Dropped.
//
// Cost: O(1), O(fragments of the datagram) where it comes out of order, O(log owners)
// where it begins or ends a datagram or is queued, and a bounded number of datagrams
// that are over.
func (t *Table) Decide(now flow.Time, from flow.Side, sender uint32, p *wire.Packet, v *flow.Verdict, translate func()) {
	k, e := keyOf(from, sender, p), extentOf(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now, expireAtDoor)
	id := t.find(&k)
	if id != 0 && t.over(now, id) {
		t.end(now, id)
		id = 0
	}
	var reason flow.Reason
	switch {
	case !t.ready():
		reason = flow.ReasonMemory
	case p.Flags&wire.NonFirst == 0:
		reason = t.first(now, from, id, &k, e, p, v, translate)
	default:
		reason = t.later(now, id, &k, e, p, v)
	}
	if reason != flow.ReasonNone {
		t.dropped(from, reason, 1)
		*v = flow.Verdict{Action: flow.Drop, Reason: reason}
	}
}

// outsider is the VNI in the keys of fragments from outside; senders are below it.
const outsider = flow.MaxVNI

// keyOf returns what the fragments of one datagram have in common and those of others
// do not: side and sender, addresses, identification, and over IPv4 the protocol (RFC
// 791 section 3.2, RFC 8200 section 4.5). The ports of the key hold the
// identification.
func keyOf(from flow.Side, sender uint32, p *wire.Packet) (k flow.Key6) {
	var id uint32
	k.Src, k.Dst = p.Addrs()
	if f, ok := p.Fragment(); ok {
		id = f.ID()
	} else {
		id = uint32(p.IPv4().ID())
		k.VNIProto = uint32(p.Proto)
	}
	if from == flow.Outside {
		sender = outsider
	}
	k.VNIProto |= sender << 8
	k.SrcPort, k.DstPort = uint16(id>>16), uint16(id)
	return k
}

// extent is the part of its datagram that a fragment holds.
type extent struct {
	start, end uint16
	more       bool // it is not the last
}

// extentOf returns the extent of a fragment.
func extentOf(p *wire.Packet) extent {
	if f, ok := p.Fragment(); ok {
		const header = 8
		return extent{uint16(f.Offset()), uint16(f.Offset() + len(f) - header), f.More()}
	}
	h := p.IPv4()
	return extent{uint16(h.FragmentOffset()), uint16(h.FragmentOffset() + len(h) - h.HeaderLen()), h.Flags()&wire.IPv4MF != 0}
}

// rewrite is what happens to each fragment of a datagram.
type rewrite struct {
	addr     [2]uint64 // the new source from inside, the new destination from outside
	id       uint32
	instance uint32 // of the verdict
}

// apply rewrites address and identification of a fragment.
func (w *rewrite) apply(from flow.Side, p *wire.Packet) {
	if f, ok := p.Fragment(); ok {
		if from == flow.Inside {
			p.IPv6().SetSrcWords(w.addr[0], w.addr[1])
		} else {
			p.IPv6().SetDstWords(w.addr[0], w.addr[1])
		}
		f.SetID(w.id)
		return
	}
	h, addr := p.IPv4(), uint32(w.addr[0])
	d := wire.Delta16(h.ID(), uint16(w.id))
	if from == flow.Inside {
		d = d.Add(wire.Delta32(h.Src(), addr))
		h.SetSrc(addr)
	} else {
		d = d.Add(wire.Delta32(h.Dst(), addr))
		h.SetDst(addr)
	}
	h.SetID(uint16(w.id))
	h.Adjust(d)
}

// first decides on a first fragment; id is its datagram, or 0. It stores the verdict, or
// returns why the table drops the fragment.
func (t *Table) first(now flow.Time, from flow.Side, id uint32, k *flow.Key6, e extent, p *wire.Packet, v *flow.Verdict, translate func()) flow.Reason {
	ports := p.Ports()
	id, reason := t.meet(now, id, e, ports)
	if reason != flow.ReasonNone {
		return reason
	}
	translate()
	if v.Action == flow.Drop {
		t.refuse(now, id, k, v.Reason)
		return flow.ReasonNone
	}
	owner := ownerOf(k)
	if from == flow.Outside {
		owner = outsideOwner | v.Instance
	}
	came := id == 0 // before all others
	if came {
		t.limit(now, t.sourceOf(k, owner), open)
		t.room(now, owner, true)
		id = t.add(now, k, owner, open)
		t.record(now, id, e, 0, 0)
	}
	d := t.datagrams.At(id)
	d.ports, d.firstEnd, d.action, d.proto = ports, e.end, v.Action, p.Proto
	if d.instance = v.Instance; v.Action == flow.Forward {
		src, dst := p.Addrs() // one of which is new
		if d.addr = dst; from == flow.Inside {
			d.addr = src
		}
		if p.Flags&wire.V6 != 0 {
			d.id = t.ids.Next6()
		} else {
			d.id = uint32(t.ids.Next4(uint32(src[0]), uint32(dst[0]), p.Proto))
		}
		d.apply(from, p)
		t.remember(id)
	}
	if !came {
		t.release(now, d)
		t.open(now, id, owner)
	}
	t.closeComplete(now, id)
	return flow.ReasonNone
}

// meet compares a first fragment with what is known of a datagram, or of none if id is
// 0. It returns the datagram, which has waited for it, or 0 if it begins one; or why it
// is dropped.
func (t *Table) meet(now flow.Time, id uint32, e extent, ports uint32) (uint32, flow.Reason) {
	if id == 0 {
		return 0, flow.ReasonNone
	}
	switch d := t.datagrams.At(id); {
	case d.stage == waiting:
		return id, t.record(now, id, e, 0, 0)
	case d.stage == open && ports != d.ports:
		return 0, t.discard(now, id, flow.ReasonFragConflict)
	case d.stage == open:
		return 0, t.record(now, id, e, 0, 0) // refuses a copy, and an overlap
	case d.reason != flow.ReasonNone:
		return 0, d.reason
	case ports != d.ports || e.end != d.firstEnd:
		t.remove(id) // all of the old one has come: this is another with its identification
		return 0, flow.ReasonNone
	}
	return 0, flow.ReasonFragDuplicate
}

// refuse remembers that all of a datagram is dropped, because its first fragment is. One
// that is not known yet takes no place from those that have something to lose.
func (t *Table) refuse(now flow.Time, id uint32, k *flow.Key6, reason flow.Reason) {
	switch {
	case id != 0:
		t.discard(now, id, reason)
	case !t.crowded() || t.dispense(now):
		id = t.add(now, k, ownerOf(k), spent)
		t.datagrams.At(id).reason = reason
	}
}

// later is first for a fragment that is not the first.
func (t *Table) later(now flow.Time, id uint32, k *flow.Key6, e extent, p *wire.Packet, v *flow.Verdict) flow.Reason {
	if id != 0 {
		switch d := t.datagrams.At(id); {
		case d.stage == waiting:
		case d.stage == open:
			return t.follow(now, id, e, p, v)
		case d.reason != flow.ReasonNone:
			return d.reason
		default:
			return flow.ReasonFragDuplicate
		}
	}
	if !t.space(now, cellsOf(len(p.B)), id) {
		return flow.ReasonFragLimit
	}
	if id == 0 {
		owner := ownerOf(k)
		t.limit(now, t.sourceOf(k, owner), waiting)
		if !t.room(now, owner, false) {
			return flow.ReasonFragLimit
		}
		id = t.add(now, k, owner, waiting)
	}
	stored := t.store(p.B)
	if stored == 0 {
		return flow.ReasonMemory
	}
	if reason := t.record(now, id, e, stored, len(p.B)); reason != flow.ReasonNone {
		t.free(stored)
		return reason
	}
	t.queued++
	*v = flow.Verdict{Action: flow.Queued}
	return flow.ReasonNone
}

// follow gives a fragment of an open datagram the verdict of its first.
func (t *Table) follow(now flow.Time, id uint32, e extent, p *wire.Packet, v *flow.Verdict) flow.Reason {
	if reason := t.record(now, id, e, 0, 0); reason != flow.ReasonNone {
		return reason
	}
	d := t.datagrams.At(id)
	from := d.from()
	v.Action, v.Reason, v.To, v.New, v.Instance = d.action, flow.ReasonNone, flow.Outside-from, false, d.instance
	t.count(d, len(p.B))
	if d.action == flow.Forward {
		d.apply(from, p)
	}
	t.closeComplete(now, id)
	return flow.ReasonNone
}

// count counts a fragment of size bytes that leaves and is not a first one.
func (t *Table) count(d *datagram, size int) {
	from := d.from()
	if d.action != flow.Forward {
		t.bypassed[from]++
		return
	}
	t.forwarded[from]++
	outside := &d.addr
	if from == flow.Outside {
		outside = &d.key.Dst
	}
	v6 := uint8(d.key.VNIProto) == 0 // over IPv6 the key has no protocol
	t.carried(from, v6, outside, d.proto, size)
}
