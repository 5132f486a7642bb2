package snat

// ICMP errors that the translator makes itself. Read RFC 1812 sections 4.3.2 and
// 5.3.1, RFC 4443 section 2.4 and RFC 1191 first.

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Specification constants: RFC 8200 section 5, RFC 1812 section 4.3.2.3, RFC 4443
// section 2.4 c and f.
const (
	minMTU           = 1280
	maxError4        = 576  // bytes of an error, with all it quotes
	maxError6        = 1280 // the same of ICMPv6
	defaultErrorRate = 10   // per second, and at once
)

const maxErrorRate = 1_000_000

// complaint is an error that the translator makes, in both families' words.
type complaint struct {
	reason    flow.Reason // with which the packet is dropped
	typ, code [2]uint8    // by family; type 0 where nobody is told
	mtu       bool        // it tells the MTU
	pointer   uint32      // ICMPv6 Parameter Problem: the offset of what is wrong
}

var (
	hopsExceeded = complaint{
		reason: flow.ReasonTTL,
		typ:    [2]uint8{wire.ICMPv4TimeExceeded, wire.ICMPv6TimeExceeded},
	}
	tooBig = complaint{
		reason: flow.ReasonTooBig, mtu: true,
		typ:  [2]uint8{wire.ICMPv4Unreachable, wire.ICMPv6PacketTooBig},
		code: [2]uint8{4, 0},
	}
	unreachable = [2]uint8{wire.ICMPv4Unreachable, wire.ICMPv6Unreachable}
	refusals    = [numRefusals]complaint{
		RefuseHostUnreachable: {typ: unreachable, code: [2]uint8{1, 3}},
		RefuseProhibited:      {typ: unreachable, code: [2]uint8{13, 1}},
	}
)

// setICMP keeps what ICMP is configured to be, which never changes, and prepares
// the making of errors.
func (n *NAT) setICMP(config *Config) {
	c := &config.ICMP
	n.icmp = *c
	n.icmp.RouterAddrs = nil
	n.routed = c.TTL != TTLTransparent || c.MTU > 0 || c.Problems || c.ProtocolUnreachable || fragmentsQuoted(config)
	n.outbox.silent = [2]bool{flow.Inside: c.SilentInside, flow.Outside: c.SilentOutside}
	n.outbox.rate.init(cmp.Or(c.ErrorRate, defaultErrorRate), cmp.Or(c.ErrorBurst, defaultErrorRate))
	for _, a := range c.RouterAddrs {
		if a.Is4() {
			n.router[0] = [2]uint64{uint64(flow.Addr4(a))}
		} else {
			n.router[1] = flow.Addr6(a)
		}
	}
}

// unfit returns what is wrong with forwarding a packet, whoever sent it, or nil.
func (n *NAT) unfit(p *wire.Packet) *complaint {
	c := &n.icmp
	ttl, fragmentable := p.B[7], false
	if p.Flags&wire.V6 == 0 {
		ttl, fragmentable = p.B[8], p.B[6]>>5&wire.IPv4DF == 0
	}
	switch {
	case c.TTL == TTLRouter && ttl <= 1:
		return &hopsExceeded
	case c.MTU > 0 && len(p.B) > c.MTU && !fragmentable:
		return &tooBig
	}
	return nil
}

// unfitAt is unfit for a NAT of any configuration.
func (n *NAT) unfitAt(p *wire.Packet) *complaint {
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

// exceptional handles outbound packets that neither use nor begin a session:
// those that may not be forwarded, and ICMP errors.
func (sh *shard) exceptional(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, v *flow.Verdict) bool {
	n := sh.nat
	unfit := n.unfitAt(p)
	if unfit == nil && !(n.icmp.Errors && n.icmp.isError(p)) {
		return false
	}
	if v.Reason = n.admit(r, t); v.Reason != flow.ReasonNone {
		return true
	}
	if unfit != nil {
		v.Reason = n.complain(now, flow.Inside, inst.Index, p, n.routerOf(inst, t.Family), unfit)
		return true
	}
	*v = sh.outboundError(now, inst, p, t)
	return true
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
			sh.nat.complain(now, flow.Inside, inst.Index, p, sh.nat.routerOf(inst, t.Family), &refusals[sh.nat.icmp.Refusals])
		}
	}
}

