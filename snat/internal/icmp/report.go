package icmp

// Errors that the translator makes itself. Read RFC 1812 sections 4.3.2 and 5.3.1, RFC
// 4443 section 2.4 and RFC 1191 first.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// MinMTU is the smallest MTU in bytes that a link may have (RFC 8200 section 5).
const MinMTU = 1280

// Bytes of an error, with all it quotes.
const (
	maxError4 = 576  // RFC 1812 section 4.3.2.3
	maxError6 = 1280 // RFC 4443 section 2.4 c
)

// Report is an error to be made about a packet that is dropped, in the words of both
// families.
type Report struct {
	Reason flow.Reason // with which the packet is dropped, where that follows from the report

	typ, code [2]uint8 // ICMP, ICMPv6; type 0 where nobody is told
	mtu       bool     // it tells the MTU
	pointer   uint32   // ICMPv6 Parameter Problem: the offset of what is wrong
}

var unreachable = [2]uint8{wire.ICMPv4Unreachable, wire.ICMPv6Unreachable}

// What senders are told.
var (
	HopsExceeded = Report{
		Reason: flow.ReasonTTL,
		typ:    [2]uint8{wire.ICMPv4TimeExceeded, wire.ICMPv6TimeExceeded},
	}
	TooBig = Report{
		Reason: flow.ReasonTooBig, mtu: true,
		typ:  [2]uint8{wire.ICMPv4Unreachable, wire.ICMPv6PacketTooBig},
		code: [2]uint8{4, 0},
	}
	HostUnreachable = Report{typ: unreachable, code: [2]uint8{1, 3}}
	PortUnreachable = Report{typ: unreachable, code: [2]uint8{3, 4}}
	Prohibited      = Report{typ: unreachable, code: [2]uint8{13, 1}}
)

// Answers reports whether the sender of p may be told of what p is: not of a fragment
// with an offset, and not of a message other than a query (RFC 1122 section 3.2.2).
// Addresses are for the caller to check.
func (r *Report) Answers(p *wire.Packet) bool {
	b := p.B[p.L4:]
	switch {
	case r.typ[p.Family()] == 0, p.Flags&wire.NonFirst != 0:
		return false
	case !wire.IsICMP(p.Proto):
		return true
	case len(b) < 2:
		return false
	}
	kind := KindOf(p.Proto, b)
	return kind == Request || kind == Reply
}

// Build returns the error from src to the source of p, which quotes as much of p as it
// may. mtu is what a report of one tells, in bytes. Of p only the IP header is looked at.
func (r *Report) Build(p *wire.Packet, src [2]uint64, mtu int) []byte {
	f, most := p.Family(), maxError4
	if f == 1 {
		most = maxError6
	}
	e := wire.ICMPError{Header: wire.Answer(p, src), Type: r.typ[f], Code: r.code[f], Rest: r.pointer}
	if r.mtu {
		e.Rest = uint32(mtu)
	}
	return e.AppendTo(nil, p.B[:min(len(p.B), e.QuoteRoom(most))])
}
