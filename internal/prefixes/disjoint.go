package prefixes

import (
	"net/netip"
	"slices"
)

// Disjoint4 maps IPv4 prefixes that do not overlap to values above 0: one hash map for
// each prefix length in use. The order of the lengths does not matter for the answer;
// the shortest one, which covers most addresses, is asked first. The zero Disjoint4 is
// empty. Many goroutines may look up at once, but not while one calls Put.
//
// Cost: one cache line for an address of the shortest length, and one more for each
// further length.
type Disjoint4 struct {
	first length4
	rest  []length4
}

type length4 struct {
	mask  uint32
	addrs Addrs4
}

// Get returns the value of the prefix that holds an address, or 0 if there is none.
func (t *Disjoint4) Get(addr uint32) uint32 {
	if v := t.First(addr); v != 0 {
		return v
	}
	return t.Others(addr)
}

// First is Get for the prefixes of the shortest length only. It is inlined, which Get
// cannot be: where every nanosecond counts, call First, and Others if it returns 0.
func (t *Disjoint4) First(addr uint32) uint32 { return t.first.addrs.Get(addr & t.first.mask) }

// Others is Get for the prefixes of all lengths but the shortest.
func (t *Disjoint4) Others(addr uint32) uint32 {
	for i := range t.rest {
		l := &t.rest[i]
		if v := l.addrs.Get(addr & l.mask); v != 0 {
			return v
		}
	}
	return 0
}

// Put gives an IPv4 prefix, whose host bits do not matter, a value above 0, in the
// place of the one that it has.
func (t *Disjoint4) Put(p netip.Prefix, val uint32) {
	_, a := split(p.Masked().Addr())
	t.length(^uint32(0)<<(32-p.Bits())).addrs.Put(uint32(a[0]>>32), val)
}

// length returns the map for a prefix length.
func (t *Disjoint4) length(mask uint32) *length4 {
	if t.first.addrs.n == 0 {
		t.first.mask = mask
	}
	if t.first.mask == mask {
		return &t.first
	}
	for i := range t.rest {
		if t.rest[i].mask == mask {
			return &t.rest[i]
		}
	}
	t.rest = append(t.rest, length4{mask: mask})
	if l := &t.rest[len(t.rest)-1]; mask < t.first.mask {
		t.first, *l = *l, t.first
		return &t.first
	}
	return &t.rest[len(t.rest)-1]
}

// Disjoint6 is Disjoint4 for IPv6. It asks shorter lengths first.
type Disjoint6 struct{ lengths []length6 }

type length6 struct {
	bits  int
	mask  [2]uint64
	addrs Addrs6
}

// Get returns the value of the prefix that holds an address, or 0 if there is none.
func (t *Disjoint6) Get(addr [2]uint64) uint32 { return t.GetWords(addr[0], addr[1]) }

// GetWords is Get for the two halves of an address; see [Addrs6.GetWords].
func (t *Disjoint6) GetWords(high, low uint64) uint32 {
	for i := range t.lengths {
		l := &t.lengths[i]
		if v := l.addrs.GetWords(high&l.mask[0], low&l.mask[1]); v != 0 {
			return v
		}
	}
	return 0
}

// Put gives an IPv6 prefix, whose host bits do not matter, a value above 0, in the
// place of the one that it has.
func (t *Disjoint6) Put(p netip.Prefix, val uint32) {
	i, ok := slices.BinarySearchFunc(t.lengths, p.Bits(), func(l length6, bits int) int { return l.bits - bits })
	if !ok {
		all := Addr{}.last(p.Bits()) // the host bits
		t.lengths = slices.Insert(t.lengths, i, length6{bits: p.Bits(), mask: [2]uint64{^all[0], ^all[1]}})
	}
	_, a := split(p.Masked().Addr())
	t.lengths[i].addrs.Put(a, val)
}
