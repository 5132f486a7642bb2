package dataplane

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Parsing: what of a pass needs no lock. It reads the addresses and ports of a packet into
// its lane, and finds the instance and the shard that may know it. What needs neither has
// its verdict here; fragments and hairpins go aside, with the action undecided.
//
// parseOutbound and parseInbound are twins, and so are the steps of process.go. They stay
// apart because a packet of an established flow is nothing but their first lines, which
// differ in what is read and looked up: a direction decided once per call, not at each of
// these, is what keeps them short.

// parseOutbound is the part of Outbound that needs no lock: it takes what the
// parser said of the packet and finds its instance. If it returns false the verdict
// is final, or undecided for a fragment, a hairpin, or a packet to a forward that
// takes those of the inside.
func (n *NAT) parseOutbound(r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if problem != wire.OK {
		return n.outboundSessionless(r, l, flow.Reason(problem), v)
	}
	if l.p.Flags != 0 {
		return n.parseOutbound6(r, l, v)
	}
	l.is6 = false
	b := l.p.B
	_ = b[headers.IP4Len-1]
	src := binary.BigEndian.Uint32(b[headers.IP4Src:])
	inst := r.Inside4.First(src) // instance and shard
	if inst == 0 {
		inst = r.Inside4.Others(src)
	}
	if int32(inst) <= 0 && !seeks(r, inst) { // nobody's, or it has a flag
		return n.outboundUnusual(r, l, inst, v)
	}
	ports := l.ports()
	l.inst, l.shard = addresses.Unpack(inst)
	// Field by field: a composite literal would be built elsewhere and copied
	// in wider pieces than it was written, which stalls.
	dst, vniProto := binary.BigEndian.Uint32(b[headers.IP4Dst:]), l.inst<<8|uint32(l.p.Proto)
	l.key.Src, l.key.Dst = src, dst
	l.key.SrcPort, l.key.DstPort = uint16(ports>>16), uint16(ports)
	l.key.VNIProto = vniProto
	l.hash = n.table.Hasher().HashParts(src, dst, ports, vniProto)
	if l.shard >= sought {
		return n.seek(r, l, uint64(src), 0, uint64(dst), ports, v)
	}
	return true
}

// parseOutbound6 is parseOutbound for IPv6 and fragments.
func (n *NAT) parseOutbound6(r *routes, l *lane, v *flow.Verdict) bool {
	if l.p.Flags&wire.Fragmented != 0 {
		return n.outboundSessionless(r, l, flow.ReasonFragment, v)
	}
	l.is6 = true
	b := l.p.B[:headers.IP6Dst+16]
	srcHigh, srcLow := binary.BigEndian.Uint64(b[headers.IP6Src:]), binary.BigEndian.Uint64(b[headers.IP6Src+8:])
	inst := r.Inside6.GetWords(srcHigh, srcLow)
	if int32(inst) <= 0 && !seeks(r, inst) {
		return n.outboundUnusual(r, l, inst, v)
	}
	ports := l.ports()
	l.inst, l.shard = addresses.Unpack(inst)
	dstHigh, dstLow, vniProto := binary.BigEndian.Uint64(b[headers.IP6Dst:]), binary.BigEndian.Uint64(b[headers.IP6Dst+8:]), l.inst<<8|uint32(l.p.Proto)
	l.key6.Src[0], l.key6.Src[1], l.key6.Dst[0], l.key6.Dst[1] = srcHigh, srcLow, dstHigh, dstLow
	l.key6.SrcPort, l.key6.DstPort = uint16(ports>>16), uint16(ports)
	l.key6.VNIProto = vniProto
	l.hash = n.table.Hasher().HashParts6(srcHigh, srcLow, dstHigh, dstLow, ports, vniProto)
	if l.shard >= sought {
		return n.seek(r, l, srcHigh, srcLow, prefixes.HashWords6(dstHigh, dstLow), ports, v)
	}
	return true
}

