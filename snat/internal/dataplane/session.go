package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The life of a session: created, stored, refused, removed.

// create stores the session of a new flow that a side begins, decides its rewrite
// and indexes both directions. It needs a record that is ready. If the index has no
// room the port is given back, and create returns 0.
func (sh *shard) create(now flow.Time, from flow.Side, inst *instance, t *ports.Tuple, seg *flow.Segment, outside [2]uint64, port, nodePort uint16, kind flow.Kind) flow.ID {
	id, s := sh.New(t.Family == 1)
	s.SetKind(kind)
	s.Key.SrcPort, s.Key.DstPort, s.Key.VNIProto = t.InsidePort, t.DestPort, inst.Index<<8|uint32(t.Proto)
	s.OutsidePort = port
	if t.Family == 0 {
		s.Key.Src, s.Key.Dst, s.Outside = uint32(t.Inside[0]), uint32(t.Remote[0]), uint32(outside[0])
	} else {
		*s.Addrs6() = flow.Addrs6{Inside: t.Inside, Remote: t.Remote, Outside: outside}
	}
	s.Data[ports.DataNodePort] = nodePort
	headers.Decide(id, s)
	if t.Proto == wire.ProtoTCP {
		s.Track.OpenBy(sh.policy.TCPRules, from, seg)
	} else if wire.IsICMP(t.Proto) {
		s.Track.Class = flow.ClassICMP
		s.Track.SetInitiator(from)
	} else {
		sh.udp.Begin(s, t.DestPort, from, flow.TickOf(now))
		if kind == flow.KindForwarded {
			s.Track.Class = flow.ClassUDP // by which its packets know that they have to ask about its target
		}
	}
	if !sh.enter(now, id, s, inst, t, nodePort != 0 && kind.HoldsPort()) {
		return 0
	}
	if nodePort != 0 {
		sh.TakeNodePort(id, s, &inst.Instance)
	}
	if kind.HoldsPort() {
		sh.Anchor(from, &inst.Instance, t, id, s, sh.udp.InboundRefreshes())
	}
	sh.nat.held.Match(now, t, outside, port)
	if kind != flow.KindForwarded { // in whose shard the instance is not
		sh.CountCreated(&inst.Instance)
	}
	sh.counters.Created++
	sh.counters.Connections[ports.PoolIndex(t.Proto)].Created++
	if kind.HoldsPort() {
		sh.counters.Connections[ports.PoolIndex(t.Proto)].Ported++
	}
	if h := sh.nat.config.Hooks.Created; h != nil {
		h(now, inst.Index, sh.Info(id))
	}
	sh.logBegin(now, id, s, inst)
	return id
}

// enter indexes a new session, or if there is no room gives its port and its record
// back. twice says that its node port is an entry of its own; t may know the hashes of its keys.
func (sh *shard) enter(now flow.Time, id flow.ID, s *flow.Session, inst *instance, t *ports.Tuple, twice bool) bool {
	entered := sh.InsertHashed(id, s, t.InsideHash, t.OutsideHash(), now)
	if entered && (!twice || sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id)) {
		if sh.layout != nil {
			sh.layout.note(sh, id, s)
		}
		return true
	}
	sh.EndedAt = now
	sh.Release(id, s, &inst.Instance)
	if entered {
		sh.Remove(id, s)
	} else {
		sh.Discard(id)
	}
	return false
}

// refuse counts a flow that gets no port.
func (sh *shard) refuse(now flow.Time, inst *instance, t *ports.Tuple, reason flow.Reason) flow.Reason {
	sh.CountRefused(&inst.Instance, t, reason)
	sh.counters.Refused++
	sh.counters.Connections[ports.PoolIndex(t.Proto)].Refused++
	if h := sh.nat.config.Hooks.Refused; h != nil {
		h(now, inst.Index, t.Proto, reason)
	}
	sh.logRefused(now, inst, t, reason)
	return reason
}

