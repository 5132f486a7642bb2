// Keeping ports when the configuration of a running load balancer changes. Read
// the outbound connections document's section on scaling a pool first.

package lb

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// inForce is what a change of the configuration finds.
type inForce struct {
	now       flow.Time
	balancers []balancerInForce // that of the configuration, then those beside it
	plan      []Allocation
	forwards  []forwarded // of the translator
	health    verdicts
	security  *nsg.Compiled  // nil if there are no groups
	shards    int            // of the translator, since it began
	resting   []restingBlock // some may be over

	known knownHealth

	dropsHAPortsFragments bool
}

// balancerInForce is what a change finds of one load balancer.
type balancerInForce struct {
	beside  bool   // it is an internal one of an Egress
	name    string // then unique
	sku     SKU    // of what there is
	exists  bool   // it has frontends
	ports   []PortMapping
	vacated []PortMapping // without backend
}

// balancer returns what there is of a load balancer, or nil.
func (f *inForce) balancer(beside bool, name string) *balancerInForce {
	for i := range f.balancers {
		if b := &f.balancers[i]; b.beside == beside && (!beside || b.name == name) {
			return b
		}
	}
	return nil
}

// restingBlock is a block that a backend has lost, but may have flows on until its
// grace is over or somebody gets it.
type restingBlock struct {
	backend  string
	protocol snat.Protocol // TCP or UDP
	frontend netip.Addr
	block    int
	until    flow.Time
}

// settlement moves portions to where the backends had their ports, in one protocol
// and family: everybody gets as many as the portions say, and keeps as many of those
// that it has as possible.
//
// Each backend keeps what it has on the frontends of a demand, the first blocks in
// the order of consumption, and first where its portion is: adding a frontend moves
// nobody. So a tier that halves the ports of a backend takes the upper half of its
// range, which is our choice: Azure says that half is reclaimed and not which. What
// is missing comes, in this order, from blocks of its own that rest, from blocks
// that nobody has flows on, where its portion is and then elsewhere, and from blocks
// of others that rest, those first whose grace ends first.
type settlement struct {
	// strictly means that every backend gets from each frontend what its portion
	// says. Then there is room for all; otherwise a demand may find that others
	// have kept too much of the only frontends that it can use.
	strictly bool
	grace    bool // blocks that are lost now rest

	settled     []settled
	had         [][]frontendBlocks // by backend
	resting     []returnable       // in the order in which they are to be given away
	inventories map[netip.Addr]*inventory
	positions   map[*demand]map[netip.Addr]int // of frontends
}

// returnable is a resting block in a settlement.
type returnable struct {
	restingBlock
	owner int // its backend
	given bool
}

// settled is what a backend has got of a portion.
type settled struct {
	*portion
	missing int
	got     map[int][]int // blocks in the order of consumption, by number of the frontend
}

// frontendBlocks are blocks of one frontend in the order of consumption.
type frontendBlocks struct {
	frontend netip.Addr
	blocks   []int
}

// settle is grant where something is in force.
func (r *resolved) settle(portions []portion, p snat.Protocol, is6 bool, inventories func() map[netip.Addr]*inventory) [][]snat.PortRange {
	for _, strictly := range []bool{false, true} {
		s := settlement{strictly: strictly, grace: r.ReclaimGrace > 0, had: r.had(p, is6), inventories: inventories(), positions: map[*demand]map[netip.Addr]int{}}
		s.resting = r.returnable(p, s.inventories)
		if s.settle(portions) {
			ranges := make([][]snat.PortRange, len(r.Backends))
			for _, t := range s.settled {
				ranges[t.backend] = append(ranges[t.backend], t.ranges()...)
			}
			return ranges
		}
	}
	panic("lb: ports that were promised are not there")
}

