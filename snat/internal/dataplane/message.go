package dataplane

// ICMP messages: what one is, which session it is about, and what becomes of it. Read
// RFC 5508 first. Package icmp knows the bytes; here are the ways to the sessions.
//
// With shared ports the shard is that of the remote. Queries and their replies name it;
// an error is about a flow, and its quote names the remote of that.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// messagesOf returns which messages are carried of the sources of an instance, nil for nobody's.
func (n *NAT) messagesOf(inst *instance, family uint8) *icmp.Rules {
	if inst != nil && inst.Public[family] != [2]uint64{} {
		return &n.shared
	}
	return &n.messages
}

// outboundQuery forwards a message of an instance if it is a query that has a session, or the reply to one
// that came untranslated, and reports whether it did. The tuple becomes that of the query, or of one without ports.
func (sh *shard) outboundQuery(m *moment, l *lane, t *ports.Tuple) bool {
	t.InsidePort, t.DestPort = 0, 0
	msg := sh.nat.messagesOf(sh.nat.instances[l.inst], t.Family).Classify(&l.p)
	if msg.Kind != icmp.Request && msg.Kind != icmp.Reply || !msg.Carried || sh.nat.router.Unfit(&l.p) != nil {
		return false
	}
	asked := *t
	asked.InsidePort = msg.ID
	id := sh.insideOf(&asked, l.inst)
	if msg.Kind == icmp.Request {
		*t = asked
	}
	if id == 0 || msg.Kind == icmp.Reply && sh.At(id).Kind() != flow.KindTracked {
		return false
	}
	s := sh.At(id)
	if sh.Expired(s, m.tick) {
		if id, s = sh.settle(m, id, s, func() flow.ID { return sh.insideOf(&asked, l.inst) }); id == 0 {
			return false
		}
	}
	s.TouchTick(m.tick)
	icmp.RewriteQuery(&l.p, flow.Inside, ports.OutsideOf(id, s), s.OutsidePort)
	return true
}

// exceptionalOutbound handles outbound packets that neither use nor begin a session:
// those that may not be forwarded, and ICMP errors.
func (sh *shard) exceptionalOutbound(r *routes, now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple, v *flow.Verdict) bool {
	n := sh.nat
	unfit := n.router.Unfit(p)
	if unfit == nil && !n.messagesOf(inst, t.Family).CarriesError(p) {
		return false
	}
	if v.Reason = r.Refuses(t); v.Reason != flow.ReasonNone {
		return true
	}
	if unfit != nil {
		v.Reason = n.router.Report(now, flow.Inside, inst.Index, p, n.routerOf(inst, t.Family), unfit)
		return true
	}
	*v = sh.outboundError(now, inst, p, t)
	return true
}

// exceptionalInbound handles inbound packets that may belong to a session although processInbound finds
// none: ICMP, and packets that may not be forwarded. to is the instance that gets a packet without a session,
// nil if none does, and how tells by which row of the destination table. If it returns false, it has no session.
func (sh *shard) exceptionalInbound(m *moment, l *lane, to *instance, how entry, v *flow.Verdict) bool {
	p, n := &l.p, sh.nat
	unfit := n.router.Unfit(p)
	if unfit == nil && !wire.IsICMP(p.Proto) {
		return false
	}
	*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNoFlow}
	if n.messages.IsError(p) {
		if unfit != nil {
			v.Reason = unfit.Reason
			return how != entryPass
		}
		*v = sh.inboundError(m, l)
		return v.Action == flow.Forward || to == nil || how == entryTracked
	}
	id, s := sh.wanted(m, l, to)
	switch {
	case s != nil:
		v.Instance = s.Key.VNI()
	case how == entryPass:
		return false
	case to != nil:
		v.Instance = to.Index
	case unfit == nil || l.forwardOf(m.routes) == 0: // else a forward would have had it
		return true
	}
	if unfit != nil {
		_, src := p.Addrs()
		v.Reason = n.router.Report(m.now, flow.Outside, v.Instance, p, src, unfit)
		return true
	}
	if s == nil {
		return false
	}
	s.TouchTick(m.tick)
	t := ports.TupleOf(id, s)
	icmp.RewriteQuery(p, flow.Outside, t.Inside, t.InsidePort)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: v.Instance}
	return true
}

