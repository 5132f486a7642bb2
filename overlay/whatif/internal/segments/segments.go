// Package segments makes the packets of conversations: a header that is made once for each
// kind of packet, into which addresses, ports and numbers are put, and a payload of zeros.
//
// Terminology:
//   - Template: a header without addresses, ports and numbers.
//   - Ends: the two sockets of a packet.
//   - Buffer: the bytes that a packet is made in, zeros at first. Those behind the header are zeros again
//     in each packet, and their sum is 0, so a checksum costs the same whatever the length of the payload.
//
// A SYN has the options of Linux but for timestamps, which are not modelled: segment size, SACK
// permitted, and window scale. Packets have TTL 64 and DF (RFC 9293, RFC 768, RFC 7323). All
// functions may be called concurrently, on different buffers.
package segments

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Sizes in bytes. A buffer holds a packet of the largest MTU of an Ethernet.
const (
	BufferLen  = 1500
	MaxPayload = BufferLen - ipv6Len - tcpLen // of a packet of either protocol and family

	ipv4Len, ipv6Len       = 20, 40
	tcpLen, synLen, udpLen = 20, 32, 8
	initialWindow          = 64_240 // of a SYN (Linux)
	window                 = 502    // times 128, of all other segments
	ttl                    = 64
	longest                = ipv6Len + synLen // header
)

// Ends are the sockets of a packet. Addresses are as [wire.Packet.Addrs] returns them.
type Ends struct {
	Src, Dst         [2]uint64
	SrcPort, DstPort uint16
	V6               bool
}

// Segment is what besides the ends distinguishes a TCP segment.
type Segment struct {
	Seq, Ack uint32
	Flags    uint8 // wire.SYN and the others
	Payload  int   // bytes, at most MaxPayload; none with SYN
}

// kind is an index of templates.
type kind uint8

const (
	data kind = iota // TCP
	syn              // TCP with the options of a SYN
	datagram
	numKinds
)

// templates are all headers, by kind and family.
var templates = [numKinds][2][]byte{
	data:     {template(false, wire.ProtoTCP, tcpLen), template(true, wire.ProtoTCP, tcpLen)},
	syn:      {template(false, wire.ProtoTCP, synLen), template(true, wire.ProtoTCP, synLen)},
	datagram: {template(false, wire.ProtoUDP, udpLen), template(true, wire.ProtoUDP, udpLen)},
}

// template makes a header with an upper layer of so many bytes.
func template(v6 bool, proto uint8, upper int) []byte {
	ip, mss := ipv4Len, uint16(1460)
	if v6 {
		ip, mss = ipv6Len, 1440
	}
	b := make([]byte, ip+upper)
	if v6 {
		h := wire.IPv6(b)
		h.SetVersionClassLabel(0, 0)
		h.SetNextHeader(proto)
		h.SetHopLimit(ttl)
	} else {
		h := wire.IPv4(b)
		h.SetVersionAndHeaderLen(ipv4Len)
		h.SetFragment(wire.IPv4DF, 0)
		h.SetProtocol(proto)
		h.SetTTL(ttl)
	}
	if proto == wire.ProtoTCP {
		t := wire.TCP(b[ip:])
		t.SetDataOffset(upper)
		t.SetWindow(window)
		if upper == synLen {
			t.SetWindow(initialWindow)
			copy(t.Options(), []byte{2, 4, byte(mss >> 8), byte(mss), 1, 1, 4, 2, 1, 3, 3, 7})
		}
	}
	return b
}

// begin puts a template, lengths and addresses into a buffer. It returns the upper layer's header,
// and the sum of its pseudo-header.
func begin(b []byte, k kind, e *Ends, payload int) (pkt, upper []byte, sum uint64) {
	if e.V6 {
		t := templates[k][1]
		clear(b[copy(b, t):longest])
		h, n := wire.IPv6(b), len(t)-ipv6Len
		h.SetPayloadLength(uint16(n + payload))
		h.SetSrcWords(e.Src[0], e.Src[1])
		h.SetDstWords(e.Dst[0], e.Dst[1])
		return b[:len(t)+payload], b[ipv6Len:len(t)], wire.PseudoHeader6(h.Src(), h.Dst(), h.NextHeader(), uint32(n+payload))
	}
	t := templates[k][0]
	clear(b[copy(b, t):longest])
	h, n := wire.IPv4(b), len(t)-ipv4Len
	src, dst := uint32(e.Src[0]), uint32(e.Dst[0])
	h.SetTotalLength(uint16(len(t) + payload))
	h.SetSrc(src)
	h.SetDst(dst)
	h.ComputeChecksum()
	return b[:len(t)+payload], b[ipv4Len:len(t)], wire.PseudoHeader4(src, dst, h.Protocol(), uint16(n+payload))
}

// TCP makes a segment in a buffer of BufferLen bytes and returns it.
func TCP(b []byte, e *Ends, s Segment) []byte {
	k := data
	if s.Flags&wire.SYN != 0 {
		k = syn
	}
	pkt, upper, sum := begin(b, k, e, s.Payload)
	t := wire.TCP(upper)
	t.SetSrcPort(e.SrcPort)
	t.SetDstPort(e.DstPort)
	t.SetSeq(s.Seq)
	t.SetAck(s.Ack)
	t.SetFlags(s.Flags)
	t.SetChecksum(wire.Checksum(t, sum))
	return pkt
}

// UDP makes a datagram in a buffer of BufferLen bytes and returns it.
func UDP(b []byte, e *Ends, payload int) []byte {
	pkt, upper, sum := begin(b, datagram, e, payload)
	u := wire.UDP(upper)
	u.SetSrcPort(e.SrcPort)
	u.SetDstPort(e.DstPort)
	binary.BigEndian.PutUint16(u[4:], uint16(udpLen+payload)) // its length
	c := wire.Checksum(u, sum)
	if c == 0 {
		c = 0xffff // 0 means none (RFC 768)
	}
	u.SetChecksum(c)
	return pkt
}
