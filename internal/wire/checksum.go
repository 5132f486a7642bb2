package wire

// Full Internet checksums. Read RFC 1071 first. A sum here is a ones'-complement
// sum of 16-bit words carried in a wider integer; Fold brings it down.

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the 16-bit big-endian words of b to initial, eight bytes at a time,
// and returns an unfolded sum. An odd last byte counts as the upper half of a
// word, so only the last of several chained pieces may have an odd length.
func Sum(b []byte, initial uint64) uint64 {
	sum, carry := initial, uint64(0)
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) >= 4 {
		sum, carry = bits.Add64(sum, uint64(binary.BigEndian.Uint32(b)), carry)
		b = b[4:]
	}
	if len(b) >= 2 {
		sum, carry = bits.Add64(sum, uint64(binary.BigEndian.Uint16(b)), carry)
		b = b[2:]
	}
	if len(b) > 0 {
		sum, carry = bits.Add64(sum, uint64(b[0])<<8, carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}

// Fold reduces a sum to 16 bits. Only a sum of 0 gives 0: any other multiple of
// FFFF gives FFFF, the negative zero.
func Fold(sum uint64) uint16 {
	// A number plus itself with its halves exchanged has their end-around sum in the high half.
	half := uint32((sum + bits.RotateLeft64(sum, 32)) >> 32)
	return uint16((half + bits.RotateLeft32(half, 16)) >> 16)
}

// Checksum returns the Internet checksum of b and of whatever initial already
// sums, as TCP, ICMP and IPv4 headers store it. UDP stores FFFF for 0.
func Checksum(b []byte, initial uint64) uint16 { return ^Fold(Sum(b, initial)) }

// PseudoHeader4 returns the sum of the IPv4 pseudo-header (RFC 9293 section
// 3.1, RFC 768). Addresses are in host byte order, length is that of the
// transport header and data in bytes.
func PseudoHeader4(src, dst uint32, proto uint8, length uint16) uint64 {
	return uint64(src) + uint64(dst) + uint64(proto) + uint64(length)
}

// PseudoHeader6 returns the sum of the IPv6 pseudo-header (RFC 8200 section
// 8.1). length is that of the upper-layer header and data in bytes, proto their
// protocol whatever extension headers come before.
func PseudoHeader6(src, dst [16]byte, proto uint8, length uint32) uint64 {
	return Sum(dst[:], Sum(src[:], uint64(proto)+uint64(length)))
}

// VerifyL4 reports whether the checksum of the TCP segment, UDP datagram or ICMP
// message in p is right. A UDP checksum of zero is right over IPv4, where it
// means none. A fragment cannot be verified: false. p must come from Parse.
func VerifyL4(p *Packet) bool {
	if p.Flags&Fragmented != 0 {
		return false
	}
	b := p.B[p.L4:]
	switch p.Proto {
	case ProtoUDP:
		u := UDP(b)
		if u.Checksum() == 0 {
			return p.Flags&V6 == 0
		}
		b = b[:u.Length()]
	case ProtoICMP:
		return Fold(sumSwapped(b, 0)) == 0xffff
	case ProtoTCP, ProtoICMPv6:
	default:
		return false
	}
	pseudo := uint64(p.Proto)<<8 + uint64(bits.ReverseBytes16(uint16(len(b))))
	if p.Flags&V6 != 0 {
		pseudo = sumSwapped(p.B[8:40], pseudo)
	} else {
		addrs := binary.LittleEndian.Uint64(p.B[12:])
		pseudo += addrs>>32 + addrs&0xffffffff
	}
	return Fold(sumSwapped(b, pseudo)) == 0xffff
}

// sumSwapped is Sum of words whose bytes are swapped: RFC 1071 section 2(B). What that
// folds to is swapped as well, so it is for who asks only whether it is FFFF.
func sumSwapped(b []byte, initial uint64) uint64 {
	sum, carry, i := initial, uint64(0), 0
	for ; i+8 <= len(b); i += 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[i:]), carry)
	}
	if i+4 <= len(b) {
		sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint32(b[i:])), carry)
		i += 4
	}
	if i+2 <= len(b) {
		sum, carry = bits.Add64(sum, uint64(binary.LittleEndian.Uint16(b[i:])), carry)
		i += 2
	}
	if i < len(b) {
		sum, carry = bits.Add64(sum, uint64(b[i]), carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}
