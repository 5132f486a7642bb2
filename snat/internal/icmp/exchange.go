package icmp

// Errors of hosts whose address is exchanged 1:1, about their own flows. Read RFC 5508
// sections 4.2 and 4.3 first (REQ-4, REQ-5). What they quote has the one address where
// the error itself has it, and gets the other one there too: else the sender of the
// quoted packet does not know it again, and the outside learns the inside address.
//
// No session says what the quote belongs to, and none is needed: ports stay. So of
// any protocol the quote may be, and end anywhere behind its IP header.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Exchange exchanges an address of a message that comes from a side, and of the packet
// that it [Quotes], for another: the source of one from inside, the destination of one
// from outside. It reports why the message must be dropped, if so; then nothing has
// changed.
func Exchange(p *wire.Packet, from flow.Side, old, addr [2]uint64) flow.Reason {
	if p.Flags&wire.Fragmented != 0 {
		return flow.ReasonFragment // never half translated
	}
	if !wire.VerifyL4(p) {
		return flow.ReasonICMPChecksum
	}
	var q Quote
	switch reason := q.readHeader(p, from, false); {
	case reason == flow.ReasonICMPInnerFragment:
		q.l4 = len(q.b) // it has no transport header
	case reason != flow.ReasonNone:
		return reason
	case wire.IsICMP(q.Proto) && q.l4 < len(q.b) && isError(q.Proto, q.b[q.l4]):
		return flow.ReasonICMPNested
	}
	_, to := p.Addrs()
	if from == flow.Outside && q.Src != old || from == flow.Inside && (q.Dst != old || q.Src != to) {
		return flow.ReasonICMPNoFlow // it would tell somebody else about the flow
	}
	q.readdress(p, from, addr, 0)
	return flow.ReasonNone
}
