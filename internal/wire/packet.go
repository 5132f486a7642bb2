package wire

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// Protocol numbers of the upper layers this package reads (IANA).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Flags are the structural facts of a parsed packet.
type Flags uint8

// The bits of Flags.
const (
	V6         Flags = 1 << iota // the packet is IPv6; otherwise it is IPv4
	Fragmented                   // any fragment except an IPv6 atomic one (RFC 6946)
	NonFirst                     // a fragment with an offset, hence without transport header
)

// Packet is what Parse learned. It aliases the buffer.
type Packet struct {
	B     []byte // the packet cut to its IP length: padding and trailers are out of view
	L4    uint16 // offset in B of the transport header, or of a non-first fragment's payload
	Proto uint8  // upper-layer protocol number
	Flags Flags  // family and fragmentation
}

// Parse checks the structure of the IP packet that b starts with and describes
// it in p. It checks everything that can be judged from the packet alone, the
// IPv4 header checksum included, but neither addresses nor upper-layer
// checksums. Transport headers are not checked in non-first fragments.
//
// With OK all of p is valid. So it is with UnsupportedProto, UDP6Zero and NoHops,
// the last checks made, so that a caller may pass such packets after all. NoHops
// hides the other two; ParseHopless tells them. With any other problem p is valid
// as far as the checks had come: B is nil until the lengths and the IPv4 header
// checksum are trusted, and L4 is the offset of the IPv6 extension header that
// ExtOrder, ExtLength, ExtLimit, RoutingHeader, HopOption or a problem with a
// fragment's shape is about. Parse does not allocate and keeps no reference to p.
func Parse(b []byte, p *Packet) Problem {
	// The common case: TCP or UDP, whole, without IP options or extension
	// headers. What fails a condition here goes to parseAny, which names the problem.
	var (
		l4, total int
		proto     uint8
		flags     Flags
	)
	switch {
	case len(b) >= ipv4MinLen && b[0] == 4<<4|ipv4MinLen/4:
		// Little-endian loads: a ones'-complement sum is valid in any byte
		// order. 2^16 = 1 modulo 65535, so a valid sum, which cannot be zero
		// because b[0] is not, is a multiple of 65535.
		sum, carry := bits.Add64(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), 0)
		sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint32(b[16:])), carry)
		// Flags and offset, TTL, protocol. Without any fragment bits and with the TTL
		// in 1..255 what is kept of them is in 1<<8..255<<8; the subtraction takes 0,
		// and nothing else, round the end: one comparison for both.
		word := binary.BigEndian.Uint32(b[6:])
		if (sum+carry)%0xffff != 0 || word&((IPv4MF<<13|ipv4OffsetMask)<<16|0xff<<8)-1<<8 > 254<<8 {
			return parseAny(b, p)
		}
		l4, total, proto = ipv4MinLen, int(binary.BigEndian.Uint16(b[2:])), uint8(word)
	case len(b) >= ipv6HeaderLen && b[0]>>4 == 6 && b[7] != 0:
		l4, total, proto = ipv6HeaderLen, ipv6HeaderLen+int(binary.BigEndian.Uint16(b[4:])), b[6]
		flags = V6
	}
	if total < l4+udpHeaderLen || total > len(b) {
		return parseAny(b, p)
	}
	upper := b[l4:total]
	if binary.BigEndian.Uint16(upper) == 0 || binary.BigEndian.Uint16(upper[2:]) == 0 {
		return parseAny(b, p)
	}
	switch proto {
	case ProtoTCP:
		if len(upper) < tcpMinLen {
			return parseAny(b, p)
		}
		if header := int(upper[12]>>4) * 4; header < tcpMinLen || header > len(upper) || !tcpFlagsLegal(upper[13]) {
			return parseAny(b, p)
		}
	case ProtoUDP:
		length := int(binary.BigEndian.Uint16(upper[4:]))
		if length < udpHeaderLen || length > len(upper) || flags == V6 && binary.BigEndian.Uint16(upper[6:]) == 0 {
			return parseAny(b, p)
		}
	default:
		return parseAny(b, p)
	}
	*p = Packet{B: b[:total], L4: uint16(l4), Proto: proto, Flags: flags}
	return OK
}

// parseAny is Parse for every packet.
//
//go:noinline
func parseAny(b []byte, p *Packet) Problem {
	problem := ParseHopless(b, p)
	switch problem {
	case OK, UnsupportedProto, UDP6Zero:
		if p.Flags&V6 == 0 && p.B[8] == 0 || p.Flags&V6 != 0 && p.B[7] == 0 {
			return NoHops
		}
	}
	return problem
}

// ParseHopless is Parse for packets whose TTL or hop limit may be 0, such as a
// router has to answer: it never returns NoHops. It is slower, and the only place
// where any other problem is named.
func ParseHopless(b []byte, p *Packet) Problem {
	*p = Packet{}
	if len(b) < ipv4MinLen {
		return Short
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b, p)
	case 6:
		return parseIPv6(b, p)
	}
	return BadVersion
}

