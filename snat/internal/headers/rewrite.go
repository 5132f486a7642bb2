package headers

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

// Decide stores what the session does to each packet: the checksum deltas of
// RFC 1624, which are inverted for the inbound direction.
func Decide(id flow.ID, s *flow.Session) {
	ports := wire.Delta16(s.Key.SrcPort, s.OutsidePort)
	if id.Is6() {
		a := s.Addrs6()
		s.Data[dataL4] = uint16(wire.DeltaWords6(a.Inside, a.Outside).Add(ports))
		return
	}
	addr := wire.Delta32(s.Key.Src, s.Outside)
	s.Data[dataL3], s.Data[dataL4] = uint16(addr), uint16(addr.Add(ports))
}

// Offsets in IPv4, IPv6 and transport headers, and the lengths of the first two.
const (
	ip4Checksum = 10
	IP4Src      = 12
	IP4Dst      = 16
	IP6Src      = 8
	IP6Dst      = 24
	IP4Len      = 20 // without options
	ip6Len      = 40
	l4Src       = 0
	l4Dst       = 2
)

// Outbound4 rewrites the source of p as s decides.
func Outbound4(p *wire.Packet, s *flow.Session) {
	h := p.B[:IP4Len:IP4Len]
	binary.BigEndian.PutUint32(h[IP4Src:], s.Outside)
	sum := wire.Delta(s.Data[dataL3]).ApplyIPv4(binary.BigEndian.Uint16(h[ip4Checksum:]))
	binary.BigEndian.PutUint16(h[ip4Checksum:], sum)
	transport(p, l4Src, s.OutsidePort, wire.Delta(s.Data[dataL4]))
}

// Inbound4 rewrites the destination of p as s decides.
func Inbound4(p *wire.Packet, s *flow.Session) {
	h := p.B[:IP4Len:IP4Len]
	binary.BigEndian.PutUint32(h[IP4Dst:], s.Key.Src)
	sum := wire.Delta(s.Data[dataL3]).ReverseIPv4().ApplyIPv4(binary.BigEndian.Uint16(h[ip4Checksum:]))
	binary.BigEndian.PutUint16(h[ip4Checksum:], sum)
	transport(p, l4Dst, s.Key.SrcPort, wire.Delta(s.Data[dataL4]).Reverse())
}

// Outbound6 is Outbound4 for IPv6.
func Outbound6(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip6Len:ip6Len]
	a := s.Addrs6()
	binary.BigEndian.PutUint64(h[IP6Src:], a.Outside[0])
	binary.BigEndian.PutUint64(h[IP6Src+8:], a.Outside[1])
	transport(p, l4Src, s.OutsidePort, wire.Delta(s.Data[dataL4]))
}

// Inbound6 is Inbound4 for IPv6.
func Inbound6(p *wire.Packet, s *flow.Session) {
	h := p.B[:ip6Len:ip6Len]
	a := s.Addrs6()
	binary.BigEndian.PutUint64(h[IP6Dst:], a.Inside[0])
	binary.BigEndian.PutUint64(h[IP6Dst+8:], a.Inside[1])
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
