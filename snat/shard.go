package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// shard is everything that a set of instances owns: their sessions (in the flow
// shard), the state of their ports, and the counters. The flow shard's lock
// guards all of it; an instance never leaves its shard while packets are
// processed, so both directions of a flow and the allocation of its port happen
// under this one lock.
type shard struct {
	ports.State
	nat    *NAT
	policy Policy // of all instances here
	mem    slab.Memory

	audit audit

	repliedSooner bool      // a reply shortens the idle timeout of a UDP session
	lags          [2]uint32 // see UDPRefresh.lags

	counters counters
	resets   resetQueue // made by packets or expiry, not yet emitted

	_ [64]byte
}

func (sh *shard) init(n *NAT, number int) {
	sh.nat, sh.resets.notice = n, &n.notice
	sh.State.Init(n.ports, number, n.table.Shard(number), sh, &sh.mem)
	sh.setPolicy(Policy{})
}

// setPolicy replaces the policy. It does not touch timers; see
// [flow.Shard.SetTimeouts].
func (sh *shard) setPolicy(p Policy) {
	timeouts := p.timeouts()
	sh.policy, sh.repliedSooner = p, timeouts.UDPReplied < timeouts.UDP
	sh.Tombstones, sh.HoldsUDP = p.EnableTCPReset, timeouts.UDPHeld > 0
	sh.resets.limit(&p)
	sh.lags = p.UDPRefresh.lags()
	sh.SetTimeouts(timeouts)
	sh.setUDPPorts()
}

// Info returns a copy of a session for people.
func (sh *shard) Info(id flow.ID) flow.Info {
	s := sh.Shard.Info(id)
	sh.nat.routes.Load().complete(&s)
	return s
}

// admit reports why a new flow between two addresses may not begin, if so.
func (n *NAT) admit(r *routes, t *ports.Tuple) flow.Reason {
	if t.Family == 0 {
		src, dst := uint32(t.Inside[0]), uint32(t.Remote[0])
		switch {
		case src == dst:
			return flow.ReasonLand
		case flow.IsMartian4(src):
			return flow.ReasonMartianSource
		case flow.IsMartian4(dst):
			return flow.ReasonMartianDestination
		case (flow.IsLinkLocal4(src) || flow.IsLinkLocal4(dst)) && r.action(t) != NodeAddress:
			return flow.ReasonLinkLocal
		case !t.Hairpin && isFrontend(r.outside4.Get(dst)):
			return flow.ReasonHairpin
		}
		return flow.ReasonNone
	}
	switch {
	case t.Inside == t.Remote:
		return flow.ReasonLand
	case flow.IsMartian6(t.Inside):
		return flow.ReasonMartianSource
	case flow.IsMartian6(t.Remote):
		return flow.ReasonMartianDestination
	case flow.IsLinkLocal6(t.Inside) || flow.IsLinkLocal6(t.Remote):
		return flow.ReasonLinkLocal
	case !t.Hairpin && isFrontend(r.outside6.Get(t.Remote)):
		return flow.ReasonHairpin
	}
	return flow.ReasonNone
}

// outbound is the way of a packet from the inside that has no session yet.
func (sh *shard) outbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple) flow.Verdict {
	v := sh.admitOutbound(r, now, inst, p, t)
	if v.Action == flow.Drop && (sh.nat.icmp.Refusals != RefuseSilently || sh.policy.ResetSYN != ResetNone) {
		sh.tellRefusal(r, now, inst, p, t, v.Reason)
	}
	return v
}

