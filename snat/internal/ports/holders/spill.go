package holders

import "slices"

// spill counts the ports of pairs that have no record, by a part of the pair's hash. A pair whose count
// here is 0 has nothing spilled.
type spill struct {
	counts []uint32 // none until something is spilled
	total  int
}

// places is how many counts there are, a power of two.
const places = 1 << 12

func (s *spill) at(hash uint64) uint32 {
	if s.total == 0 {
		return 0
	}
	return s.counts[hash>>8%places]
}

func (s *spill) add(hash uint64) {
	if s.counts == nil {
		s.counts = make([]uint32, places)
	}
	s.counts[hash>>8%places]++
	s.total++
}

func (s *spill) remove(hash uint64) {
	if s.at(hash) > 0 {
		s.counts[hash>>8%places]--
		s.total--
	}
}

func (s *spill) most() uint32 {
	if s.total == 0 {
		return 0
	}
	return slices.Max(s.counts)
}
