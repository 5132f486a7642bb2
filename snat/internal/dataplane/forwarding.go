package dataplane

import (
	"cmp"
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
	"github.com/seed-a61be3fe/natplane/snat/internal/routing"
)

// The way of packets to forwarded ports, and of the answers. Package forwards says what is
// forwarded, and which shard has the sessions; here is how packets get there.
//
// A packet from outside that finds no owner of its port asks for a forward. Then it is like
// any other: it has a session, or it begins one.
//
// An answer comes from an instance that may have flows of its own, in a shard of its own,
// so the sources of targets carry a mark. Where the source socket is one of a target, the
// shard of the forward is asked first; if there is no session the packet is no answer, and
// goes the way of any other (batch.go, processForwards). A floating target answers from the
// frontend's address, whose packets are nobody's otherwise.

// parseForwarded is the end of parseInbound for a port of a frontend that no instance
// owns, and that the forward with a number less one has; 0 if none has.
func (n *NAT) parseForwarded(r *routes, l *lane, number, both uint32, v *flow.Verdict) bool {
	switch {
	case number == 0:
		return n.dropEarly(flow.Outside, l.unsolicited(r), v)
	case l.first && !r.Forwards.Get(number).AllPorts(): // it cannot carry the others
		return n.dropEarly(flow.Outside, flow.ReasonFragment, v)
	}
	addr := uint64(l.key.Src)
	if l.is6 {
		addr = prefixes.HashWords6(l.key6.Src[0], l.key6.Src[1])
	}
	l.forward, l.shard = number, r.Forwards.Shard(number, addr, uint16(both>>16), l.p.Proto)
	return true
}

// forwardOf returns the number, plus one, of the forward that an inbound packet is sent
// to, or 0.
func (l *lane) forwardOf(r *routes) uint32 {
	if r.Forwards.Len() == 0 || l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return 0
	}
	return r.Forwards.At(l.outsideOf(r)-1, l.p.Proto, l.outsidePort())
}

// openForwarded lets an inbound packet to a forward begin a session and sends it on, or
// says why not. The session that it takes the place of ends, if there is one: a tombstone,
// or a closed connection whose target takes no new flows.
func (sh *shard) openForwarded(m *moment, l *lane, number uint32, v *flow.Verdict) flow.Reason {
	all := m.routes.Forwards
	f := all.Get(number)
	var seg flow.Segment
	if l.p.Proto == wire.ProtoTCP {
		if headers.Segment(&l.p, &seg); seg.Flags&flow.RST != 0 {
			return flow.ReasonNoFlow
		}
		if headers.Corrupt(&l.p) {
			return flow.ReasonL4Checksum
		}
	}
	var t ports.Tuple
	l.inboundTuple(&t)
	if m.routes.To(&t) == addresses.Blackhole {
		return flow.ReasonRoute
	}
	sh.expireAll(m.now)
	var hash uint64
	outside := [2]uint64{uint64(l.key.Dst)}
	if l.is6 {
		outside, hash = l.key6.Dst, rendezvous.Hash6(all.Spread(), f.Fields, &l.key6)
	} else {
		hash = rendezvous.Hash4(all.Spread(), f.Fields, &l.key)
	}
	port := l.outsidePort()
	if l.hairpin {
		if reason := m.routes.AdmitsSender(&t, outside, port); reason != flow.ReasonNone {
			return reason
		}
	}
	target, count := f.Pick(hash), all.CountAt(sh.number, number)
	if target == nil {
		count.Refused++
		return flow.ReasonNoTarget
	}
	if target.Addr == t.Remote {
		count.Loops++
		return flow.ReasonTargetLoop
	}
	t.Inside, t.InsidePort = target.Addr, cmp.Or(target.Port, port)
	if f.Floating {
		t.Inside = outside
	}
	inst, other := sh.nat.instances[target.Instance], flow.ID(0)
	if f.Shares() {
		if other = sh.rival(l, inst, &t); other != 0 && !sh.givesWay(other, seg.Flags) {
			return flow.ReasonMappingConflict
		}
	}
	if reason := m.routes.Admits(flow.Outside, inst, &t); reason != flow.ReasonNone {
		return reason
	}
	if !sh.Ready(l.is6) {
		return flow.ReasonMemory
	}
	for _, old := range [...]flow.ID{sh.find(flow.Outside, l), other} {
		if old != 0 {
			sh.cutForwarded(m.now, old, sh.At(old), counters.CutTarget)
		}
	}
	id := sh.create(m.now, flow.Outside, inst, &t, &seg, outside, port, 0, flow.KindForwarded)
	if id == 0 {
		return flow.ReasonMemory
	}
	count.Created++
	if s := sh.At(id); l.is6 {
		headers.Inbound6(&l.p, s)
	} else {
		headers.Inbound4(&l.p, s)
	}
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: inst.Index}
	return flow.ReasonNone
}

