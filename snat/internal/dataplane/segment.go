package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// What a TCP segment does to the session that it belongs to, other than nearly all
// segments, which processOutbound and processInbound deal with themselves.

// track shows a TCP segment to the session's tracker. The verdict is made only if the
// answer is faulty.
func (sh *shard) track(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session, v *flow.Verdict) (does tracked) {
	does = faulty
	defer sh.spare(m, from, id, v)
	var seg flow.Segment
	headers.Segment(&l.p, &seg)
	if seg.Flags&(flow.SYN|flow.FIN|flow.RST) != 0 && headers.Corrupt(&l.p) {
		// The receiver will ignore it, so it proves nothing (it is forwarded,
		// still wrong, unless the connection has been reset and holds no port).
		sh.counters.BadChecksum++
		if s.Track.Class == flow.ClassTCPResetSent {
			return discard
		}
		return forward
	}
	before := s.Track
	class, unasked := before.Class, s.Kind() == flow.KindTracked || s.Kind() == flow.KindForwarded // what the outside may begin
	if class == flow.ClassTCPResetSent && seg.Flags&(flow.SYN|flow.ACK) == flow.SYN {
		if from == flow.Inside || unasked || sh.nat.ports.Behavior(wire.ProtoTCP).Opens {
			return replace
		}
		return discard // even if the remote had opened the connection: the port is gone
	}
	if from == flow.Outside && usage.Held(class) && seg.Flags&(flow.SYN|flow.ACK) == flow.SYN && sh.nat.perConnection && !unasked {
		return refuse
	}
	if usage.Reopens(&s.Track, from, seg.Flags) {
		if !sh.lasts(m, from, l, id, s) {
			return replace
		}
		if reason := sh.admitsAgain(m, from, l, id, s); reason != flow.ReasonNone {
			sh.counters.Drop(from, reason, s.Key.VNI(), v)
			return faulty
		}
	}
	opening := s.Track.Unanswered()
	effect := s.Track.Update(from, &seg)
	if effect&flow.Answer != 0 && !wire.VerifyL4(&l.p) {
		sh.counters.BadChecksum++
		return discard
	}
	fromOutside := opening && s.Track.Initiator() == flow.Outside
	if fromOutside && from == flow.Outside {
		effect &^= flow.Touch // until the inside agrees, the first SYN is all that counts
	}
	what := sh.react(m.now, from, id, s, &seg, &before, effect)
	if opening && s.Track.Class == flow.ClassTCPReset && (sh.policy.EndRefused || fromOutside) {
		sh.endNow(m, id, s)
	}
	return what
}

// lasts reports whether the closed connection of a session goes on with the SYN of the next one:
// if that would meet the same without the session. Else the session gives way to it.
func (sh *shard) lasts(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session) bool {
	t, inst := ports.TupleOf(id, s), sh.nat.instances[s.Key.VNI()]
	switch t.Hairpin = l.hairpin; {
	case from == flow.Inside:
		floats := s.Kind() == flow.KindForwarded && t.Inside == ports.OutsideOf(id, s) // and so begins nothing
		return floats || m.routes.Begins(s.Kind(), &t, &inst.Instance)
	case s.Kind() == flow.KindForwarded:
		return m.routes.Forwards.Get(l.forward).Takes(inst.Index, t.Inside, t.InsidePort, s.OutsidePort) && m.routes.To(&t) != addresses.Blackhole
	case s.Kind() == flow.KindTracked:
		to, how := l.entryTo(m.routes)
		return to == inst && (how == entryTracked || how == entryOwn)
	}
	return true
}

// react carries out what a segment means. before is the session's track until now.
func (sh *shard) react(now flow.Time, from flow.Side, id flow.ID, s *flow.Session, seg *flow.Segment, before *flow.Track, effect flow.Effect) tracked {
	if effect&flow.OutOfWindow != 0 {
		sh.counters.OutOfWindow++
	}
	if effect&flow.Touch != 0 {
		s.Touch(now)
	}
	if effect&flow.Rearm != 0 {
		sh.Rearm(id, s)
		inst := sh.nat.instances[s.Key.VNI()]
		if s.Track.Class != before.Class && s.Kind().HoldsPort() {
			sh.Completes(&inst.Instance, id, s, before.Class)
		}
		if is := s.Track.Class; (usage.Held(is) || usage.Held(before.Class)) && s.Kind().HoldsPort() {
			sh.Exchange(id, s, &inst.Instance, before.Class, is)
		}
		if usage.Reopened(before, &s.Track) { // another connection on the same sockets
			sh.logSession(now, id, s, inst, before.Initiator(), true)
			sh.logBegin(now, id, s, inst)
		}
	}
	if effect&flow.Answer != 0 {
		sh.answerStraggler(id, s, now, from, seg.Ack)
	}
	if effect&flow.Discard != 0 {
		return discard
	}
	return forward
}

// first reports why a packet of an instance may not begin a flow, if so, and reads its segment.
func (sh *shard) first(inst *instance, p *wire.Packet, seg *flow.Segment) flow.Reason {
	switch p.Proto {
	case wire.ProtoTCP:
		return headers.First(p, seg, sh.policy.PickUp)
	case wire.ProtoUDP:
		return flow.ReasonNone
	}
	return sh.nat.messagesOf(inst, p.Family()).Begins(p)
}
