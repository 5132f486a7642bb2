package wire

// Read RFC 792 and RFC 4443 (message formats), and RFC 4884 (length of a quote)
// first.

import (
	"encoding/binary"
	"slices"
)

const icmpHeaderLen = 8

// ICMP message types that a NAT treats as queries or errors (RFC 792).
const (
	ICMPv4EchoReply        = 0
	ICMPv4Unreachable      = 3
	ICMPv4EchoRequest      = 8
	ICMPv4TimeExceeded     = 11
	ICMPv4ParameterProblem = 12
)

// ICMPv6 message types that a NAT treats as queries or errors (RFC 4443).
const (
	ICMPv6Unreachable      = 1
	ICMPv6PacketTooBig     = 2
	ICMPv6TimeExceeded     = 3
	ICMPv6ParameterProblem = 4
	ICMPv6EchoRequest      = 128
	ICMPv6EchoReply        = 129
)

// IsICMP reports whether a protocol is ICMP or ICMPv6.
func IsICMP(proto uint8) bool { return proto == ProtoICMP || proto == ProtoICMPv6 }

// checkICMPFamily checks that each IP version carries its own ICMP.
func (p *Packet) checkICMPFamily() Problem {
	if (p.Proto == ProtoICMPv6) != (p.Flags&V6 != 0) {
		return ProtoFamily
	}
	return OK
}

// checkICMP checks a message; of one that is not whole, only its start is there.
func (p *Packet) checkICMP(b []byte, whole bool) Problem {
	if problem := p.checkICMPFamily(); problem != OK || len(b) >= icmpHeaderLen {
		return problem
	}
	if whole {
		return ICMPShort
	}
	return FragTiny
}

// ICMPv4 is a view of an ICMP message (RFC 792).
type ICMPv4 []byte

// Type returns the message type.
func (m ICMPv4) Type() uint8 { return m[0] }

// Code returns the message code, which refines the type.
func (m ICMPv4) Code() uint8 { return m[1] }

// Checksum returns the stored checksum. It covers the message alone.
func (m ICMPv4) Checksum() uint16 { return binary.BigEndian.Uint16(m[2:]) }

// ID returns the identifier of a query or its reply.
func (m ICMPv4) ID() uint16 { return binary.BigEndian.Uint16(m[4:]) }

// Seq returns the sequence number of a query or its reply.
func (m ICMPv4) Seq() uint16 { return binary.BigEndian.Uint16(m[6:]) }

// MTU returns the next-hop MTU in bytes of type 3 code 4 (RFC 1191).
func (m ICMPv4) MTU() uint16 { return binary.BigEndian.Uint16(m[6:]) }

// QuoteLen returns the length in bytes of a padded quote that an extension
// follows (RFC 4884), or 0 if all of the payload is quote.
func (m ICMPv4) QuoteLen() int {
	if !m.IsError() {
		return 0 // of a redirect this is a part of an address
	}
	return int(m[5]) * 4
}

// Payload returns the bytes after the first eight: echo data, or what an error quotes.
func (m ICMPv4) Payload() []byte { return m[icmpHeaderLen:] }

// IsError reports whether the message quotes a packet and is to be translated by
// it: unreachable, time exceeded or parameter problem.
func (m ICMPv4) IsError() bool {
	switch m.Type() {
	case ICMPv4Unreachable, ICMPv4TimeExceeded, ICMPv4ParameterProblem:
		return true
	}
	return false
}

// SetTypeCode stores type and code.
func (m ICMPv4) SetTypeCode(typ, code uint8) { m[0], m[1] = typ, code }

// SetChecksum stores the checksum.
func (m ICMPv4) SetChecksum(sum uint16) { binary.BigEndian.PutUint16(m[2:], sum) }

// SetID stores the identifier of a query.
func (m ICMPv4) SetID(id uint16) { binary.BigEndian.PutUint16(m[4:], id) }

// SetSeq stores the sequence number of a query.
func (m ICMPv4) SetSeq(seq uint16) { binary.BigEndian.PutUint16(m[6:], seq) }

