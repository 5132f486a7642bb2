package flow

import "time"

// Time is nanoseconds since the simulation began. Only the driver advances it:
// no package of this module reads a clock. Negative times are not allowed.
//
// Timers are kept in ticks of [Tick]: a flow that is last used anywhere within
// tick t expires at the start of tick t + timeout.
type Time int64

// Tick is the resolution of every timer.
const Tick = time.Millisecond

// At returns the Time that lies d after the beginning of the simulation.
func At(d time.Duration) Time { return Time(d) }

// Add returns the Time that lies d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Duration returns the time since the simulation began.
func (t Time) Duration() time.Duration { return time.Duration(t) }

// String formats t as a duration since the simulation began.
func (t Time) String() string { return time.Duration(t).String() }
