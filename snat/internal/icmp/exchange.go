package icmp

// Errors of hosts whose address is exchanged 1:1, about their own flows. Read RFC 5508
// sections 4.2 and 4.3 first (REQ-4, REQ-5). What they quote has the one address where
// the error itself has it, and gets the other one there too: else the sender of the
// quoted packet does not know it again, and the outside learns the inside address.
//
// No session says what the quote belongs to, and none is needed: ports stay. So of
// any protocol the quote may be, and end anywhere behind its IP header.

import (
	"encoding/binary"

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

// Concerns reads what a message from a side that [Quotes] is about: a packet of whatever
// protocol, also one that is not translated. Of a query and its reply the identifier is the
// port of the inside. ok is false if the quote is too short to tell, or of a fragment that has no
// ports.
func Concerns(p *wire.Packet, from flow.Side) (q Quote, ok bool) {
	if q.readHeader(p, from, true) != flow.ReasonNone {
		return Quote{}, false
	}
	b := q.b[q.l4:]
	switch {
	case q.Proto == wire.ProtoTCP || q.Proto == wire.ProtoUDP:
		if len(b) < quoteMinPorts {
			return Quote{}, false
		}
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case wire.IsICMP(q.Proto):
		if len(b) < quoteMin {
			return Quote{}, false
		}
		port := &q.SrcPort
		if from == flow.Inside {
			port = &q.DstPort
		}
		if k := KindOf(q.Proto, b); k == Request || k == Reply {
			*port = binary.BigEndian.Uint16(b[4:])
		}
	}
	return q, true
}