// parseInbound is the part of Inbound that needs no lock: it takes what the
// parser said of the packet and finds the shard that owns its destination port.
// If it returns false the verdict is final, or undecided for a fragment.
func (n *NAT) parseInbound(r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if problem != wire.OK {
		return n.inboundSessionless(r, l, flow.Reason(problem), v)
	}
	if l.p.Flags != 0 {
		return n.parseInbound6(r, l, v)
	}
	l.is6 = false
	b := l.p.B
	_ = b[headers.IP4Len-1]
	both, proto := l.ports(), uint32(l.p.Proto)
	src, dst := binary.BigEndian.Uint32(b[headers.IP4Src:]), binary.BigEndian.Uint32(b[headers.IP4Dst:])
	l.key.Src, l.key.Dst = src, dst
	l.key.SrcPort, l.key.DstPort = uint16(both>>16), uint16(both)
	l.key.VNIProto = proto
	l.hash = n.table.Hasher().HashParts(src, dst, both, proto)
	target := r.Outside4.Get(dst) - 1
	if target >= addresses.PublicFlag || l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return n.parseInboundUnusual(r, l, target, v)
	}
	transport := ports.TransportIndex(uint8(proto))
	if shard := r.Frontends[target].Owner[transport].Shard(uint16(both)); shard != 0 {
		l.shard = shard - 1
		return true
	}
	number := r.Forwards.AtIndex(target, transport, uint16(both))
	if number == 0 || l.first {
		return n.parseForwarded(r, l, number, both, v)
	}
	l.forward, l.shard = number, r.Forwards.Shard(number, uint64(src), uint16(both>>16), uint8(proto))
	return true
}

// parseInbound6 is parseInbound for IPv6 and fragments.
func (n *NAT) parseInbound6(r *routes, l *lane, v *flow.Verdict) bool {
	if l.p.Flags&wire.Fragmented != 0 {
		return n.inboundSessionless(r, l, flow.ReasonFragment, v)
	}
	l.is6 = true
	b, both, proto := l.p.B[:headers.IP6Dst+16], l.ports(), uint32(l.p.Proto)
	srcHigh, srcLow := binary.BigEndian.Uint64(b[headers.IP6Src:]), binary.BigEndian.Uint64(b[headers.IP6Src+8:])
	dstHigh, dstLow := binary.BigEndian.Uint64(b[headers.IP6Dst:]), binary.BigEndian.Uint64(b[headers.IP6Dst+8:])
	l.key6.Src[0], l.key6.Src[1], l.key6.Dst[0], l.key6.Dst[1] = srcHigh, srcLow, dstHigh, dstLow
	l.key6.SrcPort, l.key6.DstPort = uint16(both>>16), uint16(both)
	l.key6.VNIProto = proto
	l.hash = n.table.Hasher().HashParts6(srcHigh, srcLow, dstHigh, dstLow, both, proto)
	target := r.Outside6.GetWords(dstHigh, dstLow) - 1
	if target >= addresses.PublicFlag || l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return n.parseInboundUnusual(r, l, target, v)
	}
	transport := ports.TransportIndex(uint8(proto))
	if shard := r.Frontends[target].Owner[transport].Shard(uint16(both)); shard != 0 {
		l.shard = shard - 1
		return true
	}
	number := r.Forwards.AtIndex(target, transport, uint16(both))
	if number == 0 || l.first {
		return n.parseForwarded(r, l, number, both, v)
	}
	addr := prefixes.HashWords6(srcHigh, srcLow)
	l.forward, l.shard = number, r.Forwards.Shard(number, addr, uint16(both>>16), uint8(proto))
	return true
}