// wanted returns the live session that an inbound packet belongs to, or nil. to is as exceptionalInbound has it.
func (sh *shard) wanted(m *moment, l *lane, to *instance) (flow.ID, *flow.Session) {
	p := &l.p
	t := headers.Addresses(p, flow.Outside)
	outside, port, asks := t.Inside, uint16(0), false
	switch {
	case p.Flags&wire.NonFirst != 0:
		return 0, nil
	case wire.IsICMP(p.Proto):
		msg := sh.nat.messagesOf(to, t.Family).Classify(p)
		if port, asks = msg.ID, msg.Kind == icmp.Request; !msg.Carried {
			return 0, nil
		}
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		ports := p.Ports()
		t.DestPort, port = uint16(ports>>16), uint16(ports)
	}
	id := sh.OutsideID(&t, &outside, port)
	if id == 0 {
		return 0, nil
	}
	s := sh.At(id)
	if sh.Expired(s, m.tick) {
		id, s = sh.settle(m, id, s, func() flow.ID { return sh.OutsideID(&t, &outside, port) })
	}
	if id == 0 || s.Track.Class == flow.ClassTCPResetSent || asks && s.Kind() != flow.KindTracked {
		return 0, nil
	}
	return id, s
}

// inboundError translates an error from the outside about a packet that left: its sender gets what it had sent.
func (sh *shard) inboundError(m *moment, l *lane) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonICMPNoFlow, To: flow.Inside}
	q, reason := sh.nat.messages.Receive(&l.p, flow.Outside)
	if reason != flow.ReasonNone {
		v.Reason = reason
		return v
	}
	t := ports.Tuple{Family: l.p.Family(), Proto: q.Proto, Remote: q.Dst, DestPort: q.DstPort}
	id := sh.OutsideID(&t, &q.Src, q.SrcPort)
	s, ok := sh.quoted(id, m.tick)
	if !ok {
		return v
	}
	if icmp.OddMTU(&l.p) {
		sh.counters.OddMTU++
	}
	t = ports.TupleOf(id, s)
	q.Translate(&l.p, flow.Outside, t.Inside, t.InsidePort)
	v.Action, v.Reason, v.Instance = flow.Forward, flow.ReasonNone, s.Key.VNI()
	return v
}

// outboundError translates an error from the inside about a packet that was delivered. Its source is the
// address that the remote had sent the packet to, whoever inside sends it (RFC 5508 REQ-5).
func (sh *shard) outboundError(now flow.Time, inst *instance, p *wire.Packet, t *ports.Tuple) flow.Verdict {
	v := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonICMPNoFlow, To: flow.Outside, Instance: inst.Index}
	q, reason := sh.nat.messages.Receive(p, flow.Inside)
	if reason != flow.ReasonNone {
		v.Reason = reason
		return v
	}
	about := ports.Tuple{
		Family: t.Family, Proto: q.Proto,
		Inside: q.Dst, InsidePort: q.DstPort, Remote: q.Src, DestPort: q.SrcPort,
	}
	id := sh.insideOf(&about, inst.Index)
	s, ok := sh.quoted(id, flow.TickOf(now))
	if !ok {
		return v
	}
	q.Translate(p, flow.Inside, ports.OutsideOf(id, s), s.OutsidePort)
	v.Action, v.Reason = flow.Forward, flow.ReasonNone
	return v
}

// locateQuoted finds the shard of the forwarded flow that an error from the inside is
// about, if it may be about one.
func (n *NAT) locateQuoted(r *routes, l *lane) {
	q, reason := n.messages.Read(&l.p, flow.Inside)
	if reason != flow.ReasonNone || q.Proto != wire.ProtoTCP && q.Proto != wire.ProtoUDP {
		return
	}
	t := ports.Tuple{Family: l.p.Family(), Proto: q.Proto, Inside: q.Dst, InsidePort: q.DstPort, Remote: q.Src, DestPort: q.SrcPort}
	number := r.Forwards.Answering(l.inst, l.is6, &t.Inside, t.InsidePort, t.Proto)
	if number == 0 {
		number = r.Forwards.At(r.Front(&t)-1, t.Proto, t.InsidePort)
	}
	if number != 0 {
		l.own, l.answer = l.shard, quotedAnswer
		l.shard = r.ShardOf(number, &t)
	}
}

