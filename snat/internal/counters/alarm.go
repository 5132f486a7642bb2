package counters

import (
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Alarm limits how often something is told. It may be used under different locks.
type Alarm struct {
	next  atomic.Int64 // not before this time
	count atomic.Uint64
}

// Ring counts, and returns the count if it is time to tell it.
func (a *Alarm) Ring(now flow.Time, interval time.Duration) (count uint64, due bool) {
	a.count.Add(1)
	if next := a.next.Load(); int64(now) < next || !a.next.CompareAndSwap(next, int64(now.Add(interval))) {
		return 0, false
	}
	return a.count.Swap(0), true
}

// Alarms are those of one instance, kept when it is configured anew.
type Alarms struct{ Exhausted, Quota Alarm }
