package snat

// Translation of ICMP errors. Read RFC 5508 section 4, RFC 4884 section 5 (what
// may follow a quote) and RFC 1624 first. A quote is evidence, not a packet: it
// may end anywhere after the ports, so no length in it is trusted to be there,
// and its transport checksum may be wrong and stays as wrong as it is.

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// quote is the packet inside an ICMP error. It aliases the error.
type quote struct {
	b                []byte // from the IP header to where the packet or the quote ends
	l4               int    // offset of the transport header, which has at least its ports
	proto            uint8
	src, dst         [2]uint64 // as in tuple
	srcPort, dstPort uint16    // of a query the sender's identifier, and 0; of a reply the reverse
	lenient          bool      // the checksum of its IPv4 header is not looked at
}

// Bytes of a quote's transport header that must be there: RFC 792 promises 8;
// IPv6 promises as much as fits, so there the ports of TCP will do.
const (
	quoteMin      = 8
	quoteMinPorts = 4
)

// maxQuoteHeaders bounds the extension headers that are stepped over in a quote.
const maxQuoteHeaders = 8

// read reads what an error that comes from a side quotes: a packet that went to
// that side. It reports why the error must be dropped, if so.
func (q *quote) read(p *wire.Packet, from flow.Side) flow.Reason {
	reason := q.readHeader(p, from)
	if reason == flow.ReasonNone {
		reason = q.readPorts(p, from)
	}
	return reason
}

// readHeader is read up to the transport header. Of a quoted fragment with an offset,
// which has none, it reads all the same what it reads of others.
func (q *quote) readHeader(p *wire.Packet, from flow.Side) flow.Reason {
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
		return q.read4(from)
	}
	return q.read6()
}

// receive is read for an error from the outside, whose checksum it verifies: the
// quote must be of a packet that its destination sent.
func (q *quote) receive(p *wire.Packet) flow.Reason {
	if !wire.VerifyL4(p) {
		return flow.ReasonICMPChecksum
	}
	reason := q.read(p, flow.Outside)
	if reason == flow.ReasonNone && q.src != addresses(p, flow.Outside).Inside {
		return flow.ReasonICMPNoFlow
	}
	return reason
}

// read4 reads a quoted IPv4 header.
func (q *quote) read4(from flow.Side) flow.Reason {
	if len(q.b) < ip4Len {
		return flow.ReasonICMPInnerShort
	}
	h := wire.IPv4(q.b)
	q.l4, q.proto, q.src, q.dst = h.HeaderLen(), h.Protocol(), [2]uint64{uint64(h.Src())}, [2]uint64{uint64(h.Dst())}
	switch {
	case h[0]>>4 != 4 || q.l4 < ip4Len:
		return flow.ReasonICMPInnerBad
	case len(h) < q.l4:
		return flow.ReasonICMPInnerShort
	case !q.lenient && wire.Fold(wire.Sum(h[:q.l4], 0)) != 0xffff:
		return flow.ReasonICMPInnerChecksum
	case from == flow.Inside && sourceRouted(h[ip4Len:q.l4]):
		return flow.ReasonSourceRoute // it would show inside addresses to the outside
	case h.FragmentOffset() != 0:
		return flow.ReasonICMPInnerFragment
	}
	q.cut(int(h.TotalLength()))
	return flow.ReasonNone
}

