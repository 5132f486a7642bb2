package wire

// Incremental checksums. Read RFC 1624 first, sections 3 and 4 above all: its
// equation 3 is the one that gives the true result for every input, whereas
// that of RFC 1141 gives FFFF where the truth is 0000.

import (
	"encoding/binary"
	"math/bits"
)

// Delta is the part of RFC 1624 equation 3, HC' = ~(~HC + ~m + m'), that does not
// depend on the checksum: ~m + m' over all words that change. Applying a stored Delta gives the result
// of the equation for every checksum, negative zeros included: a Delta is 0000
// only if every m is FFFF and every m' 0000, and FFFF for any other change that
// adds up to nothing.
//
// One thing the equation cannot see: whether the words that do not change are all
// zero. A sum of nothing but zeros is 0000 and its checksum FFFF; any other sum that
// adds up to nothing is FFFF and its checksum 0000, which is what the equation gives
// for both. Who can have a sum of zeros:
//   - an IPv4 header cannot, for it begins with its version;
//   - TCP, UDP and ICMPv6 cannot, for the protocol number is in their pseudo-header
//     (UDP stores FFFF for 0000 anyway, which is another rule);
//   - ICMP over IPv4 has no pseudo-header. A request, a timestamp and an error have
//     a type above 0, so they cannot. An echo reply with identifier, sequence number
//     and data of zeros can. [ICMPv4.Adjust] looks, in a packet and in a quote.
type Delta uint16

// Delta16 returns the delta of one 16-bit word at an even offset.
func Delta16(old, new uint16) Delta {
	s := uint32(^old) + uint32(new)
	return Delta(s + s>>16)
}

// Delta32 returns the delta of two adjacent words, such as an IPv4 address.
func Delta32(old, new uint32) Delta { return Delta(Fold(uint64(^old) + uint64(new))) }

// DeltaAddr6 returns the delta of an IPv6 address.
func DeltaAddr6(old, new *[16]byte) Delta {
	return DeltaWords6(
		[2]uint64{binary.BigEndian.Uint64(old[:]), binary.BigEndian.Uint64(old[8:])},
		[2]uint64{binary.BigEndian.Uint64(new[:]), binary.BigEndian.Uint64(new[8:])})
}

// DeltaWords6 is DeltaAddr6 for addresses as two big-endian halves.
func DeltaWords6(old, new [2]uint64) Delta {
	s, c := bits.Add64(^old[0], ^old[1], 0)
	s, c = bits.Add64(s, new[0], c)
	s, c = bits.Add64(s, new[1], c)
	s, c = bits.Add64(s, 0, c)
	return Delta(Fold(s + c))
}

// Add returns the delta of both changes together.
func (d Delta) Add(e Delta) Delta {
	s := uint32(d) + uint32(e)
	return Delta(s + s>>16)
}

// Reverse returns the delta of the opposite change. It is the same as that of
// old and new exchanged, except when every old word is 0000 and every new one
// FFFF, which no address and port can be.
func (d Delta) Reverse() Delta {
	if d == 0xffff {
		return d
	}
	return ^d
}

// ReverseIPv4 is Reverse for ApplyIPv4 alone, which FFFF and 0000 are the same to.
func (d Delta) ReverseIPv4() Delta { return ^d }

// Apply returns the checksum hc after the change, as TCP and ICMP store it.
func (d Delta) Apply(hc uint16) uint16 {
	s := uint32(^hc) + uint32(d)
	return ^uint16(s + s>>16)
}

// ApplyIPv4 returns the IPv4 header checksum hc after the change. A header never
// sums to zero, so its checksum is never FFFF: 0000 is returned instead.
func (d Delta) ApplyIPv4(hc uint16) uint16 {
	if hc = d.Apply(hc); hc == 0xffff {
		return 0
	}
	return hc
}

// ApplyUDP returns the UDP checksum hc after the change. Zero means no checksum
// and stays; a result of zero is returned as FFFF (RFC 768).
func (d Delta) ApplyUDP(hc uint16) uint16 {
	if hc == 0 {
		return 0
	}
	if hc = d.Apply(hc); hc == 0 {
		return 0xffff
	}
	return hc
}
