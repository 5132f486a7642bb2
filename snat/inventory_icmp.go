package snat

// ICMP with an inventory: how messages find the shard of their remote. Queries and
// their replies name it; an error is about a flow, and its quote names the remote
// of that.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// numStocks returns how many protocols have ports in the inventory, or
// identifiers.
func (n *NAT) numStocks() int {
	if n.icmp.Queries {
		return numPools
	}
	return numProtocols
}

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
	return n.inventory.shardOf(addr, port, q.proto), true
}

// followError takes an error to the shard of the flow that it is about. One that
// cannot be read stays where it is, to be dropped there.
func (n *NAT) followError(from flow.Side, l *lane) {
	if !n.icmp.Errors || !n.icmp.isError(&l.p) {
		return
	}
	if shard, ok := n.shardQuoted(&l.p, from); ok {
		l.shard = shard
	}
}

// followErrors is followError for a batch.
func (b *batch) followErrors(n *NAT, from flow.Side) {
	if !n.icmp.Errors {
		return
	}
	for i := range b.lanes[:b.n] {
		l := &b.lanes[i]
		n.followError(from, l)
		b.locks |= 1 << (l.shard & 63)
	}
}
