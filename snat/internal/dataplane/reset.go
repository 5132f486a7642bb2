package dataplane

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// When a RST is made; package resets makes it, and keeps the rate. What ends before a
// segment is answered comes first. NAT gateways answer segments of connections that
// nobody knows, load balancers do not.

// ResetTo ends at now the TCP connections that the inside has begun with hosts for which is
// reports true, and returns how many. Established ones are reset at both ends, whatever the policy says of
// idle ones.
func (n *NAT) ResetTo(now flow.Time, is func(netip.Addr) bool) (ended int) {
	n.renew(now)
	n.control.RLock()
	defer n.control.RUnlock()
	for _, sh := range n.all() {
		sh.Walk(func(id flow.ID, s *flow.Session) {
			at := sh.approach(now)
			if sh.Has(id) && ports.BegunInside(s) && is(ports.RemoteOf(id, s)) {
				sh.expire(id, s, at, true)
				ended++
			}
		})
	}
	n.notice.Raise()
	return ended
}

// answerStraggler queues the RST with which a tombstone answers a segment.
func (sh *shard) answerStraggler(id flow.ID, s *flow.Session, at flow.Time, from flow.Side, ack uint32) {
	sh.expireAll(at)
	sh.resets.Answer(id, s, at, from, ack)
}

// answerUnknown queues the RST for a segment that belongs to no flow and begins
// none, if the policy tells its sender.
func (sh *shard) answerUnknown(now flow.Time, from flow.Side, instance uint32, p *wire.Packet) {
	if sh.resets.Answers(from, p) {
		sh.expireAll(now)
		sh.resets.Refuse(now, from, instance, p)
	}
}

// grants reports whether an inbound segment is sent to a port of a frontend that is
// granted to an instance, or to all. At an instance's own address none is, and one
// that awaits removal is not any more.
func (n *NAT) grants(r *routes, l *lane) bool {
	if l.p.Proto != wire.ProtoTCP {
		return false // it will not be answered in any case
	}
	if n.ports.ByRemote() {
		return addresses.IsFrontend(l.outsideOf(r)) && n.ports.IsShared(l.outsidePort())
	}
	var t ports.Tuple
	l.inboundTuple(&t)
	f, inst := l.ownerOf(r, &t)
	return inst != nil && inst.Grants(int(t.Family), ports.TCPIndex, f.Packed, l.outsidePort())
}
