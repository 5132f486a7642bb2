package snat

// What a hop does with packets besides translating them: it looks at TTL and size
// before, counts down and splits after, and tells the senders of what it drops. Read RFC
// 1812 sections 4.3.2 and 5.3.1, RFC 4443 section 2.4 and RFC 1191 first.

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// defaultErrorRate is how many errors are made per second, and at once (RFC 4443 section
// 2.4 f).
const defaultErrorRate = 10

// refusals is what the senders of refused flows are told.
var refusals = [numRefusals]*icmp.Report{
	RefuseHostUnreachable: &icmp.HostUnreachable,
	RefuseProhibited:      &icmp.Prohibited,
}

// setICMP keeps what ICMP is configured to be, which never changes, and prepares
// the making of errors.
func (n *NAT) setICMP(config *Config) {
	c := &config.ICMP
	n.icmp = *c
	n.icmp.RouterAddrs = nil
	n.messages = c.rules()
	n.routed = c.TTL != TTLTransparent || c.MTU > 0 || c.Problems || c.ProtocolUnreachable || fragmentsQuoted(config)
	silent := [2]bool{flow.Inside: c.SilentInside, flow.Outside: c.SilentOutside}
	n.outbox.Init(&n.notice, silent, cmp.Or(c.ErrorRate, defaultErrorRate), cmp.Or(c.ErrorBurst, defaultErrorRate))
	for _, a := range c.RouterAddrs {
		if a.Is4() {
			n.router[0] = [2]uint64{uint64(flow.Addr4(a))}
		} else {
			n.router[1] = flow.Addr6(a)
		}
	}
}

// unfit returns what is wrong with forwarding a packet, whoever sent it, or nil.
func (n *NAT) unfit(p *wire.Packet) *icmp.Report {
	c := &n.icmp
	ttl, fragmentable := p.B[7], false
	if p.Flags&wire.V6 == 0 {
		ttl, fragmentable = p.B[8], p.B[6]>>5&wire.IPv4DF == 0
	}
	switch {
	case c.TTL == TTLRouter && ttl <= 1:
		return &icmp.HopsExceeded
	case c.MTU > 0 && len(p.B) > c.MTU && !fragmentable:
		return &icmp.TooBig
	}
	return nil
}

// unfitAt is unfit for a NAT of any configuration.
func (n *NAT) unfitAt(p *wire.Packet) *icmp.Report {
	if !n.routed {
		return nil
	}
	return n.unfit(p)
}

// answers reports whether a packet that the parser refuses goes on all the same,
// so that its sender can be told: a router's, without hops.
func (n *NAT) answers(reason flow.Reason) bool {
	return reason == flow.ReasonTTL && n.icmp.TTL == TTLRouter
}

// protoUnfit stands for any protocol in the key of a packet that may not be
// forwarded (IANA: for experimentation). No session has it.
const protoUnfit = 254

// screen makes the key of a packet that may not be forwarded one that no session
// has, so that it leaves the way of the others where they have no session.
func (n *NAT) screen(l *lane) {
	if n.unfit(&l.p) != nil {
		l.key.VNIProto, l.key6.VNIProto = protoUnfit, protoUnfit
	}
}

// hop is what a router does when it has decided: it counts down the TTL or hop
// limit of a packet that is forwarded, and splits one that exceeds the MTU; of
// what is dropped it may tell the sender. No lock may be held.
func (n *NAT) hop(r *routes, from flow.Side, now flow.Time, pkt []byte, v *flow.Verdict) {
	switch {
	case v.Action != flow.Drop:
	case v.Reason == flow.ReasonICMPInnerFragment && n.fragments.table != nil:
		n.reconsider(from, now, pkt, v)
	default:
		n.tellProblem(r, from, now, pkt, v.Reason)
	}
	switch {
	case v.Action != flow.Forward:
	case pkt[0]>>4 == 4:
		h := wire.IPv4(pkt)
		if n.icmp.TTL == TTLRouter {
			h.RewriteTTL(h.TTL() - 1)
		}
		if size := int(h.TotalLength()); n.icmp.MTU > 0 && size > n.icmp.MTU {
			n.split(from, now, h[:size], v)
		}
	case n.icmp.TTL == TTLRouter:
		pkt[7]--
	}
}

