package wire

// Packets that are made, not forwarded: segments, among them the RST that ends or refuses
// a connection, and the ICMP error about a packet. Read RFC 1812 section 4.3.2, RFC 4443 section 2.4 and
// RFC 9293 section 3.10.7.1 first.

// Header is what the IP header of a packet that is made says. What it does not name
// follows from the payload or is the same in all of them: no options, extension
// headers or flow label; over IPv4 DF is set and the identification is 0, which has no
// meaning then (RFC 6864 section 4.1); the TTL or hop limit is 64.
type Header struct {
	Src, Dst [2]uint64 // as [Packet.Addrs] returns them
	V6       bool      // of the version; else IPv4
	Class    uint8     // type of service octet, or traffic class
}

// madeHops is the TTL or hop limit of packets that are made (IANA: the default).
const madeHops = 64

// Answer returns the header of a packet from src to the source of p, with its DSCP and
// without its ECN bits.
func Answer(p *Packet, src [2]uint64) Header {
	const dscp = 0xfc
	to, _ := p.Addrs()
	h := Header{Src: src, Dst: to, V6: p.Flags&V6 != 0}
	if h.V6 {
		h.Class = p.IPv6().TrafficClass() & dscp
	} else {
		h.Class = p.IPv4().TOS() & dscp
	}
	return h
}

// len returns the length of the header in bytes.
func (h *Header) len() int {
	if h.V6 {
		return ipv6HeaderLen
	}
	return ipv4MinLen
}

// put writes the header of the packet b, of zeros, that carries an upper layer. It
// returns the sum of the pseudo-header.
func (h *Header) put(b []byte, proto uint8) (pseudo uint64) {
	if h.V6 {
		ip := IPv6(b)
		ip.SetVersionClassLabel(h.Class, 0)
		ip.SetPayloadLength(uint16(len(b) - ipv6HeaderLen))
		ip.SetNextHeader(proto)
		ip.SetHopLimit(madeHops)
		ip.SetSrcWords(h.Src[0], h.Src[1])
		ip.SetDstWords(h.Dst[0], h.Dst[1])
		return PseudoHeader6(ip.Src(), ip.Dst(), proto, uint32(len(b)-ipv6HeaderLen))
	}
	ip := IPv4(b)
	ip.SetVersionAndHeaderLen(ipv4MinLen)
	ip.SetTOS(h.Class)
	ip.SetTotalLength(uint16(len(b)))
	ip.SetFragment(IPv4DF, 0)
	ip.SetTTL(madeHops)
	ip.SetProtocol(proto)
	ip.SetSrc(uint32(h.Src[0]))
	ip.SetDst(uint32(h.Dst[0]))
	ip.ComputeChecksum()
	return PseudoHeader4(ip.Src(), ip.Dst(), proto, uint16(len(b)-ipv4MinLen))
}

// Segment is a TCP segment without options.
type Segment struct {
	Header
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            uint8 // control bits
	Window           uint16
}

// AppendTo appends the packet to b, with its data, and returns the extended slice. The
// packet must not exceed 65,535 bytes.
func (s *Segment) AppendTo(b, data []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, s.len()+tcpMinLen)...)
	b = append(b, data...)
	pkt := b[at:]
	t := TCP(pkt[s.len():])
	t.SetSrcPort(s.SrcPort)
	t.SetDstPort(s.DstPort)
	t.SetSeq(s.Seq)
	t.SetAck(s.Ack)
	t.SetDataOffset(tcpMinLen)
	t.SetFlags(s.Flags)
	t.SetWindow(s.Window)
	t.SetChecksum(Checksum(t, s.put(pkt, ProtoTCP)))
	return b
}

// Reset is a RST segment: without options, which it should not have (RFC 7323 section
// 3.2), without data, and with window 0.
type Reset struct {
	Header
	SrcPort, DstPort uint16 // of the segment
	Seq, Ack         uint32 // Ack counts with the flag ACK only
	Flags            uint8  // besides RST
}

// MaxResetLen is the length in bytes of the longest packet that is a Reset.
const MaxResetLen = ipv6HeaderLen + tcpMinLen

// ResetOf returns the RST with which the destination of the segment p answers if it
// knows no such connection: with the sequence number that p acknowledges, or else with
// an acknowledgment of all that p has sent. p must be a whole TCP segment without RST.
func ResetOf(p *Packet) Reset {
	t := p.TCP()
	_, src := p.Addrs()
	r := Reset{Header: Answer(p, src), SrcPort: t.DstPort(), DstPort: t.SrcPort()}
	if t.Flags()&ACK != 0 {
		r.Seq = t.Ack()
		return r
	}
	r.Flags = ACK
	r.Ack = t.Seq() + uint32(len(t.Payload()))
	for _, bit := range [...]uint8{SYN, FIN} { // each takes a number
		if t.Flags()&bit != 0 {
			r.Ack++
		}
	}
	return r
}

// AppendTo appends the packet to b, and returns the extended slice.
func (r *Reset) AppendTo(b []byte) []byte {
	s := Segment{Header: r.Header, SrcPort: r.SrcPort, DstPort: r.DstPort, Seq: r.Seq, Ack: r.Ack, Flags: RST | r.Flags}
	return s.AppendTo(b, nil)
}

// ICMPError is an error message of ICMP, or of ICMPv6 if V6 is set.
type ICMPError struct {
	Header
	Type, Code uint8  // what it says, in the numbers of the family
	Rest       uint32 // of the message's header: an MTU, in ICMP the lower half of it, or a pointer
}

// QuoteRoom returns how many bytes an error of size bytes can quote.
func (e *ICMPError) QuoteRoom(size int) int { return size - e.len() - icmpHeaderLen }

// AppendTo appends the packet to b, with what it quotes, and returns the extended
// slice. The packet must not exceed 65,535 bytes.
func (e *ICMPError) AppendTo(b, quoted []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, e.len()+icmpHeaderLen)...)
	b = append(b, quoted...)
	pkt := b[at:]
	m := ICMPv6(pkt[e.len():]) // up to the checksum both ICMPs look alike
	m.SetTypeCode(e.Type, e.Code)
	m.SetMTU(e.Rest) // all of the second word
	if e.V6 {
		m.SetChecksum(Checksum(m, e.put(pkt, ProtoICMPv6)))
	} else {
		e.put(pkt, ProtoICMP)
		m.SetChecksum(Checksum(m, 0))
	}
	return b
}
