package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
	"github.com/seed-a61be3fe/natplane/snat/internal/traffic"
)

// Snapshots: every room writes its own state, and reads it, under all locks at once. What the
// configuration tells is not written: reading begins with an empty translator of the same configuration,
// in which instances and frontends are at the places that they had.

// Archive writes n as it is at one moment, and calls also then, whose error it returns. It fails with
// [flow.ErrClosed].
func (n *NAT) Archive(a *snapshot.Archive, also func() error) error {
	n.changing.Lock()
	n.makeShards(everyShard) // each is written
	n.changing.Unlock()
	return n.still(func() error {
		n.archivePlaces(a, &n.config, n.ports.ByRemote())
		n.archive(a)
		if err := a.Err(); err != nil {
			return err
		}
		return also()
	})
}

// Restore makes n, which is zero, what was written with the same configuration. It fails with
// [flow.ErrMemory], or with the error of a; then n is of no use.
func (n *NAT) Restore(f compiled.Fixed, c compiled.Config, a *snapshot.Archive) (err error) {
	if err = n.prepare(&f); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			err = a.Err()
		}
		if err != nil {
			n.release()
		}
	}()
	hooks := c.Hooks
	c.Hooks = compiled.Hooks{} // which are told nothing of this
	n.archivePlaces(a, &c, f.Shared != nil)
	if !a.OK() {
		return a.Err()
	}
	n.apply(0, c, true, true)
	n.share(&f)
	n.retargeted = nil
	n.makeShards(everyShard)
	if !n.archive(a) {
		return flow.ErrMemory
	}
	n.config.Hooks = hooks
	n.ports.Listen(hooks.Ports)
	switch {
	case hooks.Parameters == nil:
		n.records.Stop()
	case n.records.Stopped() && n.config.Ports.Deterministic:
		n.records.Begin()
	}
	return nil
}

// archivePlaces writes or reads where the instances of c and the frontends are.
func (n *NAT) archivePlaces(a *snapshot.Archive, c *compiled.Config, byRemote bool) {
	a.Section("places")
	r := n.routes.Load()
	seats, shards, tracks := len(r.Instances), len(n.shards), r.Tracks
	snapshot.Same(a, "number of instances", len(c.Instances))
	seats = a.Len(seats, MaxInstances+1)
	snapshot.Num(a, &shards)
	a.Bool(&tracks)
	stubs := &routes{Tracks: tracks}
	for i := range c.Instances {
		index, shard, targeted := uint32(0), 0, false
		if a.Writing() {
			index, shard, targeted = n.order[i].Index, n.order[i].Shard, r.IsTargeted(n.order[i])
		}
		snapshot.Num(a, &index)
		snapshot.Num(a, &shard)
		a.Bool(&targeted)
		if a.Writing() || !a.Check(int64(index) < int64(seats) && shard >= 0 && shard < shards, "instance %q has index %d of %d", c.Instances[i].Name, index, seats) {
			continue
		}
		for len(stubs.Instances) <= int(index) {
			stubs.Instances = append(stubs.Instances, nil)
		}
		if shards != len(n.shards) {
			shard = -1 // wherever there is room
		}
		if a.Check(stubs.Instances[index] == nil, "two instances have index %d", index) {
			stubs.Instances[index] = instances.New(&compiled.Instance{Name: c.Instances[i].Name}, index, shard, nil)
		}
		if targeted {
			n.retargeted = append(n.retargeted, c.Instances[i].Name)
		}
	}
	if !byRemote {
		n.ports.ArchivePlaces(a, seats)
	}
	if !a.Writing() && a.OK() {
		for len(stubs.Instances) < seats {
			stubs.Instances = append(stubs.Instances, nil)
		}
		stubs.Plan = addresses.Plan{Destinations: addresses.NewDestinations(nil)}
		n.routes.Store(stubs)
	}
}

