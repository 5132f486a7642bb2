package snat

// Sessions that begin outside. Read RFC 4787 section 5, RFC 5382 section 5 and
// RFC 7857 sections 6 and 7 first.
//
// A packet from outside that belongs to no session may begin one if its port has
// a mapping whose filter admits its source. The mapping is found by its claim on
// the port, in one look-up: claims are as fine as the filter needs (behavior.go),
// and there is one exactly where the mapping has a session. A packet that is
// refused changes nothing.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// openInbound lets an inbound packet without a session begin one and translates
// it, or says why not.
func (sh *shard) openInbound(m *moment, l *lane, v *flow.Verdict) flow.Reason {
	if sh.nat.inventory != nil {
		return flow.ReasonNoFlow
	}
	var seg flow.Segment
	if l.p.Proto == wire.ProtoTCP {
		if segment(&l.p, &seg); seg.Flags&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN {
			return flow.ReasonNoFlow
		}
	}
	t := l.inboundTuple()
	f, inst, ordinal := m.routes.ownerOf(&t, l)
	if inst == nil {
		return flow.ReasonNoFlow
	}
	sh.expireAll(m.now)
	pool := &inst.pools[t.Family][ports.PoolIndex(t.Proto)]
	if pool.uses[ordinal] == (portUse{}) {
		return flow.ReasonNoFlow
	}
	b, maps := sh.nat.behavior(t.Proto), &sh.mappings
	claim, c := b.claimScope(inst, &t), uint32(0)
	if b.opens {
		c = maps.claimed(&claim, ordinal)
	}
	if c == 0 {
		return flow.ReasonFiltered
	}
	if l.p.Proto == wire.ProtoTCP && corrupt(&l.p) {
		return flow.ReasonL4Checksum
	}
	if m.routes.action(&t) == Blackhole {
		return flow.ReasonRoute
	}
	id := maps.claims.At(c).mapping
	t.Inside, t.InsidePort = maps.at(id).addr, maps.at(id).port
	other := sh.insideOf(&t, inst.index)
	if other != 0 && sh.At(other).Track.Phase() != flow.TCPResetSent {
		return flow.ReasonMappingConflict
	}
	if sh.nat.enrolls {
		if reason := sh.enrollAt(m.now, inst, &t, id); reason != flow.ReasonNone {
			return sh.refuse(m.now, inst, &t, reason)
		}
	}
	if other != 0 {
		sh.remove(other, sh.At(other))
	}
	var nodePort uint16
	sh.destinations.short = false
	if own := inst.own(t.Family); inst.masquerades && own != [2]uint64{} {
		var ok bool
		if nodePort, ok = sh.nodePort(inst, &t, own); !ok {
			return sh.refuse(m.now, inst, &t, sh.destinations.blame(flow.ReasonPorts))
		}
	}
	if sh.nat.enrolls {
		sh.joined(m.now, inst, &t)
	}
	port := l.outsidePort()
	sh.clear(&t, f, port)
	sh.occupy(pool, ordinal, flow.ClassTCPOpening, m.now)
	pool.rangeOf(ordinal).share.created++
	maps.join(id, c, &claim)
	session := sh.create(m.now, flow.Outside, inst, &t, &seg, f.packed, port, nodePort, flow.KindTranslated)
	if session == 0 {
		return sh.refuse(m.now, inst, &t, flow.ReasonMemory)
	}
	s := sh.At(session)
	if l.is6 {
		inbound6(&l.p, s)
	} else {
		inbound4(&l.p, s)
	}
	if sh.nat.enrolls {
		sh.begins(t.Subscriber, session, s)
		sh.evict(m.now, t.Subscriber)
	}
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: inst.index}
	return flow.ReasonNone
}

// anchor keeps a session that begins outside from keeping its mapping alive, as
// long as the inside has not answered: else strangers could do that for ever (RFC
// 7857 section 7). It ends no later than the mapping's anchor would, the last
// session that has begun inside. If that has ended while others live, a session
// from outside takes its place: so strangers can add one idle timeout at most. UDP
// sessions that any packet refreshes are kept by strangers on purpose.
func (sh *shard) anchor(from flow.Side, b *behavior, inst *instance, t *ports.Tuple, id flow.ID, s *flow.Session) {
	maps, claim := &sh.mappings, b.claimScope(inst, t)
	_, ordinal := sh.portOf(id, s, inst)
	m := maps.wide.At(maps.claims.At(maps.claimed(&claim, ordinal)).mapping &^ wide)
	if from == flow.Inside || m.anchor == 0 {
		m.anchor = id
		return
	}
	if t.Proto == wire.ProtoUDP && sh.lags[flow.Outside] == 0 {
		return
	}
	last := sh.ExpireBy(id, s, sh.Deadline(sh.At(m.anchor)))
	if t.Proto == wire.ProtoUDP {
		s.Track.Ack[flow.Inside] = last
	}
}

// stopInbound is the end of an inbound segment that its session does not forward:
// dropped, or the first one of a new session.
func (sh *shard) stopInbound(m *moment, l *lane, s *flow.Session, why tracked, v *flow.Verdict) {
	if why == faulty {
		return
	}
	defer sh.spare(m, flow.Outside, 0, v)
	*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFlowReset, Instance: s.Key.VNI()}
	switch why {
	case replace: // the tombstone goes if and only if the filter admits the segment
		if reason := sh.openInbound(m, l, v); reason == flow.ReasonNone {
			break
		}
		v.Reason = flow.ReasonFlowReset
	case refuse:
		v.Reason = flow.ReasonFiltered
	}
	*v = sh.count(flow.Outside, *v)
}

// inboundTuple returns the tuple of an inbound packet without its inside socket.
func (l *lane) inboundTuple() (t ports.Tuple) {
	t.Proto = l.p.Proto
	if l.is6 {
		t.Family, t.Remote, t.DestPort = 1, l.key6.Src, l.key6.SrcPort
	} else {
		t.Remote[0], t.DestPort = uint64(l.key.Src), l.key.SrcPort
	}
	return t
}

// outsidePort returns the port that an inbound packet is sent to.
func (l *lane) outsidePort() uint16 {
	if l.is6 {
		return l.key6.DstPort
	}
	return l.key.DstPort
}

// outsideOf returns what the destination of an inbound packet is to us.
func (r *routes) outsideOf(l *lane) uint32 {
	if l.is6 {
		return r.outside6.Get(l.key6.Dst)
	}
	return r.outside4.Get(l.key.Dst)
}

// ownerOf returns the frontend that an inbound packet is sent to, and the instance
// that owns the port, with the port's ordinal there; nil if none does.
func (r *routes) ownerOf(t *ports.Tuple, l *lane) (f *frontend, inst *instance, ordinal int) {
	target := r.outsideOf(l)
	if target--; target >= publicFlag {
		return nil, nil, 0
	}
	f = r.frontends[target]
	protocol, port := ports.PoolIndex(t.Proto), l.outsidePort()
	if f.owner[protocol] == nil || f.owner[protocol].instance[port/BlockSize] == 0 {
		return nil, nil, 0
	}
	inst = r.instances[f.owner[protocol].instance[port/BlockSize]-1]
	return f, inst, inst.pools[t.Family][protocol].ordinal(f, port)
}
