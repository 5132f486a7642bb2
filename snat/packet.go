package snat

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What a pass (pass.go) does with one packet, from parsing to its verdict: the walk in
// the package comment, step by step. batch.go takes many packets the same way.
//
// parseOutbound and parseInbound, processOutbound and processInbound are twins. They
// stay apart because a packet of an established flow is nothing but their first lines,
// which differ in the index that is read and the fields that are rewritten: a direction
// decided once per call, not at each of these, is what keeps them short.

// parseOutbound is the part of Outbound that needs no lock: it takes what the
// parser said of the packet and finds its instance. If it returns false the
// verdict is final, or undecided for a fragment.
func (n *NAT) parseOutbound(r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if problem != wire.OK {
		return n.outboundSessionless(r, l, flow.Reason(problem), v)
	}
	if l.p.Flags != 0 {
		return n.parseOutbound6(r, l, v)
	}
	l.is6 = false
	b := l.p.B
	_ = b[ip4Len-1]
	src := binary.BigEndian.Uint32(b[ip4Src:])
	inst := r.inside4.First(src) // instance and shard
	if inst == 0 {
		inst = r.inside4.Others(src)
	}
	if int32(inst) <= 0 { // nobody's, or it has a flag
		return n.outboundUnusual(r, l, inst, v)
	}
	ports := l.ports()
	l.inst, l.shard = unpack(inst)
	// Field by field: a composite literal would be built elsewhere and copied
	// in wider pieces than it was written, which stalls.
	dst, vniProto := binary.BigEndian.Uint32(b[ip4Dst:]), l.inst<<8|uint32(l.p.Proto)
	l.key.Src, l.key.Dst = src, dst
	l.key.SrcPort, l.key.DstPort = uint16(ports>>16), uint16(ports)
	l.key.VNIProto = vniProto
	l.hash = n.table.Hasher().HashParts(src, dst, ports, vniProto)
	return true
}

// parseOutbound6 is parseOutbound for IPv6 and fragments.
func (n *NAT) parseOutbound6(r *routes, l *lane, v *flow.Verdict) bool {
	if l.p.Flags&wire.Fragmented != 0 {
		return n.outboundSessionless(r, l, flow.ReasonFragment, v)
	}
	l.is6 = true
	src := words(l.p.B[ip6Src:])
	inst := r.inside6.Get(src)
	if int32(inst) <= 0 {
		return n.outboundUnusual(r, l, inst, v)
	}
	ports := l.ports()
	l.inst, l.shard = unpack(inst)
	l.key6.Src, l.key6.Dst = src, words(l.p.B[ip6Dst:])
	l.key6.SrcPort, l.key6.DstPort = uint16(ports>>16), uint16(ports)
	l.key6.VNIProto = l.inst<<8 | uint32(l.p.Proto)
	l.hash = n.table.Hasher().Hash6(&l.key6)
	return true
}

// parseInbound is the part of Inbound that needs no lock: it takes what the
// parser said of the packet and finds the shard that owns its destination port.
// If it returns false the verdict is final, or undecided for a fragment.
func (n *NAT) parseInbound(r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if problem != wire.OK {
		return n.inboundSessionless(r, l, flow.Reason(problem), v)
	}
	if l.p.Flags&wire.Fragmented != 0 {
		return n.inboundSessionless(r, l, flow.ReasonFragment, v)
	}
	both := l.ports()
	var target uint32
	if l.p.Flags&wire.V6 == 0 {
		l.is6 = false
		l.key.Src, l.key.Dst = binary.BigEndian.Uint32(l.p.B[ip4Src:]), binary.BigEndian.Uint32(l.p.B[ip4Dst:])
		l.key.SrcPort, l.key.DstPort = uint16(both>>16), uint16(both)
		l.key.VNIProto = uint32(l.p.Proto)
		target = r.outside4.Get(l.key.Dst)
		l.hash = n.table.Hasher().Hash(&l.key)
	} else {
		l.is6 = true
		l.key6.Src, l.key6.Dst = words(l.p.B[ip6Src:]), words(l.p.B[ip6Dst:])
		l.key6.SrcPort, l.key6.DstPort = uint16(both>>16), uint16(both)
		l.key6.VNIProto = uint32(l.p.Proto)
		target = r.outside6.Get(l.key6.Dst)
		l.hash = n.table.Hasher().Hash6(&l.key6)
	}
	if target == 0 {
		return n.parseInside(r, l, v)
	}
	if l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return n.parseInboundICMP(r, l, target, v)
	}
	if target--; target >= publicFlag {
		l.inst = target &^ (nodeFlag | publicFlag)
		inst := r.instances[l.inst]
		if target&nodeFlag == 0 && !inst.Masquerades {
			return n.inboundDirect(r, l, inst, v)
		}
		l.shard = uint8(inst.Shard)
		return true
	}
	o := r.frontends[target].Owner[ports.PoolIndex(l.p.Proto)]
	if o == nil {
		return n.parseForwarded(r, l, target, v)
	}
	block := uint16(both) / BlockSize
	if o.Shard[block] == 0 {
		return n.parseForwarded(r, l, target, v)
	}
	l.shard = o.Shard[block] - 1
	return true
}

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
			sh.firstOutbound(m, l, v)
			return
		}
	}
	if l.p.Proto == wire.ProtoTCP {
		if t := l.p.TCPHeader(); l.plain(t) && s.Track.Data(flow.Inside, seqOf(t), ackOf(t), l.dataLen(t), windowOf(t)) {
			s.TouchTick(m.tick)
		} else if does := sh.track(m, flow.Inside, l, id, s, v); does != pass {
			sh.stopOutbound(m, l, id, s, does, v)
			return
		}
	} else {
		sh.udp.Touch(s, flow.Inside, m.tick)
	}
	if l.is6 {
		outbound6(&l.p, s)
	} else {
		outbound4(&l.p, s)
	}
	sh.counters.forwarded[flow.Inside]++
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Forward, flow.ReasonNone, flow.Outside, false, l.inst
}

