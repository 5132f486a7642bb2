package flow

import (
	"math"
	"time"
)

// Time is nanoseconds since the simulation began. Only the driver advances it:
// no package of this module reads a clock. A negative time counts as 0.
//
// Timers are kept in ticks of [Tick]: a flow that is last used anywhere within
// tick t expires at the start of tick t + timeout.
type Time int64

// Tick is the resolution of every timer.
const Tick = time.Millisecond

// At returns the Time that lies d after the beginning of the simulation.
func At(d time.Duration) Time { return Time(d) }

// Add returns the Time that lies d after t, or the last or first one there is.
func (t Time) Add(d time.Duration) Time {
	u := t + Time(d)
	if d > 0 && u < t {
		return math.MaxInt64
	}
	if d < 0 && u > t {
		return math.MinInt64
	}
	return u
}

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Duration returns the time since the simulation began.
func (t Time) Duration() time.Duration { return time.Duration(t) }

// String formats t as a duration since the simulation began.
func (t Time) String() string { return time.Duration(t).String() }

// tickOf returns the tick that a time lies in.
func tickOf(t Time) uint64 { return uint64(max(t, 0)) / uint64(Tick) }

// timeOf returns the time at which a tick begins, or the last one there is.
func timeOf(tick uint64) Time {
	if tick > math.MaxInt64/uint64(Tick) {
		return math.MaxInt64
	}
	return Time(tick) * Time(Tick)
}
