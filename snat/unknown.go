package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Segments of connections that nobody knows, which NAT gateways answer and load
// balancers do not. Read RFC 9293 section 3.10.7.1 (how a closed connection
// answers) first.

// ResetUnknown says who is told with a RST that a connection does not exist.
//
// A segment with ACK is answered, to its sender only, with the sequence number
// it acknowledges (Policy.ResetUnknown), a SYN with one that acknowledges it
// (Policy.ResetSYN; RFC 9293 section 3.10.7.1). A RST, a fragment, a segment
// with a wrong checksum, one from or to an address that may not begin a flow, and
// one to a port that is granted to nobody are not answered, nor is one to an instance's
// own address. The packet itself is
// dropped in any case. The RST has the DSCP of the segment and is handed out by
// Advance; 65,536 can wait in a shard, and further ones are counted as
// Stats.ResetsSuppressed. The instance of one to the outside is 0.
type ResetUnknown uint8

// Who is told.
const (
	ResetNone   ResetUnknown = iota // nobody; the default, Azure load balancers
	ResetInside                     // senders on the inside; AWS NAT gateways
	ResetSender                     // senders on either side; Azure NAT gateways
	numResetUnknowns
)

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
	return inst != nil && inst.Grants(int(t.Family), ports.TCPIndex, f, l.outsidePort())
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