// settle reports whether everybody got what the portions say.
func (s *settlement) settle(portions []portion) bool {
	for i := range portions {
		s.settled = append(s.settled, settled{&portions[i], portions[i].blocks, map[int][]int{}})
	}
	s.keep()
	if s.grace {
		s.rest()
	}
	s.returnResting()
	s.withhold()
	s.spread()
	s.takeResting()
	return !slices.ContainsFunc(s.settled, func(t settled) bool { return t.missing > 0 })
}

// keep lets everybody keep blocks.
func (s *settlement) keep() {
	for b := range s.had {
		for i := range s.had[b] {
			h := &s.had[b][i]
			v, ok := s.inventories[h.frontend]
			h.blocks = slices.DeleteFunc(h.blocks, func(block int) bool { return !ok || v.isLost(block) })
		}
	}
	keep := func(room func(t *settled, at int) int) {
		for i := range s.settled {
			t := &s.settled[i]
			for k := range s.had[t.backend] {
				h := &s.had[t.backend][k]
				if at, ok := s.position(t.demand, h.frontend); ok {
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
				s.resting = append(s.resting, returnable{restingBlock: restingBlock{frontend: h.frontend, block: block}, owner: b})
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
		of[s.settled[i].backend] = append(of[s.settled[i].backend], &s.settled[i])
	}
	for i := range s.resting {
		for _, t := range of[s.resting[i].owner] {
			s.giveResting(t, i)
		}
	}
}

// giveResting gives a resting block to a backend that may have it.
func (s *settlement) giveResting(t *settled, i int) {
	rest := &s.resting[i]
	if at, ok := s.position(t.demand, rest.frontend); ok && !rest.given && s.room(t, at) > 0 {
		t.give(at, rest.block)
		rest.given = true
	}
}

// withhold takes out of the inventories what has been kept and what rests.
func (s *settlement) withhold() {
	taken := map[netip.Addr][]int{}
	for _, t := range s.settled {
		for at, blocks := range t.got {
			f := t.demand.frontends[at]
			taken[f] = append(taken[f], blocks...)
		}
	}
	for _, rest := range s.resting {
		if !rest.given {
			taken[rest.frontend] = append(taken[rest.frontend], rest.block)
		}
	}
	for frontend, blocks := range taken {
		s.inventories[frontend].lose(blocks)
	}
}

// spread hands out blocks without flows.
func (s *settlement) spread() {
	take := func(t *settled, at, most int) {
		v := s.inventories[t.demand.frontends[at]]
		n := min(most, v.free)
		v.free -= n
		t.give(at, v.take(n, nil)...)
	}
	for i := range s.settled {
		for t, k := &s.settled[i], 0; k < len(t.shares); k++ {
			take(t, t.shares[k].at, t.planned(t.shares[k].at))
		}
	}
	if s.strictly {
		return
	}
	next := map[*demand]int{} // the first frontend that may have blocks
	for i := range s.settled {
		for t := &s.settled[i]; t.missing > 0 && next[t.demand] < len(t.demand.frontends); {
			if take(t, next[t.demand], t.missing); t.missing > 0 {
				next[t.demand]++
			}
		}
	}
}

// takeResting hands out blocks of others that rest.
func (s *settlement) takeResting() {
	next := map[*demand]int{} // the first block that may be of use
	for k := range s.settled {
		t := &s.settled[k]
		for i := next[t.demand]; i < len(s.resting) && t.missing > 0; i++ {
			if s.giveResting(t, i); !s.strictly {
				next[t.demand] = i + 1
			}
		}
	}
}

// position returns the number of a frontend in a demand, and whether it is there.
func (s *settlement) position(d *demand, frontend netip.Addr) (at int, ok bool) {
	if s.positions[d] == nil {
		p := make(map[netip.Addr]int, len(d.frontends))
		for i, f := range d.frontends {
			p[f] = i
		}
		s.positions[d] = p
	}
	at, ok = s.positions[d][frontend]
	return at, ok
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
	if i, found := slices.BinarySearchFunc(t.shares, at, func(s share, at int) int { return s.at - at }); found {
		return max(0, min(t.missing, t.shares[i].blocks-len(t.got[at])))
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
		ranges = appendBlocks(ranges, t.demand.frontends[at], t.got[at])
	}
	return ranges
}

// blocksByFrontend returns the blocks of ranges, frontend by frontend.
func blocksByFrontend(ranges []snat.PortRange) (all []frontendBlocks) {
	at := map[netip.Addr]int{}
	for _, r := range ranges {
		i, ok := at[r.Frontend]
		if !ok {
			i = len(all)
			at[r.Frontend] = i
			all = append(all, frontendBlocks{frontend: r.Frontend})
		}
		for k := range r.Count / snat.BlockSize {
			all[i].blocks = append(all[i].blocks, int(r.First)/snat.BlockSize+k)
		}
	}
	return all
}

// of returns the ranges of one protocol, TCP or UDP, and family.
func (a Allocation) of(p snat.Protocol, is6 bool) (ranges []snat.PortRange) {
	for _, r := range a.Ports {
		if covers(r.Protocol, p) && r.Frontend.Is6() == is6 {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// had returns the blocks that each backend has until now.
func (r *resolved) had(p snat.Protocol, is6 bool) [][]frontendBlocks {
	all := make([][]frontendBlocks, len(r.Backends))
	for _, a := range r.former.plan {
		if b, ok := r.backends[a.Instance]; ok {
			all[b] = blocksByFrontend(a.of(p, is6))
		}
	}
	return all
}

// returnable returns the resting blocks of protocol p that the inventories have.
func (r *resolved) returnable(p snat.Protocol, inventories map[netip.Addr]*inventory) (all []returnable) {
	for _, rest := range r.former.resting {
		owner, ok := r.backends[rest.backend]
		v := inventories[rest.frontend]
		if ok && rest.protocol == p && rest.until > r.former.now && v != nil && !v.isLost(rest.block) {
			all = append(all, returnable{restingBlock: rest, owner: owner})
		}
	}
	slices.SortFunc(all, func(a, b returnable) int {
		return cmp.Or(cmp.Compare(a.until, b.until), a.frontend.Compare(b.frontend), cmp.Compare(a.block, b.block))
	})
	return all
}

// restAfter returns the blocks that rest when a plan replaces what is in force: those
// that a backend loses and neither a backend nor a rule gets, for the grace.
func (r *resolved) restAfter(plan []Allocation) (all []restingBlock) {
	if r.former == nil || r.ReclaimGrace <= 0 {
		return nil
	}
	type block struct {
		protocol snat.Protocol
		frontend netip.Addr
		block    int
	}
	blocks := func(a Allocation, visit func(block)) {
		for _, rng := range a.Ports {
			for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
				for k := 0; k < rng.Count/snat.BlockSize && covers(rng.Protocol, p); k++ {
					visit(block{p, rng.Frontend, int(rng.First)/snat.BlockSize + k})
				}
			}
		}
	}
	granted := map[block]bool{}
	for _, a := range plan {
		blocks(a, func(b block) { granted[b] = true })
	}
	for _, c := range r.rulePorts {
		for k := int(c.first) / snat.BlockSize; k <= int(c.last)/snat.BlockSize; k++ {
			granted[block{c.protocol, r.FrontendIPConfigurations[c.frontend].addr(), k}] = true
		}
	}
	until := r.former.now.Add(r.ReclaimGrace)
	for _, rest := range r.former.resting {
		if _, exists := r.backends[rest.backend]; exists && rest.until > r.former.now && !granted[block{rest.protocol, rest.frontend, rest.block}] {
			rest.until = min(rest.until, until)
			all = append(all, rest)
		}
	}
	for _, a := range r.former.plan {
		if _, exists := r.backends[a.Instance]; exists {
			blocks(a, func(b block) {
				if !granted[b] {
					all = append(all, restingBlock{a.Instance, b.protocol, b.frontend, b.block, until})
				}
			})
		}
	}
	return all
}
