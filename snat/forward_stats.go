package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
)

// ForwardStats is what became of new flows of a forward, and what its targets have.
type ForwardStats struct {
	Created  uint64        // sessions so far
	Refused  uint64        // packets dropped as ReasonNoTarget
	Loops    uint64        // packets dropped as ReasonTargetLoop
	Targets  []TargetStats // as in Config.Forwards
	Departed int           // sessions whose socket is no longer a target
}

// TargetStats is what a target of a forward has.
type TargetStats struct {
	State    TargetState // see NAT.SetTargets
	Sessions int         // now, tombstones of reset connections not included
}

// Forwards returns what has become of forwards, in the order of Config.Forwards. The counts
// of one with the same frontend, protocol and ports as before survive [NAT.Reconfigure].
// Every shard is consistent in itself. Cost: O(sessions), without stopping traffic for
// long; a Reconfigure waits for it.
func (n *NAT) Forwards() []ForwardStats {
	rows := n.plane.Forwards()
	all := make([]ForwardStats, len(rows))
	for i := range rows {
		c := &rows[i].Count
		all[i] = ForwardStats{Created: c.Created, Refused: c.Refused, Loops: c.Loops, Departed: rows[i].Departed, Targets: make([]TargetStats, len(rows[i].States))}
		for j, s := range rows[i].States {
			all[i].Targets[j] = TargetStats{State: TargetState(s), Sessions: rows[i].Sessions[j]}
		}
	}
	return all
}

// ForwardTraffic is the traffic of one forward.
type ForwardTraffic struct {
	Outbound, Inbound TrafficCount // by the side that packets came from
}

// ForwardTraffic returns the traffic of forwards, in the order of Config.Forwards: of what
// [NAT.Traffic] counts of their frontends that part which has come to their ports, and
// what has answered it; of fragments only first ones, which tell the port. It returns
// nothing unless [Dataplane].CountTraffic is set. The counts survive [NAT.Reconfigure] as
// those of [NAT.Forwards] do. Cost: O(forwards x shards) and one lock per shard.
func (n *NAT) ForwardTraffic() []ForwardTraffic {
	var all []ForwardTraffic
	for _, c := range n.plane.ForwardCounts() {
		all = append(all, ForwardTraffic{Outbound: TrafficCount(c.Traffic[flow.Inside]), Inbound: TrafficCount(c.Traffic[flow.Outside])})
	}
	return all
}
