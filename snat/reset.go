package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Resets on idle. Read RFC 5961 section 3 (which RST a stack accepts) and
// section 9 (RST/ACK wars) first.
//
// They carry no options: RFC 7323 section 3.2 wants no timestamp on a RST. A
// connection that signs its segments (TCP-MD5, RFC 2385; TCP-AO, RFC 5925)
// ignores them, and ends by its own timers. Those for idle connections have DSCP
// and flow label 0, since sessions keep neither (our choice).

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
