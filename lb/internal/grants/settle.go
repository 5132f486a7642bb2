package grants

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Former is what backends have when a deal changes.
type Former struct {
	Had      [][]snat.PortRange // by backend; those of other protocols and families do not count
	Protocol snat.Protocol      // TCP or UDP
	Is6      bool               // family
	Grace    bool               // blocks that are lost now rest
	Resting  []Resting          // of the inventories, in the order in which they are to be given away
}

// counts reports whether a range is of the protocol and family.
func (f *Former) counts(r *snat.PortRange) bool {
	return (r.Protocol == snat.All || r.Protocol == f.Protocol) && r.Frontend.Is6() == f.Is6
}

// Resting is a block that a backend has lost, but may have flows on.
type Resting struct {
	Owner    int // its backend
	Frontend netip.Addr
	Block    int

	given bool
}

// Settle moves portions to where the backends had their ports: everybody gets as many as the
// portions say, and keeps as many of those that it has as possible. inventories makes those that
// the portions were promised from.
//
// A backend whose portions say what it had keeps exactly that, so that settling a deal again moves
// nothing. Each other keeps what it has on the frontends of a demand, the first blocks in
// the order of consumption, and first where its portion is: adding a frontend moves
// nobody. So a tier that halves the ports of a backend takes the upper half of its
// range, which is our choice: Azure says that half is reclaimed and not which. What
// is missing comes, in this order, from blocks of its own that rest, from blocks
// that nobody has flows on, where its portion is and then elsewhere, and from blocks
// of others that rest, those first whose grace ends first.
//
// Cost: O(portions, and ranges that there are), and what does not stay as it is.
func Settle(portions []Portion, former Former, inventories func() map[netip.Addr]*Inventory) []Granted {
	for _, strictly := range []bool{false, true} {
		s := settlement{Former: &former, strictly: strictly, inventories: inventories(), resting: slices.Clone(former.Resting)}
		if s.settle(portions) {
			return s.granted
		}
	}
	panic("grants: blocks that were promised are not there")
}

// settlement is one way to move portions.
type settlement struct {
	*Former

	// strictly means that every backend gets from each frontend what its portion
	// says. Then there is room for all; otherwise a demand may find that others
	// have kept too much of the only frontends that it can use.
	strictly bool

	granted     []Granted
	settled     []settled          // portions of backends that do not keep exactly what they had
	had         [][]frontendBlocks // of these, by backend
	kept        []*Inventory       // scratch: of the ranges of a backend that may keep them
	resting     []Resting
	inventories map[netip.Addr]*Inventory
}

// settled is what a backend has got of a portion.
type settled struct {
	*Portion
	missing int
	got     map[int][]int // blocks in the order of consumption, by number of the frontend
}

// frontendBlocks are blocks of one frontend in the order of consumption.
type frontendBlocks struct {
	frontend netip.Addr
	blocks   []int
}

// settle reports whether everybody got what the portions say.
func (s *settlement) settle(portions []Portion) bool {
	s.divide(portions)
	s.keep()
	if s.Grace {
		s.rest()
	}
	s.returnResting()
	s.withhold()
	s.spread()
	s.takeResting()
	if slices.ContainsFunc(s.settled, func(t settled) bool { return t.missing > 0 }) {
		return false
	}
	for i := range s.settled {
		g := &s.granted[s.settled[i].Backend]
		g.Ranges = append(g.Ranges, s.settled[i].ranges()...)
	}
	return true
}

// divide finds the backends that keep exactly what they had, and whose blocks are withheld at
// once, and lists what the others are to get and have had.
func (s *settlement) divide(portions []Portion) {
	n := len(s.Had)
	s.granted, s.had = make([]Granted, n), make([][]frontendBlocks, n)
	of := chain{first: make([]int, n), next: make([]int, len(portions))}
	for i := len(portions) - 1; i >= 0; i-- {
		b := portions[i].Backend
		of.first[b], of.next[i] = i+1, of.first[b]
	}
	var asked *Demand
	for i := range portions {
		if d := portions[i].Demand; d != asked {
			asked, d.inventories = d, d.inventories[:0]
			for _, f := range d.Frontends {
				d.inventories = append(d.inventories, s.inventories[f])
			}
		}
	}
	for b := range s.Had {
		turns.Step(b)
		if s.strictly || !s.keeps(portions, of, b) {
			s.had[b] = s.blocks(s.Had[b])
		} else {
			s.granted[b].Kept = true
		}
	}
	for i := range portions {
		if q := &portions[i]; !s.granted[q.Backend].Kept {
			s.settled = append(s.settled, settled{q, q.Blocks, map[int][]int{}})
		}
	}
}

// chain finds the portions of each backend; all numbers count from 1, and 0 is none.
type chain struct {
	first []int // the first portion, by backend
	next  []int // the one that follows it, by portion
}

// keeps reports whether what a backend had is what its portions say, one after the other, each of
// its own frontends in their order, and then withholds that.
func (s *settlement) keeps(portions []Portion, of chain, b int) bool {
	had := s.Had[b]
	n, blocks := of.first[b], 0 // the portion at hand, and what of it has been seen
	var last *snat.PortRange
	at := -1
	s.kept = s.kept[:0]
	for i := range had {
		r := &had[i]
		if !s.counts(r) {
			continue
		}
		for n > 0 && blocks == portions[n-1].Blocks {
			n, blocks, last, at = of.next[n-1], 0, nil, -1
		}
		if n == 0 {
			return false
		}
		q := &portions[n-1]
		if last == nil || last.Frontend != r.Frontend {
			now, ok := q.Demand.position(r.Frontend, at+1)
			if !ok || now <= at {
				return false
			}
			at = now
		} else if end(last) == first(r) {
			return false
		}
		last, blocks = r, blocks+end(r)-first(r)
		v := q.Demand.inventories[at]
		if blocks > q.Blocks || !v.has(first(r), end(r)) {
			return false
		}
		s.kept = append(s.kept, v)
	}
	for n > 0 && blocks == portions[n-1].Blocks {
		n, blocks = of.next[n-1], 0
	}
	if n > 0 {
		return false
	}
	for i, k := 0, 0; k < len(s.kept); i++ {
		if r := &had[i]; s.counts(r) {
			s.kept[k].withholdRange(r)
			k++
		}
	}
	return true
}

