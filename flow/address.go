package flow

import (
	"encoding/binary"
	"net/netip"
)

// NumFamilies is how many families of addresses there are: IPv4 and IPv6. Arrays by
// family are indexed by [Family].
const NumFamilies = 2

// Family returns the family of an address as an index: 0 for IPv4, else 1.
func Family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Addr4 packs an IPv4 address in host byte order. It panics on an IPv6 address that
// does not hold one.
func Addr4(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Addr6 packs an address as two big-endian halves.
func Addr6(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// NetAddr4 is the inverse of [Addr4].
func NetAddr4(a uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a)
	return netip.AddrFrom4(b)
}

// NetAddr6 is the inverse of [Addr6].
func NetAddr6(a [2]uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a[0])
	binary.BigEndian.PutUint64(b[8:], a[1])
	return netip.AddrFrom16(b)
}

// IsHost reports whether a can be the address of a single host on the Internet or in
// a private network, as a translator's own addresses and those behind it must be. So
// it is valid, without a zone, not IPv4 in the form of IPv6, and neither of a martian
// ([IsMartian4], [IsMartian6]) nor link-local. Addresses for documentation are like any
// other.
func IsHost(a netip.Addr) bool {
	switch {
	case a.Zone() != "" || !a.IsValid():
		return false
	case a.Is4():
		b := Addr4(a)
		return !IsMartian4(b) && !IsLinkLocal4(b)
	}
	b := Addr6(a)
	return !IsMartian6(b) && !IsLinkLocal6(b)
}

// IsMartian4 reports whether a packed address cannot be that of a single host: 0/8,
// 127/8, or multicast and above (RFC 1122 section 3.2.1.3, RFC 1812 section 5.3.7).
func IsMartian4(a uint32) bool {
	return a>>24 == 0 || a>>24 == 127 || a>>28 >= 0xe
}

// IsMartian6 reports whether a packed address cannot be that of a single host:
// unspecified, loopback, multicast, or IPv4 in the form of IPv6 (RFC 4291 section 2.5).
func IsMartian6(a [2]uint64) bool {
	return a[0] == 0 && (a[1] <= 1 || a[1]>>32 == 0xffff) || a[0]>>56 == 0xff
}

// IsLinkLocal4 reports whether a packed address is in 169.254/16 (RFC 3927).
func IsLinkLocal4(a uint32) bool { return a>>16 == 0xa9fe }

// IsLinkLocal6 reports whether a packed address is in fe80::/10 (RFC 4291 section 2.5.6).
func IsLinkLocal6(a [2]uint64) bool { return a[0]>>54 == 0xfe80>>6 }
