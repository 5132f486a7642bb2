package deterministic

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/prefixes"
)

// addressList numbers the addresses of prefixes, which do not overlap.
type addressList struct {
	runs   []addressRun // in the order of their numbers
	byAddr []int32      // indexes of runs, in the order of their addresses
}

// addressRun is consecutive addresses with consecutive numbers.
type addressRun struct {
	first, last netip.Addr
	base        int // the number of first
}

// listOf returns the list of the addresses of some prefixes, or of their hosts.
func listOf(all []netip.Prefix, hosts bool) (l addressList) {
	base := 0
	for i, p := range all {
		first, n := p.Addr(), 1<<(p.Addr().BitLen()-p.Bits())
		if hosts && first.Is4() && n > 2 {
			first, n = first.Next(), n-2
		}
		l.runs = append(l.runs, addressRun{first, plus(first, n-1), base})
		l.byAddr = append(l.byAddr, int32(i))
		base += n
	}
	slices.SortFunc(l.byAddr, func(a, b int32) int { return l.runs[a].first.Compare(l.runs[b].first) })
	return l
}

func (l *addressList) len() int {
	r := &l.runs[len(l.runs)-1]
	return r.base + distance(r.first, r.last) + 1
}

// is4 reports whether the addresses are of IPv4.
func (l *addressList) is4() bool { return l.runs[0].first.Is4() }

// at returns the address with a number.
func (l *addressList) at(i int) netip.Addr {
	k, found := slices.BinarySearchFunc(l.runs, i, func(r addressRun, i int) int { return cmp.Compare(r.base, i) })
	if !found {
		k--
	}
	return plus(l.runs[k].first, i-l.runs[k].base)
}

// index is the inverse of at.
func (l *addressList) index(a netip.Addr) (int, bool) {
	k, found := slices.BinarySearchFunc(l.byAddr, a, func(i int32, a netip.Addr) int { return l.runs[i].first.Compare(a) })
	if !found {
		k--
	}
	if k < 0 {
		return 0, false
	}
	r := &l.runs[l.byAddr[k]]
	if r.last.Compare(a) < 0 {
		return 0, false
	}
	return r.base + distance(r.first, a), true
}

// plus returns the address n after a.
func plus(a netip.Addr, n int) netip.Addr { return prefixes.Plus(a, uint64(n)) }

// distance is the inverse of plus, in a prefix whose host part is below 2^32.
func distance(a, b netip.Addr) int {
	n, _ := prefixes.Distance(a, b)
	return int(n)
}
