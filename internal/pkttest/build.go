package pkttest

// Builders: packets from endpoints and fields.

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// packet is a packet in parts. Fields are set on it before it is serialized, and
// compared with it after it was decoded.
type packet struct {
	src, dst netip.AddrPort // the port is 0 without TCP or UDP
	upper    layers.IPProtocol
	ip4      layers.IPv4
	ip6      layers.IPv6
	tcp      layers.TCP
	udp      layers.UDP
	icmp     [8]byte // type, code, checksum, and a word that depends on the type
	payload  []byte  // what follows the upper-layer header

	// When built.
	bare  bool                  // payload is all of the upper layer
	edits []func([]byte) []byte // to be done to the serialized bytes

	// When decoded.
	at       int       // offset of the upper-layer header
	segment  []byte    // upper-layer header and data that its checksum covers
	fragment *fragment // nil in a whole packet
}

type fragment struct {
	id     uint32
	offset int // bytes
	more   bool
}

// TCP returns a TCP segment. Without fields it has no flags, numbers 0, window
// 65,535 and no payload. All builders start from TTL or hop limit 64, and DF.
func TCP(src, dst string, fields ...Field) []byte {
	p := newPacket(src, dst, layers.IPProtocolTCP)
	p.tcp.Window = 65535
	return p.build(fields)
}

// UDP returns a UDP datagram.
func UDP(src, dst, payload string, fields ...Field) []byte {
	p := newPacket(src, dst, layers.IPProtocolUDP)
	p.payload = []byte(payload)
	return p.build(fields)
}

// ICMPEcho returns an echo request between two addresses.
func ICMPEcho(src, dst string, id, seq uint16, fields ...Field) []byte {
	return icmp(src, dst, 8, 128, 0, uint32(id)<<16|uint32(seq), nil, fields)
}

// ICMPEchoReply returns an echo reply between two addresses.
func ICMPEchoReply(src, dst string, id, seq uint16, fields ...Field) []byte {
	return icmp(src, dst, 0, 129, 0, uint32(id)<<16|uint32(seq), nil, fields)
}

// ICMP returns any ICMP message, or with IPv6 addresses an ICMPv6 message. word
// is the second half of its header: an MTU, a pointer, or an identifier and a
// sequence number. An error quotes in payload.
func ICMP(src, dst string, typ, code uint8, word uint32, payload []byte, fields ...Field) []byte {
	return icmp(src, dst, typ, typ, code, word, payload, fields)
}

func icmp(src, dst string, type4, type6, code uint8, word uint32, payload []byte, fields []Field) []byte {
	p := newPacket(src, dst, layers.IPProtocolICMPv4)
	p.icmp[0], p.icmp[1] = type4, code
	if p.v6() {
		p.upper, p.icmp[0] = layers.IPProtocolICMPv6, type6
	}
	binary.BigEndian.PutUint32(p.icmp[4:], word)
	p.payload = payload
	return p.build(fields)
}

// IP returns a packet of any protocol, with payload as all of its upper layer:
// checksums in there are the caller's.
func IP(src, dst string, proto uint8, payload []byte, fields ...Field) []byte {
	p := newPacket(src, dst, layers.IPProtocol(proto))
	p.payload, p.bare = payload, true
	return p.build(fields)
}

func newPacket(src, dst string, upper layers.IPProtocol) *packet {
	return &packet{
		src: endpoint(src), dst: endpoint(dst), upper: upper,
		ip4: layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment},
		ip6: layers.IPv6{Version: 6, HopLimit: 64},
	}
}

func (p *packet) v6() bool { return p.src.Addr().Is6() }

// build sets the fields and serializes.
func (p *packet) build(fields []Field) []byte {
	for _, f := range fields {
		if f.set == nil {
			panic("pkttest: " + f.name + " can be checked but not set")
		}
		f.set(p)
	}
	if p.src.Addr().Is4() != p.dst.Addr().Is4() {
		panic(fmt.Sprintf("pkttest: %v and %v are of different IP versions", p.src, p.dst))
	}
	var stack []gopacket.SerializableLayer
	if p.v6() {
		p.ip6.SrcIP, p.ip6.DstIP, p.ip6.NextHeader = p.src.Addr().AsSlice(), p.dst.Addr().AsSlice(), p.upper
		stack = append(stack, &p.ip6)
	} else {
		p.ip4.SrcIP, p.ip4.DstIP, p.ip4.Protocol = p.src.Addr().AsSlice(), p.dst.Addr().AsSlice(), p.upper
		stack = append(stack, &p.ip4)
	}
	switch {
	case p.bare:
	case p.upper == layers.IPProtocolTCP:
		p.tcp.SrcPort, p.tcp.DstPort = layers.TCPPort(p.src.Port()), layers.TCPPort(p.dst.Port())
		stack = append(stack, &p.tcp)
	case p.upper == layers.IPProtocolUDP:
		p.udp.SrcPort, p.udp.DstPort = layers.UDPPort(p.src.Port()), layers.UDPPort(p.dst.Port())
		stack = append(stack, &p.udp)
	default:
		stack = append(stack, gopacket.Payload(p.icmp[:]))
	}
	buf := gopacket.NewSerializeBuffer()
	stack = append(stack, gopacket.Payload(p.payload))
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		panic("pkttest: " + err.Error())
	}
	b := buf.Bytes()
	if p.bare {
		fixIPv4(b)
	} else {
		FixChecksums(b)
	}
	for _, edit := range p.edits {
		b = edit(b)
	}
	return b
}

// endpoint parses an address with or without a port.
func endpoint(s string) netip.AddrPort {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		panic(fmt.Sprintf("pkttest: %q is neither an address nor an address and port", s))
	}
	return netip.AddrPortFrom(addr, 0)
}