// insideOf returns the session of a tuple in an instance, other than a forwarded one, or 0.
func (sh *shard) insideOf(t *ports.Tuple, inst uint32) flow.ID { return sh.insideBy(t, inst, false) }

// forwardedOf returns the forwarded session of a tuple in an instance, or 0.
func (sh *shard) forwardedOf(t *ports.Tuple, inst uint32) flow.ID { return sh.insideBy(t, inst, true) }

// insideBy returns the session of a tuple in an instance whose being forwarded is as
// asked, or 0.
func (sh *shard) insideBy(t *ports.Tuple, inst uint32, forwarded bool) flow.ID {
	h := sh.nat.table.Hasher()
	if t.Family == 0 {
		k := t.InsideKey(inst)
		return sh.inside4(&k, h.Hash(&k), forwarded)
	}
	k := t.InsideKey6(inst)
	return sh.inside6(&k, h.Hash6(&k), forwarded)
}

// remove ends a session, whose port becomes free for its destination, or a
// tombstone, which has none.
func (sh *shard) remove(id flow.ID, s *flow.Session) {
	inst, class, proto := sh.nat.instances[s.Key.VNI()], s.Track.Class, s.Proto()
	if class != flow.ClassTCPResetSent {
		sh.Release(id, s, &inst.Instance)
	}
	if s.Data[ports.DataNodePort] != 0 {
		sh.ReleaseNodePort(id, s, &inst.Instance)
		if s.Kind().HoldsPort() {
			sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
		}
	}
	sh.Remove(id, s)
	sh.counters.End(class, proto)
}

// hairpinned reports whether the remote of a session is one of our frontends: the
// other host has a session of its own.
func (sh *shard) hairpinned(id flow.ID, s *flow.Session) bool {
	t := ports.TupleOf(id, s)
	return sh.nat.hairpins && addresses.IsFrontend(sh.nat.routes.Load().FrontAt(id.Is6(), t.Remote))
}

// holdUDP turns a UDP session that ended at time at into the record that holds its
// port from its remote, or ends it if there is no memory for that.
func (sh *shard) holdUDP(id flow.ID, s *flow.Session, at flow.Time) {
	inst := sh.nat.instances[s.Key.VNI()]
	if s.Data[ports.DataNodePort] != 0 {
		sh.ReleaseNodePort(id, s, &inst.Instance)
		sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
	}
	sh.Exchange(id, s, &inst.Instance, s.Track.Class, flow.ClassUDPHeld)
	was, addrs := *s, flow.Addrs6{}
	if id.Is6() {
		addrs = *s.Addrs6()
	}
	is6 := id.Is6()
	sh.Remove(id, s)
	id, s = sh.New(is6)
	s.Key, s.Outside, s.OutsidePort = was.Key, was.Outside, was.OutsidePort
	s.Key.VNIProto = s.Key.VNI()<<8 | ports.ProtoHeld
	s.SetKind(was.Kind())
	s.Track.Class = flow.ClassUDPHeld
	if is6 {
		*s.Addrs6() = addrs
	}
	if sh.enter(at, id, s, inst, new(ports.Tuple), false) {
		sh.counters.Holds++
	}
	sh.counters.Ended++
	sh.counters.Connections[ports.UDPIndex].Ended++
}

// End ends the tombstone of a connection whose outside socket a new flow gets.
func (sh *shard) End(id flow.ID, s *flow.Session) { sh.remove(id, s) }

// Evict ends a half-open session that gives way, and tells of it.
func (sh *shard) Evict(now flow.Time, id flow.ID, s *flow.Session) {
	sh.EndedAt = now
	sh.counters.Evicted++
	if h := sh.nat.config.Hooks.Expired; h != nil {
		h(now, s.Key.VNI(), sh.Info(id))
	}
	sh.logEnd(now, id, s)
	sh.remove(id, s)
}

// Fault counts a broken invariant of ports.
func (sh *shard) Fault(now flow.Time, what any) { sh.fault(now, what, 0) }
