package dataplane

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
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
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

// dropFragments counts fragments that are dropped.
func (n *NAT) dropFragments(from flow.Side, reason flow.Reason, count int) flow.Verdict {
	n.early.Drop(from, reason, count)
	return flow.Verdict{Action: flow.Drop, Reason: reason}
}

// floatingSender stands for the instances of floating targets, which the addresses of their
// answers do not tell: they have what waits together. No instance has this index.
const floatingSender = MaxInstances

// senderOf returns the instance that a fragment from inside comes from, or why a
// fragment is dropped whatever datagram it belongs to.
func (r *routes) senderOf(from flow.Side, p *wire.Packet) (sender uint32, reason flow.Reason) {
	var inst, target uint32
	switch v4 := p.Flags&wire.V6 == 0; {
	case from == flow.Outside && v4:
		target = r.Outside4.Get(p.IPv4().Dst())
	case from == flow.Outside:
		target = r.Outside6.Get(headers.Words(p.B[headers.IP6Dst:]))
	case v4:
		inst = r.Inside4.Get(p.IPv4().Src())
	default:
		inst = r.Inside6.Get(headers.Words(p.B[headers.IP6Src:]))
	}
	switch {
	case from == flow.Outside && target == 0:
		if t := headers.Addresses(p, from); r.tracks && r.Source(&t) != 0 {
			return 0, flow.ReasonNone
		}
		return 0, flow.ReasonNotOurs
	case from == flow.Outside:
		return 0, flow.ReasonNone
	case inst == 0:
		t := headers.Addresses(p, from)
		if r.forwards.Floats(r.Front(&t) - 1) {
			return floatingSender, flow.ReasonNone
		}
		return 0, r.Stranger(&t)
	}
	sender, _ = addresses.Unpack(inst)
	return sender, flow.ReasonNone
}

// mayBeForwarded reports whether a fragment may have come in by a forward of all ports, or
// be of an answer, as far as addresses tell.
func (r *routes) mayBeForwarded(from flow.Side, p *wire.Packet) bool {
	t := headers.Addresses(p, from)
	if r.forwards.Opens(r.Front(&t) - 1) { // its destination, or the source of a floating target's answer
		return true
	}
	packed := r.Source(&t)
	index, _ := addresses.Unpack(packed)
	return from == flow.Inside && packed != 0 && r.isTargeted(r.instances[index])
}

// isForwarded reports whether a first fragment that has been parsed comes in by a forward
// of all ports, or may be of an answer; processAnswer finds out by which forward that is.
func (r *routes) isForwarded(from flow.Side, l *lane) bool {
	if from == flow.Outside {
		return r.forwards.IsOfAllPorts(r.forwardOf(l))
	}
	t := headers.Addresses(&l.p, flow.Inside)
	return l.answer == maybeAnswer || l.floating && r.forwards.IsOfAllPorts(r.forwards.At(r.Front(&t)-1, l.p.Proto, uint16(l.p.Ports()>>16)))
}
