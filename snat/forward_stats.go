package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// ForwardStats is what became of new flows of a forward, and what its targets have.
type ForwardStats struct {
	Created  uint64        // sessions so far
	Refused  uint64        // packets dropped as ReasonNoTarget
	Loops    uint64        // packets dropped as ReasonTargetLoop
	Targets  []TargetStats // as in Config.Forwards
	Departed int           // sessions now whose targets are none any more
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
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	all := make([]ForwardStats, r.forwards.Len())
	for i := range all {
		states := r.forwards.Get(uint32(i + 1)).States()
		all[i].Targets = make([]TargetStats, len(states))
		for j, s := range states {
			all[i].Targets[j].State = TargetState(s)
		}
	}
	for i := range n.shards {
		if len(all) == 0 {
			break
		}
		sh := &n.shards[i]
		sh.Lock()
		for k := range all {
			c := r.forwards.CountAt(i, uint32(k+1))
			all[k].Created += c.Created
			all[k].Refused += c.Refused
			all[k].Loops += c.Loops
		}
		sh.Unlock()
		sh.eachForwarded(func(id flow.ID, s *flow.Session) {
			number := r.forwarding(id, s)
			if number == 0 || s.Track.Phase() == flow.TCPResetSent {
				return
			}
			t, f := ports.TupleOf(id, s), r.forwards.Get(number)
			if j, ok := f.TargetOf(s.Key.VNI(), t.Inside); ok {
				all[number-1].Targets[j].Sessions++
			} else {
				all[number-1].Departed++
			}
		})
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
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	if !r.countTraffic || r.forwards.Len() == 0 {
		return nil
	}
	all := make([]ForwardTraffic, r.forwards.Len())
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		for k := range all {
			t := &r.forwards.CountAt(i, uint32(k+1)).Traffic
			(*traffic.Count)(&all[k].Outbound).Add(&t[flow.Inside])
			(*traffic.Count)(&all[k].Inbound).Add(&t[flow.Outside])
		}
		sh.Unlock()
	}
	return all
}

// forwardedStep is how many sessions are looked at under one lock.
const forwardedStep = 4096

// eachForwarded calls do for the forwarded sessions of a shard, which may be ended by it, in
// small pieces. The lock of the shard must not be held.
func (sh *shard) eachForwarded(do func(id flow.ID, s *flow.Session)) {
	ids := make([]flow.ID, 0, forwardedStep)
	for after := flow.ID(0); ; after = ids[len(ids)-1] {
		sh.Lock()
		ids = sh.IDs(ids[:0], after)
		for _, id := range ids {
			if s := sh.At(id); s.Kind() == flow.KindForwarded {
				do(id, s)
			}
		}
		sh.Unlock()
		if len(ids) == 0 {
			return
		}
	}
}
