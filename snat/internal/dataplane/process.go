package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Processing: what of a pass happens under the lock of a shard. A packet finds its session,
// tracks, is rewritten and counted; or it has none, and may begin one. batch.go takes many
// packets the same way.

// processOutbound is the part of Outbound under the shard's lock.
func (sh *shard) processOutbound(m *moment, l *lane, v *flow.Verdict) {
	id, s := l.id, l.s
	if l.is6 {
		if id == 0 || !id.Is6() || !s.MatchInside6(&l.key6) {
			if id = sh.LookupInside6(&l.key6, l.hash); id != 0 {
				s = sh.At(id)
			}
		}
	} else if id == 0 || id.Is6() || !s.MatchInside(&l.key) {
		if id = sh.LookupInside(&l.key, l.hash); id != 0 {
			s = sh.At(id)
		}
	}
	if id == 0 || sh.Expired(s, m.tick) {
		if id, s = sh.settleLane(m, flow.Inside, l, id, s); id == 0 {
			sh.firstOutbound(m, l, 0, v)
			return
		}
	}
	if l.p.Proto == wire.ProtoTCP {
		if t := l.p.TCPHeader(); headers.Plain(&l.p, t) && s.Track.Data(flow.Inside, headers.SeqOf(t), headers.AckOf(t), headers.DataLen(&l.p, t), headers.WindowOf(t)) {
			s.TouchTick(m.tick)
		} else if does := sh.track(m, flow.Inside, l, id, s, v); does != forward {
			sh.stopOutbound(m, l, id, s, does, v)
			return
		}
	} else {
		sh.udp.Touch(s, flow.Inside, m.tick)
		if s.Track.Class == flow.ClassUDP && s.Kind() == flow.KindTracked && s.Track.Initiator() == flow.Outside {
			sh.udp.Replied(sh.Shard, id, s, m.tick)
		}
	}
	if l.is6 {
		headers.Outbound6(&l.p, s)
	} else {
		headers.Outbound4(&l.p, s)
	}
	sh.counters.Forwarded[flow.Inside]++
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Forward, flow.ReasonNone, flow.Outside, false, l.inst
}

// giveWay ends a session, if id is not 0, that a packet takes the place of, after what was due: a
// tombstone, or a closed connection, whose port is free at once.
func (sh *shard) giveWay(now flow.Time, id flow.ID) {
	if id != 0 {
		sh.expireAll(now)
		sh.expire(id, sh.At(id), now, false)
	}
}

// stopOutbound is the end of an outbound segment that its session does not forward:
// dropped, or the first one of a new session.
func (sh *shard) stopOutbound(m *moment, l *lane, id flow.ID, s *flow.Session, why tracked, v *flow.Verdict) {
	defer sh.spare(m, flow.Inside, id, v)
	switch why {
	case faulty:
	case replace:
		if s.Kind() == flow.KindForwarded { // it would take the new connection's segments for its own
			sh.giveWay(m.now, id)
			id = 0
		}
		sh.firstOutbound(m, l, id, v)
	default:
		sh.counters.Drop(flow.Inside, flow.ReasonFlowReset, l.inst, v)
	}
}

// firstOutbound handles an outbound packet without a session, or with a tombstone that
// the session it may begin takes the place of. The verdict is undecided if all shards
// must first end what is due, or if the packet was sought among targets' answers and
// is none.
func (sh *shard) firstOutbound(m *moment, l *lane, tombstone flow.ID, v *flow.Verdict) {
	defer sh.spare(m, flow.Inside, 0, v)
	switch {
	case l.answer == quotedAnswer && sh.outboundQuoted(m, l, v):
		return
	case l.answer != noAnswer: // it is none
		v.Action = undecided
		return
	case l.floating:
		sh.processFloating(m, l, v)
		return
	}
	if sh.nat.ports.ByRemote() && !l.caughtUp && !m.settled {
		if sh.nat.ports.Lags(&sh.State, m.now) {
			v.Action = undecided
			return
		}
		m.settled = !sh.Due(m.now)
	}
	var t ports.Tuple
	l.tuple(&t)
	if wire.IsICMP(t.Proto) && sh.outboundQuery(m, l, &t) {
		*v = flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: l.inst}
	} else {
		if !wire.IsICMP(t.Proto) {
			t.InsideHash = l.hash
		}
		sh.outbound(m, sh.nat.instances[l.inst], l, &t, tombstone, v)
	}
	sh.counters.Count(flow.Inside, v)
}

// tuple makes t, which is zero, that of an outbound packet.
func (l *lane) tuple(t *ports.Tuple) {
	t.Proto, t.Hairpin = l.p.Proto, l.hairpin
	if l.is6 {
		t.Family, t.Inside, t.Remote = 1, l.key6.Src, l.key6.Dst
		t.InsidePort, t.DestPort = l.key6.SrcPort, l.key6.DstPort
	} else {
		t.Inside[0], t.Remote[0] = uint64(l.key.Src), uint64(l.key.Dst)
		t.InsidePort, t.DestPort = l.key.SrcPort, l.key.DstPort
	}
}