// parseInboundUnusual is the end of parseInbound for a packet that is not of TCP or UDP to
// a frontend. target is what its destination is to us, less one.
func (n *NAT) parseInboundUnusual(r *routes, l *lane, target uint32, v *flow.Verdict) bool {
	if target+1 == 0 {
		return n.parseInside(r, l, v)
	}
	if l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return n.parseInboundICMP(r, l, target, v)
	}
	l.inst = target &^ (addresses.NodeFlag | addresses.PublicFlag)
	inst := r.Instances[l.inst]
	if target&addresses.NodeFlag == 0 && !inst.Masquerades {
		return n.inboundDirect(r, l, inst, v)
	}
	l.shard = uint8(inst.Shard)
	return true
}

// parseInboundICMP is the end of parseInbound for protocols other than TCP and
// UDP, to target, which is what one of our addresses is to us, less one. A public address gets what no
// session of what is behind it can want.
func (n *NAT) parseInboundICMP(r *routes, l *lane, target uint32, v *flow.Verdict) bool {
	proto, rules := l.p.Proto, n.messagesOf(l.publicOf(r), l.p.Family())
	if !wire.IsICMP(proto) || !rules.Any() {
		return n.inboundSessionless(r, l, flow.ReasonUnsupportedProto, v)
	}
	msg := rules.Classify(&l.p)
	wanted := msg.Carried && msg.Kind != icmp.Request
	if target >= addresses.PublicFlag {
		l.inst = target &^ (addresses.NodeFlag | addresses.PublicFlag)
		inst := r.Instances[l.inst]
		if target&addresses.NodeFlag == 0 && !(inst.Masquerades && wanted) {
			return n.inboundDirect(r, l, inst, v)
		}
		l.shard = uint8(inst.Shard)
		if _, how := l.entryTo(r); how != noEntry {
			return true // a session has it, or else the instance
		}
	}
	reason, port := l.unsolicited(r), msg.ID
	switch {
	case msg.Carried && !wanted:
		return n.dropEarly(flow.Outside, reason, v)
	case !wanted:
		return n.dropEarly(flow.Outside, flow.ReasonICMPType, v)
	case target >= addresses.PublicFlag:
		return true
	case msg.Kind == icmp.Error:
		if reason == flow.ReasonNoFlow {
			reason = flow.ReasonICMPNoFlow
		}
		q, why := n.messages.Receive(&l.p, flow.Outside)
		if why != flow.ReasonNone {
			return n.dropEarly(flow.Outside, why, v)
		}
		proto, port = q.Proto, q.SrcPort
		if shard, ok := r.QuotedForward(q, target); ok {
			l.shard = shard
			return true
		}
	}
	shard := r.Frontends[target].Owner[ports.PoolIndex(proto)].Shard(port)
	if shard == 0 {
		return n.dropEarly(flow.Outside, reason, v)
	}
	l.shard = shard - 1
	return true
}

// parseInside is the end of parseInbound for a packet to none of our outside addresses:
// it may be for one behind an instance. With a row that remembers, now or once, that
// takes a look under the lock of its instance; else the verdict is final.
func (n *NAT) parseInside(r *routes, l *lane, v *flow.Verdict) bool {
	if r.Tracks {
		packed := uint32(0)
		if l.is6 {
			packed = r.Inside6.Get(l.key6.Dst)
		} else if packed = r.Inside4.First(l.key.Dst); packed == 0 {
			packed = r.Inside4.Others(l.key.Dst)
		}
		if packed != 0 && !addresses.IsDirect(packed) {
			l.inst, l.shard = addresses.Unpack(packed &^ addresses.LookFlag)
			return true
		}
	}
	if inst := n.untranslated(r, l); inst != nil {
		return n.enterUnchanged(r, l, inst, v)
	}
	return n.dropEarly(flow.Outside, flow.ReasonNotOurs, v)
}

// enterUnchanged is the end of an inbound packet that reaches an instance as it is, and
// needs no lock. Its verdict is final (false).
func (n *NAT) enterUnchanged(r *routes, l *lane, inst *instance, v *flow.Verdict) bool {
	if reason := n.admitsInside(r, l.now, inst, l); reason != flow.ReasonNone {
		return n.dropEarly(flow.Outside, reason, v)
	}
	*v = inst.Bypass(flow.Outside)
	return false
}

