// Reading and changing the endpoints of a packet, as a host does that has
// another address: every checksum follows by the difference alone, so a packet
// that was damaged in the capture stays exactly as damaged.

package story

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// endpoints returns where b, a packet of this shape, comes from and goes to.
// Ports are 0 where there are none, addresses invalid where the packet is too
// damaged to have any.
func (s shape) endpoints(b []byte) (src, dst netip.AddrPort) {
	var sport, dport uint16
	switch {
	case s.echo == asks:
		sport = binary.BigEndian.Uint16(b[s.transport+4:])
	case s.echo == answers:
		dport = binary.BigEndian.Uint16(b[s.transport+4:])
	case s.transport != 0 && s.proto != wire.ProtoICMPv6:
		sport, dport = binary.BigEndian.Uint16(b[s.transport:]), binary.BigEndian.Uint16(b[s.transport+2:])
	}
	switch {
	case s.v4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), sport), netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), dport)
	case s.v6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), sport), netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), dport)
	}
	return netip.AddrPort{}, netip.AddrPort{}
}

// setSource makes b, a packet of this shape, come from another endpoint of the
// same family.
func (s shape) setSource(b []byte, to netip.AddrPort) {
	var d wire.Delta
	switch {
	case s.v4:
		d = wire.IPv4(b).RewriteSrc(ipv4(to.Addr()))
	case s.v6:
		d = wire.IPv6(b).RewriteSrc(to.Addr().As16())
	}
	if s.adjust(b, d) {
		switch s.proto {
		case wire.ProtoTCP:
			wire.TCP(b[s.transport:]).RewriteSrcPort(to.Port())
		case wire.ProtoUDP:
			wire.UDP(b[s.transport:]).RewriteSrcPort(to.Port())
		}
		s.identify(b, asks, to.Port())
	}
}

// setDestination makes b, a packet of this shape, go to another endpoint of the
// same family.
func (s shape) setDestination(b []byte, to netip.AddrPort) {
	var d wire.Delta
	switch {
	case s.v4:
		d = wire.IPv4(b).RewriteDst(ipv4(to.Addr()))
	case s.v6:
		d = wire.IPv6(b).RewriteDst(to.Addr().As16())
	}
	if s.adjust(b, d) {
		switch s.proto {
		case wire.ProtoTCP:
			wire.TCP(b[s.transport:]).RewriteDstPort(to.Port())
		case wire.ProtoUDP:
			wire.UDP(b[s.transport:]).RewriteDstPort(to.Port())
		}
		s.identify(b, answers, to.Port())
	}
}

// identify gives b an identifier, if it is such an echo.
func (s shape) identify(b []byte, of echo, id uint16) {
	switch {
	case s.echo != of:
	case s.v4:
		wire.ICMPv4(b[s.transport:]).RewriteID(id)
	default:
		wire.ICMPv6(b[s.transport:]).RewriteID(id)
	}
}

// adjust applies the change of an address to the transport checksum and reports
// whether there is a transport header.
func (s shape) adjust(b []byte, d wire.Delta) bool {
	if s.transport == 0 {
		return false
	}
	switch b = b[s.transport:]; s.proto {
	case wire.ProtoTCP:
		wire.TCP(b).Adjust(d)
	case wire.ProtoUDP:
		wire.UDP(b).Adjust(d)
	case wire.ProtoICMPv6:
		wire.ICMPv6(b).Adjust(d)
	}
	return true
}

// ipv4 returns an IPv4 address as a number.
func ipv4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
