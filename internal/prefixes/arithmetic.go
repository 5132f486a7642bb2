package prefixes

import (
	"encoding/binary"
	"net/netip"
)

// Plus returns the address n places after a. Past the last address of the family it
// begins again with the first one.
func Plus(a netip.Addr, n uint64) netip.Addr {
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	low := binary.BigEndian.Uint64(b[8:]) + n
	if low < n {
		binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])+1)
	}
	binary.BigEndian.PutUint64(b[8:], low)
	return netip.AddrFrom16(b)
}

// Distance is the inverse of Plus: it returns how many places b lies after a. ok is false if
// they are not of one family, or the upper halves of two IPv6 addresses differ, for which 64 bits
// may not be enough.
func Distance(a, b netip.Addr) (n uint64, ok bool) {
	switch {
	case a.BitLen() != b.BitLen():
		return 0, false
	case a.Is4():
		from, to := a.As4(), b.As4()
		return uint64(binary.BigEndian.Uint32(to[:]) - binary.BigEndian.Uint32(from[:])), true
	}
	from, to := a.As16(), b.As16()
	return binary.BigEndian.Uint64(to[8:]) - binary.BigEndian.Uint64(from[8:]), [8]byte(from[:8]) == [8]byte(to[:8])
}