// outboundUnusual decides on a packet whose source has a packed value that is 0
// or carries a flag. Its verdict is final (false), unless the packet may not
// be forwarded.
func (n *NAT) outboundUnusual(r *routes, l *lane, packed uint32, v *flow.Verdict) bool {
	if packed&addresses.LookFlag == addresses.LookFlag { // and r.hairpin; see seeks
		return n.lookBack(r, l, packed, v)
	}
	if packed == 0 && r.Forwards.Len() > 0 && l.p.Flags&wire.Fragmented == 0 && n.parseFloating(r, l) {
		return true
	}
	t := headers.Addresses(&l.p, flow.Inside)
	t.DestPort = headers.RemotePort(&l.p, flow.Inside)
	if packed == 0 {
		return n.dropEarly(flow.Inside, r.Stranger(&t), v)
	}
	index, _ := addresses.Unpack(packed)
	inst := r.Instances[index]
	if (r.IsTargeted(inst) || r.Looks) && l.p.Flags&wire.Fragmented == 0 {
		switch ok := n.parseTarget(r, l, packed, t, v); {
		case !ok:
			return false
		case l.answer != noAnswer:
			return true
		}
	}
	*v = flow.Verdict{To: flow.Outside, Instance: index}
	if t.Inside == t.Remote { // whatever its route says
		return n.dropEarly(flow.Inside, flow.ReasonLand, v)
	}
	switch e := r.Effect(&t, int32(t.DestPort)); e.Action {
	case addresses.NodeAddress, addresses.PassThrough: // it has the instance's own address already
		if e.PassOn && n.permits.Answers(l.now, &l.p, index, t.Inside) {
			break // it goes back as it came
		}
		if reason := n.admitsBy(r, e, l.now, inst, &l.p, t.Inside); reason != flow.ReasonNone {
			return n.dropEarly(flow.Inside, reason, v)
		}
		v.Action = flow.Bypass
		inst.Direct.Bypassed[flow.Inside].Add(1)
		return false
	case addresses.Blackhole:
		return n.dropEarly(flow.Inside, flow.ReasonRoute, v)
	}
	if reason := r.Refuses(&t); reason != flow.ReasonNone {
		return n.dropEarly(flow.Inside, reason, v)
	}
	if n.router.Unfit(&l.p) != nil {
		return l.detour(inst, &t)
	}
	if reason := n.admitsPublic(r, l.now, flow.Inside, inst, l, t.Inside); reason != flow.ReasonNone {
		return n.dropEarly(flow.Inside, reason, v)
	}
	public, delta := inst.Public[t.Family], inst.Deltas[t.Family]
	if icmp.Quotes(&l.p) {
		switch reason := icmp.Exchange(&l.p, flow.Inside, t.Inside, public); {
		case reason == flow.ReasonICMPNoFlow && inst.Masquerades && n.shared.Errors:
			return l.detour(inst, &t) // it may be about a session of what is behind the instance
		case reason != flow.ReasonNone:
			return n.dropEarly(flow.Inside, reason, v)
		}
	} else {
		l.p.Readdress(headers.IP4Src, headers.IP6Src, public, delta)
	}
	inst.Direct.Forwarded[flow.Inside].Add(1)
	v.Action = flow.Forward
	return false
}

