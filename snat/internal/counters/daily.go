package counters

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Daily says when something is told that is told once a day, and whenever it changes. The time
// begins with the first look at it. Whoever changes it holds a lock; to look needs none.
type Daily struct{ at atomic.Int64 }

const (
	day                   = 24 * time.Hour
	atFirstLook flow.Time = -1
	never       flow.Time = math.MaxInt64
)

// Stop ends it.
func (d *Daily) Stop() { d.at.Store(int64(never)) }

// Stopped reports whether it is never told.
func (d *Daily) Stopped() bool { return flow.Time(d.at.Load()) == never }

// Begin makes it due at the first look.
func (d *Daily) Begin() { d.at.Store(int64(atFirstLook)) }

// Told notes that it has been told at a time.
func (d *Daily) Told(at flow.Time) { d.at.Store(int64(at.Add(day))) }

// Due returns the time at which it is to be told that is due at now, and whether it is.
func (d *Daily) Due(now flow.Time) (at flow.Time, ok bool) {
	switch at = flow.Time(d.at.Load()); {
	case at == never || at > now:
		return 0, false
	case at == atFirstLook:
		return now, true
	}
	return at, true
}

// Next returns when it is due next, and whether that is known.
func (d *Daily) Next() (at flow.Time, ok bool) {
	at = flow.Time(d.at.Load())
	return at, at != never && at != atFirstLook
}
