package counters

import "sync/atomic"

// Direct counts the packets of an instance that need no session, and hence no lock, by the
// side they came from.
type Direct struct{ Forwarded, Bypassed [2]atomic.Uint64 }

// Used reports whether there is anything to count.
func (d *Direct) Used() bool {
	return d.Forwarded[0].Load()|d.Forwarded[1].Load()|d.Bypassed[0].Load()|d.Bypassed[1].Load() != 0
}

// AddDirect adds such packets, and to oneToOne those that are forwarded.
func (c *Counters) AddDirect(d *Direct, oneToOne *[2]uint64) {
	for side := range 2 {
		k := d.Forwarded[side].Load()
		c.Forwarded[side] += k
		oneToOne[side] += k
		c.Bypassed[side] += d.Bypassed[side].Load()
	}
}
