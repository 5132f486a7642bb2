package snat

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What the translator keeps in Session.Data.
const (
	dataL3 = ports.DataNodePort + 1 + iota // IPv4: checksum delta of the IP header, outbound
	dataL4                                 // checksum delta of the transport header, outbound
)

// decide stores what the session does to each packet: the checksum deltas of
// RFC 1624, which are inverted for the inbound direction.
func decide(id flow.ID, s *flow.Session) {
	ports := wire.Delta16(s.Key.SrcPort, s.OutsidePort)
	if id.Is6() {
		a := s.Addrs6()
		inside, outside := flow.NetAddr6(a.Inside).As16(), flow.NetAddr6(a.Outside).As16()
		s.Data[dataL4] = uint16(wire.DeltaAddr6(&inside, &outside).Add(ports))
		return
	}
	addr := wire.Delta32(s.Key.Src, s.Outside)
	s.Data[dataL3], s.Data[dataL4] = uint16(addr), uint16(addr.Add(ports))
}

// Offsets in IPv4, IPv6 and transport headers.
const (
	ip4Checksum = 10
	ip4Src      = 12
	ip4Dst      = 16
	ip6Src      = 8
	ip6Dst      = 24
	ip4Len      = 20 // without options
	ip6Len      = 40
	l4Src       = 0
	l4Dst       = 2
)

// outbound4 rewrites the source of p as s decides.
func outbound4(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip4Len:ip4Len]
	binary.BigEndian.PutUint32(h[ip4Src:], s.Outside)
	sum := wire.Delta(s.Data[dataL3]).ApplyIPv4(binary.BigEndian.Uint16(h[ip4Checksum:]))
	binary.BigEndian.PutUint16(h[ip4Checksum:], sum)
	transport(p, l4Src, s.OutsidePort, wire.Delta(s.Data[dataL4]))
}

// inbound4 rewrites the destination of p as s decides.
func inbound4(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip4Len:ip4Len]
	binary.BigEndian.PutUint32(h[ip4Dst:], s.Key.Src)
	sum := wire.Delta(s.Data[dataL3]).Reverse().ApplyIPv4(binary.BigEndian.Uint16(h[ip4Checksum:]))
	binary.BigEndian.PutUint16(h[ip4Checksum:], sum)
	transport(p, l4Dst, s.Key.SrcPort, wire.Delta(s.Data[dataL4]).Reverse())
}

// outbound6 is outbound4 for IPv6.
func outbound6(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip6Len:ip6Len]
	a := s.Addrs6()
	binary.BigEndian.PutUint64(h[ip6Src:], a.Outside[0])
	binary.BigEndian.PutUint64(h[ip6Src+8:], a.Outside[1])
	transport(p, l4Src, s.OutsidePort, wire.Delta(s.Data[dataL4]))
}

// inbound6 is inbound4 for IPv6.
func inbound6(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip6Len:ip6Len]
	a := s.Addrs6()
	binary.BigEndian.PutUint64(h[ip6Dst:], a.Inside[0])
	binary.BigEndian.PutUint64(h[ip6Dst+8:], a.Inside[1])
	transport(p, l4Dst, s.Key.SrcPort, wire.Delta(s.Data[dataL4]).Reverse())
}

// transport stores a port and keeps the transport checksum true.
func transport(p *wire.Packet, at int, port uint16, d wire.Delta) {
	if p.Proto == wire.ProtoTCP {
		t := p.TCPHeader()
		binary.BigEndian.PutUint16(t[at&2:], port)
		wire.TCP(t[:]).Adjust(d)
		return
	}
	t := p.UDPHeader()
	binary.BigEndian.PutUint16(t[at&2:], port)
	wire.UDP(t[:]).Adjust(d)
}

// readdress replaces the address at an offset, which depends on the family, and
// applies the delta to the checksums that cover it.
func readdress(p *wire.Packet, at4, at6 int, addr [2]uint64, d wire.Delta) {
	if p.Flags&wire.V6 == 0 {
		binary.BigEndian.PutUint32(p.B[at4:], uint32(addr[0]))
		p.IPv4().Adjust(d)
	} else {
		binary.BigEndian.PutUint64(p.B[at6:], addr[0])
		binary.BigEndian.PutUint64(p.B[at6+8:], addr[1])
	}
	if p.Flags&wire.NonFirst != 0 {
		return
	}
	switch p.Proto { // those whose checksum covers a pseudo-header
	case wire.ProtoTCP:
		p.TCP().Adjust(d)
	case wire.ProtoUDP:
		p.UDP().Adjust(d)
	case wire.ProtoICMPv6:
		p.ICMPv6().Adjust(d)
	}
}