// rival returns the session of the same remote by another forward with the same target
// socket, or 0: what the target answers is for one of them only.
func (sh *shard) rival(l *lane, inst *instance, t *ports.Tuple) flow.ID {
	if other := sh.forwardedOf(t, inst.Index); other != sh.find(flow.Outside, l) {
		return other
	}
	return 0
}

// givesWay reports whether a forwarded session ends for a new one between the same inside
// sockets, which begins with the given flags: by a SYN, if it is closed.
func (sh *shard) givesWay(id flow.ID, flags uint8) bool {
	class := sh.At(id).Track.Class
	return flags&(flow.SYN|flow.ACK) == flow.SYN && (usage.Held(class) || class == flow.ClassTCPResetSent)
}

// seeks reports whether a packet whose source is packed so is looked at for its being an answer,
// or for a forward itself, and nothing else.
func seeks(r *routes, packed uint32) bool { return packed >= addresses.LookFlag && !r.Hairpin }

// sought is what such a source adds to its shard, and seek takes away.
const sought = addresses.LookFlag >> 24

// seek is the end of parseOutbound for such a packet, whose source has the words high and low,
// and which has been read already. remote is a number for its destination. If the packet is for a
// forward itself the verdict is undecided.
func (n *NAT) seek(r *routes, l *lane, high, low, remote uint64, both uint32, v *flow.Verdict) bool {
	l.shard &^= sought
	if r.Looks && r.ID == 0 && n.entersForward(r, l, uint16(both)) {
		v.Action = undecided
		return false
	}
	proto := l.p.Proto
	if l.asked || proto != wire.ProtoTCP && proto != wire.ProtoUDP {
		return true
	}
	if f := r.Forwards.Seeks(l.inst, l.is6, high, low, uint16(both>>16), proto); f != 0 {
		l.own, l.answer = l.shard, maybeAnswer
		l.shard = r.Forwards.Shard(f, remote, uint16(both), proto)
	}
	return true
}

// parseTarget is seek for a packet, between the addresses of t, of an instance with a public
// address.
func (n *NAT) parseTarget(r *routes, l *lane, packed uint32, t ports.Tuple, v *flow.Verdict) bool {
	n.read(l, packed, &t)
	remote := t.Remote[0]
	if l.is6 {
		remote = prefixes.Hash6(t.Remote)
	}
	return n.seek(r, l, t.Inside[0], t.Inside[1], remote, l.ports(), v)
}

// entersForward reports whether a packet of the inside to a port is for a forward that takes
// those, or is an error about what the target of one sent back.
func (n *NAT) entersForward(r *routes, l *lane, port uint16) bool {
	proto := l.p.Proto
	if n.messages.CarriesError(&l.p) {
		if q, reason := n.messages.Read(&l.p, flow.Outside); reason == flow.ReasonNone {
			proto, port = q.Proto, q.SrcPort
		}
	}
	f := r.Forwards.At(l.outsideOf(r)-1, proto, port)
	return f != 0 && r.Forwards.Get(f).FromInside && (proto == wire.ProtoTCP || proto == wire.ProtoUDP)
}

