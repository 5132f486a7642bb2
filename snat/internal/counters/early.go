package counters

import (
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Early counts packets that are dropped without a lock, by the side they came from.
type Early struct {
	drops [2][flow.NumReasons]atomic.Uint64
}

// Drop counts packets that are dropped for a reason.
func (e *Early) Drop(from flow.Side, r flow.Reason, packets int) {
	e.drops[from][r].Add(uint64(packets))
}

// AddEarly adds the drops to the counts.
func (c *Counters) AddEarly(e *Early) {
	for side := range e.drops {
		for r := range e.drops[side] {
			c.Dropped[side][r] += e.drops[side][r].Load()
		}
	}
}
