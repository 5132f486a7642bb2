package snat

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

// Traffic, as it is read and as packets count it. Package traffic has the rows.

// TrafficCount is an amount of traffic.
type TrafficCount struct {
	Packets uint64 // fragments each count as one
	Bytes   uint64 // from the IP header to the end of its payload
	SYNs    uint64 // TCP segments with SYN and without ACK
}

// Add adds more traffic to t.
func (t *TrafficCount) Add(more *TrafficCount) { (*traffic.Count)(t).Add((*traffic.Count)(more)) }

// FrontendTraffic is the translated traffic of one frontend and protocol.
type FrontendTraffic struct {
	Frontend          netip.Addr   // the outside address of the flows
	Protocol          Protocol     // TCP, UDP or, for all ICMP, Query
	Outbound, Inbound TrafficCount // by the side that packets came from
}

// Traffic returns what has been translated to and from each frontend, in the order
// in which instances name them, TCP before UDP, and as Query all ICMP, errors
// included, if any is carried; nothing unless [Dataplane].CountTraffic is set. The sums
// are what Stats counts as forwarded, less what is translated 1:1 or to a node's own
// address. Dropped packets and resets made here are not counted, except a packet
// that exceeds the MTU and whose parts find no room. Cost: O(frontends x shards) and
// one lock per shard.
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
	all := make([]FrontendTraffic, protocols*len(r.frontends))
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		for f, frontend := range r.frontends {
			for p := range protocols {
				row := &all[protocols*f+p]
				row.Frontend, row.Protocol = frontend.Addr, Protocol(p)+TCP
				row.add(&r.traffic[f][i].Counts[p])
			}
		}
		sh.Unlock()
	}
	if n.fragments.table != nil {
		n.addFragmentTraffic(r, all, protocols)
	}
	return all
}

// addFragmentTraffic adds the traffic of fragments to rows of so many protocols.
func (n *NAT) addFragmentTraffic(r *routes, all []FrontendTraffic, protocols int) {
	n.fragments.traffic.Lock()
	defer n.fragments.traffic.Unlock()
	for i := range r.traffic {
		for p := range protocols {
			all[protocols*i+p].add(&r.traffic[i][len(n.shards)].Counts[p])
		}
	}
}

// add adds counts by side.
func (t *FrontendTraffic) add(counts *[2]traffic.Count) {
	(*traffic.Count)(&t.Outbound).Add(&counts[flow.Inside])
	(*traffic.Count)(&t.Inbound).Add(&counts[flow.Outside])
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
