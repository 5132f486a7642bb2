package dataplane

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/heldsyn"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// What can be seen from above: numbers, and visits of what a lock guards. A function that is
// called with something must not call back into the NAT, nor keep it.

// Stats is what a NAT has done so far.
type Stats struct {
	counters.Counters           // of all shards, and of what passes without one
	OneToOne          [2]uint64 // of Forwarded, by the side they came from

	Active int        // sessions; tombstones and held ports are none
	Ports  usage.Uses // of all frontends

	Resets, ResetsSuppressed         uint64 // RSTs made, and not made because too many waited
	ICMPErrors, ICMPErrorsSuppressed uint64 // made here, and not made because of their rate or for want of an address

	HeldSYNs  heldsyn.Stats   // of the table of held SYNs
	Fragments fragments.Stats // of the table of datagrams in pieces
	Faults    uint64          // broken invariants
	Bytes     int             // of memory
}

// Stats returns the counters. Each shard is consistent in itself; shards are
// read one after the other. Cost: one lock per shard and instance, and O(frontends).
func (n *NAT) Stats() Stats {
	var s Stats
	// First, because they correct what is counted elsewhere before. Their locks are
	// taken before control.
	s.ICMPErrors, s.ICMPErrorsSuppressed = n.outbox.Errors()
	s.HeldSYNs = n.held.Stats()
	s.Bytes += s.HeldSYNs.Bytes
	n.fragments.addTo(&s)
	for _, sh := range n.all() {
		sh.Lock()
		s.Add(&sh.counters)
		s.Active += sh.Len() - int(sh.counters.Tombstones+sh.counters.Holds)
		made, suppressed := sh.resets.Counts()
		s.Resets += made
		s.ResetsSuppressed += suppressed
		s.Bytes += sh.Bytes() + sh.mem.Bytes() + sh.PortBytes()
		sh.Unlock()
	}
	s.Faults = n.faults.Load()
	n.control.RLock()
	defer n.control.RUnlock()
	for _, inst := range n.order {
		n.shards[inst.Shard].Lock() // a first flow may make its ports' uses
		s.Bytes += inst.Bytes()
		n.shards[inst.Shard].Unlock()
		s.AddDirect(inst.Direct, &s.OneToOne)
	}
	for _, d := range n.departed {
		s.AddDirect(d, &s.OneToOne)
	}
	s.Bytes += n.ports.Bytes()
	for _, f := range n.routes.Load().FrontendOrder {
		for p := range ports.NumPools {
			s.Ports.Add(f.Use(p).Uses)
		}
	}
	s.AddEarly(&n.early)
	return s
}

// addTo adds what fragments have done to the statistics.
func (f *fragmentation) addTo(s *Stats) {
	s.Fragments = f.table.Stats()
	for side := range 2 {
		reconsidered := f.corrections.Reconsidered[side].Load()
		s.Forwarded[side] += s.Fragments.Forwarded[side] + reconsidered - f.corrections.Lost[side].Load()
		s.Bypassed[side] += s.Fragments.Bypassed[side]
		s.Dropped[side][flow.ReasonICMPInnerFragment] -= reconsidered
	}
	s.Bytes += s.Fragments.Bytes
}

// Counted returns the counters of all shards together. Cost: one lock per shard.
func (n *NAT) Counted() (c counters.Counters) {
	for _, sh := range n.all() {
		sh.Lock()
		c.Add(&sh.counters)
		sh.Unlock()
	}
	return c
}

// Frontends calls visit for all frontends in the order of their first use by an instance,
// after what their peaks depend on has ended.
func (n *NAT) Frontends(visit func(f *ports.Frontend)) {
	n.control.RLock()
	defer n.control.RUnlock()
	n.expireForPeaks()
	for _, f := range n.routes.Load().FrontendOrder {
		visit(f)
	}
}

// IsFrontend reports whether the inside address of t is that of a frontend, or public. Cost: no lock.
func (n *NAT) IsFrontend(t *ports.Tuple) bool { return addresses.IsFrontend(n.routes.Load().Front(t)) }

// expireForPeaks ends what was over when peaks rose. The caller holds control.
func (n *NAT) expireForPeaks() {
	until, any := n.ports.PeaksUntil()
	if !any {
		return
	}
	for _, sh := range n.all() {
		sh.Lock()
		sh.expireAll(until)
		sh.Unlock()
	}
}

