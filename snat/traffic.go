package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// Traffic, as it is read.

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
	rows := n.plane.Traffic()
	if rows == nil {
		return nil
	}
	all := make([]FrontendTraffic, len(rows))
	for i, t := range rows {
		all[i] = FrontendTraffic{
			Frontend: t.Addr, Protocol: Protocol(t.Protocol) + TCP,
			Outbound: TrafficCount(t.Counts[flow.Inside]), Inbound: TrafficCount(t.Counts[flow.Outside]),
		}
	}
	return all
}
