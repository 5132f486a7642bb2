// Package shelves knows which of the ports that all instances share have no flow, active or held, and
// finds the k-th of them. Each outside address has a shelf, and all shelves as many ports.
//
// A new flow is given the k-th free port in their order, so that what it gets does not depend on the
// order in which others have ended, or in which that was noticed.
//
// It refuses to know which addresses and ports these are, and who has them. Set is guarded by whoever
// has it.
package shelves

import (
	"fmt"
	"iter"
	"math/bits"
	"slices"
)

// Set is shelves of as many ports each, which are named by their offset from the first.
type Set struct {
	ports  int      // of a shelf
	words  int      // likewise
	busy   []uint64 // a bit for each port, shelf after shelf; those beyond a shelf's last are set
	groups []uint16 // bits that are set in each group of words
	free   []int    // ports, by shelf
}

// groupWords is how many words of a shelf are counted together.
const groupWords = 16

// groupsOf returns how many groups a shelf has.
func (s *Set) groupsOf() int { return (s.words + groupWords - 1) / groupWords }

// Add adds a shelf of so many ports, all free: as many as any other has.
func (s *Set) Add(ports int) {
	s.ports, s.words = ports, (ports+63)/64
	s.busy = append(s.busy, make([]uint64, s.words)...)
	s.groups = append(s.groups, make([]uint16, s.groupsOf())...)
	s.free = append(s.free, ports)
	for port := ports; port < 64*s.words; port++ {
		s.set(len(s.free)-1, port)
	}
}

// Free returns how many ports of each shelf are free, for reading.
func (s *Set) Free() []int { return s.free }

// Split returns on which shelf a port is that is named by its number over all shelves, and its offset.
func (s *Set) Split(number int) (shelf, port int) {
	shelf = int(uint32(number) / uint32(s.ports))
	return shelf, number - shelf*s.ports
}

// At returns the k-th free port of a shelf. Cost: a step for each 1,024 ports, from that end which is
// nearer, and 16 at most.
func (s *Set) At(shelf, k int) int {
	n := s.groupsOf()
	groups, busy := s.groups[shelf*n:(shelf+1)*n], s.busy[shelf*s.words:(shelf+1)*s.words]
	group := 0
	if rest := s.free[shelf] - 1 - k; rest < k {
		for group = n - 1; ; group-- {
			free := 64*min(groupWords, s.words-group*groupWords) - int(groups[group])
			if rest < free {
				k = free - 1 - rest
				break
			}
			rest -= free
		}
	} else {
		for ; ; group++ {
			free := 64*groupWords - int(groups[group]) // only the last is smaller
			if k < free {
				break
			}
			k -= free
		}
	}
	for w := group * groupWords; ; w++ {
		free := ^busy[w]
		if n := bits.OnesCount64(free); k >= n {
			k -= n
			continue
		}
		return w<<6 + nth(free, k)
	}
}

// nth returns the index of the k-th bit that is set, from 0 on.
func nth(word uint64, k int) (at int) {
	for width := 32; width >= 8; width /= 2 {
		if n := bits.OnesCount64(word & (1<<width - 1)); k >= n {
			k -= n
			word >>= width
			at += width
		}
	}
	for ; k > 0; k-- {
		word &= word - 1
	}
	return at + bits.TrailingZeros64(word)
}

// Take removes a free port.
func (s *Set) Take(shelf, port int) {
	s.free[shelf]--
	s.set(shelf, port)
}

func (s *Set) set(shelf, port int) {
	s.busy[shelf*s.words+port>>6] |= 1 << (port & 63)
	s.groups[shelf*s.groupsOf()+port>>6/groupWords]++
}

// Put adds a port to the free ones.
func (s *Set) Put(shelf, port int) {
	s.free[shelf]++
	s.busy[shelf*s.words+port>>6] &^= 1 << (port & 63)
	s.groups[shelf*s.groupsOf()+port>>6/groupWords]--
}

// Clone returns a copy that shares no memory with s.
func (s *Set) Clone() Set {
	return Set{s.ports, s.words, slices.Clone(s.busy), slices.Clone(s.groups), slices.Clone(s.free)}
}

// Bytes returns the memory of ports.
func (s *Set) Bytes() int { return len(s.busy)*8 + len(s.groups)*2 }

// Check panics if s contradicts itself, or used, which returns the ports of a shelf that have a flow.
func (s *Set) Check(used func(shelf int) iter.Seq[int]) {
	for shelf := range s.free {
		want := make([]uint64, s.words)
		for port := s.ports; port < 64*s.words; port++ {
			want[port>>6] |= 1 << (port & 63)
		}
		for port := range used(shelf) {
			want[port>>6] |= 1 << (port & 63)
		}
		n, groups := 64*s.words, make([]uint16, s.groupsOf())
		for w, busy := range s.busy[shelf*s.words : (shelf+1)*s.words] {
			if differ := busy ^ want[w]; differ != 0 {
				bit := bits.TrailingZeros64(differ)
				panic(fmt.Sprintf("shelves: port %d of shelf %d: on the shelf %v", w<<6+bit, shelf, busy>>bit&1 == 0))
			}
			n -= bits.OnesCount64(busy)
			groups[w/groupWords] += uint16(bits.OnesCount64(busy))
		}
		if of := s.groups[shelf*len(groups):]; n != s.free[shelf] || !slices.Equal(groups, of[:len(groups)]) {
			panic(fmt.Sprintf("shelves: %d ports of shelf %d are free, counted %d; %v in use by group, counted %v", n, shelf, s.free[shelf], groups, of[:len(groups)]))
		}
	}
}