// hops is hop for a batch.
func (n *NAT) hops(r *routes, from flow.Side, now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	for i := range pkts {
		n.hop(r, from, now, pkts[i], &verdicts[i])
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
		case sh.nat.admit(r, t) != flow.ReasonNone:
		case p.Proto == wire.ProtoTCP && p.TCP().Flags()&flow.ACK == 0 && sh.policy.ResetSYN != ResetNone:
			sh.answerUnknown(now, flow.Inside, inst.Index, p)
		case sh.nat.icmp.Refusals != RefuseSilently:
			sh.nat.report(now, flow.Inside, inst.Index, p, sh.nat.routerOf(inst, t.Family), refusals[sh.nat.icmp.Refusals])
		}
	}
}

// routerOf returns the source of errors for an instance, zero if there is none.
func (n *NAT) routerOf(inst *instance, family uint8) [2]uint64 {
	if a := n.router[family]; a != [2]uint64{} {
		return a
	}
	if a := n.ports.FirstOutside(&inst.Instance, family); a != [2]uint64{} {
		return a
	}
	if a := inst.Public[family]; a != [2]uint64{} {
		return a
	}
	return inst.Own(family)
}

// detour makes a lane of an outbound packet that no session can carry and that may
// not be forwarded, so that it is answered under the lock. It returns true.
func (l *lane) detour(inst *instance, t *ports.Tuple) bool {
	l.inst, l.shard = inst.Index, uint8(inst.Shard)
	l.between(t.Inside, t.Remote)
	return true
}

// report queues an error for the sender of p, quoting p as it was sent, unless p is one
// that is never answered or there have been too many. Addresses have been checked (RFC
// 1812 section 4.3.2.7). It returns the reason of r.
func (n *NAT) report(now flow.Time, to flow.Side, instance uint32, p *wire.Packet, src [2]uint64, r *icmp.Report) flow.Reason {
	if n.outbox.Silent(to) || !r.Answers(p) {
		return r.Reason
	}
	if from, _ := p.Addrs(); src == [2]uint64{} || src == from {
		n.outbox.Suppress()
		return r.Reason
	}
	n.held.Advance(now) // what was due before takes its turn before
	n.outbox.Report(flow.Emission{At: now, To: to, Instance: instance}, func() []byte { return r.Build(p, src, n.icmp.MTU) })
	return r.Reason
}

// tellProblem tells the sender of a packet from a side that was dropped for a
// reason, if that is one to be told and the addresses are such that one may answer.
// No lock may be held. The packet is as it came: what is wrong with it was found
// before any translation.
func (n *NAT) tellProblem(r *routes, from flow.Side, now flow.Time, pkt []byte, reason flow.Reason) {
	told := n.icmp.Problems
	if reason == flow.ReasonUnsupportedProto {
		told = n.icmp.ProtocolUnreachable
	}
	if !told {
		return
	}
	l := lane{}
	p := &l.p
	wire.Parse(pkt, p)
	what, ok := icmp.ProblemOf(reason, p)
	if !ok {
		return
	}
	t := addresses(p, from)
	l.between(t.Remote, t.Inside)
	switch packed, target := r.homeOf(&t), r.targetOf(&t); {
	case from == flow.Outside && isFrontend(target):
		if why := r.unsolicited(&l); why == flow.ReasonNoFlow || why == reason {
			n.report(now, flow.Outside, publisher(target), p, t.Inside, &what)
		}
	case from == flow.Inside && packed != 0:
		if why := n.admit(r, &t); why == flow.ReasonNone || why == reason {
			index, _ := unpack(packed)
			n.report(now, flow.Inside, index, p, n.routerOf(r.instances[index], t.Family), &what)
		}
	}
}

// publisher returns the instance whose public address a value of outside4 or outside6
// stands for, and 0 for a frontend, which may be that of many.
func publisher(target uint32) uint32 {
	if target--; target&publicFlag != 0 {
		return target &^ publicFlag
	}
	return 0
}