// routerOf returns the source of errors for an instance, zero if there is none.
func (n *NAT) routerOf(inst *instance, family uint8) [2]uint64 {
	if a := n.router[family]; a != [2]uint64{} {
		return a
	}
	if f := n.ports.FirstFrontend(&inst.Instance, family); f != nil {
		return f.Packed
	}
	if a := inst.Public[family]; a != [2]uint64{} {
		return a
	}
	return inst.Own(family)
}

// detour makes a lane of an outbound packet that no session can carry and that may
// not be forwarded, so that it is answered under the lock. It returns true.
func (l *lane) detour(inst *instance, t *ports.Tuple) bool {
	l.inst, l.shard, l.is6 = inst.Index, uint8(inst.Shard), t.Family == 1
	if l.is6 {
		l.key6 = flow.Key6{Src: t.Inside, Dst: t.Remote}
	} else {
		l.key = flow.Key{Src: uint32(t.Inside[0]), Dst: uint32(t.Remote[0])}
	}
	return true
}

// complain queues an error for the sender of p, quoting p as it was sent, unless
// p is one that is never answered or there have been too many. Addresses have
// been checked (RFC 1812 section 4.3.2.7). It returns the reason of c.
func (n *NAT) complain(now flow.Time, to flow.Side, instance uint32, p *wire.Packet, src [2]uint64, c *complaint) flow.Reason {
	family := p.Flags & wire.V6 / wire.V6
	switch b := p.B[p.L4:]; {
	case c.typ[family] == 0, n.outbox.silent[to], p.Flags&wire.NonFirst != 0:
		return c.reason
	case !isICMP(p.Proto):
	case len(b) < 2:
		return c.reason
	default:
		if kind := kindOf(p.Proto, b); kind != icmpRequest && kind != icmpReply {
			return c.reason
		}
	}
	if src == [2]uint64{} || src == addresses(p, flow.Inside).Inside {
		n.outbox.suppress()
		return c.reason
	}
	word := c.pointer
	if c.mtu {
		word = uint32(n.icmp.MTU)
	}
	n.held.advance(now) // what was due before takes its turn before
	n.outbox.complain(flow.Emission{At: now, To: to, Instance: instance}, func() []byte { return c.build(p, src, word) })
	return c.reason
}

// build returns the error from src to the source of p.
func (c *complaint) build(p *wire.Packet, src [2]uint64, word uint32) []byte {
	const header = 8
	v6 := p.Flags&wire.V6 != 0
	ip, family, most, proto := ip4Len, 0, maxError4, uint8(wire.ProtoICMP)
	if v6 {
		ip, family, most, proto = ip6Len, 1, maxError6, wire.ProtoICMPv6
	}
	quoted := p.B[:min(len(p.B), most-ip-header)]
	b := make([]byte, ip+header+len(quoted))
	m := wire.ICMPv6(b[ip:]) // up to the checksum both ICMPs look alike
	m.SetTypeCode(c.typ[family], c.code[family])
	m.SetMTU(word) // ICMPv4 has it in the lower half
	copy(m.Payload(), quoted)
	const dscp = 0xfc // of the traffic class; the rest is ECN
	var pseudo uint64
	if v6 {
		from, dst := flow.NetAddr6(src).As16(), p.IPv6().Src()
		h := wire.IPv6(b)
		h.SetVersionClassLabel(p.IPv6().TrafficClass()&dscp, 0)
		h.SetPayloadLength(uint16(len(m)))
		h.SetNextHeader(proto)
		h.SetHopLimit(resetTTL)
		h.SetSrc(from)
		h.SetDst(dst)
		pseudo = wire.PseudoHeader6(from, dst, proto, uint32(len(m)))
	} else {
		h := wire.IPv4(b)
		h.SetVersionAndHeaderLen(ip)
		h.SetTOS(p.IPv4().TOS() & dscp)
		h.SetTotalLength(uint16(len(b)))
		h.SetFragment(wire.IPv4DF, 0)
		h.SetTTL(resetTTL)
		h.SetProtocol(proto)
		h.SetSrc(uint32(src[0]))
		h.SetDst(p.IPv4().Src())
		h.ComputeChecksum()
	}
	m.SetChecksum(wire.Checksum(m, pseudo))
	return b
}