// processInbound is the part of Inbound under the shard's lock.
func (sh *shard) processInbound(m *moment, l *lane, v *flow.Verdict) {
	id, s := l.id, l.s
	if l.is6 {
		if id == 0 || !id.Is6() || !s.MatchOutside6(&l.key6) {
			if id = sh.LookupOutside6(&l.key6, l.hash); id != 0 {
				s = sh.At(id)
			}
		}
	} else if id == 0 || id.Is6() || !s.MatchOutside(&l.key) {
		if id = sh.LookupOutside(&l.key, l.hash); id != 0 {
			s = sh.At(id)
		}
	}
	if id == 0 || sh.Expired(s, m.tick) {
		if id, s = sh.settleLane(m, flow.Outside, l, id, s); id == 0 {
			sh.firstInbound(m, l, v)
			return
		}
	}
	if l.p.Proto == wire.ProtoTCP {
		if t := l.p.TCPHeader(); headers.Plain(&l.p, t) && s.Track.Data(flow.Outside, headers.SeqOf(t), headers.AckOf(t), headers.DataLen(&l.p, t), headers.WindowOf(t)) {
			s.TouchTick(m.tick)
		} else if does := sh.track(m, flow.Outside, l, id, s, v); does != forward {
			sh.stopInbound(m, l, s, does, v)
			return
		}
	} else {
		sh.udp.Touch(s, flow.Outside, m.tick)
		switch {
		case s.Track.Class != flow.ClassUDP:
		case s.Kind() != flow.KindForwarded:
			if s.Track.Initiator() == flow.Inside {
				sh.udp.Replied(sh.Shard, id, s, m.tick)
			}
		case !m.stays(l, id, s):
			sh.moveOn(m, l, id, s, v)
			return
		}
	}
	if l.is6 {
		headers.Inbound6(&l.p, s)
	} else {
		headers.Inbound4(&l.p, s)
	}
	sh.counters.Forwarded[flow.Outside]++
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Forward, flow.ReasonNone, flow.Inside, false, s.Key.VNI()
}

// stays reports whether the target of the forwarded session that an inbound packet belongs
// to takes new flows still. Else datagrams go to another one.
func (m *moment) stays(l *lane, id flow.ID, s *flow.Session) bool {
	t := ports.TupleOf(id, s)
	return m.routes.Forwards.Get(l.forward).State(s.Key.VNI(), t.Inside) == forwards.Up
}

// moveOn ends the forwarded session of a datagram from outside, whose target has gone down.
// The datagram goes to another target, if there is one.
func (sh *shard) moveOn(m *moment, l *lane, id flow.ID, s *flow.Session, v *flow.Verdict) {
	defer sh.spare(m, flow.Outside, id, v)
	sh.cutForwarded(m.now, id, s, counters.CutTarget)
	sh.firstInbound(m, l, v)
}

// firstInbound handles an inbound packet without a session: it is for the
// instance itself if it came to a public address.
func (sh *shard) firstInbound(m *moment, l *lane, v *flow.Verdict) {
	defer sh.spare(m, flow.Outside, 0, v)
	reason := l.unsolicited(m.routes)
	if reason == flow.ReasonNoFlow {
		public := l.publicOf(m.routes)
		inst, how := public, noEntry
		if public == nil {
			inst, how = l.entryTo(m.routes)
		}
		if sh.exceptionalInbound(m, l, inst, how, v) {
			sh.counters.Count(flow.Outside, v)
			return
		}
		if number := l.forwardOf(m.routes); number != 0 {
			if reason = sh.openForwarded(m, l, number, v); reason != flow.ReasonNone {
				*v = flow.Verdict{Action: flow.Drop, Reason: reason}
			}
			sh.counters.Count(flow.Outside, v)
			return
		}
		if public != nil {
			if sh.nat.receive(m.routes, m.now, public, l, v); v.Action == flow.Drop {
				sh.counters.Count(flow.Outside, v)
			}
			return
		}
		if inst != nil {
			sh.letIn(m, l, inst, how, v)
			return
		}
		var refused bool
		if reason, refused = sh.openInbound(m, l, v); reason == flow.ReasonNone {
			sh.counters.Count(flow.Outside, v)
			return
		}
		if !refused && !l.hairpin && sh.nat.grants(m.routes, l) { // else nobody outside waits for an answer
			sh.nat.held.Hold(m.now, &l.p)
			sh.answerUnknown(m.now, flow.Outside, 0, &l.p)
		}
		if l.outsideOf(m.routes) == 0 {
			reason = flow.ReasonNotOurs // to an inside address, and no row lets it in
		}
	}
	sh.counters.Drop(flow.Outside, reason, 0, v)
}

// stopInbound is the end of an inbound segment that its session does not forward:
// dropped, or the first one of a new session.
func (sh *shard) stopInbound(m *moment, l *lane, s *flow.Session, why tracked, v *flow.Verdict) {
	if why == faulty {
		return
	}
	defer sh.spare(m, flow.Outside, 0, v)
	*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFlowReset, Instance: s.Key.VNI()}
	if kind := s.Kind(); why == replace && (kind == flow.KindForwarded || kind == flow.KindTracked) {
		// It ends if and only if the next begins, or passes.
		if sh.firstInbound(m, l, v); v.Action == flow.Bypass {
			sh.giveWay(m.now, sh.find(flow.Outside, l))
		}
		return
	}
	switch why {
	case replace: // the tombstone goes if and only if the filter admits the segment
		if reason, refused := sh.openInbound(m, l, v); reason == flow.ReasonNone {
			break
		} else if refused {
			v.Reason = reason
			break
		}
		v.Reason = flow.ReasonFlowReset
	case refuse:
		v.Reason = flow.ReasonFiltered
	}
	sh.counters.Count(flow.Outside, v)
}