// blocks returns the blocks of ranges that are still there to have, frontend by frontend.
func (s *settlement) blocks(ranges []snat.PortRange) (all []frontendBlocks) {
	at := map[netip.Addr]int{}
	for k := range ranges {
		r := &ranges[k]
		if !s.counts(r) {
			continue
		}
		i, ok := at[r.Frontend]
		if !ok {
			i = len(all)
			at[r.Frontend] = i
			all = append(all, frontendBlocks{frontend: r.Frontend})
		}
		v := s.inventories[r.Frontend]
		for block := first(r); block < end(r); block++ {
			if v != nil && v.has(block, block+1) {
				all[i].blocks = append(all[i].blocks, block)
			}
		}
	}
	return all
}

// keep lets everybody keep blocks.
func (s *settlement) keep() {
	keep := func(room func(t *settled, at int) int) {
		for i := range s.settled {
			t := &s.settled[i]
			for k := range s.had[t.Backend] {
				h := &s.had[t.Backend][k]
				if at, ok := t.Demand.position(h.frontend, k); ok {
					n := min(room(t, at), len(h.blocks))
					t.give(at, h.blocks[:n]...)
					h.blocks = h.blocks[n:]
				}
			}
		}
	}
	keep((*settled).planned)
	keep(s.room)
}

// rest lets the blocks rest that nobody has kept, longer than all others.
func (s *settlement) rest() {
	for b := range s.had {
		for _, h := range s.had[b] {
			for _, block := range h.blocks {
				s.resting = append(s.resting, Resting{Owner: b, Frontend: h.frontend, Block: block})
			}
		}
	}
}

// returnResting gives everybody resting blocks back.
func (s *settlement) returnResting() {
	if len(s.resting) == 0 {
		return
	}
	of := map[int][]*settled{}
	for i := range s.settled {
		of[s.settled[i].Backend] = append(of[s.settled[i].Backend], &s.settled[i])
	}
	for i := range s.resting {
		for _, t := range of[s.resting[i].Owner] {
			s.giveResting(t, i)
		}
	}
}

// giveResting gives a resting block to a backend that may have it.
func (s *settlement) giveResting(t *settled, i int) {
	rest := &s.resting[i]
	if at, ok := t.Demand.position(rest.Frontend, 0); ok && !rest.given && s.room(t, at) > 0 {
		t.give(at, rest.Block)
		rest.given = true
	}
}

// withhold takes out of the inventories what has been kept and what rests.
func (s *settlement) withhold() {
	for _, t := range s.settled {
		for at, blocks := range t.got {
			for _, block := range blocks {
				s.inventories[t.Demand.Frontends[at]].withhold(block)
			}
		}
	}
	for i := range s.resting {
		if rest := &s.resting[i]; !rest.given {
			s.inventories[rest.Frontend].withhold(rest.Block)
		}
	}
	for _, v := range s.inventories {
		v.Forget()
	}
}

// spread hands out blocks without flows.
func (s *settlement) spread() {
	take := func(t *settled, at, most int) {
		v := s.inventories[t.Demand.Frontends[at]]
		n := min(most, v.Promise)
		v.Promise -= n
		t.give(at, v.take(n)...)
	}
	for i := range s.settled {
		for t, k := &s.settled[i], 0; k < len(t.Shares); k++ {
			take(t, t.Shares[k].At, t.planned(t.Shares[k].At))
		}
	}
	if s.strictly {
		return
	}
	next := map[*Demand]int{} // the first frontend that may have blocks
	for i := range s.settled {
		for t := &s.settled[i]; t.missing > 0 && next[t.Demand] < len(t.Demand.Frontends); {
			if take(t, next[t.Demand], t.missing); t.missing > 0 {
				next[t.Demand]++
			}
		}
	}
}

// takeResting hands out blocks of others that rest.
func (s *settlement) takeResting() {
	next := map[*Demand]int{} // the first block that may be of use
	for k := range s.settled {
		t := &s.settled[k]
		for i := next[t.Demand]; i < len(s.resting) && t.missing > 0; i++ {
			if s.giveResting(t, i); !s.strictly {
				next[t.Demand] = i + 1
			}
		}
	}
}

// room returns how many blocks of a frontend t may still get.
func (s *settlement) room(t *settled, at int) int {
	if s.strictly {
		return t.planned(at)
	}
	return t.missing
}

// planned returns how many blocks of a frontend t still lacks by its portion.
func (t *settled) planned(at int) int {
	if i, found := slices.BinarySearchFunc(t.Shares, at, func(s Share, at int) int { return s.At - at }); found {
		return max(0, min(t.missing, t.Shares[i].Blocks-len(t.got[at])))
	}
	return 0
}

// give gives t blocks.
func (t *settled) give(at int, blocks ...int) {
	if len(blocks) > 0 {
		t.got[at] = append(t.got[at], blocks...)
		t.missing -= len(blocks)
	}
}

// ranges returns what t has got.
func (t *settled) ranges() (ranges []snat.PortRange) {
	for _, at := range slices.Sorted(maps.Keys(t.got)) {
		ranges = appendBlocks(ranges, t.Demand.Frontends[at], t.got[at])
	}
	return ranges
}
