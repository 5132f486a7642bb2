package ports

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What ports are used for. A port is in use as long as at least one new flow could
// not get it: because an active flow is on it, because flows that are over keep it
// from their destinations, or because it is kept from everybody. It counts once, as
// the first of these. Counts are kept up to date by the step, at a cost that does
// not depend on how many ports there are.

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

// inherit takes over what ports of the frontend have been used for until now. Nothing
// counts meanwhile.
func (c *portCount) inherit(was *portCount) {
	c.used.Store(was.used.Load())
	for is := range c.by {
		c.by[is].Store(was.by[is].Load())
	}
	c.peak.Store(was.peak.Load())
	c.rises = was.rises
	c.last.Store(was.last.Load())
}

// withdraw takes ports out of the counts while their instance is configured anew.
func (c *portCount) withdraw(ports *portCounts) {
	c.used.Add(-int64(ports.used))
	for is, n := range ports.by {
		c.held(use(is), -int64(n))
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

// Uses are ports in use by what uses them: ports that at least one new flow could not
// get. A port that serves several purposes counts once, for the first in this order.
type Uses struct {
	Active   int // by a flow that is not over
	HeldFIN  int // kept from the destinations of connections that were closed
	HeldRST  int // kept from the destinations of connections that were reset
	HeldUDP  int // kept from the destinations of UDP flows that are over
	Resting  int // kept from everybody for a while
	Excluded int // kept from everybody for good
}

// Add adds the ports in use of others.
func (u *Uses) Add(o Uses) {
	u.Active += o.Active
	u.HeldFIN += o.HeldFIN
	u.HeldRST += o.HeldRST
	u.HeldUDP += o.HeldUDP
	u.Resting += o.Resting
	u.Excluded += o.Excluded
}

// held returns the number of ports in use on which no flow is active.
func (u Uses) held() int { return u.HeldFIN + u.HeldRST + u.HeldUDP + u.Resting + u.Excluded }
