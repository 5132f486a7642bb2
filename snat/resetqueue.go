package snat

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// reset is one RST to be sent: made under the shard's lock, emitted outside it.
type reset struct {
	at       flow.Time
	instance uint32
	to       flow.Side
	wire.Reset
}

// resetQueue is the RSTs that wait in a shard for Advance, and their rate. The shard's
// lock guards it.
type resetQueue struct {
	notice           *flow.Notice // raised when a RST is the only one that waits
	rate             icmp.Rate
	waiting          []reset
	made, suppressed uint64
}

// Bounds of a resetQueue.
const (
	maxResets    = 1 << 16   // that wait: beyond it flows end silently and are counted, for mass expiry must not stall forwarding
	maxResetRate = 1_000_000 // of Policy.ResetRate, so that an interval is whole microseconds at least
	resetStep    = 256       // that leave in one step
)

// limit replaces the rate by that of a policy.
func (q *resetQueue) limit(p *Policy) {
	if q.rate = (icmp.Rate{}); p.ResetRate > 0 {
		q.rate.Init(p.ResetRate, cmp.Or(p.ResetBurst, p.ResetRate))
	}
}

// admits reports whether n RSTs may be made at a time, and takes them off what may be,
// or counts them as suppressed.
func (q *resetQueue) admits(at flow.Time, n int) bool {
	if len(q.waiting)+n > maxResets || !q.rate.Take(at, n) {
		q.suppressed += uint64(n)
		return false
	}
	return true
}

// put queues a RST that has been admitted.
func (q *resetQueue) put(r reset) {
	if len(q.waiting) == 0 {
		q.notice.Raise()
	}
	q.waiting = append(q.waiting, r)
	q.made++
}

// take takes the RSTs of one step out of the queue, and reports whether there are more.
func (q *resetQueue) take() (step []reset, more bool) {
	k := min(len(q.waiting), resetStep)
	step, q.waiting = q.waiting[:k:k], q.waiting[k:]
	if len(q.waiting) == 0 {
		q.waiting = nil // step has the memory
	}
	return step, q.waiting != nil
}

// reuse gives the queue the memory of what take has returned last.
func (q *resetQueue) reuse(step []reset) {
	if q.waiting == nil {
		q.waiting = step[:0]
	}
}

// emit builds the packet and hands it to the sink.
func (r *reset) emit(emit flow.Sink) {
	pkt := r.AppendTo(make([]byte, 0, wire.MaxResetLen))
	emit(flow.Emission{At: r.at, To: r.to, Instance: r.instance, Packet: pkt})
}
