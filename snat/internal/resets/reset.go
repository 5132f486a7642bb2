package resets

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// reset is one RST to be sent: made under the shard's lock, emitted outside it.
type reset struct {
	at       flow.Time
	instance uint32
	to       flow.Side
	wire.Reset
}

// Idle queues the RSTs for both ends of a session, or with insideOnly for its inside, if
// it is that of an established connection and the rate permits. It reports whether it
// did.
func (q *Queue) Idle(id flow.ID, s *flow.Session, at flow.Time, insideOnly bool) bool {
	inside, n := s.Track.Resets(flow.Inside)
	outside, m := s.Track.Resets(flow.Outside)
	if n == 0 || m == 0 {
		return false
	}
	if insideOnly {
		m = 0
	}
	if !q.admits(at, n+m) {
		return false
	}
	for _, seq := range inside[:n] {
		q.end(id, s, at, flow.Inside, seq)
	}
	for _, seq := range outside[:m] {
		q.end(id, s, at, flow.Outside, seq)
	}
	return true
}

// Answer queues the RST with which a tombstone answers a segment from a side (RFC 5961
// section 9.1: its sequence number is SEG.ACK), if the rate permits.
func (q *Queue) Answer(id flow.ID, s *flow.Session, at flow.Time, from flow.Side, ack uint32) {
	if q.admits(at, 1) {
		q.end(id, s, at, from, ack)
	}
}

// end queues a RST to one end of a session, with the addresses that this end knows.
func (q *Queue) end(id flow.ID, s *flow.Session, at flow.Time, to flow.Side, seq uint32) {
	r := reset{at: at, to: to, instance: s.Key.VNI()}
	t, outside := ports.TupleOf(id, s), ports.OutsideOf(id, s)
	r.V6, r.Seq = id.Is6(), seq
	if to == flow.Inside {
		r.Src, r.SrcPort, r.Dst, r.DstPort = t.Remote, t.DestPort, t.Inside, t.InsidePort
	} else {
		r.Src, r.SrcPort, r.Dst, r.DstPort = outside, s.OutsidePort, t.Remote, t.DestPort
	}
	q.put(r)
}

// emit builds the packet and hands it to the sink.
func (r *reset) emit(emit flow.Sink) {
	pkt := r.AppendTo(make([]byte, 0, wire.MaxResetLen))
	emit(flow.Emission{At: r.at, To: r.to, Instance: r.instance, Packet: pkt})
}