// parseFloating goes on with parseOutbound for a packet whose source is nobody's inside. It
// reports whether that is a floating target's; its key then is one that fits no session.
func (n *NAT) parseFloating(r *routes, l *lane) bool {
	if l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return false
	}
	both := l.ports()
	if l.p.Flags&wire.V6 != 0 {
		return n.parseFloating6(r, l, both)
	}
	number := r.Forwards.At(r.Outside4.Get(l.p.IPv4().Src())-1, l.p.Proto, uint16(both>>16))
	if number == 0 || !r.Forwards.Get(number).Floating {
		return false
	}
	n.readFloating(r, l, number)
	return true
}

// readFloating reads a packet of IPv4 from a target of a floating forward, by its number plus one.
func (n *NAT) readFloating(r *routes, l *lane, number uint32) {
	b, both := l.p.B[:headers.IP4Len], l.ports()
	src, dst := binary.BigEndian.Uint32(b[headers.IP4Src:]), binary.BigEndian.Uint32(b[headers.IP4Dst:])
	l.is6, l.floating, l.inst, l.forward = false, true, routing.NoInstance, number
	l.key.Src, l.key.Dst = src, dst
	l.key.SrcPort, l.key.DstPort = uint16(both>>16), uint16(both)
	l.key.VNIProto = routing.NoInstance<<8 | uint32(l.p.Proto)
	l.hash = n.table.Hasher().HashParts(dst, src, both<<16|both>>16, uint32(l.p.Proto))
	l.shard = r.Forwards.Shard(number, uint64(dst), uint16(both), l.p.Proto)
}

// parseFloating6 is parseFloating for IPv6.
func (n *NAT) parseFloating6(r *routes, l *lane, both uint32) bool {
	b := l.p.B[:headers.IP6Dst+16]
	srcHigh, srcLow := binary.BigEndian.Uint64(b[headers.IP6Src:]), binary.BigEndian.Uint64(b[headers.IP6Src+8:])
	dstHigh, dstLow := binary.BigEndian.Uint64(b[headers.IP6Dst:]), binary.BigEndian.Uint64(b[headers.IP6Dst+8:])
	number := r.Forwards.At(r.Outside6.GetWords(srcHigh, srcLow)-1, l.p.Proto, uint16(both>>16))
	if number == 0 || !r.Forwards.Get(number).Floating {
		return false
	}
	l.is6, l.floating, l.inst = true, true, routing.NoInstance
	l.key6.Src[0], l.key6.Src[1], l.key6.Dst[0], l.key6.Dst[1] = srcHigh, srcLow, dstHigh, dstLow
	l.key6.SrcPort, l.key6.DstPort = uint16(both>>16), uint16(both)
	l.key6.VNIProto = routing.NoInstance<<8 | uint32(l.p.Proto)
	l.hash = n.table.Hasher().HashParts6(dstHigh, dstLow, srcHigh, srcLow, both<<16|both>>16, uint32(l.p.Proto))
	l.shard = r.Forwards.Shard(number, prefixes.HashWords6(dstHigh, dstLow), uint16(both), l.p.Proto)
	return true
}

// processFloating is processOutbound for the answer of a floating target, which passes as
// it is if it belongs to a session.
func (sh *shard) processFloating(m *moment, l *lane, v *flow.Verdict) {
	id := sh.floating(l)
	s := sh.At(id)
	if id == 0 || sh.Expired(s, m.tick) {
		if id, s = sh.settleFloating(m, l, id, s, v); id == 0 {
			return
		}
	}
	l.inst = s.Key.VNI()
	if l.p.Proto == wire.ProtoTCP {
		if t := l.p.TCPHeader(); headers.Plain(&l.p, t) && s.Track.Data(flow.Inside, headers.SeqOf(t), headers.AckOf(t), headers.DataLen(&l.p, t), headers.WindowOf(t)) {
			s.TouchTick(m.tick)
		} else if does := sh.track(m, flow.Inside, l, id, s, v); does != forward {
			if does != faulty { // a SYN that a tombstone would give way to is nobody's
				sh.counters.Drop(flow.Inside, flow.ReasonFlowReset, l.inst, v)
			}
			return
		}
	} else {
		sh.udp.Touch(s, flow.Inside, m.tick)
	}
	sh.counters.Forwarded[flow.Inside]++
	v.Action, v.Reason, v.To, v.New, v.Instance = flow.Forward, flow.ReasonNone, flow.Outside, false, l.inst
}