// outboundSessionless is outboundUnusual for a packet that no session can carry,
// for the reason given: it passes only from an address that is translated 1:1.
func (n *NAT) outboundSessionless(r *routes, l *lane, reason flow.Reason, v *flow.Verdict) bool {
	if n.lenient.Tolerates(reason, &l.p) {
		return n.parseOutbound(r, l, wire.OK, v)
	}
	if n.router.Answers(reason) {
		return n.parseOutbound(r, l, wire.ParseHopless(l.p.B, &l.p), v)
	}
	if reason == flow.ReasonUnsupportedProto || reason == flow.ReasonFragment {
		t := headers.Addresses(&l.p, flow.Inside)
		packed := r.Source(&t)
		if addresses.IsDirect(packed) {
			return n.outboundUnusual(r, l, packed, v)
		}
		if inst := n.leaves(r, &l.p); inst != nil {
			if t.Inside == t.Remote {
				return n.dropEarly(flow.Inside, flow.ReasonLand, v)
			}
			if reason := n.admitsBy(r, r.Effect(&t, -1), l.now, inst, &l.p, t.Inside); reason != flow.ReasonNone {
				return n.dropEarly(flow.Inside, reason, v)
			}
			*v = inst.Bypass(flow.Inside)
			return false
		}
	}
	if reason == flow.ReasonFragment {
		return n.refuseFragment(flow.Inside, v)
	}
	return n.dropEarly(flow.Inside, reason, v)
}

// inboundSessionless is outboundSessionless for the other direction.
func (n *NAT) inboundSessionless(r *routes, l *lane, reason flow.Reason, v *flow.Verdict) bool {
	if n.lenient.Tolerates(reason, &l.p) {
		return n.parseInbound(r, l, wire.OK, v)
	}
	if n.router.Answers(reason) {
		return n.parseInbound(r, l, wire.ParseHopless(l.p.B, &l.p), v)
	}
	if reason == flow.ReasonUnsupportedProto || reason == flow.ReasonFragment {
		t := headers.Addresses(&l.p, flow.Outside)
		l.between(t.Remote, t.Inside)
		if inst := n.untranslated(r, l); inst != nil {
			return n.enterUnchanged(r, l, inst, v)
		}
		inst := l.publicOf(r)
		shared := n.pieces(&l.p) && inst != nil && inst.Masquerades
		if inst != nil && !shared { // else the fragment may belong to a session
			return n.inboundDirect(r, l, inst, v)
		}
	}
	if reason == flow.ReasonFragment {
		return n.refuseFragment(flow.Outside, v)
	}
	return n.dropEarly(flow.Outside, reason, v)
}

// inboundDirect is for a packet to a public address that needs no lock, because
// it cannot belong to a session. Its verdict is final (false), unless the packet
// may not be forwarded.
func (n *NAT) inboundDirect(r *routes, l *lane, inst *instance, v *flow.Verdict) bool {
	if reason := l.unsolicited(r); reason != flow.ReasonNoFlow {
		return n.dropEarly(flow.Outside, reason, v)
	}
	if n.router.Unfit(&l.p) != nil {
		l.inst, l.shard = inst.Index, uint8(inst.Shard)
		return true
	}
	if n.receive(r, l.now, inst, l, v); v.Action == flow.Drop {
		return n.dropEarly(flow.Outside, v.Reason, v)
	}
	return false
}

// parse is the part of a pass that needs no lock, of a packet other than a first
// fragment. If it returns false the verdict is final, or undecided.
func (n *NAT) parse(from flow.Side, r *routes, l *lane, problem wire.Problem, v *flow.Verdict) bool {
	if from == flow.Inside {
		return n.parseOutbound(r, l, problem, v)
	}
	return n.parseInbound(r, l, problem, v)
}

// parseFirst is parse for a first fragment. Like a whole packet it has addresses and
// ports, which is all that parsing looks at.
func (n *NAT) parseFirst(from flow.Side, r *routes, l *lane, v *flow.Verdict) bool {
	l.p.Flags &^= wire.Fragmented
	goesOn := n.parse(from, r, l, wire.OK, v)
	l.p.Flags |= wire.Fragmented
	if goesOn && n.fragments.forwardedOnly && !l.isForwarded(r, from) {
		*v = n.dropFragments(from, flow.ReasonFragment, 1)
		return false
	}
	return goesOn
}
