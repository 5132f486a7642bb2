package wire

// Read RFC 791 section 3.1 (header and options) and RFC 1624 section 3
// (incremental checksum update) first.

import "encoding/binary"

// The bits of IPv4.Flags.
const (
	IPv4MF       = 1 << 0 // more fragments
	IPv4DF       = 1 << 1 // do not fragment
	IPv4Reserved = 1 << 2 // reserved, passed on unchanged
)

const (
	ipv4MinLen     = 20
	ipv4OffsetMask = 0x1fff
)

// IPv4 options that Parse looks at (RFC 791).
const (
	optEnd  = 0
	optNOP  = 1
	optLSRR = 131
	optSSRR = 137
)

// parseIPv4 is parseAny for version 4; b has at least 20 bytes.
func parseIPv4(b []byte, p *Packet) Problem {
	ip := IPv4(b)
	header, total := ip.HeaderLen(), int(ip.TotalLength())
	switch {
	case header < ipv4MinLen || header > len(b):
		return BadIHL
	case total < header || total > len(b):
		return BadLength
	case Fold(Sum(b[:header], 0)) != 0xffff:
		return IPChecksum
	}
	*p = Packet{B: b[:total], L4: uint16(header), Proto: ip.Protocol()}
	if problem := ip.CheckOptions(); problem != OK {
		return problem
	}
	more, offset := ip.Flags()&IPv4MF != 0, ip.FragmentOffset()
	if more || offset != 0 {
		p.Flags |= Fragmented
		if problem := checkFragment(total-header, offset, header, more); problem != OK {
			return problem
		}
		if offset != 0 {
			p.Flags |= NonFirst
			return p.checkNonFirst(offset)
		}
	}
	return p.checkUpper()
}

// CheckOptions returns SourceRoute if there is one among the options, BadOption if they
// cannot be read, and otherwise OK. Bytes after End of Option List are padding. All of
// the header must be there.
func (h IPv4) CheckOptions() Problem {
	for opts := h[ipv4MinLen:h.HeaderLen()]; len(opts) > 0 && opts[0] != optEnd; {
		if opts[0] == optNOP {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return BadOption
		}
		if opts[0] == optLSRR || opts[0] == optSSRR {
			return SourceRoute
		}
		opts = opts[opts[1]:]
	}
	return OK
}

// IPv4 is a view of an IPv4 header and its payload (RFC 791).
type IPv4 []byte

// HeaderLen returns the header length in bytes, options included.
func (h IPv4) HeaderLen() int { return int(h[0]&0xf) * 4 }

// TOS returns the type of service octet: DSCP in the upper six bits, ECN in the lower two.
func (h IPv4) TOS() uint8 { return h[1] }

// TotalLength returns the length of header and payload in bytes.
func (h IPv4) TotalLength() uint16 { return binary.BigEndian.Uint16(h[2:]) }

// ID returns the identification field, meaningful in fragments only (RFC 6864).
func (h IPv4) ID() uint16 { return binary.BigEndian.Uint16(h[4:]) }

// Flags returns the three flag bits: IPv4Reserved, IPv4DF and IPv4MF.
func (h IPv4) Flags() uint8 { return h[6] >> 5 }

// FragmentOffset returns the offset of the payload in its datagram, in bytes.
func (h IPv4) FragmentOffset() int {
	return int(binary.BigEndian.Uint16(h[6:])&ipv4OffsetMask) * fragmentUnit
}

// TTL returns the time to live in hops.
func (h IPv4) TTL() uint8 { return h[8] }

// Protocol returns the upper-layer protocol number.
func (h IPv4) Protocol() uint8 { return h[9] }

// Checksum returns the stored header checksum.
func (h IPv4) Checksum() uint16 { return binary.BigEndian.Uint16(h[10:]) }

// Src returns the source address in host byte order.
func (h IPv4) Src() uint32 { return binary.BigEndian.Uint32(h[12:]) }

// Dst returns the destination address in host byte order.
func (h IPv4) Dst() uint32 { return binary.BigEndian.Uint32(h[16:]) }

// Payload returns the bytes after the header, to the end of the view.
func (h IPv4) Payload() []byte { return h[h.HeaderLen():] }

// SetTOS stores the type of service octet.
func (h IPv4) SetTOS(tos uint8) { h[1] = tos }

// SetTotalLength stores the length of header and payload in bytes.
func (h IPv4) SetTotalLength(n uint16) { binary.BigEndian.PutUint16(h[2:], n) }

// SetID stores the identification field.
func (h IPv4) SetID(id uint16) { binary.BigEndian.PutUint16(h[4:], id) }

// SetFragment stores the three flag bits and the offset in bytes, a multiple of 8 below 65,536.
func (h IPv4) SetFragment(flags uint8, offset int) {
	binary.BigEndian.PutUint16(h[6:], uint16(flags)<<13|uint16(offset/fragmentUnit))
}

// SetTTL stores the time to live in hops.
func (h IPv4) SetTTL(ttl uint8) { h[8] = ttl }

// SetProtocol stores the upper-layer protocol number.
func (h IPv4) SetProtocol(proto uint8) { h[9] = proto }

// SetChecksum stores the header checksum.
func (h IPv4) SetChecksum(sum uint16) { binary.BigEndian.PutUint16(h[10:], sum) }

// SetSrc stores the source address, given in host byte order.
func (h IPv4) SetSrc(addr uint32) { binary.BigEndian.PutUint32(h[12:], addr) }

// SetDst stores the destination address, given in host byte order.
func (h IPv4) SetDst(addr uint32) { binary.BigEndian.PutUint32(h[16:], addr) }

// SetVersionAndHeaderLen stores version 4 and the header length in bytes, a multiple of 4 from 20 to 60.
func (h IPv4) SetVersionAndHeaderLen(n int) { h[0] = 4<<4 | uint8(n/4) }

// ComputeChecksum stores the checksum of the header as it is now.
func (h IPv4) ComputeChecksum() {
	h.SetChecksum(0)
	h.SetChecksum(Checksum(h[:h.HeaderLen()], 0))
}

// Adjust applies d to the header checksum. A result of FFFF is stored as 0000,
// the only form a header's true checksum can have.
func (h IPv4) Adjust(d Delta) { h.SetChecksum(d.ApplyIPv4(h.Checksum())) }

// RewriteSrc changes the source address and the header checksum. It returns the
// delta by which checksums over a pseudo-header change.
func (h IPv4) RewriteSrc(addr uint32) Delta {
	d := Delta32(h.Src(), addr)
	h.SetSrc(addr)
	h.Adjust(d)
	return d
}

// RewriteDst changes the destination address and the header checksum. It returns
// the delta by which checksums over a pseudo-header change.
func (h IPv4) RewriteDst(addr uint32) Delta {
	d := Delta32(h.Dst(), addr)
	h.SetDst(addr)
	h.Adjust(d)
	return d
}

// RewriteID changes the identification field and the header checksum.
func (h IPv4) RewriteID(id uint16) {
	h.Adjust(Delta16(h.ID(), id))
	h.SetID(id)
}

// RewriteTTL changes the time to live and the header checksum.
func (h IPv4) RewriteTTL(ttl uint8) {
	old := binary.BigEndian.Uint16(h[8:]) // TTL and protocol share a word
	h.SetTTL(ttl)
	h.Adjust(Delta16(old, binary.BigEndian.Uint16(h[8:])))
}