// stopOutbound is the end of an outbound segment that its session does not forward:
// dropped, or the first one of a new session.
func (sh *shard) stopOutbound(m *moment, l *lane, id flow.ID, s *flow.Session, why tracked, v *flow.Verdict) {
	defer sh.spare(m, flow.Inside, id, v)
	switch why {
	case faulty:
	case replace:
		sh.remove(id, s)
		sh.firstOutbound(m, l, v)
	default:
		*v = sh.count(flow.Inside, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFlowReset, Instance: l.inst})
	}
}

// firstOutbound handles an outbound packet without a session. Its verdict is
// undecided if all shards must end what is due first, or if it was sought where a
// target's answers are.
func (sh *shard) firstOutbound(m *moment, l *lane, v *flow.Verdict) {
	defer sh.spare(m, flow.Inside, 0, v)
	switch {
	case l.answer == maybeAnswer:
		sh.processAnswer(m, l, v)
		return
	case l.answer == soughtAnswer: // it is none
		v.Action = undecided
		return
	case l.floating:
		sh.processFloating(m, l, v)
		return
	}
	if sh.nat.ports.ByRemote() && !l.caughtUp && sh.nat.ports.Lags(&sh.State, m.now) {
		v.Action = undecided
		return
	}
	t := ports.Tuple{Proto: l.p.Proto, Hairpin: l.hairpin}
	if l.is6 {
		t.Family, t.Inside, t.Remote = 1, l.key6.Src, l.key6.Dst
		t.InsidePort, t.DestPort = l.key6.SrcPort, l.key6.DstPort
	} else {
		t.Inside[0], t.Remote[0] = uint64(l.key.Src), uint64(l.key.Dst)
		t.InsidePort, t.DestPort = l.key.SrcPort, l.key.DstPort
	}
	if wire.IsICMP(t.Proto) && sh.outboundQuery(m, l, &t) {
		*v = sh.count(flow.Inside, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: l.inst})
		return
	}
	*v = sh.count(flow.Inside, sh.outbound(m.routes, m.now, sh.nat.instances[l.inst], &l.p, &t))
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
		if t := l.p.TCPHeader(); l.plain(t) && s.Track.Data(flow.Outside, seqOf(t), ackOf(t), l.dataLen(t), windowOf(t)) {
			s.TouchTick(m.tick)
		} else if does := sh.track(m, flow.Outside, l, id, s, v); does != pass {
			sh.stopInbound(m, l, s, does, v)
			return
		}
	} else {
		sh.udp.Touch(s, flow.Outside, m.tick)
		switch {
		case s.Track.Class != flow.ClassUDP:
		case s.Kind() != flow.KindForwarded:
			sh.udp.Replied(sh.Shard, id, s, m.tick)
		case sh.moveOn(m, l, id, s, v):
			return
		}
	}
	if l.is6 {
		inbound6(&l.p, s)
	} else {
		inbound4(&l.p, s)
	}
	sh.counters.forwarded[flow.Outside]++
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Forward, flow.ReasonNone, flow.Inside, false, s.Key.VNI()
}

// settle comes before a session that is over although its timer has not been
// processed yet: all that is due ends, each in its turn, and find looks for what is
// there now, a tombstone or nothing.
//
// So a packet only ever holds a session that is not over at its moment, and only
// what is over ends by time (expireAll): the one cannot meet the other. What a packet
// ends otherwise, a tombstone that gives way or what has broken, it lets go of.
func (sh *shard) settle(m *moment, id flow.ID, s *flow.Session, find func() flow.ID) (flow.ID, *flow.Session) {
	sh.Rearm(id, s) // where time has gone back, the timer is late
	sh.expireAll(m.now)
	if id = find(); id == 0 {
		return 0, nil
	}
	if s = sh.At(id); sh.Expired(s, m.tick) {
		sh.fault(m.now, "snat: a session does not end", id)
		return 0, nil
	}
	return id, s
}

// settleLane is settle for a session, if id is not 0, that a packet from a side
// belongs to.
func (sh *shard) settleLane(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session) (flow.ID, *flow.Session) {
	if id == 0 {
		return 0, nil
	}
	return sh.settle(m, id, s, func() flow.ID { return sh.find(from, l) })
}

// find returns the session of a packet from a side, or 0.
func (sh *shard) find(from flow.Side, l *lane) flow.ID {
	switch {
	case from == flow.Inside && l.is6:
		return sh.LookupInside6(&l.key6, l.hash)
	case from == flow.Inside:
		return sh.LookupInside(&l.key, l.hash)
	case l.is6:
		return sh.LookupOutside6(&l.key6, l.hash)
	}
	return sh.LookupOutside(&l.key, l.hash)
}
