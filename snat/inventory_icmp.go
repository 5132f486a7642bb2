package snat

// ICMP with an inventory: how messages find the shard of their remote. Queries and
// their replies name it; an error is about a flow, and its quote names the remote
// of that.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// shardQuoted returns the shard of the flow that an error from a side is about,
// and whether its quote can be read.
func (n *NAT) shardQuoted(p *wire.Packet, from flow.Side) (shard uint8, ok bool) {
	q := quote{lenient: n.icmp.LenientQuotes}
	if q.read(p, from) != flow.ReasonNone {
		return 0, false
	}
	remote, port := q.dst, q.dstPort
	if from == flow.Inside {
		remote, port = q.src, q.srcPort
	}
	if isICMP(q.proto) {
		port = messagePort
	}
	addr := remote[0]
	if p.Flags&wire.V6 != 0 {
		addr = prefixes.Hash6(remote)
	}
	return n.ports.ShardOf(addr, port, q.proto), true
}

// locateRemote finds the shard of a packet from a side: that of its remote, or of an
// error that of the flow that it is about. An error that cannot be read stays where it
// is, to be dropped there.
func (n *NAT) locateRemote(from flow.Side, l *lane) {
	l.shard = n.shardTo(from, l)
	if n.icmp.Errors && n.icmp.isError(&l.p) {
		if shard, ok := n.shardQuoted(&l.p, from); ok {
			l.shard = shard
		}
	}
}