// read6 reads a quoted IPv6 header and the extension headers behind it.
func (q *quote) read6() flow.Reason {
	if len(q.b) < ip6Len {
		return flow.ReasonICMPInnerShort
	}
	h := wire.IPv6(q.b)
	if h[0]>>4 != 6 {
		return flow.ReasonICMPInnerBad
	}
	q.l4, q.proto, q.src, q.dst = ip6Len, h.NextHeader(), words(h[ip6Src:]), words(h[ip6Dst:])
	q.cut(ip6Len + int(h.PayloadLength()))
	for range maxQuoteHeaders {
		size := 8
		switch q.proto {
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
		q.proto, q.l4 = q.b[q.l4], q.l4+size
	}
	return flow.ReasonICMPInnerBad
}

// cut takes what follows the quoted packet out of sight: padding.
func (q *quote) cut(size int) { q.b = q.b[:min(max(size, q.l4), len(q.b))] }

// readPorts reads the ports, or the identifier of a query.
func (q *quote) readPorts(p *wire.Packet, from flow.Side) flow.Reason {
	b, need := q.b[q.l4:], quoteMin
	if q.proto == wire.ProtoTCP && p.Flags&wire.V6 != 0 {
		need = quoteMinPorts
	}
	switch q.proto {
	case wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMP, wire.ProtoICMPv6:
	default:
		return flow.ReasonICMPNoFlow
	}
	switch {
	case isICMP(q.proto) && q.proto != p.Proto:
		return flow.ReasonICMPInnerBad
	case len(b) < need:
		return flow.ReasonICMPInnerShort
	case !isICMP(q.proto):
		q.srcPort, q.dstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		return flow.ReasonNone
	}
	id := binary.BigEndian.Uint16(b[4:])
	switch kind := kindOf(q.proto, b); {
	case kind == icmpRequest && from == flow.Outside:
		q.srcPort = id
	case kind == icmpReply && from == flow.Inside:
		q.dstPort = id
	case isICMPError(q.proto, b[0]):
		return flow.ReasonICMPNested
	default:
		return flow.ReasonICMPNoFlow
	}
	return flow.ReasonNone
}

// isICMPError reports whether a message type is that of an error or a redirect,
// translated here or not.
func isICMPError(proto, typ uint8) bool {
	if proto == wire.ProtoICMPv6 {
		return typ < wire.ICMPv6EchoRequest || typ == redirect6
	}
	switch typ {
	case wire.ICMPv4Unreachable, sourceQuench, redirect, wire.ICMPv4TimeExceeded, wire.ICMPv4ParameterProblem:
		return true
	}
	return false
}

// sourceRouted reports whether IPv4 options hold a source route, or cannot be read.
func sourceRouted(opts []byte) bool {
	for len(opts) > 0 {
		switch kind := opts[0]; {
		case kind == 0: // end of the list
			return false
		case kind == 1: // no operation
			opts = opts[1:]
		case len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts):
			return true
		case kind == 131, kind == 137: // loose, strict
			return true
		default:
			opts = opts[opts[1]:]
		}
	}
	return false
}

// inboundError translates an error from the outside about a packet that left: it
// goes to the host that sent the packet, which finds in it what it had sent.
func (sh *shard) inboundError(m *moment, l *lane) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonICMPNoFlow, To: flow.Inside}
	q := quote{lenient: sh.nat.icmp.LenientQuotes}
	if reason := q.receive(&l.p); reason != flow.ReasonNone {
		v.Reason = reason
		return v
	}
	t := ports.Tuple{Family: l.family(), Proto: q.proto, Remote: q.dst, DestPort: q.dstPort}
	id := sh.OutsideID(&t, q.src, q.srcPort)
	s, ok := sh.quoted(id, m.tick)
	if !ok {
		return v
	}
	if oddMTU(&l.p) {
		sh.counters.oddMTU++
	}
	t = ports.TupleOf(id, s)
	q.translate(&l.p, flow.Outside, t.Inside, t.InsidePort)
	v.Action, v.Reason, v.Instance = flow.Forward, flow.ReasonNone, s.Key.VNI()
	return v
}

// outboundError translates an error from the inside about a packet that was
// delivered. Its source is the address that the remote had sent the packet to,
// whoever inside sends it (RFC 5508 REQ-5).
func (sh *shard) outboundError(now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonICMPNoFlow, To: flow.Outside, Instance: inst.Index}
	if !wire.VerifyL4(p) {
		v.Reason = flow.ReasonICMPChecksum
		return v
	}
	q := quote{lenient: sh.nat.icmp.LenientQuotes}
	if reason := q.read(p, flow.Inside); reason != flow.ReasonNone {
		v.Reason = reason
		return v
	}
	if q.src != t.Remote {
		return v // it would tell somebody else about the flow
	}
	about := ports.Tuple{
		Family: t.Family, Proto: q.proto,
		Inside: q.dst, InsidePort: q.dstPort, Remote: q.src, DestPort: q.srcPort,
	}
	id := sh.insideOf(&about, inst.Index)
	s, ok := sh.quoted(id, flow.TickOf(now))
	if !ok {
		return v
	}
	outside := [2]uint64{uint64(s.Outside)}
	if id.Is6() {
		outside = s.Addrs6().Outside
	}
	q.translate(p, flow.Inside, outside, s.OutsidePort)
	v.Action, v.Reason = flow.Forward, flow.ReasonNone
	return v
}

// quoted returns the session that a quote belongs to, if there is one and it
// lives. It changes nothing: errors have no effect on sessions.
func (sh *shard) quoted(id flow.ID, tick uint32) (*flow.Session, bool) {
	if id == 0 {
		return nil, false
	}
	s := sh.At(id)
	return s, s.Track.Class != flow.ClassTCPResetSent && !sh.Expired(s, tick)
}