// settleFloating is settleLane for the answer of a floating target. Without a session its
// verdict is made.
func (sh *shard) settleFloating(m *moment, l *lane, id flow.ID, s *flow.Session, v *flow.Verdict) (flow.ID, *flow.Session) {
	defer sh.spare(m, flow.Inside, 0, v)
	if id != 0 {
		id, s = sh.settle(m, id, s, func() flow.ID { return sh.floating(l) })
	}
	if id == 0 {
		sh.counters.Drop(flow.Inside, flow.ReasonSpoofFrontend, 0, v)
	}
	return id, s
}

// floating returns the session that an answer of a floating target belongs to, or 0.
func (sh *shard) floating(l *lane) flow.ID {
	if l.is6 {
		if l.id.Is6() && l.s.MatchAnswer6(&l.key6) {
			return l.id
		}
		k := l.key6.Reverse()
		return sh.LookupOutside6(&k, l.hash)
	}
	if l.id != 0 && !l.id.Is6() && l.s.MatchAnswer(&l.key) {
		return l.id
	}
	k := l.key.Reverse()
	return sh.LookupOutside(&k, l.hash)
}

// processAnswer is processOutbound for what may be the answer of a target. If it is none the
// verdict is undecided.
func (sh *shard) processAnswer(m *moment, l *lane, v *flow.Verdict) {
	l.answer = soughtAnswer
	if l.is6 {
		if l.id == 0 || !l.id.Is6() || l.s.Kind() != flow.KindForwarded || !l.s.MatchInside6(&l.key6) {
			if l.id = sh.inside6(&l.key6, l.hash, true); l.id != 0 {
				l.s = sh.At(l.id)
			}
		}
	} else if l.id == 0 || l.id.Is6() || l.s.Kind() != flow.KindForwarded || !l.s.MatchInside(&l.key) {
		if l.id = sh.inside4(&l.key, l.hash, true); l.id != 0 {
			l.s = sh.At(l.id)
		}
	}
	if l.id == 0 { // or it may not be forwarded, and then its key fits none, whosever it is
		v.Action = undecided
		return
	}
	if l.first && sh.nat.fragments.forwardedOnly && !m.routes.Forwards.IsOfAllPorts(m.routes.Forwarding(l.id, l.s)) {
		sh.counters.Drop(flow.Inside, flow.ReasonFragment, l.inst, v)
		return
	}
	sh.processOutbound(m, l, v)
}

// inside4 returns the session with inside key k whose being forwarded is as asked, or 0.
// There may be one of each: what came from outside to a target, and what the target's own
// socket had sent there.
func (sh *shard) inside4(k *flow.Key, hash uint64, forwarded bool) flow.ID {
	id := sh.LookupInside(k, hash)
	if id == 0 || (sh.At(id).Kind() == flow.KindForwarded) == forwarded {
		return id
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || !id.Is6() && sh.At(id).MatchInside(k) && (sh.At(id).Kind() == flow.KindForwarded) == forwarded {
			return id
		}
	}
}

// inside6 is inside4 for IPv6.
func (sh *shard) inside6(k *flow.Key6, hash uint64, forwarded bool) flow.ID {
	id := sh.LookupInside6(k, hash)
	if id == 0 || (sh.At(id).Kind() == flow.KindForwarded) == forwarded {
		return id
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || id.Is6() && sh.At(id).MatchInside6(k) && (sh.At(id).Kind() == flow.KindForwarded) == forwarded {
			return id
		}
	}
}
