package usage

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Total counts the ports in use on one outside address, over all shards.
type Total struct {
	Allocated atomic.Int64 // including those that await removal
	Awaiting  atomic.Int64
	used      atomic.Int64
	by        [numUses]atomic.Int64 // of used, those without an active session
	peak      atomic.Int64

	mu    sync.Mutex
	rises []rise       // of peak that may have to be taken back, the earliest first; guarded by mu
	last  atomic.Int64 // tick of the last of these, plus one; 0 if there is none
}

// rise says by how much a peak rose at a tick.
type rise struct{ tick, ports int64 }

// Shift counts a port in use that was used for one thing and is for another, as far as no flow is
// active on it. Take and Give count its being in use.
func (c *Total) Shift(was, is Use) {
	c.held(was, -1)
	c.held(is, 1)
}

// held counts ports that are used without an active session, for something.
func (c *Total) held(is Use, ports int64) {
	if is > Active {
		c.by[is].Add(ports)
	}
}

// Take counts a port that is in use from at on. The peak may be taken back as long as lags
// reports that a shard has not noticed all that has ended until then.
func (c *Total) Take(at flow.Time, lags func() bool) {
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
	if !lags() {
		c.rises = c.rises[:0]
		c.last.Store(0)
	} else if k := len(c.rises); k > 0 && c.rises[k-1].tick >= tick {
		c.rises[k-1].ports += ports
	} else {
		c.rises = append(c.rises, rise{tick, ports})
		c.last.Store(tick + 1)
	}
}

// Give counts a port that is not in use any more since at. If that was due then, and is
// noticed late, the peak has not been as high as it seemed: the first rise since does
// not count.
func (c *Total) Give(at flow.Time, overdue bool) {
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

// FixPeak makes the peak what it is for good: all that was due has ended, in all shards, whose
// locks are held.
func (c *Total) FixPeak() {
	c.rises = c.rises[:0] // nobody counts who has no lock of a shard
	c.last.Store(0)
}

// Until returns the time of the last rise that may have to be taken back, and
// whether there is any.
func (c *Total) Until() (flow.Time, bool) {
	last := c.last.Load()
	return flow.Time(last-1) * flow.Time(flow.Tick), last > 0
}

// Inherit takes over what ports of the address have been used for until now. Nothing
// counts meanwhile.
func (c *Total) Inherit(was *Total) {
	c.used.Store(was.used.Load())
	for is := range c.by {
		c.by[is].Store(was.by[is].Load())
	}
	c.peak.Store(was.peak.Load())
	c.rises = was.rises
	c.last.Store(was.last.Load())
}

// Withdraw takes ports out of the counts while their instance is configured anew.
func (c *Total) Withdraw(ports *Counts) {
	c.used.Add(-int64(ports.Used))
	for is, n := range ports.By {
		c.held(Use(is), -int64(n))
	}
}

// Used returns how many ports are in use, and Peak how many have been at most.
func (c *Total) Used() int { return int(c.used.Load()) }

// Peak is explained at Used.
func (c *Total) Peak() int { return int(c.peak.Load()) }

// Uses returns the counts as they are reported. Others may count meanwhile.
func (c *Total) Uses() Uses {
	u := Uses{
		HeldFIN: int(c.by[HeldFIN].Load()), HeldRST: int(c.by[HeldRST].Load()), HeldUDP: int(c.by[HeldUDP].Load()),
		Resting: int(c.by[Resting].Load()), Excluded: int(c.by[Excluded].Load()),
	}
	u.Active = int(c.used.Load()) - u.held()
	return u
}

// ForkTo makes to, which is zero, a copy. Nothing counts meanwhile.
func (c *Total) ForkTo(to *Total) {
	to.Allocated.Store(c.Allocated.Load())
	to.Awaiting.Store(c.Awaiting.Load())
	to.Inherit(c)
	c.mu.Lock()
	to.rises = slab.Clone(c.rises)
	c.mu.Unlock()
}

// Archive writes or reads the peak, and what of it may have to be taken back. The other counts
// follow from sessions.
func (c *Total) Archive(a *snapshot.Archive) {
	a.Value(&c.peak, 0)
	a.Value(&c.rises, 1<<20)
	a.Value(&c.last, 0)
}
