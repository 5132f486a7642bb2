package ports

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// Ports that are given to nobody: those that have just been freed, and those that
// are excluded for good. Read RFC 6888 section 3, REQ-8 first.
//
// A port is in quarantine from the moment when its last session ends. The ports in
// quarantine of a pool stand in the order in which they were freed, and a bitmap of
// the pool says which are shut. They are let go when a new flow needs a port, or by
// Advance; which of the two, and how often, makes no difference.

// Before orders ports in quarantine by when they may be used again. Ports that were
// freed at the same time are in the order of their ordinals, so that it does not
// matter in which order that was noticed.
func (r resting) Before(o resting) bool {
	return r.at < o.at || r.at == o.at && r.ordinal < o.ordinal
}

// Before orders pools by when they have to wake a port.
func (s sleeper) Before(o sleeper) bool { return s.at < o.at }

// reopen ends the quarantine of a port at a time.
func (sh *State) reopen(p *pool, ordinal int, at flow.Time) {
	p.shut[ordinal>>6] &^= 1 << (ordinal & 63)
	sh.shift(p, ordinal, usage.Resting, at)
	sh.vacant(p, ordinal, at)
}

// retire puts a port into quarantine if it has just lost its last session and the
// rules ask for that, and reports whether it has done so. was is what the port was
// used for.
func (sh *State) retire(p *pool, ordinal int, was usage.Use) (rests bool) {
	q := &sh.space.rules.Quarantine
	if q.Hold == 0 || q.ExemptTCP && p.protocol == TCPIndex || p.shut == nil ||
		!p.isFree(ordinal) || ordinal >= p.granted || testBit(p.excluded, ordinal) {
		return false
	}
	sh.rest(p, resting{sh.EndedAt, uint32(ordinal)}, was)
	return true
}

// rest puts a port without sessions into quarantine; was is what it was used for.
func (sh *State) rest(p *pool, r resting, was usage.Use) {
	q := &sh.space.rules.Quarantine
	p.shut[r.ordinal>>6] |= 1 << (r.ordinal & 63)
	sh.shift(p, int(r.ordinal), was, r.at)
	if p.queue.Push(r); p.queue[0] == r {
		sh.sleep(p)
	}
	if q.MaxPorts > 0 && len(p.queue) > q.MaxPorts {
		sh.reopen(p, int(p.queue.Pop().ordinal), r.at)
	}
}

// sleep sees to it that a pool is woken when its first port in quarantine, a new
// one, may be used again.
func (sh *State) sleep(p *pool) {
	first := p.sleeper()
	if len(p.queue) == 1 {
		sh.sleepers.Push(first)
	} else if i := slices.IndexFunc(sh.sleepers, first.same); first.Before(sh.sleepers[i]) {
		sh.sleepers[i] = first // ports that have rested before come from elsewhere
		sh.sleepers.Up(i)
	}
	if at := first.at.Add(sh.space.rules.Quarantine.Hold); at < sh.WakeAt {
		sh.WakeAt = at
		sh.space.notice.Raise()
	}
}

// sleeper names a pool that has ports in quarantine.
func (p *pool) sleeper() sleeper { return sleeper{p.queue[0].at, p.instance, p.family, p.protocol} }

// same reports whether both name the same pool.
func (s sleeper) same(o sleeper) bool {
	return s.instance == o.instance && s.family == o.family && s.protocol == o.protocol
}

// asleep returns the pool that a sleeper names.
func (sp *Space) asleep(s *sleeper) *pool {
	return &sp.instances[s.instance].pools[s.family][s.protocol]
}

// wakeStep is how many ports one call of wake lets go at most.
const wakeStep = 4096

// Wake lets ports go whose quarantine is over at now.
func (sh *State) Wake(now flow.Time) {
	sh.Overdue = true
	defer func() {
		sh.Overdue = false
		if what := recover(); what != nil {
			sh.owner.Fault(now, what)
			sh.WakeAt = now // there may be more
		}
	}()
	hold := sh.space.rules.Quarantine.Hold
	sh.WakeAt = Never
	for n := 0; len(sh.sleepers) > 0; n++ {
		first := &sh.sleepers[0]
		p := sh.space.asleep(first)
		if len(p.queue) == 0 {
			p.queue = nil
			sh.sleepers.Pop()
			continue
		}
		if at := p.queue[0].at; at != first.at { // the one before is gone
			first.at = at
			sh.sleepers.Down()
			continue
		}
		at := first.at.Add(hold)
		if at > now || n >= wakeStep {
			sh.WakeAt = at
			return
		}
		sh.reopen(p, int(p.queue.Pop().ordinal), at)
	}
}