// family returns the index of the lane's address family.
func (l *lane) family() uint8 {
	if l.is6 {
		return 1
	}
	return 0
}

// oddMTU reports whether an error tells an MTU that no link may have. It passes
// all the same: 0 is what routers from before RFC 1191 say.
func oddMTU(p *wire.Packet) bool {
	if p.Flags&wire.V6 == 0 {
		m := p.ICMPv4()
		return m.Type() == wire.ICMPv4Unreachable && m.Code() == 4 && m.MTU() < 68
	}
	m := p.ICMPv6()
	return m.Type() == wire.ICMPv6PacketTooBig && m.MTU() < minMTU
}

// translate puts an address and port into an error that comes from a side: for
// the sender of the packet it quotes if that is the outside, else for its
// receiver; and the address into the outer header, for the receiver or the sender
// of the error. Every checksum that is there follows by the words that change; one
// of which the quote has only half stays.
func (q *quote) translate(p *wire.Packet, from flow.Side, addr [2]uint64, port uint16) {
	portAt := l4Dst
	switch {
	case isICMP(q.proto):
		portAt = 4
	case from == flow.Outside:
		portAt = l4Src
	}
	q.readdress(p, from, addr, put16(q.b[q.l4:][portAt:], port))
}

// readdress is translate for the addresses, where the port has changed already, or
// does not, which is a delta of 0.
func (q *quote) readdress(p *wire.Packet, from flow.Side, addr [2]uint64, ports wire.Delta) {
	v4 := p.Flags&wire.V6 == 0
	inner, outer := quotedAt(v4, from)
	addrs, outers := putAddr(q.b[inner:], v4, addr), putAddr(p.B[outer:], v4, addr)
	message := addrs.Add(ports) // the sum of all changes in the message
	if v4 {
		sum := q.b[ip4Checksum:]
		message = message.Add(put16(sum, addrs.ApplyIPv4(binary.BigEndian.Uint16(sum))))
		p.IPv4().Adjust(outers)
	} else {
		message = message.Add(outers)
	}
	message = message.Add(adjustQuoted(q.proto, q.b[q.l4:], addrs, ports))
	p.ICMPv4().Adjust(message) // ICMPv6 has its checksum at the same place
}

// adjustQuoted keeps the checksum of a quoted transport header true, if it is there,
// when addresses and ports have changed. It returns the change of the checksum.
func adjustQuoted(proto uint8, l4 []byte, addrs, ports wire.Delta) wire.Delta {
	at := 16
	switch proto {
	case wire.ProtoUDP:
		at = 6
	case wire.ProtoICMP, wire.ProtoICMPv6:
		at = 2
	}
	if len(l4) < at+2 {
		return 0
	}
	was := binary.BigEndian.Uint16(l4[at:])
	switch proto {
	case wire.ProtoTCP, wire.ProtoICMPv6:
		binary.BigEndian.PutUint16(l4[at:], addrs.Add(ports).Apply(was))
	case wire.ProtoUDP:
		binary.BigEndian.PutUint16(l4[at:], addrs.Add(ports).ApplyUDP(was))
	case wire.ProtoICMP:
		if ports != 0 {
			wire.ICMPv4(l4).Adjust(ports)
		}
	}
	return wire.Delta16(was, binary.BigEndian.Uint16(l4[at:]))
}

// quotedAt returns the offsets of the address that is translated in an error that
// comes from a side: in the packet it quotes, and in the error itself.
func quotedAt(v4 bool, from flow.Side) (inner, outer int) {
	switch {
	case v4 && from == flow.Outside:
		return ip4Src, ip4Dst
	case v4:
		return ip4Dst, ip4Src
	case from == flow.Outside:
		return ip6Src, ip6Dst
	}
	return ip6Dst, ip6Src
}

// put16 stores a word and returns the change as checksums see it.
func put16(b []byte, v uint16) wire.Delta {
	d := wire.Delta16(binary.BigEndian.Uint16(b), v)
	binary.BigEndian.PutUint16(b, v)
	return d
}

// putAddr is put16 for an address as tuples hold it.
func putAddr(b []byte, v4 bool, a [2]uint64) wire.Delta {
	if v4 {
		d := wire.Delta32(binary.BigEndian.Uint32(b), uint32(a[0]))
		binary.BigEndian.PutUint32(b, uint32(a[0]))
		return d
	}
	old := [16]byte(b)
	putWords(b, a)
	return wire.DeltaAddr6(&old, (*[16]byte)(b))
}
