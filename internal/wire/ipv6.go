package wire

// Read RFC 8200 sections 3 (header) and 8.1 (upper-layer checksums) first.

import "encoding/binary"

const ipv6HeaderLen = 40

// parseIPv6 is parseAny for version 6.
func parseIPv6(b []byte, p *Packet) Problem {
	if len(b) < ipv6HeaderLen {
		return Short
	}
	ip := IPv6(b)
	end := ipv6HeaderLen + int(ip.PayloadLength())
	switch {
	case end == ipv6HeaderLen:
		if isJumbogram(ip) {
			return Jumbo
		}
		return BadLength
	case end > len(b):
		return BadLength
	}
	*p = Packet{B: b[:end], L4: ipv6HeaderLen, Proto: ip.NextHeader(), Flags: V6}
	if problem := p.walkExtensions(); problem != OK || p.Flags&NonFirst != 0 {
		return problem
	}
	return p.checkUpper()
}

// IPv6 is a view of an IPv6 header and what follows it (RFC 8200).
type IPv6 []byte

// TrafficClass returns DSCP in the upper six bits and ECN in the lower two.
func (h IPv6) TrafficClass() uint8 { return uint8(binary.BigEndian.Uint16(h) >> 4) }

// FlowLabel returns the 20-bit flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h) & 0xfffff }

// PayloadLength returns the number of bytes after the fixed header.
func (h IPv6) PayloadLength() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// NextHeader returns the type of the header that follows.
func (h IPv6) NextHeader() uint8 { return h[6] }

// HopLimit returns the hop limit.
func (h IPv6) HopLimit() uint8 { return h[7] }

// Src returns the source address.
func (h IPv6) Src() [16]byte { return [16]byte(h[8:24]) }

// Dst returns the destination address.
func (h IPv6) Dst() [16]byte { return [16]byte(h[24:40]) }

// SrcWords returns the two halves of the source address in host byte order.
func (h IPv6) SrcWords() (hi, lo uint64) {
	return binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:])
}

// DstWords returns the two halves of the destination address in host byte order.
func (h IPv6) DstWords() (hi, lo uint64) {
	return binary.BigEndian.Uint64(h[24:]), binary.BigEndian.Uint64(h[32:])
}

// Payload returns the bytes after the fixed header, to the end of the view.
func (h IPv6) Payload() []byte { return h[ipv6HeaderLen:] }

// SetVersionClassLabel stores version 6, the traffic class and the 20-bit flow label.
func (h IPv6) SetVersionClassLabel(class uint8, label uint32) {
	binary.BigEndian.PutUint32(h, 6<<28|uint32(class)<<20|label&0xfffff)
}

// SetPayloadLength stores the number of bytes after the fixed header.
func (h IPv6) SetPayloadLength(n uint16) { binary.BigEndian.PutUint16(h[4:], n) }

// SetNextHeader stores the type of the header that follows.
func (h IPv6) SetNextHeader(proto uint8) { h[6] = proto }

// SetHopLimit stores the hop limit. No checksum covers it.
func (h IPv6) SetHopLimit(n uint8) { h[7] = n }

// SetSrc stores the source address.
func (h IPv6) SetSrc(addr [16]byte) { copy(h[8:24], addr[:]) }

// SetDst stores the destination address.
func (h IPv6) SetDst(addr [16]byte) { copy(h[24:40], addr[:]) }

// SetSrcWords stores the source address, given as its two halves in host byte order.
func (h IPv6) SetSrcWords(hi, lo uint64) {
	binary.BigEndian.PutUint64(h[8:], hi)
	binary.BigEndian.PutUint64(h[16:], lo)
}

// SetDstWords stores the destination address, given as its two halves in host byte order.
func (h IPv6) SetDstWords(hi, lo uint64) {
	binary.BigEndian.PutUint64(h[24:], hi)
	binary.BigEndian.PutUint64(h[32:], lo)
}

// RewriteSrc changes the source address. IPv6 has no header checksum, so all it
// leaves to do is the returned delta, by which checksums over a pseudo-header change.
func (h IPv6) RewriteSrc(addr [16]byte) Delta {
	d := DeltaAddr6((*[16]byte)(h[8:24]), &addr)
	h.SetSrc(addr)
	return d
}

// RewriteDst changes the destination address and returns the delta by which
// checksums over a pseudo-header change.
func (h IPv6) RewriteDst(addr [16]byte) Delta {
	d := DeltaAddr6((*[16]byte)(h[24:40]), &addr)
	h.SetDst(addr)
	return d
}
