package snat

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Resets on idle. Read RFC 5961 section 3 (which RST a stack accepts) and
// section 9 (RST/ACK wars) first.
//
// They carry no options: RFC 7323 section 3.2 wants no timestamp on a RST. A
// connection that signs its segments (TCP-MD5, RFC 2385; TCP-AO, RFC 5925)
// ignores them, and ends by its own timers. Those for idle connections have DSCP
// and flow label 0, since sessions keep neither (our choice).

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

// queueResets queues the RSTs for both ends of an established connection, and
// reports whether it did.
func (sh *shard) queueResets(id flow.ID, s *flow.Session, at flow.Time) bool {
	inside, n := s.Track.Resets(flow.Inside)
	outside, m := s.Track.Resets(flow.Outside)
	if n == 0 || m == 0 {
		return false
	}
	if sh.hairpinned(id, s) {
		m = 0 // the other host is told by its own session
	}
	if !sh.resets.admits(at, n+m) {
		return false
	}
	for _, seq := range inside[:n] {
		sh.queueReset(id, s, at, flow.Inside, seq)
	}
	for _, seq := range outside[:m] {
		sh.queueReset(id, s, at, flow.Outside, seq)
	}
	if h := sh.nat.config.Hooks.ResetSent; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	return true
}

// queueReset queues a RST to one end, with the addresses that end knows.
func (sh *shard) queueReset(id flow.ID, s *flow.Session, at flow.Time, to flow.Side, seq uint32) {
	r := reset{at: at, to: to, instance: s.Key.VNI()}
	t, outside := ports.TupleOf(id, s), ports.OutsideOf(id, s)
	r.V6, r.Seq = id.Is6(), seq
	if to == flow.Inside {
		r.Src, r.SrcPort, r.Dst, r.DstPort = t.Remote, t.DestPort, t.Inside, t.InsidePort
	} else {
		r.Src, r.SrcPort, r.Dst, r.DstPort = outside, s.OutsidePort, t.Remote, t.DestPort
	}
	sh.resets.put(r)
}

// answer queues the RST with which a tombstone answers a segment (RFC 5961
// section 9.1: its sequence number is SEG.ACK).
func (sh *shard) answer(id flow.ID, s *flow.Session, at flow.Time, from flow.Side, ack uint32) {
	if sh.mayAnswer(at) {
		sh.queueReset(id, s, at, from, ack)
	}
}

// mayAnswer reports whether a RST may be made that answers a packet: the connections
// that end before that come first.
func (sh *shard) mayAnswer(now flow.Time) bool {
	sh.expireAll(now)
	return sh.resets.admits(now, 1)
}

// emit builds the packet and hands it to the sink.
func (r *reset) emit(emit flow.Sink) {
	pkt := r.AppendTo(make([]byte, 0, wire.MaxResetLen))
	emit(flow.Emission{At: r.at, To: r.to, Instance: r.instance, Packet: pkt})
}