// SetMTU stores the next-hop MTU in bytes of type 3 code 4.
func (m ICMPv4) SetMTU(mtu uint16) { binary.BigEndian.PutUint16(m[6:], mtu) }

// Adjust applies d to the checksum of a message that has been changed already. A
// result of 0000 is stored as FFFF if the message is nothing but zeros: see Delta.
// Of a message that is cut, what is missing counts as zeros. If it is not, FFFF is
// still what verifies.
func (m ICMPv4) Adjust(d Delta) {
	sum := d.Apply(m.Checksum())
	if sum == 0 && m.zero() {
		sum = 0xffff
	}
	m.SetChecksum(sum)
}

// zero reports whether a message is nothing but zeros, apart from its checksum: an
// echo reply.
func (m ICMPv4) zero() bool {
	return m[0]|m[1] == 0 && !slices.ContainsFunc(m[4:], func(b byte) bool { return b != 0 })
}

// RewriteID changes the identifier and the checksum.
func (m ICMPv4) RewriteID(id uint16) {
	d := Delta16(m.ID(), id)
	m.SetID(id)
	m.Adjust(d)
}

// ICMPv6 is a view of an ICMPv6 message (RFC 4443).
type ICMPv6 []byte

// Type returns the message type; those below 128 are errors.
func (m ICMPv6) Type() uint8 { return m[0] }

// Code returns the message code, which refines the type.
func (m ICMPv6) Code() uint8 { return m[1] }

// Checksum returns the stored checksum. It covers a pseudo-header too.
func (m ICMPv6) Checksum() uint16 { return binary.BigEndian.Uint16(m[2:]) }

// ID returns the identifier of an echo request or reply.
func (m ICMPv6) ID() uint16 { return binary.BigEndian.Uint16(m[4:]) }

// Seq returns the sequence number of an echo request or reply.
func (m ICMPv6) Seq() uint16 { return binary.BigEndian.Uint16(m[6:]) }

// MTU returns the MTU in bytes of Packet Too Big.
func (m ICMPv6) MTU() uint32 { return binary.BigEndian.Uint32(m[4:]) }

// Pointer returns the offset in the quoted packet of a Parameter Problem.
func (m ICMPv6) Pointer() uint32 { return binary.BigEndian.Uint32(m[4:]) }

// QuoteLen returns the length in bytes of a padded quote that an extension
// follows (RFC 4884), or 0 if all of the payload is quote.
func (m ICMPv6) QuoteLen() int {
	if m.Type() != ICMPv6Unreachable && m.Type() != ICMPv6TimeExceeded {
		return 0
	}
	return int(m[4]) * 8
}

// Payload returns the bytes after the first eight: echo data, or what an error quotes.
func (m ICMPv6) Payload() []byte { return m[icmpHeaderLen:] }

// IsError reports whether the message quotes a packet and is to be translated by
// it: unreachable, packet too big, time exceeded or parameter problem.
func (m ICMPv6) IsError() bool {
	return m.Type() >= ICMPv6Unreachable && m.Type() <= ICMPv6ParameterProblem
}

// SetTypeCode stores type and code.
func (m ICMPv6) SetTypeCode(typ, code uint8) { m[0], m[1] = typ, code }

// SetChecksum stores the checksum.
func (m ICMPv6) SetChecksum(sum uint16) { binary.BigEndian.PutUint16(m[2:], sum) }

// SetID stores the identifier of an echo request or reply.
func (m ICMPv6) SetID(id uint16) { binary.BigEndian.PutUint16(m[4:], id) }

// SetSeq stores the sequence number of an echo request or reply.
func (m ICMPv6) SetSeq(seq uint16) { binary.BigEndian.PutUint16(m[6:], seq) }

// SetMTU stores the MTU in bytes of Packet Too Big.
func (m ICMPv6) SetMTU(mtu uint32) { binary.BigEndian.PutUint32(m[4:], mtu) }

// Adjust applies d to the checksum.
func (m ICMPv6) Adjust(d Delta) { m.SetChecksum(d.Apply(m.Checksum())) }

// RewriteID changes the identifier and the checksum.
func (m ICMPv6) RewriteID(id uint16) {
	m.Adjust(Delta16(m.ID(), id))
	m.SetID(id)
}