// outboundQuoted is outboundError in the shard of a forward. It reports whether the error
// is about a flow there; else its verdict is not made.
func (sh *shard) outboundQuoted(m *moment, l *lane, v *flow.Verdict) bool {
	n, t := sh.nat, headers.Addresses(&l.p, flow.Inside)
	if n.router.Unfit(&l.p) != nil || m.routes.Refuses(&t) != flow.ReasonNone {
		return false
	}
	q, reason := n.messages.Receive(&l.p, flow.Inside)
	if reason != flow.ReasonNone {
		return false
	}
	about := ports.Tuple{Family: t.Family, Proto: q.Proto, Inside: q.Dst, InsidePort: q.DstPort, Remote: q.Src, DestPort: q.SrcPort}
	id := sh.OutsideID(&about, &q.Dst, q.DstPort) // of a floating target
	if id == 0 {
		id = sh.forwardedOf(&about, l.inst)
	}
	s, ok := sh.quoted(id, m.tick)
	if !ok || s.Kind() != flow.KindForwarded || s.Key.VNI() != l.inst {
		return false
	}
	q.Translate(&l.p, flow.Inside, ports.OutsideOf(id, s), s.OutsidePort)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: l.inst}
	sh.counters.Count(flow.Inside, v)
	return true
}

// quoted returns the session that a quote belongs to, if there is one and it
// lives. It changes nothing: errors have no effect on sessions.
func (sh *shard) quoted(id flow.ID, tick uint32) (*flow.Session, bool) {
	if id == 0 {
		return nil, false
	}
	s := sh.At(id)
	return s, s.Track.Class != flow.ClassTCPResetSent && !sh.Expired(s, tick)
}

// shardQuoted returns the shard of the flow that an error from a side is about,
// and whether its quote can be read.
func (n *NAT) shardQuoted(p *wire.Packet, from flow.Side) (shard uint8, ok bool) {
	q, reason := n.messages.Read(p, from)
	if reason != flow.ReasonNone {
		return 0, false
	}
	remote, port := q.Dst, q.DstPort
	if from == flow.Inside {
		remote, port = q.Src, q.SrcPort
	}
	if wire.IsICMP(q.Proto) {
		port = messagePort
	}
	addr := remote[0]
	if p.Flags&wire.V6 != 0 {
		addr = prefixes.Hash6(remote)
	}
	return n.ports.ShardOf(addr, port, q.Proto), true
}

// shardTo returns the shard of the flow of a packet from a side.
func (n *NAT) shardTo(from flow.Side, l *lane) uint8 {
	switch {
	case from == flow.Inside && l.is6:
		return n.ports.ShardOf(prefixes.Hash6(l.key6.Dst), l.key6.DstPort, l.p.Proto)
	case from == flow.Inside:
		return n.ports.ShardOf(uint64(l.key.Dst), l.key.DstPort, l.p.Proto)
	case l.is6:
		return n.ports.ShardOf(prefixes.Hash6(l.key6.Src), l.key6.SrcPort, l.p.Proto)
	}
	return n.ports.ShardOf(uint64(l.key.Src), l.key.SrcPort, l.p.Proto)
}

// locateRemote finds the shard of a packet from a side: that of its remote, or of an
// error that of the flow that it is about. An error that cannot be read stays where it
// is, to be dropped there.
func (n *NAT) locateRemote(from flow.Side, l *lane) {
	l.shard = n.shardTo(from, l)
	if n.messages.CarriesError(&l.p) {
		if shard, ok := n.shardQuoted(&l.p, from); ok {
			l.shard = shard
		}
	}
}
