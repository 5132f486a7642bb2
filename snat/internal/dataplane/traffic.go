package dataplane

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// Traffic, as packets count it. Package traffic has the rows.

// Traffic returns the traffic of all frontends in order, or nil unless it is counted. Cost:
// O(frontends x shards) and one lock per shard.
func (n *NAT) Traffic() []traffic.Frontend {
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	if !r.CountTraffic {
		return nil
	}
	protocols := ports.NumProtocols
	if n.messages.Any() {
		protocols = ports.NumPools
	}
	all := traffic.NewReport(r.FrontendOrder, protocols)
	for _, sh := range n.all() {
		sh.Lock()
		all.Add(r.Traffic, sh.number)
		sh.Unlock()
	}
	if n.fragments.table != nil {
		n.fragments.traffic.Lock()
		defer n.fragments.traffic.Unlock()
		all.Add(r.Traffic, len(n.shards))
	}
	return all.All
}

// countFragment counts a packet of size bytes that no shard has seen at a frontend, if
// it is one and if traffic is counted.
func (n *NAT) countFragment(from flow.Side, v6 bool, frontend *[2]uint64, proto uint8, size int) {
	r := n.routes.Load()
	target := r.FrontAt(v6, *frontend)
	if !r.CountTraffic || target-1 >= addresses.PublicFlag {
		return
	}
	n.fragments.traffic.Lock()
	defer n.fragments.traffic.Unlock()
	r.Traffic[target-1][len(n.shards)].Piece(from, proto, size)
}

// count counts a packet that has come from a side, if it has been translated at a
// frontend. The lock of its shard must be held.
func (l *lane) count(from flow.Side, r *routes, v *flow.Verdict) {
	if v.Action != flow.Forward {
		return
	}
	var target uint32
	switch {
	case from == flow.Inside && l.is6:
		target = r.Outside6.Get(headers.Words(l.p.B[headers.IP6Src:]))
	case from == flow.Inside:
		target = r.Outside4.Get(binary.BigEndian.Uint32(l.p.B[headers.IP4Src:]))
	default:
		target = l.outsideOf(r)
	}
	if target-1 >= addresses.PublicFlag { // unknown, or an instance's own or public address
		return
	}
	r.Traffic[target-1][l.shard].Packet(from, &l.p)
	if r.Forwards.Len() == 0 || l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return
	}
	port := l.outsidePort()
	if from == flow.Inside {
		port = uint16(l.p.Ports() >> 16)
	}
	if number := r.Forwards.At(target-1, l.p.Proto, port); number != 0 {
		r.Forwards.CountAt(int(l.shard), number).Traffic[from].Packet(&l.p)
	}
}
