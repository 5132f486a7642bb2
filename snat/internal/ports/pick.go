package ports

import (
	"math/bits"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Which of its own ports an instance gives to a new mapping, or to a new flow that
// is mapped on its own, where that is not simply the lowest one. Read RFC 4787
// section 4.2 and RFC 6056 section 3 first.
//
// The candidates are runs of ordinals: those of one frontend at a time, in the
// order of the Pooling; of these first the ports of the source port's class, and
// of these first the ones of its parity. Among equal candidates every free port
// has the same chance. Random ones are tried against the session index first,
// which succeeds at once where there is room. Where there is little, the bits of
// the ports that are shut for everybody (quarantine.go) are walked once to count what
// is left and once to take one of it. A destination that has been seen to use many
// ports earns a record of them (package destinations), whose bits are walked as well. So the
// cost is bounded by one bit for each candidate, a destination's memory by its
// flows, and a flow is refused if and only if no candidate is free.

// count returns how many ordinals of a run have a parity: 0 even, 1 odd, or
// anyParity for all. Port blocks begin at even ports, so ordinals have the parity
// of their ports.
func (r run) count(parity int) int {
	if parity == anyParity {
		return r.end - r.first
	}
	return (r.end+1-parity)/2 - (r.first+1-parity)/2
}

// at returns the i-th ordinal of a run that has a parity.
func (r run) at(i, parity int) int {
	if parity == anyParity {
		return r.first + i
	}
	return r.first + (r.first^parity)&1 + 2*i
}

const anyParity = 2

// parityMask holds the bits of a word whose index has a parity.
var parityMask = [...]uint64{0: 0x5555555555555555, 1: 0xaaaaaaaaaaaaaaaa, anyParity: ^uint64(0)}

// pick finds a port for a new mapping or a flow that is mapped on its own, and
// counts it for its subscriber. taken looks an ordinal up for the scope; it must
// not change anything, and is asked last about the port that is found. It fails if and only if no port is left that the flow may
// have, or its subscriber has as many as it may.
func (sh *State) pick(p *pool, inst *Instance, t *Tuple, s *destinations.Scope, taken func(ordinal int) bool) (int, flow.Reason) {
	if !sh.space.picky {
		if ordinal, ok := sh.lowest(p, inst, t, s, taken); ok {
			return ordinal, flow.ReasonNone
		}
		return 0, flow.ReasonPorts
	}
	if reason := sh.quota(t); reason != flow.ReasonNone {
		return 0, reason
	}
	var d splitmix.Source
	if inst.draws {
		d = splitmix.Source(inst.random.Uint64())
	}
	if inst.blocks[t.Family].size > 0 || inst.fixed(int(t.Family)) != nil {
		ordinal, reason := sh.pickInBlocks(p, inst, t, s, &d, taken)
		if reason == flow.ReasonNone {
			sh.spend(t)
		}
		return ordinal, reason
	}
	first, turns := sh.turns(inst, t, &d)
	for turn := range turns {
		runs := sh.candidates(p, inst, t, (first+turn)%len(inst.addrs[t.Family]))
		if ordinal, ok := sh.prefer(p, t, s, runs, &d, taken); ok {
			sh.spend(t)
			return ordinal, flow.ReasonNone
		}
	}
	return 0, flow.ReasonPorts
}

// putBack undoes pick.
func (sh *State) putBack(p *pool, t *Tuple, s *destinations.Scope, ordinal int) {
	sh.destinations.Free(s, p.granted, ordinal)
	if sh.space.picky && t.subscriber != 0 {
		sh.subscribers.At(t.subscriber).Ports[PoolIndex(t.Proto)]--
	}
}

// pickInBlocks is pick for instances that have blocks or a deterministic mapping. It
// grants no block: that of the port which it returns may still be nobody's.
func (sh *State) pickInBlocks(p *pool, inst *Instance, t *Tuple, s *destinations.Scope, d *splitmix.Source, taken func(ordinal int) bool) (int, flow.Reason) {
	who := sh.subscribers.At(t.subscriber)
	limit := sh.blockLimit(inst, t.Family)
	if m := inst.fixed(int(t.Family)); m != nil {
		fixed, ok := m.Outside(t.InsideAddr())
		if !ok {
			return 0, flow.ReasonNoOutbound
		}
		if o, ok := sh.prefer(p, t, s, sh.runsOf(p, fixed), d, taken); ok {
			return o, flow.ReasonNone
		}
	}
	b, addrs := &inst.blocks[t.Family], len(inst.addrs[t.Family])
	if b.size == 0 {
		return 0, flow.ReasonPorts
	}
	first, turns := sh.turns(inst, t, d)
	for turn := range turns {
		sh.runs = sh.runs[:0]
		for k := who.Blocks; k != 0; k = b.all[k-1].next {
			if b.addrOf(k-1) == (first+turn)%addrs { // with one turn: not those from before it was paired
				sh.runs = append(sh.runs, b.run(int(k-1)))
			}
		}
		if o, ok := sh.prefer(p, t, s, sh.runs, d, taken); ok {
			return o, flow.ReasonNone
		}
	}
	if int(who.NumBlocks) >= limit {
		return 0, flow.ReasonQuota
	}
	want := need(PoolIndex(t.Proto), t.InsidePort < flow.SystemPorts)
	for turn := range turns {
		if k, ok := b.anyFree((first+turn)%addrs, want, d); ok {
			sh.runs = append(sh.runs[:0], b.run(k))
			if o, ok := sh.prefer(p, t, s, sh.runs, d, taken); ok {
				return o, flow.ReasonNone
			}
		}
	}
	return 0, flow.ReasonPorts
}

// runsOf returns the ordinals of fixed ports. The slice is good until the next
// call, or that of candidates.
func (sh *State) runsOf(p *pool, f deterministic.Ports) []run {
	sh.runs = sh.runs[:0]
	for s := range f.Spans() {
		for i := range p.ranges {
			r := &p.ranges[i]
			first, end := max(int(s.First), int(r.first)), min(int(s.Last)+1, int(r.first)+r.count)
			if first < end && r.until == 0 && netAddr(int(p.family), p.outside(r)) == f.Outside {
				sh.runs = append(sh.runs, run{r.base + first - int(r.first), r.base + end - int(r.first)})
			}
		}
	}
	return sh.runs
}

// turns returns the frontend that a flow asks first, an index of the instance's
// addresses, and how many it asks.
func (sh *State) turns(inst *Instance, t *Tuple, d *splitmix.Source) (first, turns int) {
	turns = len(inst.addrs[t.Family])
	switch sh.space.rules.Pooling {
	case InOrder:
	case Paired:
		first, turns = sh.home(t), 1
	case PairedSoft:
		first = sh.home(t)
	case Arbitrary:
		first = d.Below(turns)
	default:
		panic("ports: unknown Pooling")
	}
	return first, turns
}

// candidates returns the runs of ordinals that a flow may be given a port of, at
// one of its instance's addresses. The slice is good until the next call.
func (sh *State) candidates(p *pool, inst *Instance, t *Tuple, at int) []run {
	outside := inst.addrs[t.Family][at].addr
	sh.runs = sh.runs[:0]
	for i := range p.ranges {
		if r := &p.ranges[i]; r.until == 0 && p.outside(r) == outside {
			sh.runs = append(sh.runs, run{r.base, r.base + r.count})
		}
	}
	return sh.runs
}

// prefer finds a free port among runs, the ones of the right class and parity
// first.
func (sh *State) prefer(p *pool, t *Tuple, s *destinations.Scope, runs []run, d *splitmix.Source, taken func(ordinal int) bool) (int, bool) {
	a := &sh.space.rules
	same, other := runs, []run(nil)
	if a.Class != AnyClass && !t.isQuery() {
		same, other = sh.classes(p, runs, t.InsidePort < flow.SystemPorts)
		if a.Class == RequireClass {
			other = nil
		}
	}
	for _, class := range [2][]run{same, other} {
		if len(class) == 0 {
			continue
		}
		if !a.Parity || t.isQuery() {
			if o, ok := sh.free(p, t, s, class, anyParity, d, taken); ok {
				return o, true
			}
			continue
		}
		parity := int(t.InsidePort & 1)
		if o, ok := sh.free(p, t, s, class, parity, d, taken); ok {
			return o, true
		}
		if o, ok := sh.free(p, t, s, class, parity^1, d, taken); ok {
			return o, true
		}
	}
	return 0, false
}

// classes divides runs into those of a class and the others.
func (sh *State) classes(p *pool, runs []run, system bool) (same, other []run) {
	parts := sh.parts[:0]
	for want := range 2 {
		for _, s := range runs {
			r := p.rangeOf(s.first)
			border := min(max(r.base+flow.SystemPorts-int(r.first), s.first), s.end)
			part := run{border, s.end}
			if system == (want == 0) {
				part = run{s.first, border}
			}
			if part.first < part.end {
				parts = append(parts, part)
			}
		}
		if want == 0 {
			same = parts
		}
	}
	sh.parts = parts
	return same, parts[len(same):]
}

// free finds a free port among runs, of a parity, as the Choice says.
func (sh *State) free(p *pool, t *Tuple, s *destinations.Scope, runs []run, parity int, d *splitmix.Source, taken func(ordinal int) bool) (int, bool) {
	total := 0
	sh.ends = sh.ends[:0]
	for _, r := range runs {
		total += r.count(parity)
		sh.ends = append(sh.ends, total)
	}
	if total == 0 {
		return 0, false
	}
	choice := sh.space.rules.Choice
	if t.isQuery() && sh.space.rules.RandomIDs {
		choice = Random
	}
	dests := &sh.destinations
	rec, words := dests.Record(s), []uint64(nil)
	if rec != nil {
		if !slices.ContainsFunc(runs, func(r run) bool { return !dests.Filled(rec, p.granted, r.first, r.end) }) {
			return 0, false
		}
		words = dests.Marked(rec, p.granted)
	}
	known := func(o int) bool { return p.isShut(o) || words != nil && testBit(words, o) }
	claim := func(o int) bool {
		if rec != nil {
			dests.Mark(rec, p.granted, o)
		}
		return !taken(o)
	}
	lowest, asked, least := false, 0, probes
	switch choice {
	case Preserve:
		for _, r := range runs {
			own := r.first + int(t.InsidePort) - int(p.portAt(r.first))
			if own >= r.first && own < r.end && (parity == anyParity || own&1 == parity) && !known(own) && claim(own) {
				return own, true
			}
		}
		fallthrough
	case Random:
		for i := 0; i < glances && asked < probes; i++ {
			if o := nth(runs, sh.ends, parity, d.Below(total)); !known(o) {
				if claim(o) {
					return o, true
				}
				asked++
			}
		}
	case DefaultChoice, Lowest:
		lowest, least = true, destinations.FreeProbes
	default:
		panic("ports: unknown Choice")
	}
	var seen [probes]int // what has been asked in vain since, while there is no record
	for n, k := 0, 0; ; {
		if rec == nil && asked >= least {
			if rec = dests.Enlist(s, p.granted); rec == nil {
				return 0, false
			}
			for _, o := range seen[:n] {
				dests.Mark(rec, p.granted, o)
			}
		}
		if rec != nil {
			words = dests.Marked(rec, p.granted)
		}
		if !lowest {
			k = d.Below(max(unmarked(words, p.shut, runs, parity), 1))
		}
		o, ok := selectUnmarked(words, p.shut, runs, parity, k)
		if !ok {
			if rec != nil {
				dests.Strike(s, rec)
			}
			return 0, false
		}
		if claim(o) {
			return o, true
		}
		if dests.Short() {
			return 0, false
		}
		if rec == nil {
			if words == nil {
				words = dests.Blank(p.granted)
			}
			words[o>>6] |= 1 << (o & 63)
			seen[n] = o
			n, asked = n+1, asked+1
		}
	}
}

// glances is how many random ports are looked up in the bitmap of a destination
// before it is walked.
const glances = 64

// nth returns the i-th ordinal of runs that has a parity. ends says for each run how
// many there are up to its end. Cost: O(log runs).
func nth(runs []run, ends []int, parity, i int) int {
	k, _ := slices.BinarySearch(ends, i+1)
	if k > 0 {
		i -= ends[k-1]
	}
	return runs[k].at(i, parity)
}

// edges returns the first and the last word that has bits of r, and which bits of
// these two are not r's.
func (r run) edges() (first, last int, before, after uint64) {
	first, last = r.first>>6, (r.end-1)>>6
	return first, last, 1<<(r.first&63) - 1, ^uint64(0) << ((r.end - 1) & 63) << 1
}

// unmarked counts the ordinals of runs that have a parity and are marked neither
// in words nor in shut.
func unmarked(words, shut []uint64, runs []run, parity int) (n int) {
	mask := parityMask[parity]
	for _, r := range runs {
		first, last, before, after := r.edges()
		for w := first; w <= last; w++ {
			n += bits.OnesCount64(unmarkedWord(words, shut, w) & mask)
		}
		n -= bits.OnesCount64(unmarkedWord(words, shut, first) & mask & before)
		n -= bits.OnesCount64(unmarkedWord(words, shut, last) & mask & after)
	}
	return n
}

// unmarkedWord returns the bits of word w that are marked neither in words nor in
// shut, of which either may be nil.
func unmarkedWord(words, shut []uint64, w int) (free uint64) {
	free = ^uint64(0)
	if words != nil {
		free &^= words[w]
	}
	if shut != nil {
		free &^= shut[w]
	}
	return free
}

// selectUnmarked returns the k-th of those that unmarked counts.
func selectUnmarked(words, shut []uint64, runs []run, parity, k int) (int, bool) {
	mask := parityMask[parity]
	for _, r := range runs {
		first, last, before, after := r.edges()
		for w := first; w <= last; w++ {
			free := unmarkedWord(words, shut, w) & mask
			if w == first {
				free &^= before
			}
			if w == last {
				free &^= after
			}
			if n := bits.OnesCount64(free); k >= n {
				k -= n
				continue
			}
			for ; k > 0; k-- {
				free &= free - 1
			}
			return w<<6 + bits.TrailingZeros64(free), true
		}
	}
	return 0, false
}

// LimitReached returns the limit for which a flow of a tuple was refused, which the
// reason is about.
func (sh *State) LimitReached(inst *Instance, t *Tuple, reason flow.Reason) int {
	l, want := &sh.space.rules.Limits, subscriberOf(inst, t)
	var s subscribers.Record
	if id := sh.subscribers.Find(&want); id != 0 {
		s = *sh.subscribers.At(id)
	}
	switch reason {
	case flow.ReasonRate:
		return l.SessionRate
	case flow.ReasonSessionCap:
		if l.SessionsFull(&s) {
			return l.Sessions
		}
		return l.SessionsPerMapping
	}
	if limit := l.Quota(&s, PoolIndex(t.Proto)); limit > 0 {
		return limit
	}
	limit := sh.blockLimit(inst, t.Family) * sh.space.rules.SubscriberBlockSize
	if m := inst.fixed(int(t.Family)); m != nil {
		limit += m.Share()
	}
	return limit
}
