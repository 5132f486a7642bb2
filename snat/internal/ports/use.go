package ports

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What ports are used for. A port is in use as long as some new flow cannot have
// it: because an active flow is on it, because flows that are over keep it from
// their destinations, or because it is kept from everybody. It counts once, as the
// first of these. Counts are kept up to date by the step, at a cost that does not
// depend on how many ports there are.

// use is what a port is used for.
type use uint8

const (
	unused use = iota
	useActive
	useFIN
	useRST
	useUDP
	useResting
	useExcluded
	numUses
)

// portCounts counts ports by use.
type portCounts struct {
	used int          // in use, for whatever
	by   [numUses]int // of these; that of unused stays 0
}

// shift counts a port that was used for one thing and is for another.
func (c *portCounts) shift(was, is use) {
	if was == unused {
		c.used++
	} else {
		c.by[was]--
	}
	if is == unused {
		c.used--
	} else {
		c.by[is]++
	}
}

// uses returns the counts as they are reported.
func (c *portCounts) uses() Uses {
	return Uses{
		Active: c.by[useActive], HeldFIN: c.by[useFIN], HeldRST: c.by[useRST], HeldUDP: c.by[useUDP],
		Resting: c.by[useResting], Excluded: c.by[useExcluded],
	}
}

// portUse counts the sessions on one port.
type portUse struct {
	active uint32
	held   uint32 // closed, or UDP flows that are over, but still keeping the port from their destination
	reset  uint32 // likewise, after a RST
}

// of returns the count of sessions of a class.
func (u *portUse) of(c flow.Class) *uint32 {
	switch {
	case !Held(c):
		return &u.active
	case c == flow.ClassTCPReset:
		return &u.reset
	}
	return &u.held
}

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

// exchange counts a session on a port that was of one class and is of another.
func (sh *State) exchange(p *pool, ordinal int, from, to flow.Class) {
	was, u := p.useOf(ordinal), &p.uses[ordinal]
	*u.of(from)--
	*u.of(to)++
	sh.shift(p, ordinal, was, 0) // in use all the time
}

// shift counts a port whose use may have changed at at.
func (sh *State) shift(p *pool, ordinal int, was use, at flow.Time) {
	is := p.useOf(ordinal)
	if is == was {
		return
	}
	r := p.rangeOf(ordinal)
	p.portCounts.shift(was, is)
	r.share.portCounts.shift(was, is)
	p.peak = max(p.peak, p.used)
	count := &r.frontend.use[p.protocol]
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
		r.share.allocated += step
		count.allocated.Add(int64(step))
		count.awaiting.Add(int64(step))
	}
}

// portCount counts the ports in use on one frontend, over all shards.
type portCount struct {
	allocated atomic.Int64 // including those that await removal
	awaiting  atomic.Int64
	used      atomic.Int64
	by        [numUses]atomic.Int64 // of used, those without an active session
	peak      atomic.Int64

	mu    sync.Mutex
	rises []rise       // of peak that may have to be taken back, the earliest first; guarded by mu
	last  atomic.Int64 // tick of the last of these, plus one; 0 if there is none
}

// rise says by how much a peak rose at a tick.
type rise struct{ tick, ports int64 }

// held counts ports that are used without an active session, for something.
func (c *portCount) held(is use, ports int64) {
	if is > useActive {
		c.by[is].Add(ports)
	}
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

// give counts a port that is not in use any more since at. If that was due then, and is
// noticed late, the peak has not been as high as it seemed: the first rise since does
// not count.
func (c *portCount) give(at flow.Time, overdue bool) {
	c.used.Add(-1)
	tick := int64(at / flow.Time(flow.Tick))
	if !overdue || tick >= c.last.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rises, func(r rise) bool { return r.tick >= tick })
	if i < 0 {
		return
	}
	c.peak.Add(-1)
	if c.rises[i].ports--; c.rises[i].ports > 0 {
		return
	}
	c.rises = slices.Delete(c.rises, i, i+1)
	c.last.Store(0)
	if k := len(c.rises); k > 0 {
		c.last.Store(c.rises[k-1].tick + 1)
	}
}

// withdraw takes a port out of the counts while its instance is configured anew.
func (c *portCount) withdraw(is use) {
	if is != unused {
		c.used.Add(-1)
		c.held(is, -1)
	}
}

// until returns the time of the last rise that may have to be taken back, and
// whether there is any.
func (c *portCount) until() (flow.Time, bool) {
	last := c.last.Load()
	return flow.Time(last-1) * flow.Time(flow.Tick), last > 0
}

// uses returns the counts as they are reported. Others may count meanwhile.
func (c *portCount) uses() Uses {
	u := Uses{
		HeldFIN: int(c.by[useFIN].Load()), HeldRST: int(c.by[useRST].Load()), HeldUDP: int(c.by[useUDP].Load()),
		Resting: int(c.by[useResting].Load()), Excluded: int(c.by[useExcluded].Load()),
	}
	u.Active = int(c.used.Load()) - u.held()
	return u
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
	for _, f := range sp.frontends {
		for p := range f.use {
			c := &f.use[p]
			c.rises = c.rises[:0] // nobody counts who has no lock of a shard
			c.last.Store(0)
		}
	}
}

// PeaksUntil returns the time of the last rise of a peak that may have to be taken back,
// and whether there is any. The configuration must not change meanwhile.
func (sp *Space) PeaksUntil() (until flow.Time, ok bool) {
	for _, f := range sp.frontends {
		for p := range f.use {
			if at, rose := f.use[p].until(); rose {
				until, ok = max(until, at), true
			}
		}
	}
	return until, ok
}

// Uses are ports in use by what uses them: ports that some new flow cannot have. A port
// that serves several purposes counts once, for the first in this order.
type Uses struct {
	Active   int // by a flow that is not over
	HeldFIN  int // kept from the destinations of connections that were closed
	HeldRST  int // kept from the destinations of connections that were reset
	HeldUDP  int // kept from the destinations of UDP flows that are over
	Resting  int // kept from everybody for a while
	Excluded int // kept from everybody for good
}

// held returns the number of ports in use on which no flow is active.
func (u Uses) held() int { return u.HeldFIN + u.HeldRST + u.HeldUDP + u.Resting + u.Excluded }
