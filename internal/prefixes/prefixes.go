package prefixes

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// Row says for what a row is.
type Row struct {
	Prefix      netip.Prefix // its host bits do not matter
	Proto       uint8        // IP protocol; 0 is any
	First, Last uint16       // ports
}

// AnyPort is a port that is not known: it fits every row.
const AnyPort = -1

// Table is a table of rows. The zero Table has none.
type Table struct {
	families [2]family // IPv4, IPv6
}

// Addr is an address of a [Table]: IPv4 addresses fill the highest 32 bits, the rest
// is zero.
type Addr [2]uint64

// V4 returns an IPv4 address.
func V4(a uint32) Addr { return Addr{uint64(a) << 32} }

// family is the rows of one address family.
type family struct {
	groups []group // by prefix, in the order of addresses, shorter ones first
	ports  []ports // of prefixes with several rows

	// The longest prefix of an address is the one in of whose place in starts is
	// the last one that is not above the address; -1 stands for none.
	starts []Addr
	of     []int32

	// What lies between the first place and the last one is divided into equal
	// parts, by the first word of an address. top[i] is how many places are before
	// part i.
	top   []uint32
	base  uint64
	shift uint8
}

// group is the rows of one prefix: one, or those in ports.
type group struct {
	row    line
	ports  int32 // index plus one, or 0
	around int32 // group of the next shorter prefix that holds this one, or -1
}

// New builds a table. Rows of invalid prefixes match nothing. The order of rows
// matters for those of one prefix only.
func New(rows []Row) *Table {
	t := &Table{}
	type entry struct {
		addr Addr
		bits int
		row  int32
	}
	var all [2][]entry
	for i, r := range rows {
		if p := r.Prefix.Masked(); p.IsValid() {
			f, a := split(p.Addr())
			all[f] = append(all[f], entry{a, p.Bits(), int32(i)})
		}
	}
	for f := range all {
		slices.SortFunc(all[f], func(a, b entry) int {
			return cmp.Or(a.addr.compare(b.addr), cmp.Compare(a.bits, b.bits), cmp.Compare(a.row, b.row))
		})
		fam, open := &t.families[f], []prefix(nil)
		for rest := all[f]; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].addr == rest[0].addr && rest[n].bits == rest[0].bits {
				n++
			}
			same := make([]line, n)
			for i := range same {
				r := &rows[rest[i].row]
				same[i] = line{rest[i].row, r.First, r.Last, r.Proto}
			}
			p := prefix{rest[0].addr, rest[0].addr.last(rest[0].bits), int32(len(fam.groups))}
			open = fam.close(open, p.first)
			g := group{row: same[0], around: innermost(open)}
			if n > 1 {
				fam.ports = append(fam.ports, newPorts(same))
				g.ports = int32(len(fam.ports))
			}
			fam.groups = append(fam.groups, g)
			fam.starting(p.first, p.group)
			open, rest = append(open, p), rest[n:]
		}
		fam.close(open, Addr{^uint64(0), ^uint64(0)})
		fam.divide()
	}
	return t
}

// Match returns the index of the row that an address, protocol and port belong to, or
// -1 if there is none. The address is of IPv6 if is6 says so. A port below 0 fits
// every row.
func (t *Table) Match(is6 bool, a Addr, proto uint8, port int32) int {
	f := &t.families[0]
	if is6 {
		f = &t.families[1]
	}
	for i := f.longest(a); i >= 0; {
		g := &f.groups[i]
		if g.ports > 0 {
			if row := f.ports[g.ports-1].match(proto, port); row >= 0 {
				return int(row)
			}
		} else if g.row.fits(proto, port) {
			return int(g.row.row)
		}
		i = g.around
	}
	return -1
}

// longest returns the group of the longest prefix that holds an address, or -1.
func (f *family) longest(a Addr) int32 {
	if len(f.starts) == 0 || a[0] < f.base {
		return -1
	}
	part := min((a[0]-f.base)>>f.shift, uint64(len(f.top)-2))
	low, high := int(f.top[part]), int(f.top[part+1])
	for low < high { // the place is the one before low in the end
		if mid := int(uint(low+high) >> 1); f.starts[mid][0] < a[0] || f.starts[mid][0] == a[0] && f.starts[mid][1] <= a[1] {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == 0 {
		return -1
	}
	return f.of[low-1]
}

// divide fills top, when all places are known: as many parts as places, 65,536 at most.
func (f *family) divide() {
	n := len(f.starts)
	if n == 0 {
		return
	}
	f.base = f.starts[0][0]
	span := f.starts[n-1][0] - f.base
	f.shift = uint8(max(0, bits.Len64(span)-min(16, bits.Len(uint(n)))))
	f.top = make([]uint32, span>>f.shift+2)
	for _, a := range f.starts {
		f.top[(a[0]-f.base)>>f.shift+1]++
	}
	for i := 1; i < len(f.top); i++ {
		f.top[i] += f.top[i-1]
	}
}

// prefix is one that is open while places are laid out: what follows may lie in it.
type prefix struct {
	first, last Addr
	group       int32
}

// innermost returns the group of the prefix opened last, or -1.
func innermost(open []prefix) int32 {
	if len(open) == 0 {
		return -1
	}
	return open[len(open)-1].group
}

// close ends the prefixes that do not reach an address.
func (f *family) close(open []prefix, a Addr) []prefix {
	for len(open) > 0 && open[len(open)-1].last.compare(a) < 0 {
		last := open[len(open)-1].last
		open = open[:len(open)-1]
		f.starting(last.next(), innermost(open))
	}
	return open
}

// starting makes a group the longest from a place on, which is not before the others.
func (f *family) starting(a Addr, group int32) {
	if n := len(f.starts); n > 0 && f.starts[n-1] == a {
		f.of[n-1] = group
		return
	}
	f.starts, f.of = append(f.starts, a), append(f.of, group)
}

// split returns the index of an address's family, and the address.
func split(a netip.Addr) (int, Addr) {
	if a.Is4() {
		b := a.As4()
		return 0, V4(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return 1, Addr{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func (a Addr) compare(b Addr) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) }

// next returns the address that follows.
func (a Addr) next() Addr {
	if a[1]++; a[1] == 0 {
		a[0]++
	}
	return a
}

// last returns the highest address of a prefix of so many bits that begins at a.
func (a Addr) last(bits int) Addr {
	if bits < 64 {
		return Addr{a[0] | ^uint64(0)>>bits, ^uint64(0)}
	}
	return Addr{a[0], a[1] | ^uint64(0)>>(bits-64)}
}
