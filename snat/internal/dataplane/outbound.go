package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The way of an outbound packet that has no session yet.

// outbound is the way of a packet from the inside that has no session yet, or a tombstone
// that gives way to one.
func (sh *shard) outbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, tombstone flow.ID) flow.Verdict {
	v := sh.admitOutbound(r, now, inst, p, t, tombstone)
	if v.Action == flow.Drop && (sh.nat.router.Refusal != nil || sh.policy.AnswerSYN) {
		sh.tellRefusal(r, now, inst, p, t, v.Reason)
	}
	return v
}

// admitOutbound is outbound, except that the sender is not told of a refusal.
func (sh *shard) admitOutbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, tombstone flow.ID) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, To: flow.Outside, Instance: inst.Index}
	if t.Inside == t.Remote { // whatever its route says
		v.Reason = flow.ReasonLand
		return v
	}
	row := r.Effect(t, int32(t.DestPort))
	action := row.Action
	if action == addresses.NodeAddress && inst.Owns(t.Family, t.Inside) {
		if row.BothWays && inst.Realm == 0 {
			return sh.outboundOwn(r, now, inst, p, t)
		}
		action = addresses.PassThrough
	}
	switch action {
	case addresses.PassThrough:
		if v.Reason = sh.nat.admitsUnseen(r, now, flow.Inside, inst, p, t.Inside); v.Reason == flow.ReasonNone {
			v.Action = flow.Bypass
		}
		return v
	case addresses.Blackhole:
		v.Reason = flow.ReasonRoute
		return v
	}
	if sh.exceptionalOutbound(r, now, inst, p, t, &v) {
		return v
	}
	var seg flow.Segment
	if v.Reason = sh.first(p, &seg); v.Reason != flow.ReasonNone {
		if v.Reason == flow.ReasonNoFlow && r.Refuses(t) == flow.ReasonNone {
			sh.answerUnknown(now, flow.Inside, inst.Index, p)
		}
		return v
	}
	if v.Reason = r.Refuses(t); v.Reason != flow.ReasonNone {
		return v
	}
	if v.Reason = sh.admitted(flow.Inside, inst, t); v.Reason != flow.ReasonNone {
		return v
	}
	if tombstone != 0 { // its port may be the one that is wanted
		sh.remove(tombstone, sh.At(tombstone))
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
		headers.Outbound4(p, s)
	default:
		headers.Outbound6(p, s)
	}
	v.Action, v.New = flow.Forward, true
	return v
}

// open creates the session for a new flow: it allocates the outside port, and
// the node port where sources share the instance's address, decides the rewrite
// and indexes both directions. Nothing is left behind when it refuses.
func (sh *shard) open(now flow.Time, inst *instance, t *ports.Tuple, seg *flow.Segment, action addresses.Action) (flow.ID, flow.Reason) {
	if !sh.Ready(t.Family == 1) {
		return 0, sh.refuse(now, inst, t, flow.ReasonMemory)
	}
	var nodePort uint16
	sh.BeginSearch()
	if action == addresses.NodeAddress && inst.Realm != 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonNoOutbound) // whose own address nobody finds from outside
	}
	own, kind := inst.Own(t.Family), flow.KindTranslated
	switch public := inst.Public[t.Family]; {
	case action == addresses.NodeAddress:
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
		var reason flow.Reason
		if outside, port, reason = sh.Take(now, &inst.Instance, t); reason == flow.ReasonHairpinLoop {
			return 0, reason
		} else if reason != flow.ReasonNone {
			return 0, sh.refuse(now, inst, t, reason)
		}
	} else if nodePort == 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonNoOutbound)
	}
	id := sh.create(now, flow.Inside, inst, t, seg, outside, port, nodePort, kind)
	if id == 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonMemory)
	}
	return id, flow.ReasonNone
}
