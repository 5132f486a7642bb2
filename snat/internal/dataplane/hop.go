package dataplane

// Whom a hop may answer, and from which address. Package hop knows what a hop does.

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// protoUnfit stands for any protocol in the key of a packet that may not be
// forwarded (IANA: for experimentation). No session has it.
const protoUnfit = 254

// screen makes the key of a packet that may not be forwarded one that no session
// has, so that it takes the way of packets without a session.
func (n *NAT) screen(l *lane) {
	if n.router.Unfit(&l.p) != nil {
		l.key.VNIProto, l.key6.VNIProto = protoUnfit, protoUnfit
	}
}

// hop is what a router does when it has decided: see [hop.Hop.Forward]; of what is
// dropped it may tell the sender. No lock may be held.
func (n *NAT) hop(r *routes, from flow.Side, now flow.Time, pkt []byte, v *flow.Verdict) {
	switch {
	case v.Action != flow.Drop:
	case v.Reason == flow.ReasonICMPInnerFragment && n.fragments.table != nil:
		n.reconsider(from, now, pkt, v)
	default:
		n.tellProblem(r, from, now, pkt, v.Reason)
	}
	if v.Action != flow.Forward {
		return
	}
	if n.router.Forward(now, pkt, v); v.Action == flow.Drop {
		n.fragments.corrections.Lost[from].Add(1)
		n.early.Drop(from, v.Reason, 1)
	}
}

// tellRefusal tells the sender of a packet that its flow is refused, if it is
// for want of ports or by a route.
func (sh *shard) tellRefusal(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, reason flow.Reason) {
	switch reason {
	case flow.ReasonPorts, flow.ReasonMappingConflict, flow.ReasonNoOutbound, flow.ReasonRoute,
		flow.ReasonDestinationLimit, flow.ReasonFlowLimit,
		flow.ReasonQuota, flow.ReasonRate, flow.ReasonSessionCap, flow.ReasonSubscribers:
		switch {
		case r.Refuses(t) != flow.ReasonNone:
		case p.Proto == wire.ProtoTCP && p.TCP().Flags()&flow.ACK == 0 && sh.policy.AnswerSYN:
			sh.answerUnknown(now, flow.Inside, inst.Index, p)
		case sh.nat.router.Refusal != nil:
			sh.nat.router.Report(now, flow.Inside, inst.Index, p, sh.nat.routerOf(inst, t.Family), sh.nat.router.Refusal)
		}
	}
}

// routerOf returns the source of errors for an instance, zero if there is none.
func (n *NAT) routerOf(inst *instance, family uint8) [2]uint64 {
	return cmp.Or(n.routerAddrs[family], n.ports.FirstOutside(&inst.Instance, family), inst.Public[family], inst.Own(family))
}

// detour makes a lane of an outbound packet that no session can carry and that may
// not be forwarded, so that it is answered under the lock. It returns true.
func (l *lane) detour(inst *instance, t *ports.Tuple) bool {
	l.inst, l.shard = inst.Index, uint8(inst.Shard)
	l.between(t.Inside, t.Remote)
	return true
}

// tellProblem tells the sender of a packet from a side that was dropped for a
// reason, if that is one to be told and the addresses are such that one may answer.
// No lock may be held. The packet is as it came: what is wrong with it was found
// before any translation.
func (n *NAT) tellProblem(r *routes, from flow.Side, now flow.Time, pkt []byte, reason flow.Reason) {
	l := lane{}
	p := &l.p
	what, told := n.router.Problem(pkt, reason, p)
	if !told {
		return
	}
	t := headers.Addresses(p, from)
	l.between(t.Remote, t.Inside)
	switch packed, target := r.Source(&t), r.Front(&t); {
	case from == flow.Outside && addresses.IsFrontend(target):
		if why := l.unsolicited(r); why == flow.ReasonNoFlow || why == reason {
			n.router.Report(now, flow.Outside, addresses.Publisher(target), p, t.Inside, &what)
		}
	case from == flow.Inside && packed != 0:
		if why := r.Refuses(&t); why == flow.ReasonNone || why == reason {
			index, _ := addresses.Unpack(packed)
			n.router.Report(now, flow.Inside, index, p, n.routerOf(r.Instances[index], t.Family), &what)
		}
	}
}