// HoldFree puts every port of an instance that has no session into quarantine, as if it
// had been freed at now. Cost: O(ports).
func (sh *State) HoldFree(now flow.Time, inst *Instance) {
	q := sh.space.rules.Quarantine
	for p := range inst.each() {
		if q.Hold == 0 || q.ExemptTCP && p.protocol == TCPIndex {
			continue
		}
		var free []resting // before any of those that rest is set free
		for o := range p.granted {
			if p.isFree(o) && !p.isShut(o) {
				free = append(free, resting{now, uint32(o)})
			}
		}
		for _, r := range free {
			sh.occupied(p, int(r.ordinal))
		}
		for _, r := range free {
			sh.rest(p, r, usage.Unused)
		}
	}
}

// shutters gives the pools of an instance that has been laid out anew the means to
// shut ports, where something may be.
func (inst *Instance) shutters(a *Rules, excluded *Exclusions) {
	for p := range inst.each() {
		if p.granted == 0 || a.Quarantine.Hold == 0 && !a.Excludes {
			continue
		}
		words := (p.granted + 63) / 64
		p.closed = closed{excluded: make([]uint64, words)}
		p.exclude(excluded[p.protocol])
		p.shut = slices.Clone(p.excluded)
	}
}

// Exclusions are the excluded ports of each protocol by frontend, in ascending spans
// that do not overlap.
type Exclusions [NumPools]map[netip.Addr][]flow.PortSpan

// exclude notes which ordinals of a pool are excluded.
func (p *pool) exclude(excluded map[netip.Addr][]flow.PortSpan) {
	for i := range p.ranges {
		r := &p.ranges[i]
		if r.until != 0 {
			continue
		}
		spans := excluded[netAddr(int(p.family), p.outside(r))]
		k, _ := slices.BinarySearchFunc(spans, r.first, func(s flow.PortSpan, port uint16) int { return cmp.Compare(s.Last, port) })
		for ; k < len(spans) && int(spans[k].First) < int(r.first)+r.count; k++ {
			for o := max(int(spans[k].First)-int(r.first), 0); o < min(int(spans[k].Last)-int(r.first)+1, r.count); o++ {
				p.excluded[(r.base+o)>>6] |= 1 << ((r.base + o) & 63)
			}
		}
	}
}

// countExcluded counts the excluded ports of a pool without sessions, from now on.
func (sh *State) countExcluded(now flow.Time, p *pool) {
	if p.shut == nil {
		return
	}
	for o := range p.granted {
		if testBit(p.excluded, o) {
			sh.shift(p, o, usage.Unused, now)
		}
	}
}

// Resume is the end of a reconfiguration: ports that were in quarantine go on with it in
// the pool of whoever owns them now.
func (sp *Space) Resume(l *Layout) {
	if len(l.affected) == 0 {
		return
	}
	hold := sp.rules.Quarantine.Hold
	for _, sh := range sp.states {
		if sh == nil {
			continue
		}
		sleepers := sh.sleepers
		sh.sleepers, sh.WakeAt = nil, Never
		for _, s := range sleepers {
			if old := l.former[s.instance]; l.goesOn(old) {
				sh.sleepers.Push(s)
				sh.WakeAt = min(sh.WakeAt, s.at.Add(hold))
			}
		}
	}
	for _, old := range l.affected {
		if hold == 0 {
			break
		}
		for was := range old.each() {
			for _, r := range was.queue {
				outside, port := was.port(int(r.ordinal))
				sp.restAgain(l, int(was.protocol), netAddr(int(was.family), outside), port, r.at)
			}
		}
	}
}

// restAgain puts a port that was in quarantine into it again where it is now.
func (sp *Space) restAgain(l *Layout, protocol int, outside netip.Addr, port uint16, at flow.Time) {
	f := l.byAddr[outside]
	if f == nil || f.Owner[protocol].Instance(port) == 0 {
		return
	}
	inst := l.instances[f.Owner[protocol].Instance(port)-1]
	p := &inst.pools[flow.Family(outside)][protocol]
	if o := p.ordinal(f.Packed, port); o < p.granted && p.isFree(o) && p.shut != nil && !p.isShut(o) &&
		!(protocol == TCPIndex && sp.rules.Quarantine.ExemptTCP) {
		sh := sp.states[inst.Shard]
		sh.occupied(p, o)
		sh.rest(p, resting{at, uint32(o)}, usage.Unused)
	}
}

// bytes returns the memory that c holds, its queue not included.
func (c *closed) bytes() int { return (len(c.shut) + len(c.excluded)) * 8 }
