// Package sides tells from the addresses of a packet what it is to a NAT gateway: sent to
// one of its public addresses, or from a machine behind it.
//
// It refuses to know translators, sessions, and what a packet carries.
package sides

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/prefixes"
)

// Table has the addresses on both sides of a gateway. It is immutable, and safe for
// concurrent use. Use [New].
type Table struct {
	public map[netip.Addr]bool
	inside *prefixes.Table
}

// New returns the table of a gateway with some public addresses, and some prefixes behind
// it, which have no host bits. Cost: O(n log n).
func New(public []netip.Addr, inside []netip.Prefix) *Table {
	t := &Table{public: make(map[netip.Addr]bool, len(public))}
	for _, a := range public {
		t.public[a] = true
	}
	rows := make([]prefixes.Row, len(inside))
	for i, p := range inside {
		rows[i].Prefix = p
	}
	t.inside = prefixes.New(rows)
	return t
}

// ToPublic reports whether a packet is sent to a public address; one without a whole IP
// header is not. Cost: O(1), no allocation.
func (t *Table) ToPublic(pkt []byte) bool {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return t.public[netip.AddrFrom4([4]byte(pkt[16:20]))]
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		return t.public[netip.AddrFrom16([16]byte(pkt[24:40]))]
	}
	return false
}

// FromInside reports whether a packet comes from behind the gateway; one without a whole IP
// header does not. Cost: O(log n), no allocation.
func (t *Table) FromInside(pkt []byte) bool {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return t.inside.Match(false, prefixes.V4(binary.BigEndian.Uint32(pkt[12:])), 0, prefixes.AnyPort) >= 0
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		return t.inside.Match(true, prefixes.Addr{binary.BigEndian.Uint64(pkt[8:]), binary.BigEndian.Uint64(pkt[16:])}, 0, prefixes.AnyPort) >= 0
	}
	return false
}
