// Package locality tells, by its destination, whether a packet goes to the Internet or stays in
// the network, which every packet of a cluster is asked.
//
// A [Table] is its only type. It never changes, so there is no lock, and any number of
// goroutines may ask it. It refuses to know what a node does with what is local: that is said by
// the routes it is made from, to package snat.
package locality

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Table tells which destinations are not the Internet's. It is compiled once and
// asked per packet: first whether any prefix has something of the address's first 16
// bits, which of the Internet's few do, and only then the prefixes. It never changes.
type Table struct {
	some   [flow.NumFamilies][1 << 16 / 64]uint64 // by the first 16 bits
	ranges *prefixes.Table
}

// New compiles the routes of a node.
func New(routes []snat.Route) *Table {
	l := &Table{}
	rows := make([]prefixes.Row, len(routes))
	for i, r := range routes {
		rows[i].Prefix = r.Prefix
		b, f := r.Prefix.Addr().AsSlice(), flow.Family(r.Prefix.Addr())
		first := uint32(b[0])<<8 | uint32(b[1])
		last := first | (1<<16-1)>>min(16, r.Prefix.Bits())
		for k := first; k <= last; k++ {
			l.some[f][k/64] |= 1 << (k % 64)
		}
	}
	l.ranges = prefixes.New(rows)
	return l
}

// Misses reports whether an IPv4 packet has at a place, 12 or 16, an address that its first
// 16 bits tell to be the Internet's. It is small enough to be inlined.
func (l *Table) Misses(pkt []byte, at int) bool {
	if len(pkt) < 20 || pkt[0]>>4 != 4 {
		return false
	}
	k := uint(pkt[at])<<8 | uint(pkt[at+1])
	return l.some[0][k/64]>>(k%64)&1 == 0
}

// Misses6 is Misses for an IPv6 packet and a place of 8 or 24.
func (l *Table) Misses6(pkt []byte, at int) bool {
	if len(pkt) < 40 || pkt[0]>>4 != 6 {
		return false
	}
	k := uint(pkt[at])<<8 | uint(pkt[at+1])
	return l.some[1][k/64]>>(k%64)&1 == 0
}

// Holds reports whether the address at a place of a packet is not the Internet's, and ok whether there is one:
// at4 is the place in an IPv4 header, at6 in one of IPv6.
func (l *Table) Holds(pkt []byte, at4, at6 int) (local, ok bool) {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return l.Has4(binary.BigEndian.Uint32(pkt[at4:])), true
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		return l.Has6(prefixes.Addr{binary.BigEndian.Uint64(pkt[at6:]), binary.BigEndian.Uint64(pkt[at6+8:])}), true
	}
	return false, false
}

// Has4 reports whether an IPv4 address is not the Internet's.
func (l *Table) Has4(a uint32) bool {
	k := a >> 16
	return l.some[0][k/64]>>(k%64)&1 != 0 && l.ranges.Match(false, prefixes.V4(a), 0, prefixes.AnyPort) >= 0
}

// Has6 is Has4 for an IPv6 address.
func (l *Table) Has6(a prefixes.Addr) bool {
	k := a[0] >> 48
	return l.some[1][k/64]>>(k%64)&1 != 0 && l.ranges.Match(true, a, 0, prefixes.AnyPort) >= 0
}
