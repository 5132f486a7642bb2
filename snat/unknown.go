package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Segments of connections that nobody knows, which NAT gateways answer and load
// balancers do not. Read RFC 9293 section 3.10.7.1 (how a closed connection
// answers) first.

// grants reports whether an inbound segment is sent to a port of a frontend that is
// granted to an instance, or to all. At an instance's own address none is, and one
// that awaits removal is not any more.
func (n *NAT) grants(r *routes, l *lane) bool {
	if l.p.Proto != wire.ProtoTCP {
		return false // it will not be answered in any case
	}
	if n.ports.ByRemote() {
		return isFrontend(r.outsideOf(l)) && n.ports.IsShared(l.outsidePort())
	}
	t := l.inboundTuple()
	f, inst := r.ownerOf(&t, l)
	return inst != nil && inst.Grants(int(t.Family), ports.TCPIndex, f.Packed, l.outsidePort())
}

// answerUnknown queues the RST for a segment that belongs to no flow and begins
// none, if the policy tells its sender.
func (sh *shard) answerUnknown(now flow.Time, from flow.Side, instance uint32, p *wire.Packet) {
	if p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 || sh.policy.ResetUnknown|sh.policy.ResetSYN == ResetNone {
		return
	}
	t, who := p.TCP(), sh.policy.ResetUnknown
	if t.Flags()&flow.ACK == 0 {
		who = sh.policy.ResetSYN
	}
	if t.Flags()&flow.RST != 0 || who == ResetNone || who == ResetInside && from == flow.Outside || !wire.VerifyL4(p) {
		return
	}
	if sh.mayAnswer(now) {
		sh.resets.put(reset{at: now, to: from, instance: instance, Reset: wire.ResetOf(p)})
	}
}

// mayAnswer reports whether a RST may be made that answers a packet: the connections
// that end before that come first.
func (sh *shard) mayAnswer(now flow.Time) bool {
	sh.expireAll(now)
	return sh.resets.admits(now, 1)
}

// answer queues the RST with which a tombstone answers a segment (RFC 5961
// section 9.1: its sequence number is SEG.ACK).
func (sh *shard) answer(id flow.ID, s *flow.Session, at flow.Time, from flow.Side, ack uint32) {
	if sh.mayAnswer(at) {
		sh.queueReset(id, s, at, from, ack)
	}
}
