package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// Traffic, as packets count it. Package traffic has the rows.

// FrontendTraffic is the traffic of one frontend and protocol.
type FrontendTraffic struct {
	Frontend netip.Addr
	Protocol int              // index of the protocol's pools; all ICMP counts as queries
	Counts   [2]traffic.Count // by the side that packets came from
}

// Traffic returns the traffic of all frontends in order, or nil unless it is counted. Cost:
// O(frontends x shards) and one lock per shard.
func (n *NAT) Traffic() []FrontendTraffic {
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	if !r.countTraffic {
		return nil
	}
	protocols := ports.NumProtocols
	if n.messages.Any() {
		protocols = ports.NumPools
	}
	all := make([]FrontendTraffic, protocols*len(r.frontendOrder))
	for f, frontend := range r.frontendOrder {
		for p := range protocols {
			row := &all[protocols*f+p]
			row.Frontend, row.Protocol = frontend.Addr, p
		}
	}
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		r.addTraffic(all, i, protocols)
		sh.Unlock()
	}
	if n.fragments.table != nil {
		n.fragments.traffic.Lock()
		defer n.fragments.traffic.Unlock()
		r.addTraffic(all, len(n.shards), protocols)
	}
	return all
}

// addTraffic adds the traffic of a shard, or behind them of fragments, to rows of so many
// protocols. Its lock must be held.
func (r *routes) addTraffic(all []FrontendTraffic, shard, protocols int) {
	for f, frontend := range r.frontendOrder {
		row := &r.traffic[frontend.Index][shard]
		for p := range protocols {
			for side := range 2 {
				all[protocols*f+p].Counts[side].Add(&row.Counts[p][side])
			}
		}
	}
}

// countFragment counts a packet of size bytes that no shard has seen at a frontend, if
// it is one and if traffic is counted.
func (n *NAT) countFragment(from flow.Side, v6 bool, frontend *[2]uint64, proto uint8, size int) {
	r, target := n.routes.Load(), uint32(0)
	switch {
	case !r.countTraffic:
		return
	case v6:
		target = r.Outside6.Get(*frontend)
	default:
		target = r.Outside4.Get(uint32(frontend[0]))
	}
	if target-1 >= addresses.PublicFlag {
		return
	}
	n.fragments.traffic.Lock()
	defer n.fragments.traffic.Unlock()
	r.traffic[target-1][len(n.shards)].Piece(from, proto, size)
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
		target = r.outsideOf(l)
	}
	if target-1 >= addresses.PublicFlag { // unknown, or an instance's own or public address
		return
	}
	r.traffic[target-1][l.shard].Packet(from, &l.p)
	if r.forwards.Len() == 0 || l.p.Proto != wire.ProtoTCP && l.p.Proto != wire.ProtoUDP {
		return
	}
	port := l.outsidePort()
	if from == flow.Inside {
		port = uint16(l.p.Ports() >> 16)
	}
	if number := r.forwards.At(target-1, l.p.Proto, port); number != 0 {
		r.forwards.CountAt(int(l.shard), number).Traffic[from].Packet(&l.p)
	}
}
