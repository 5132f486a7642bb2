package probe

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// OffsetOf returns what decides on the times of attempts, in milliseconds that still have
// to be taken modulo the interval.
func OffsetOf(name string, b Backend) flow.Time {
	const all = 5 * 6 * 7 * 1000 // milliseconds: a multiple of the intervals of the test
	return flow.Time(offsetOf(key{name, b})%all) * flow.Time(time.Millisecond)
}