// archive writes or reads the state behind the places, and reports whether there was memory.
func (n *NAT) archive(a *snapshot.Archive) bool {
	r, ok := n.routes.Load(), true
	r.Forwards.Archive(a, func(index uint32) bool { return int64(index) < int64(len(n.instances)) && n.instances[index] != nil })
	ar := n.table.Archive(a)
	tombstones, holds := make([]uint64, len(n.shards)), make([]uint64, len(n.shards))
	for i := 0; i < ar.Shards && ok && a.OK(); i++ {
		ar.Sessions(i, func(id flow.ID, s *flow.Session) int { return n.whereIs(a, r, id, s) }, func(at flow.Place, s *flow.Session) {
			if s.Track.Phase() == flow.TCPResetSent {
				tombstones[at.Shard]++
			}
			if s.Track.Class == flow.ClassUDPHeld {
				holds[at.Shard]++
			}
		})
		sh := n.shards[i%len(n.shards)]
		if ok = ar.Memory(); ok && a.OK() {
			ok = sh.State.Archive(a, ar)
			ar.Timers()
			sh.archive(a, ar.Apart())
		}
	}
	if ar.Whole(); !ok || !a.OK() {
		return ok
	}
	for i, sh := range n.shards {
		if c := &sh.counters; ar.Apart() {
			c.Tombstones, c.Holds = tombstones[i], holds[i]
		} else if !a.Writing() {
			a.Check(c.Tombstones == tombstones[i] && c.Holds == holds[i], "%d tombstones and %d holds, counted %d and %d", c.Tombstones, c.Holds, tombstones[i], holds[i])
		}
	}
	n.ports.ArchiveHistory(a, ar.Apart(), ar.Shards)
	n.archiveCounts(a, r)
	return n.archiveWaiting(a, ar.Apart())
}

// archive writes or reads what a shard counts, and the resets that wait.
func (sh *shard) archive(a *snapshot.Archive, apart bool) {
	a.Section("counters")
	c, q := &sh.counters, &sh.resets
	if apart {
		c, q = new(counters.Counters), new(resets.Queue)
	}
	a.Value(c, 0)
	a.Value(q, resets.MaxWaiting, "notice", "rules")
	if apart {
		sh.counters.Add(c)
		sh.resets.Append(q)
	}
}

// whereIs returns the shard of a session that is read, or refuses it.
func (n *NAT) whereIs(a *snapshot.Archive, r *routes, id flow.ID, s *flow.Session) int {
	index := s.Key.VNI()
	if int64(index) >= int64(len(n.instances)) || n.instances[index] == nil {
		a.Refuse("a session of instance %d, which is none", index)
		return 0
	}
	t := ports.TupleOf(id, s)
	switch {
	case n.ports.ByRemote():
		return int(n.ports.ShardOfRemote(id.Is6(), t.Remote, t.DestPort, t.Proto))
	case s.Kind() == flow.KindForwarded:
		if number := r.Forwarding(id, s); a.Check(number != 0, "a session of no forward") {
			return int(r.ShardOf(number, &t))
		}
		return 0
	}
	return n.instances[index].Shard
}

// archiveCounts writes or reads what is counted without a shard, or over all of them.
func (n *NAT) archiveCounts(a *snapshot.Archive, r *routes) {
	a.Section("counts")
	for _, inst := range n.order {
		a.Value(inst.Direct, 0)
		a.Value(inst.Alarms, 0)
	}
	snapshot.Slice(a, &n.departed, MaxInstances, func(d **counters.Direct) {
		if *d == nil {
			*d = new(counters.Direct)
		}
		a.Value(*d, 0)
	})
	a.Value(&n.records, 0)
	a.Value(&n.early, 0)
	a.Value(&n.faults, 0)
	for _, rows := range r.Traffic {
		if len(rows) == 0 {
			continue
		}
		var sum traffic.Row
		for i := range rows[:len(rows)-1] {
			sum.Add(&rows[i])
		}
		if a.Value(&sum.Counts, 0); !a.Writing() {
			rows[0] = sum
		}
		a.Value(&rows[len(rows)-1].Counts, 0)
	}
	for k := range uint32(r.Forwards.Len()) {
		var sum forwards.Count
		for i := range n.shards {
			sum.Add(r.Forwards.CountAt(i, k+1))
		}
		if a.Value(&sum, 0); !a.Writing() {
			*r.Forwards.CountAt(0, k+1) = sum
		}
	}
}

// archiveWaiting writes or reads what waits outside of shards, and reports whether there was memory.
func (n *NAT) archiveWaiting(a *snapshot.Archive, apart bool) bool {
	a.Section("permits")
	n.permits.Archive(a)
	a.Section("waiting")
	a.Value(&n.outbox, 1<<20, "notice", "silent", "mu", "interval", "depth")
	if n.held != nil {
		a.Value(n.held, 1<<20, "outbox", "notice", "max", "wait", "mu")
	}
	a.Section("fragments")
	f := &n.fragments
	if f.ids != nil {
		a.Value(f.ids, 0, "hasher", "keys", "mu")
	}
	a.Value(&f.corrections, 0)
	ok := f.table.Archive(a)
	raised := n.notice.Raised()
	if a.Bool(&raised); !a.Writing() {
		if n.notice.Clear(); raised || apart {
			n.notice.Raise()
		}
	}
	return ok
}
