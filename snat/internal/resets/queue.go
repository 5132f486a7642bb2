package resets

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Queue is the RSTs of one shard that wait for the driver, and their rate. The shard's
// lock guards it. A step that has been taken belongs to who took it.
type Queue struct {
	notice           *flow.Notice // raised when a RST is the only one that waits; immutable
	rules            Rules
	rate             icmp.Rate
	waiting          []reset
	made, suppressed uint64
}

// Bounds of a Queue.
const (
	MaxWaiting = 1 << 16   // beyond it flows end silently and are counted, for mass expiry must not stall forwarding
	MaxRate    = 1_000_000 // of Rules.Rate and Burst, so that an interval is whole microseconds at least
	stepSize   = 256       // that leave in one step
)

// Init says who is told that a RST waits where there was none. It comes before all else.
func (q *Queue) Init(notice *flow.Notice) { q.notice = notice }

// Follow replaces the rules; the rate begins anew.
func (q *Queue) Follow(r Rules) {
	q.rules, q.rate = r, icmp.Rate{}
	if r.Rate > 0 {
		q.rate.Init(r.Rate, cmp.Or(r.Burst, r.Rate))
	}
}

// admits reports whether n RSTs may be made at a time, and takes them off what may be,
// or counts them as suppressed.
func (q *Queue) admits(at flow.Time, n int) bool {
	if len(q.waiting)+n > MaxWaiting || !q.rate.Take(at, n) {
		q.suppressed += uint64(n)
		return false
	}
	return true
}

// put queues a RST that has been admitted.
func (q *Queue) put(r reset) {
	if len(q.waiting) == 0 {
		q.notice.Raise()
	}
	q.waiting = append(q.waiting, r)
	q.made++
}

// Step is RSTs that leave together.
type Step []reset

// Take takes the RSTs of one step out of the queue, and reports whether there are more.
func (q *Queue) Take() (step Step, more bool) {
	k := min(len(q.waiting), stepSize)
	step, q.waiting = q.waiting[:k:k], q.waiting[k:]
	if len(q.waiting) == 0 {
		q.waiting = nil // step has the memory
	}
	return step, q.waiting != nil
}

// Reuse gives the queue the memory of the step that Take has returned last.
func (q *Queue) Reuse(step Step) {
	if q.waiting == nil {
		q.waiting = step[:0]
	}
}

// Emit builds the packets and hands them to a sink. No lock is needed.
func (step Step) Emit(emit flow.Sink) {
	for i := range step {
		step[i].emit(emit)
	}
}

// NextDeadline returns the time of the first RST that waits, and whether there is one.
func (q *Queue) NextDeadline() (at flow.Time, ok bool) {
	if len(q.waiting) == 0 {
		return 0, false
	}
	return q.waiting[0].at, true
}

// Counts returns how many RSTs have been made, and how many suppressed.
func (q *Queue) Counts() (made, suppressed uint64) { return q.made, q.suppressed }

// Close forgets what waits, and keeps the counts.
func (q *Queue) Close() { q.waiting = nil }
