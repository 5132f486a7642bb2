package icmp

// What an error quotes. Read RFC 5508 section 4 and RFC 4884 section 5 (what may follow
// a quote) first. A quote may end anywhere after the ports, so no length in it is
// trusted to be there.

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Quote is the packet inside an error, which it aliases.
type Quote struct {
	Proto            uint8
	Src, Dst         [2]uint64 // as [wire.Packet.Addrs] returns them
	SrcPort, DstPort uint16    // of a query the sender's identifier, and 0; of a reply the reverse

	b  []byte // from the IP header to where the packet or the quote ends
	l4 int    // offset of the transport header, which has at least its ports
}

// Lengths of headers without options or extension headers.
const (
	ip4Len = 20
	ip6Len = 40
)

// Bytes of a quote's transport header that must be there: RFC 792 promises 8;
// IPv6 promises as much as fits, so there the ports of TCP will do.
const (
	quoteMin      = 8
	quoteMinPorts = 4
)

// maxQuoteHeaders bounds the extension headers that are stepped over in a quote.
const maxQuoteHeaders = 8

// Receive reads what an error that comes from a side quotes: a packet that went to that
// side. It verifies the checksum of the error, and that the error goes to the sender of
// the packet, or it would tell somebody else about the flow. It reports why the error
// must be dropped, if so; with [flow.ReasonICMPInnerFragment] it may be about a datagram
// that is known, see [Quote.FragmentID].
func (r *Rules) Receive(p *wire.Packet, from flow.Side) (Quote, flow.Reason) {
	if !wire.VerifyL4(p) {
		return Quote{}, flow.ReasonICMPChecksum
	}
	q, reason := r.Read(p, from)
	if _, to := p.Addrs(); reason == flow.ReasonNone && q.Src != to {
		reason = flow.ReasonICMPNoFlow
	}
	return q, reason
}

// Read is Receive without its checks, for whoever only needs to know what the error is
// about.
func (r *Rules) Read(p *wire.Packet, from flow.Side) (q Quote, reason flow.Reason) {
	if reason = q.readHeader(p, from, r.LenientQuotes); reason == flow.ReasonNone {
		reason = q.readPorts(p, from)
	}
	return q, reason
}

// readHeader reads a quote up to the transport header. Of a quoted fragment with an
// offset, which has none, it reads all the same what it reads of others.
func (q *Quote) readHeader(p *wire.Packet, from flow.Side, lenient bool) flow.Reason {
	// RFC 4884: the length of a quote that an extension follows.
	var size int
	if p.Flags&wire.V6 == 0 {
		q.b, size = p.ICMPv4().Payload(), p.ICMPv4().QuoteLen()
	} else {
		q.b, size = p.ICMPv6().Payload(), p.ICMPv6().QuoteLen()
	}
	if size > 0 && size < len(q.b) {
		q.b = q.b[:size]
	}
	if p.Flags&wire.V6 == 0 {
		return q.read4(from, lenient)
	}
	return q.read6()
}

// read4 reads a quoted IPv4 header. If lenient is set its checksum may be wrong.
func (q *Quote) read4(from flow.Side, lenient bool) flow.Reason {
	if len(q.b) < ip4Len {
		return flow.ReasonICMPInnerShort
	}
	h := wire.IPv4(q.b)
	q.l4, q.Proto, q.Src, q.Dst = h.HeaderLen(), h.Protocol(), [2]uint64{uint64(h.Src())}, [2]uint64{uint64(h.Dst())}
	switch {
	case h[0]>>4 != 4 || q.l4 < ip4Len:
		return flow.ReasonICMPInnerBad
	case len(h) < q.l4:
		return flow.ReasonICMPInnerShort
	case !lenient && wire.Fold(wire.Sum(h[:q.l4], 0)) != 0xffff:
		return flow.ReasonICMPInnerChecksum
	case from == flow.Inside && h.CheckOptions() != wire.OK:
		return flow.ReasonSourceRoute // it would show inside addresses to the outside
	case h.FragmentOffset() != 0:
		return flow.ReasonICMPInnerFragment
	}
	q.cut(int(h.TotalLength()))
	return flow.ReasonNone
}

// read6 reads a quoted IPv6 header and the extension headers behind it.
func (q *Quote) read6() flow.Reason {
	if len(q.b) < ip6Len {
		return flow.ReasonICMPInnerShort
	}
	h := wire.IPv6(q.b)
	if h[0]>>4 != 6 {
		return flow.ReasonICMPInnerBad
	}
	q.l4, q.Proto = ip6Len, h.NextHeader()
	q.Src[0], q.Src[1] = h.SrcWords()
	q.Dst[0], q.Dst[1] = h.DstWords()
	q.cut(ip6Len + int(h.PayloadLength()))
	for range maxQuoteHeaders {
		size := 8
		switch q.Proto {
		case 0, 43, 60, 135, 139, 140: // Hop-by-Hop, Routing, Destination, Mobility, HIP, Shim6
			if len(q.b) >= q.l4+2 {
				size += int(q.b[q.l4+1]) * 8
			}
		case 44: // Fragment
			if len(q.b) >= q.l4+size && binary.BigEndian.Uint16(q.b[q.l4+2:])&^7 != 0 {
				return flow.ReasonICMPInnerFragment
			}
		default:
			return flow.ReasonNone
		}
		if len(q.b) < q.l4+size {
			return flow.ReasonICMPInnerShort
		}
		q.Proto, q.l4 = q.b[q.l4], q.l4+size
	}
	return flow.ReasonICMPInnerBad
}

// cut takes what follows the quoted packet out of sight: padding.
func (q *Quote) cut(size int) { q.b = q.b[:min(max(size, q.l4), len(q.b))] }

// FragmentID returns the identification of a quoted fragment with an offset, which is
// what Receive has given [flow.ReasonICMPInnerFragment] for.
func (q *Quote) FragmentID() uint32 {
	if h := wire.IPv4(q.b); h[0]>>4 == 4 {
		return uint32(h.ID())
	}
	return wire.Fragment(q.b[q.l4:]).ID()
}

// readPorts reads the ports, or the identifier of a query.
func (q *Quote) readPorts(p *wire.Packet, from flow.Side) flow.Reason {
	b, need := q.b[q.l4:], quoteMin
	if q.Proto == wire.ProtoTCP && p.Flags&wire.V6 != 0 {
		need = quoteMinPorts
	}
	switch q.Proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMP, wire.ProtoICMPv6:
	default:
		return flow.ReasonICMPNoFlow
	}
	switch {
	case wire.IsICMP(q.Proto) && q.Proto != p.Proto:
		return flow.ReasonICMPInnerBad
	case len(b) < need:
		return flow.ReasonICMPInnerShort
	case !wire.IsICMP(q.Proto):
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		return flow.ReasonNone
	}
	id := binary.BigEndian.Uint16(b[4:])
	switch kind := KindOf(q.Proto, b); {
	case kind == Request && from == flow.Outside:
		q.SrcPort = id
	case kind == Reply && from == flow.Inside:
		q.DstPort = id
	case isError(q.Proto, b[0]):
		return flow.ReasonICMPNested
	default:
		return flow.ReasonICMPNoFlow
	}
	return flow.ReasonNone
}