// checkFragment checks the shape of a fragment that carries payload bytes at
// offset in a datagram that has rest further bytes of headers counted in its
// length field.
func checkFragment(payload, offset, rest int, more bool) Problem {
	switch {
	case payload == 0:
		return FragEmpty
	case more && payload%8 != 0:
		return FragLength
	case rest+offset+payload > maxDatagram:
		return FragOverflow
	}
	return OK
}

// maxDatagram is the largest IPv4 total length or IPv6 payload length a 16-bit field can tell.
const maxDatagram = 0xffff

// checkUpper checks the upper-layer header of a whole packet or a first fragment.
func (p *Packet) checkUpper() Problem {
	payload, whole := p.B[p.L4:], p.Flags&Fragmented == 0
	switch p.Proto {
	case ProtoTCP:
		return checkTCP(payload, whole)
	case ProtoUDP:
		return checkUDP(payload, whole, p.Flags&V6 != 0)
	case ProtoICMP, ProtoICMPv6:
		return p.checkICMP(payload, whole)
	}
	return UnsupportedProto
}

// checkNonFirst checks what a fragment at offset tells of its upper layer.
func (p *Packet) checkNonFirst(offset int) Problem {
	switch p.Proto {
	case ProtoTCP:
		if offset == fragmentUnit {
			return FragOffset1
		}
		return OK
	case ProtoUDP:
		return OK
	case ProtoICMP, ProtoICMPv6:
		return p.checkICMPFamily()
	}
	return UnsupportedProto
}

// fragmentUnit is the unit of fragment offsets in bytes, in both IP versions.
const fragmentUnit = 8

// IPv4 returns the packet as an IPv4 header and payload. The packet must be IPv4.
func (p *Packet) IPv4() IPv4 { return IPv4(p.B) }

// IPv6 returns the packet as an IPv6 header and payload. The packet must be IPv6.
func (p *Packet) IPv6() IPv6 { return IPv6(p.B) }

// Family returns 0 for IPv4 and 1 for IPv6, the index of what there is for each.
func (p *Packet) Family() uint8 { return uint8(p.Flags & V6 / V6) }

// Addrs returns source and destination address in host byte order: of IPv6 the two
// halves, of IPv4 the address in the first word and 0.
func (p *Packet) Addrs() (src, dst [2]uint64) {
	if p.Flags&V6 != 0 {
		src[0], src[1] = p.IPv6().SrcWords()
		dst[0], dst[1] = p.IPv6().DstWords()
		return src, dst
	}
	src[0], dst[0] = uint64(p.IPv4().Src()), uint64(p.IPv4().Dst())
	return src, dst
}

// Readdress replaces the address at an offset, which depends on the family, and
// applies the delta to the checksums that cover it.
func (p *Packet) Readdress(at4, at6 int, addr [2]uint64, d Delta) {
	if p.Flags&V6 == 0 {
		binary.BigEndian.PutUint32(p.B[at4:], uint32(addr[0]))
		p.IPv4().Adjust(d)
	} else {
		binary.BigEndian.PutUint64(p.B[at6:], addr[0])
		binary.BigEndian.PutUint64(p.B[at6+8:], addr[1])
	}
	if p.Flags&NonFirst != 0 {
		return
	}
	switch p.Proto { // those whose checksum covers a pseudo-header
	case ProtoTCP:
		p.TCP().Adjust(d)
	case ProtoUDP:
		p.UDP().Adjust(d)
	case ProtoICMPv6:
		p.ICMPv6().Adjust(d)
	}
}

// Ports returns source and destination port as they stand in the packet: the
// source in the high half. Proto must be ProtoTCP or ProtoUDP and the packet not
// a non-first fragment. No bounds are checked: Parse has done that.
func (p *Packet) Ports() uint32 { return binary.BigEndian.Uint32(p.transport()[:4]) }

// transport returns the first bytes of the transport header.
func (p *Packet) transport() *[udpHeaderLen]byte {
	return (*[udpHeaderLen]byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.B)), p.L4))
}

// TCPHeader returns the fixed part of the TCP header. Proto must be ProtoTCP and
// the packet whole. No bounds are checked: Parse has done that.
func (p *Packet) TCPHeader() *[tcpMinLen]byte {
	return (*[tcpMinLen]byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.B)), p.L4))
}

// UDPHeader returns the UDP header. Proto must be ProtoUDP and the packet not a
// non-first fragment. No bounds are checked: Parse has done that.
func (p *Packet) UDPHeader() *[udpHeaderLen]byte { return p.transport() }

// TCP returns the TCP segment. Proto must be ProtoTCP and the packet not a
// non-first fragment; so for the views below.
func (p *Packet) TCP() TCP { return TCP(p.B[p.L4:]) }

// UDP returns the UDP datagram, followed by any surplus bytes of the IP payload.
func (p *Packet) UDP() UDP { return UDP(p.B[p.L4:]) }

// ICMPv4 returns the ICMP message.
func (p *Packet) ICMPv4() ICMPv4 { return ICMPv4(p.B[p.L4:]) }

// ICMPv6 returns the ICMPv6 message.
func (p *Packet) ICMPv6() ICMPv6 { return ICMPv6(p.B[p.L4:]) }
