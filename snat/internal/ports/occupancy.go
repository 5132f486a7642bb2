package ports

import "github.com/seed-a61be3fe/natplane/flow"

// The uses of ports, counted under the locks of shards. use.go says what uses there are.

// useOf returns what a port is used for.
func (p *pool) useOf(ordinal int) use {
	u := &p.uses[ordinal]
	switch {
	case u.active > 0:
		return useActive
	case u.held > 0 && p.protocol == TCPIndex:
		return useFIN
	case u.held > 0:
		return useUDP
	case u.reset > 0:
		return useRST
	case ordinal >= p.granted || !p.isShut(ordinal):
		return unused
	case testBit(p.excluded, ordinal):
		return useExcluded
	}
	return useResting
}

// occupy counts a new session of a class on a port, from at on.
func (sh *State) occupy(p *pool, ordinal int, c flow.Class, at flow.Time) {
	was := p.useOf(ordinal)
	*p.uses[ordinal].of(c)++
	sh.shift(p, ordinal, was, at)
}

// begin is occupy for the first session of a granted port, in the range r of a pool that shuts none.
func (sh *State) begin(p *pool, r *ordinals, ordinal int, at flow.Time) {
	p.uses[ordinal].active = 1
	s := &p.shares[r.share]
	p.used++
	p.by[useActive]++
	p.peak = max(p.peak, p.used)
	s.used++
	s.by[useActive]++
	sh.space.frontends[s.frontend].counts[p.protocol].take(at, sh)
}

// end is the inverse of begin, for the only session of a port; it was of a class. It does
// nothing and reports false where there is more to do.
func (sh *State) end(p *pool, ordinal int, c flow.Class) bool {
	if p.uses[ordinal] != (portUse{active: 1}) || Held(c) || p.shut != nil || ordinal >= p.granted {
		return false
	}
	p.uses[ordinal].active = 0
	s := p.shareOf(ordinal)
	p.used--
	p.by[useActive]--
	s.used--
	s.by[useActive]--
	sh.space.frontends[s.frontend].counts[p.protocol].give(sh.EndedAt, sh.Overdue)
	sh.vacant(p, ordinal, sh.EndedAt)
	return true
}

// exchange counts a session on a port that was of one class and is of another.
func (sh *State) exchange(p *pool, ordinal int, from, to flow.Class) {
	was, u := p.useOf(ordinal), &p.uses[ordinal]
	*u.of(from)--
	*u.of(to)++
	sh.shift(p, ordinal, was, 0) // in use all the time
}

// shift counts a port whose use may have changed at time at.
func (sh *State) shift(p *pool, ordinal int, was use, at flow.Time) {
	is := p.useOf(ordinal)
	if is == was {
		return
	}
	s := p.shareOf(ordinal)
	p.portCounts.shift(was, is)
	s.portCounts.shift(was, is)
	p.peak = max(p.peak, p.used)
	count := &sh.space.frontends[s.frontend].counts[p.protocol]
	count.held(was, -1)
	count.held(is, 1)
	step := 0
	switch {
	case was == unused:
		step = 1
		count.take(at, sh)
	case is == unused:
		step = -1
		count.give(at, sh.Overdue)
	}
	if ordinal >= p.granted { // it awaits removal, as long as it is in use
		p.awaiting += step
		s.allocated += step
		count.allocated.Add(int64(step))
		count.awaiting.Add(int64(step))
	}
}

// Lags reports whether a shard other than sh may not have noticed all that has
// ended until now. No lock is needed.
func (sp *Space) Lags(sh *State, now flow.Time) bool {
	if len(sp.states) > 1 && sp.rules.Quarantine.Hold > 0 {
		return true // for when ports may be used again is not looked at
	}
	for _, s := range sp.states {
		if s != sh && s.Due(now) {
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
			c := &f.counts[p]
			c.rises = c.rises[:0] // nobody counts who has no lock of a shard
			c.last.Store(0)
		}
	}
}

// PeaksUntil returns the time of the last rise of a peak that may have to be taken back,
// and whether there is any. The configuration must not change meanwhile.
func (sp *Space) PeaksUntil() (until flow.Time, ok bool) {
	for _, f := range sp.order {
		for p := range f.counts {
			if at, rose := f.counts[p].until(); rose {
				until, ok = max(until, at), true
			}
		}
	}
	return until, ok
}

// take counts a port that is in use from at on. The peak may be taken back as long
// as a shard other than sh has not noticed all that has ended until then.
func (c *portCount) take(at flow.Time, sh *State) {
	n := c.used.Add(1)
	if n <= c.peak.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ports := n - c.peak.Load()
	if ports <= 0 {
		return
	}
	c.peak.Store(n)
	tick := int64(at / flow.Time(flow.Tick))
	if !sh.space.Lags(sh, at) {
		c.rises = c.rises[:0]
		c.last.Store(0)
	} else if k := len(c.rises); k > 0 && c.rises[k-1].tick >= tick {
		c.rises[k-1].ports += ports
	} else {
		c.rises = append(c.rises, rise{tick, ports})
		c.last.Store(tick + 1)
	}
}
