package snat

// IP fragments. Read RFC 4787 section 11 (fragments in any order), RFC 3128 and
// RFC 5722 (tiny and overlapping ones), RFC 6864 section 5.3.1 and RFC 7739
// (identifications) first.
//
// Only the first fragment of a datagram has ports. It goes the way of any
// packet, and what becomes of it becomes of the others: the table (package fragments)
// remembers its verdict, its rewrite and the identification the datagram leaves
// with. Fragments that come before it wait there. The transport checksum covers
// the whole datagram, but a change of address and port changes it by the same
// amount whatever the rest is, so that the first fragment is all it takes.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// refuseFragment is the end of a fragment where the parser hands over: dropped,
// or undecided if there is a table to decide.
func (n *NAT) refuseFragment(from flow.Side, v *flow.Verdict) bool {
	if n.closed.Load() {
		return n.dropEarly(from, flow.ReasonClosed, v)
	}
	if n.fragments.table == nil {
		return n.dropEarly(from, flow.ReasonFragment, v)
	}
	v.Action = undecided
	return false
}

// fragment decides on the fragment p. No lock may be held.
func (n *NAT) fragment(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	sender, reason := r.senderOf(from, p)
	if reason == flow.ReasonNone && p.Flags&wire.NonFirst != 0 {
		if c := n.router.Unfit(p); c != nil {
			reason = c.Reason // nobody is told (RFC 1812 section 4.3.2.7)
		}
	}
	if reason != flow.ReasonNone {
		*v = n.dropFragments(from, reason, 1)
		return
	}
	n.fragments.table.Decide(now, from, sender, p, v, func() { n.translateFirst(from, r, now, p, v) })
}

// dropFragments counts fragments that are dropped.
func (n *NAT) dropFragments(from flow.Side, reason flow.Reason, count int) flow.Verdict {
	n.early[from][reason].Add(uint64(count))
	return flow.Verdict{Action: flow.Drop, Reason: reason}
}

// senderOf returns the instance that a fragment from inside comes from, or why a
// fragment is dropped whatever datagram it belongs to.
func (r *routes) senderOf(from flow.Side, p *wire.Packet) (sender uint32, reason flow.Reason) {
	var inst, target uint32
	switch v4 := p.Flags&wire.V6 == 0; {
	case from == flow.Outside && v4:
		target = r.outside4.Get(p.IPv4().Dst())
	case from == flow.Outside:
		target = r.outside6.Get(words(p.B[ip6Dst:]))
	case v4:
		inst = r.inside4.Get(p.IPv4().Src())
	default:
		inst = r.inside6.Get(words(p.B[ip6Src:]))
	}
	switch {
	case from == flow.Outside && target == 0:
		if t := addresses(p, from); r.tracks && r.homeOf(&t) != 0 {
			return 0, flow.ReasonNone
		}
		return 0, flow.ReasonNotOurs
	case from == flow.Outside:
		return 0, flow.ReasonNone
	case inst == 0:
		t := addresses(p, from)
		return 0, r.stranger(&t)
	}
	sender, _ = unpack(inst)
	return sender, flow.ReasonNone
}

// translateFirst sends a first fragment the way of a whole packet.
func (n *NAT) translateFirst(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	if n.messages.CarriesError(p) || // never half translated
		n.fragments.udpOnly && p.Proto != wire.ProtoUDP {
		*v = n.dropFragments(from, flow.ReasonFragment, 1)
		return
	}
	*v = flow.Verdict{}
	n.pass(from, r, now, &lane{p: *p, first: true}, wire.OK, v)
}

// parseFirst is parse for a first fragment. Like a whole packet it has addresses and
// ports, which is all that parsing looks at.
func (n *NAT) parseFirst(from flow.Side, r *routes, l *lane, v *flow.Verdict) bool {
	l.p.Flags &^= wire.Fragmented
	defer func() { l.p.Flags |= wire.Fragmented }()
	return n.parse(from, r, l, wire.OK, v)
}