// admitOutbound is outbound, except that the sender is not told of a refusal.
func (sh *shard) admitOutbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, To: flow.Outside, Instance: inst.Index}
	if t.Inside == t.Remote { // whatever its route says
		v.Reason = flow.ReasonLand
		return v
	}
	action := r.action(t)
	if action == NodeAddress && inst.Owns(t.Family, t.Inside) {
		action = PassThrough
	}
	switch action {
	case PassThrough:
		v.Action = flow.Bypass
		return v
	case Blackhole:
		v.Reason = flow.ReasonRoute
		return v
	}
	if sh.exceptionalOutbound(r, now, inst, p, t, &v) {
		return v
	}
	var seg flow.Segment
	if v.Reason = sh.first(p, &seg); v.Reason != flow.ReasonNone {
		if v.Reason == flow.ReasonNoFlow && sh.nat.admit(r, t) == flow.ReasonNone {
			sh.answerUnknown(now, flow.Inside, inst.Index, p)
		}
		return v
	}
	if v.Reason = sh.nat.admit(r, t); v.Reason != flow.ReasonNone {
		return v
	}
	sh.expireAll(now)
	id, reason := sh.open(now, inst, t, &seg, action)
	if reason != flow.ReasonNone {
		v.Reason = reason
		return v
	}
	s := sh.At(id)
	switch {
	case wire.IsICMP(t.Proto):
		icmp.RewriteQuery(p, flow.Inside, ports.OutsideOf(id, s), s.OutsidePort)
	case t.Family == 0:
		outbound4(p, s)
	default:
		outbound6(p, s)
	}
	v.Action, v.New = flow.Forward, true
	return v
}

// first reports why a packet may not begin a flow, if so, and reads its segment.
func (sh *shard) first(p *wire.Packet, seg *flow.Segment) flow.Reason {
	switch p.Proto {
	case wire.ProtoTCP:
		segment(p, seg)
		begins := seg.Flags & (flow.SYN | flow.ACK | flow.RST | flow.FIN)
		if begins != flow.SYN && !(sh.policy.PickUp && begins == flow.ACK) {
			return flow.ReasonNoFlow
		}
		if corrupt(p) {
			return flow.ReasonL4Checksum
		}
	case wire.ProtoUDP:
	default:
		return sh.nat.messages.Begins(p)
	}
	return flow.ReasonNone
}

// open creates the session for a new flow: it allocates the outside port, and
// the node port where sources share the instance's address, decides the rewrite
// and indexes both directions. Nothing is left behind when it refuses.
func (sh *shard) open(now flow.Time, inst *instance, t *ports.Tuple, seg *flow.Segment, action RouteAction) (flow.ID, flow.Reason) {
	if !sh.Ready(t.Family == 1) {
		return 0, sh.refuse(now, inst, t, flow.ReasonMemory)
	}
	var nodePort uint16
	sh.BeginSearch()
	if action == NodeAddress && inst.Realm != 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonNoOutbound) // whose own address nobody finds from outside
	}
	own, kind := inst.Own(t.Family), flow.KindTranslated
	switch public := inst.Public[t.Family]; {
	case action == NodeAddress:
		kind = flow.KindNode // the port at the node is the outside port
	case public != [2]uint64{}:
		own, kind = public, flow.KindPublic // likewise
	case wire.IsICMP(t.Proto):
		kind = flow.KindQuery
	}
	if (inst.Masquerades || !kind.HoldsPort()) && own != [2]uint64{} {
		var ok bool
		if nodePort, ok = sh.NodePort(&inst.Instance, t, own); !ok {
			return 0, sh.refuse(now, inst, t, sh.Blame(flow.ReasonPorts))
		}
	}
	outside, port := own, nodePort
	if kind.HoldsPort() {
		f, p, reason := sh.Take(now, &inst.Instance, t)
		if reason == flow.ReasonHairpinLoop {
			return 0, reason
		} else if reason != flow.ReasonNone {
			return 0, sh.refuse(now, inst, t, reason)
		}
		outside, port = f.Packed, p
	} else if nodePort == 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonNoOutbound)
	}
	id := sh.create(now, flow.Inside, inst, t, seg, outside, port, nodePort, kind)
	if id == 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonMemory)
	}
	return id, flow.ReasonNone
}

