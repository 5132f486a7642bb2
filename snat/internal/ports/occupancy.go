package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// The uses of ports, counted under the locks of shards. Package usage says what uses there are.

// useOf returns what a port is used for.
func (p *pool) useOf(ordinal int) usage.Use {
	switch u := p.uses.At(ordinal); {
	case u.Active > 0:
		return usage.Active
	case u.Held > 0 && p.protocol == TCPIndex:
		return usage.HeldFIN
	case u.Held > 0:
		return usage.HeldUDP
	case u.Reset > 0:
		return usage.HeldRST
	}
	return p.idle(ordinal)
}

// idle returns what a port without a session is used for.
func (p *pool) idle(ordinal int) usage.Use {
	switch {
	case ordinal >= p.granted || !p.isShut(ordinal):
		return usage.Unused
	case testBit(p.excluded, ordinal):
		return usage.Excluded
	}
	return usage.Resting
}

// isFree reports whether a port has no session.
func (p *pool) isFree(ordinal int) bool { return p.uses.Free(ordinal) }

// makeUses makes room for the uses of all ports, because one is going to be used.
func (p *pool) makeUses() { p.uses.Grow(p.end()) }

// occupy counts a new session of a class on a port, from at on.
func (sh *State) occupy(p *pool, ordinal int, c flow.Class, at flow.Time) {
	was := p.useOf(ordinal)
	if ordinal >= p.uses.Len() {
		p.makeUses()
	}
	p.uses.Add(ordinal, c)
	sh.shift(p, ordinal, was, at)
}

// begin is occupy for the first session of a granted port, in the range r of a pool that shuts none.
func (sh *State) begin(p *pool, r *ordinals, ordinal int, at flow.Time) {
	if ordinal >= p.uses.Len() {
		p.makeUses()
	}
	p.uses.Begin(ordinal)
	s := &p.shares[r.share]
	p.Used++
	p.By[usage.Active]++
	p.peak = max(p.peak, int(p.Used))
	s.Used++
	s.By[usage.Active]++
	sh.space.frontends[s.frontend].counts[p.protocol].Take(at, func() bool { return sh.space.Lags(sh, at) })
}

// end is the inverse of begin, for the only session of a port; it was of a class. It does
// nothing and reports false where there is more to do.
func (sh *State) end(p *pool, ordinal int, c flow.Class) bool {
	if usage.Held(c) || p.shut != nil || ordinal >= p.granted || !p.uses.End(ordinal) {
		return false
	}
	s := p.shareOf(ordinal)
	p.Used--
	p.By[usage.Active]--
	s.Used--
	s.By[usage.Active]--
	sh.space.frontends[s.frontend].counts[p.protocol].Give(sh.EndedAt, sh.Overdue)
	sh.vacant(p, ordinal, sh.EndedAt)
	return true
}

// exchange counts a session on a port that was of one class and is of another.
func (sh *State) exchange(p *pool, ordinal int, from, to flow.Class) {
	was := p.useOf(ordinal)
	p.uses.Exchange(ordinal, from, to)
	sh.shift(p, ordinal, was, 0) // in use all the time
}

// shift counts a port whose use may have changed at time at.
func (sh *State) shift(p *pool, ordinal int, was usage.Use, at flow.Time) {
	is := p.useOf(ordinal)
	if is == was {
		return
	}
	s := p.shareOf(ordinal)
	p.Counts.Shift(was, is)
	s.Counts.Shift(was, is)
	p.peak = max(p.peak, int(p.Used))
	count := &sh.space.frontends[s.frontend].counts[p.protocol]
	count.Shift(was, is)
	step := 0
	switch {
	case was == usage.Unused:
		step = 1
		count.Take(at, func() bool { return sh.space.Lags(sh, at) })
	case is == usage.Unused:
		step = -1
		count.Give(at, sh.Overdue)
	}
	if ordinal >= p.granted { // it awaits removal, as long as it is in use
		p.awaiting += step
		s.allocated += step
		count.Allocated.Add(int64(step))
		count.Awaiting.Add(int64(step))
	}
}

// Lags reports whether a shard other than sh may not have noticed all that has
// ended until now. No lock is needed.
func (sp *Space) Lags(sh *State, now flow.Time) bool {
	if len(sp.states) > 1 && sp.rules.Quarantine.Hold > 0 {
		return true // for when ports may be used again is not looked at
	}
	for _, s := range sp.states {
		if s != sh && s != nil && s.Due(now) {
			return true
		}
	}
	return false
}

// FixPeaks makes peaks what they are for good: all that was due has ended, in all
// shards, whose locks are held.
func (sp *Space) FixPeaks() {
	for _, f := range sp.order {
		for p := range f.counts {
			f.counts[p].FixPeak()
		}
	}
}

// PeaksUntil returns the time of the last rise of a peak that may have to be taken back,
// and whether there is any. The configuration must not change meanwhile.
func (sp *Space) PeaksUntil() (until flow.Time, ok bool) {
	for _, f := range sp.order {
		for p := range f.counts {
			if at, rose := f.counts[p].Until(); rose {
				until, ok = max(until, at), true
			}
		}
	}
	return until, ok
}