// Instances calls visit for all instances in the order of the configuration, each under the
// lock of its shard, whose state of ports comes with it. oneToOne are the packets between its
// own and its public addresses, by the side they came from.
func (n *NAT) Instances(visit func(of *ports.State, inst *ports.Instance, oneToOne [2]uint64)) {
	n.control.RLock()
	defer n.control.RUnlock()
	for _, inst := range n.order {
		sh := n.shards[inst.Shard]
		sh.Lock()
		visit(&sh.State, &inst.Instance, [2]uint64{inst.Direct.Forwarded[0].Load(), inst.Direct.Forwarded[1].Load()})
		sh.Unlock()
	}
}

// Shards calls visit for the state of the ports of each shard, under its lock. The instances
// stay what they are meanwhile.
func (n *NAT) Shards(visit func(of *ports.State)) {
	n.control.RLock()
	defer n.control.RUnlock()
	for _, sh := range n.all() {
		sh.Lock()
		visit(&sh.State)
		sh.Unlock()
	}
}

// SharedUses returns the use of shared ports, if there are any.
func (n *NAT) SharedUses() []ports.SharedUse { return n.ports.SharedUses() }

// NumShards returns the number of shards.
func (n *NAT) NumShards() int { return len(n.shards) }

// RealmOf returns the realm of an instance, and whether there is such an instance. Cost: no
// lock.
func (n *NAT) RealmOf(instance uint32) (id uint32, ok bool) {
	all := n.routes.Load().Instances
	if int64(instance) >= int64(len(all)) || all[instance] == nil {
		return 0, false
	}
	return all[instance].Realm, true
}

// Sessions iterates over copies of all sessions; see [flow.Table.Sessions].
func (n *NAT) Sessions() iter.Seq[flow.Info] {
	return func(yield func(flow.Info) bool) {
		for s := range n.table.Sessions() {
			s.Proto = ports.Normal(s.Proto)
			n.routes.Load().Complete(&s)
			if !yield(s) {
				return
			}
		}
	}
}

// Named calls do. While do runs, instance indexes keep their meaning, and name
// returns the name of the instance with an index. Traffic is not stopped.
func (n *NAT) Named(do func(name func(instance uint32) string)) {
	n.control.RLock()
	defer n.control.RUnlock()
	instances := n.routes.Load().Instances
	do(func(instance uint32) string { return instances[instance].Name })
}

// Forwarded is what a forward has.
type Forwarded struct {
	Count    forwards.Count   // of all shards
	States   []forwards.State // of its targets
	Sessions []int            // by target; tombstones are none
	Departed int              // sessions whose targets are none any more
}

// Forwards returns what forwards have, in order. Cost: O(sessions), without stopping traffic
// for long.
func (n *NAT) Forwards() []Forwarded {
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	all := make([]Forwarded, r.Forwards.Len())
	for i := range all {
		all[i].States = r.Forwards.Get(uint32(i + 1)).States()
		all[i].Sessions = make([]int, len(all[i].States))
	}
	for _, sh := range n.all() {
		if len(all) == 0 {
			break
		}
		sh.countForwards(r, func(k int, c *forwards.Count) { all[k].Count.Add(c) })
		sh.eachForwarded(func(id flow.ID, s *flow.Session) {
			number := r.Forwarding(id, s)
			if number == 0 || s.Track.Phase() == flow.TCPResetSent {
				return
			}
			t, f := ports.TupleOf(id, s), r.Forwards.Get(number)
			if j, ok := f.TargetOf(s.Key.VNI(), t.Inside); ok {
				all[number-1].Sessions[j]++
			} else {
				all[number-1].Departed++
			}
		})
	}
	return all
}

// ForwardCounts returns the counts of all forwards, or nil unless traffic is counted. Cost:
// O(forwards x shards) and one lock per shard.
func (n *NAT) ForwardCounts() []forwards.Count {
	n.control.RLock()
	defer n.control.RUnlock()
	r := n.routes.Load()
	if !r.CountTraffic || r.Forwards.Len() == 0 {
		return nil
	}
	all := make([]forwards.Count, r.Forwards.Len())
	for _, sh := range n.all() {
		sh.countForwards(r, func(k int, c *forwards.Count) { all[k].Add(c) })
	}
	return all
}

// countForwards calls add with the counts of all forwards in a shard.
func (sh *shard) countForwards(r *routes, add func(k int, c *forwards.Count)) {
	sh.Lock()
	defer sh.Unlock()
	for k := range r.Forwards.Len() {
		add(k, r.Forwards.CountAt(sh.number, uint32(k+1)))
	}
}