// create stores the session of a new flow that a side begins, decides its rewrite
// and indexes both directions. It needs a record that is ready. If the index has no
// room the port is given back, and create returns 0.
func (sh *shard) create(now flow.Time, from flow.Side, inst *instance, t *ports.Tuple, seg *flow.Segment, outside [2]uint64, port, nodePort uint16, kind flow.Kind) flow.ID {
	id, s := sh.New(t.Family == 1)
	s.SetKind(kind)
	s.Key = flow.Key{
		SrcPort: t.InsidePort, DstPort: t.DestPort,
		VNIProto: inst.Index<<8 | uint32(t.Proto),
	}
	s.OutsidePort = port
	if t.Family == 0 {
		s.Key.Src, s.Key.Dst, s.Outside = uint32(t.Inside[0]), uint32(t.Remote[0]), uint32(outside[0])
	} else {
		*s.Addrs6() = flow.Addrs6{Inside: t.Inside, Remote: t.Remote, Outside: outside}
	}
	s.Data[ports.DataNodePort] = nodePort
	decide(id, s)
	if t.Proto == wire.ProtoTCP {
		s.Track.OpenBy(sh.policy.TCPRules, from, seg)
	} else if wire.IsICMP(t.Proto) {
		s.Track.Class = flow.ClassICMP
	} else {
		s.Track.Class = sh.udpClass(t.DestPort)
		if from == flow.Outside && s.Track.Class == flow.ClassUDP {
			s.Track.Class = flow.ClassUDPReplied // to what the inside has sent by this mapping
		}
		s.Track.SetInitiator(from)
		s.Track.Ack[flow.Inside], s.Track.Ack[flow.Outside] = flow.TickOf(now), flow.TickOf(now) // see touchUDP
	}
	if !sh.enter(now, id, s, inst, nodePort != 0 && kind.HoldsPort()) {
		return 0
	}
	if nodePort != 0 {
		sh.SettleAtNode(id, s, &inst.Instance)
	}
	if kind.HoldsPort() {
		sh.Anchor(from, &inst.Instance, t, id, s, sh.lags[flow.Outside] == 0)
	}
	sh.nat.held.match(now, t, outside, port)
	sh.CountCreated(&inst.Instance)
	sh.counters.created++
	sh.counters.connections[ports.PoolIndex(t.Proto)].created++
	if kind.HoldsPort() {
		sh.counters.connections[ports.PoolIndex(t.Proto)].ported++
	}
	if h := sh.nat.config.Hooks.SessionCreated; h != nil {
		h(now, inst.Index, sh.Info(id))
	}
	sh.logBegin(now, id, s, inst)
	return id
}

// enter indexes a new session, or if there is no room gives its port and its record
// back. twice says that its node port is an entry of its own.
func (sh *shard) enter(now flow.Time, id flow.ID, s *flow.Session, inst *instance, twice bool) bool {
	entered := sh.Insert(id, s, now)
	if entered && (!twice || sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id)) {
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
	sh.CountRefused(&inst.Instance, t)
	sh.counters.refused++
	sh.counters.connections[ports.PoolIndex(t.Proto)].refused++
	if h := sh.nat.config.Hooks.PortRefused; h != nil {
		h(now, inst.Index, t.Proto, reason)
	}
	sh.logRefused(now, inst, t, reason)
	return reason
}

// insideOf returns the session of a tuple in an instance, or 0.
func (sh *shard) insideOf(t *ports.Tuple, inst uint32) flow.ID {
	h := sh.nat.table.Hasher()
	if t.Family == 0 {
		k := flow.Key{
			Src: uint32(t.Inside[0]), Dst: uint32(t.Remote[0]),
			SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: inst<<8 | uint32(t.Proto),
		}
		return sh.LookupInside(&k, h.Hash(&k))
	}
	k := flow.Key6{Src: t.Inside, Dst: t.Remote, SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: inst<<8 | uint32(t.Proto)}
	return sh.LookupInside6(&k, h.Hash6(&k))
}

// remove ends a session, whose port becomes free for its destination, or a
// tombstone, which has none.
func (sh *shard) remove(id flow.ID, s *flow.Session) {
	inst, class, proto := sh.nat.instances[s.Key.VNI()], s.Track.Class, s.Proto()
	if class != flow.ClassTCPResetSent {
		sh.Release(id, s, &inst.Instance)
	}
	if s.Data[ports.DataNodePort] != 0 {
		sh.LeaveNode(id, s, &inst.Instance)
		if s.Kind().HoldsPort() {
			sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
		}
	}
	sh.Remove(id, s)
	sh.countEnd(class, proto)
}

// countEnd counts the end of a session of a class.
func (sh *shard) countEnd(class flow.Class, proto uint8) {
	switch class {
	case flow.ClassTCPResetSent:
		sh.counters.tombstones--
	case flow.ClassUDPHeld:
		sh.counters.holds--
	default:
		sh.counters.ended++
		sh.counters.connections[ports.PoolIndex(proto)].ended++
	}
}
