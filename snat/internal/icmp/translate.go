package icmp

// Translation of queries and errors. Read RFC 5508 sections 4.2 and 4.3 and RFC 1624
// first. Every checksum that is there follows by the words that change; the transport
// checksum of a quote may be wrong and stays as wrong as it is.

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// RewriteQuery gives a query that comes from a side another address and identifier: the
// source of a request from inside, the destination of a reply from outside. The checksum
// of ICMP does not cover the addresses, that of ICMPv6 does.
func RewriteQuery(p *wire.Packet, from flow.Side, addr [2]uint64, id uint16) {
	d := setAddr(p.B, from == flow.Inside, addr)
	if p.Flags&wire.V6 == 0 {
		p.ICMPv4().RewriteID(id)
		return
	}
	m := p.ICMPv6()
	m.RewriteID(id)
	m.Adjust(d)
}

// Translate puts an address and port into an error that comes from a side, and has been
// received: for the sender of the packet it quotes if that is the outside, else for its
// receiver; and the address into the outer header, for the receiver or the sender of
// the error. A transport checksum of which the quote has only half stays.
func (q *Quote) Translate(p *wire.Packet, from flow.Side, addr [2]uint64, port uint16) {
	at := 2
	switch {
	case wire.IsICMP(q.Proto):
		at = 4
	case from == flow.Outside:
		at = 0
	}
	q.readdress(p, from, addr, put16(q.b[q.l4:][at:], port))
}

// TranslateFragment is Translate for a quoted fragment with an offset: it puts an
// identification in the place of a port.
func (q *Quote) TranslateFragment(p *wire.Packet, from flow.Side, addr [2]uint64, id uint32) {
	var ids wire.Delta
	if h := wire.IPv4(q.b); h[0]>>4 == 4 {
		was := h.Checksum()
		ids = put16(h[4:], uint16(id))
		h.Adjust(ids)
		ids = ids.Add(wire.Delta16(was, h.Checksum()))
	} else {
		fragment := wire.Fragment(q.b[q.l4:])
		ids = wire.Delta32(fragment.ID(), id)
		fragment.SetID(id)
	}
	q.l4 = len(q.b) // it has no transport header
	q.readdress(p, from, addr, ids)
}

// readdress is Translate for the addresses, where something else in the quote has
// changed already, or does not, which is a delta of 0.
func (q *Quote) readdress(p *wire.Packet, from flow.Side, addr [2]uint64, changed wire.Delta) {
	v4, was := p.Flags&wire.V6 == 0, wire.IPv4(q.b).Checksum()
	addrs, outer := setAddr(q.b, from == flow.Outside, addr), setAddr(p.B, from == flow.Inside, addr)
	message := addrs.Add(changed) // the sum of all changes in the message
	if v4 {
		message = message.Add(wire.Delta16(was, wire.IPv4(q.b).Checksum()))
	} else {
		message = message.Add(outer) // which its pseudo-header has
	}
	message = message.Add(adjustQuoted(q.Proto, q.b[q.l4:], addrs, changed))
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

// put16 stores a word and returns the change as checksums see it.
func put16(b []byte, v uint16) wire.Delta {
	d := wire.Delta16(binary.BigEndian.Uint16(b), v)
	binary.BigEndian.PutUint16(b, v)
	return d
}

// setAddr changes the source of the IP header that b starts with, or else the
// destination, and the header's own checksum. It returns the delta of checksums over a
// pseudo-header.
func setAddr(b []byte, src bool, addr [2]uint64) wire.Delta {
	switch h4, h6 := wire.IPv4(b), wire.IPv6(b); {
	case b[0]>>4 == 4 && src:
		return h4.RewriteSrc(uint32(addr[0]))
	case b[0]>>4 == 4:
		return h4.RewriteDst(uint32(addr[0]))
	case src:
		return h6.RewriteSrc(flow.NetAddr6(addr).As16())
	default:
		return h6.RewriteDst(flow.NetAddr6(addr).As16())
	}
}

// OddMTU reports whether an error tells an MTU that no link may have. It passes
// all the same: 0 is what routers from before RFC 1191 say.
func OddMTU(p *wire.Packet) bool {
	if p.Flags&wire.V6 == 0 {
		m := p.ICMPv4()
		return m.Type() == wire.ICMPv4Unreachable && m.Code() == 4 && m.MTU() < 68
	}
	m := p.ICMPv6()
	return m.Type() == wire.ICMPv6PacketTooBig && m.MTU() < MinMTU
}
