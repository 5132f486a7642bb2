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
func (sh *shard) outbound(m *moment, inst *instance, l *lane, t *ports.Tuple, tombstone flow.ID, v *flow.Verdict) {
	sh.admitOutbound(m.routes, m.now, inst, &l.p, t, tombstone, v)
	if v.Action == flow.Drop && (sh.nat.router.Refusal != nil || sh.policy.AnswerSYN) {
		sh.tellRefusal(m.routes, m.now, inst, &l.p, t, v.Reason)
	}
}

// admitOutbound is outbound, except that the sender is not told of a refusal. The verdict
// is made where it stays: see scopeIn in package ports.
func (sh *shard) admitOutbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, tombstone flow.ID, v *flow.Verdict) {
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Drop, flow.ReasonNone, flow.Outside, false, inst.Index
	if t.Inside == t.Remote { // whatever its route says
		v.Reason = flow.ReasonLand
		return
	}
	row := r.Effect(t, int32(t.DestPort))
	action := row.Action
	if action == addresses.NodeAddress && inst.Owns(t.Family, t.Inside) {
		if row.BothWays && inst.Realm == 0 {
			sh.outboundOwn(r, now, inst, p, t, tombstone, v)
			return
		}
		action = addresses.PassThrough
	}
	switch action {
	case addresses.PassThrough:
		if v.Reason = sh.nat.admitsBy(r, row, now, inst, p, t.Inside); v.Reason == flow.ReasonNone {
			v.Action = flow.Bypass
			sh.giveWay(now, tombstone)
		}
		return
	case addresses.Blackhole:
		v.Reason = flow.ReasonRoute
		return
	}
	if sh.exceptionalOutbound(r, now, inst, p, t, v) {
		return
	}
	var seg flow.Segment
	if v.Reason = sh.first(inst, p, &seg); v.Reason != flow.ReasonNone {
		if v.Reason == flow.ReasonNoFlow && r.Refuses(t) == flow.ReasonNone {
			sh.answerUnknown(now, flow.Inside, inst.Index, p)
		}
		return
	}
	if v.Reason = r.Refuses(t); v.Reason != flow.ReasonNone {
		return
	}
	sh.begin(r, now, inst, p, t, &seg, action, tombstone, v)
}

// begin is the way of a packet that may begin a flow that is translated. The verdict is as
// admitOutbound has begun it.
func (sh *shard) begin(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, seg *flow.Segment, action addresses.Action, tombstone flow.ID, v *flow.Verdict) {
	if v.Reason = r.Admits(flow.Inside, inst, t); v.Reason != flow.ReasonNone {
		return
	}
	if tombstone != 0 { // no call is needed to tell
		sh.giveWay(now, tombstone) // its port may be the one that is wanted
	}
	sh.expireAll(now)
	id, reason := sh.open(now, inst, t, seg, action)
	if reason != flow.ReasonNone {
		v.Reason = reason
		return
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
}

// open creates the session for a new flow: it allocates the outside port, and
// the node port where sources share the instance's address, decides the rewrite
// and indexes both directions. Nothing is left behind when it refuses.
func (sh *shard) open(now flow.Time, inst *instance, t *ports.Tuple, seg *flow.Segment, action addresses.Action) (flow.ID, flow.Reason) {
	if !sh.Ready(t.Family == 1) {
		return 0, sh.refuse(now, inst, t, flow.ReasonMemory)
	}
	sh.BeginSearch()
	if action == addresses.NodeAddress && inst.Realm != 0 {
		return 0, sh.refuse(now, inst, t, flow.ReasonNoOutbound) // whose own address nobody finds from outside
	}
	kind := action.Kind(t, &inst.Instance)
	var (
		outside        [2]uint64
		port, nodePort uint16
	)
	if inst.Masquerades || !kind.HoldsPort() {
		if outside = inst.Own(t.Family); kind == flow.KindPublic {
			outside = inst.Public[t.Family]
		}
		if outside != [2]uint64{} {
			var ok bool
			if nodePort, ok = sh.NodePort(&inst.Instance, t, outside); !ok {
				return 0, sh.refuse(now, inst, t, sh.Blame(flow.ReasonPorts))
			}
		}
		port = nodePort
	}
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
