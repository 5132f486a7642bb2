package dataplane

// Flows that are remembered, but not translated: those that begin outside, at an inside
// address, by a row of the destination table that works both ways, and those of an
// instance's own address with such a remote. Linux is the model: nf_nat sees the first
// packet of a connection, and what answers one that was not translated is not either.
//
// Such a session is as any other, of flow.KindTracked: its outside socket is its inside
// socket, so its rewrite changes nothing. Packets that belong to it go the ordinary
// way, in either direction. Here is only what finds none.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// letIn lets an inbound packet without a session in to an instance, as a row of the
// destination table says, or drops it.
func (sh *shard) letIn(m *moment, l *lane, inst *instance, how entry, v *flow.Verdict) {
	if how == entryPass {
		if reason := sh.nat.admitsInside(m.routes, m.now, inst, l); reason != flow.ReasonNone {
			sh.counters.Drop(flow.Outside, reason, 0, v)
			return
		}
		*v = inst.Bypass(flow.Outside)
		return
	}
	*v = flow.Verdict{Action: flow.Drop, To: flow.Inside, Instance: inst.Index}
	var seg flow.Segment
	if v.Reason = sh.first(inst, &l.p, &seg); v.Reason != flow.ReasonNone {
		if how == entryOwn {
			if v.Reason = sh.nat.admitsInside(m.routes, m.now, inst, l); v.Reason == flow.ReasonNone {
				v.Action = flow.Bypass
			}
		}
	} else if v.Reason = sh.enterTracked(m.routes, m.now, inst, &l.p, &seg); v.Reason == flow.ReasonNone {
		v.Action, v.New = flow.Forward, true
	}
	sh.counters.Count(flow.Outside, v)
}

// admitsInside is admitsUnseen for an inbound packet to an inside address.
func (n *NAT) admitsInside(r *routes, now flow.Time, inst *instance, l *lane) flow.Reason {
	_, to := l.p.Addrs()
	return n.admitsUnseen(r, now, flow.Outside, inst, &l.p, to, false)
}

// enterTracked is openTracked for an inbound packet, which may begin a flow. A query has
// its identifier in the place of the inside port.
func (sh *shard) enterTracked(r *routes, now flow.Time, inst *instance, p *wire.Packet, seg *flow.Segment) flow.Reason {
	if !wire.IsICMP(p.Proto) {
		t := headers.Tuple(p, flow.Outside)
		return sh.openTracked(r, now, flow.Outside, inst, &t, seg, 0)
	}
	t := headers.Addresses(p, flow.Outside)
	t.InsidePort = sh.nat.messages.Classify(p).ID
	return sh.openTracked(r, now, flow.Outside, inst, &t, seg, 0)
}

// outboundOwn is the way of a packet that an instance's own address sends, without
// a session, by a row with NodeAddress that works both ways: it begins one, or else it
// passes, as it would without that. Where what is behind the instance has its port, it gets
// another one, as what Linux itself sends does (nf_nat_core.c, get_unique_tuple).
func (sh *shard) outboundOwn(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, tombstone flow.ID, v *flow.Verdict) {
	*v = flow.Verdict{Action: flow.Bypass, To: flow.Outside, Instance: inst.Index}
	var seg flow.Segment
	if sh.first(inst, p, &seg) != flow.ReasonNone || r.Refuses(t) != flow.ReasonNone {
		if v.Reason = sh.nat.admitsUnseen(r, now, flow.Inside, inst, p, t.Inside, false); v.Reason != flow.ReasonNone {
			v.Action = flow.Drop
		} else {
			sh.giveWay(now, tombstone)
		}
		return
	}
	if sh.nat.router.Unfit(p) != nil {
		v.Action = flow.Drop
		sh.exceptionalOutbound(r, now, inst, p, t, v)
		return
	}
	sh.expireAll(now)
	mine := tombstone != 0 && sh.At(tombstone).Data[ports.DataNodePort] == t.InsidePort
	if !mine && inst.Masquerades && t.InsidePort != 0 && sh.NodePortTaken(&inst.Instance, t) {
		v.Action = flow.Drop
		sh.begin(r, now, inst, p, t, &seg, addresses.NodeAddress, tombstone, v)
		return
	}
	v.Action, v.New = flow.Forward, true
	if v.Reason = sh.openTracked(r, now, flow.Inside, inst, t, &seg, tombstone); v.Reason != flow.ReasonNone {
		v.Action, v.New = flow.Drop, false
	}
}

// openTracked creates the session of a flow that a side begins and that is not
// translated, or says why not. An existing session of these sockets stays, unless it is a
// tombstone, or gone, which gives way. Nobody behind the instance may have this port at its
// own address towards this remote, or gets it while the session lives.
func (sh *shard) openTracked(r *routes, now flow.Time, from flow.Side, inst *instance, t *ports.Tuple, seg *flow.Segment, gone flow.ID) flow.Reason {
	sh.expireAll(now)
	other := sh.insideOf(t, inst.Index)
	if other != gone && other != 0 && sh.At(other).Track.Phase() != flow.TCPResetSent {
		return flow.ReasonMappingConflict
	}
	if reason := r.Admits(from, inst, t); reason != flow.ReasonNone {
		return reason
	}
	sh.giveWay(now, other)
	var nodePort uint16
	if inst.Masquerades && inst.Owns(t.Family, t.Inside) {
		if nodePort = t.InsidePort; nodePort != 0 && sh.NodePortTaken(&inst.Instance, t) {
			return flow.ReasonMappingConflict
		}
	}
	if !sh.Ready(t.Family == 1) || sh.create(now, from, inst, t, seg, t.Inside, t.InsidePort, nodePort, flow.KindTracked) == 0 {
		return flow.ReasonMemory
	}
	return flow.ReasonNone
}
