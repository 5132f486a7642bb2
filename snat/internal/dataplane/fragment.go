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

// isForwarded reports whether a first fragment that has been parsed comes in by a forward
// of all ports, or may be of an answer; processAnswer finds out by which forward that is.
func (l *lane) isForwarded(r *routes, from flow.Side) bool {
	if from == flow.Outside {
		return r.Forwards.IsOfAllPorts(l.forwardOf(r))
	}
	t := headers.Addresses(&l.p, flow.Inside)
	return l.answer == maybeAnswer || l.floating && r.Forwards.IsOfAllPorts(r.Forwards.At(r.Front(&t)-1, l.p.Proto, uint16(l.p.Ports()>>16)))
}
