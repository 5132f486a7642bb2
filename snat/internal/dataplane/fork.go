package dataplane

import (
	"slices"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Forking: every room copies its own state, under all locks at once. What never changes is
// shared by both: destination tables, ports of forwards, policies, configured instances.

// Fork makes to, which is zero, an independent copy of n at one moment, which is tied to its
// owner by admit and hooks, as in [compiled.Config]. Packets that need no lock may count in n
// only, or in both, if they pass meanwhile. It fails with [flow.ErrClosed] or [flow.ErrMemory];
// then to is of no use. also is called at that moment, and its error returned. Cost: that of copying
// the memory, during which all locks are held; taking it comes before.
func (n *NAT) Fork(to *NAT, admit func(flow.Side, *ports.Instance, ports.Tuple) flow.Reason, hooks compiled.Hooks, also func() error) error {
	room := n.makeRoom(to)
	return n.still(func() error {
		err := n.forkTo(to, room, admit, hooks)
		if err == nil {
			err = also()
		}
		if err != nil {
			to.release()
		}
		return err
	})
}

// still calls do while nothing changes, and returns its error. It fails with [flow.ErrClosed].
func (n *NAT) still(do func() error) error {
	for _, l := range [...]sync.Locker{n.fragments.table, &n.changing, n.control.RLocker()} {
		l.Lock()
		defer l.Unlock()
	}
	for _, sh := range n.all() {
		sh.Lock()
		defer sh.Unlock()
	}
	// Those of shared ports, of peaks and of fragments' identifications and traffic come last, each
	// where its room is copied: nobody takes any of these here under them.
	for _, l := range [...]sync.Locker{n.held, &n.permits, &n.outbox} {
		l.Lock()
		defer l.Unlock()
	}
	if n.closed.Load() {
		return flow.ErrClosed
	}
	return do()
}

// release returns the memory of a copy that is not complete.
func (n *NAT) release() {
	n.fragments.table.Close()
	for _, sh := range n.all() {
		sh.mem.Release()
	}
	if n.table != nil {
		n.table.Close()
	}
}

// makeRoom takes the memory for the shards of a copy, and returns that for its table.
func (n *NAT) makeRoom(to *NAT) *flow.Room {
	var stock slab.Stock
	to.shards = make([]*shard, len(n.shards))
	for _, sh := range n.all() {
		is := new(shard)
		sh.Lock()
		stock.Add(&is.mem, &sh.mem)
		sh.Unlock()
		to.shards[sh.number] = is
	}
	to.showShards()
	stock.Take()
	return n.table.Room()
}

func (n *NAT) forkTo(to *NAT, room *flow.Room, admit func(flow.Side, *ports.Instance, ports.Tuple) flow.Reason, hooks compiled.Hooks) (err error) {
	if to.table, err = n.table.ForkIn(room, nil, &to.notice); err != nil {
		return err
	}
	to.seeded, to.lenient, to.perConnection, to.hairpins, to.alarmInterval = n.seeded, n.lenient, n.perConnection, n.hairpins, n.alarmInterval
	to.messages, to.shared, to.routed, to.routerAddrs = n.messages, n.shared, n.routed, n.routerAddrs
	if n.notice.Raised() {
		to.notice.Raise()
	}
	n.outbox.ForkTo(&to.outbox, &to.notice)
	n.permits.ForkTo(&to.permits)
	to.held = n.held.Fork(&to.outbox, &to.notice)
	if !n.forkFragments(to) {
		return flow.ErrMemory
	}
	to.router.Init(n.router.Config, &to.outbox, to.held, to.fragments.ids)
	n.forkCounts(to)
	n.forkConfig(to, admit, hooks)
	for _, sh := range n.all() {
		if to.shards[sh.number] == nil { // it has been made since then
			to.shards[sh.number] = new(shard)
			to.showShards()
		}
		if !slab.Available() || !sh.forkTo(to.shards[sh.number], to) {
			return flow.ErrMemory
		}
	}
	return nil
}

// forkTo copies a shard to one of another NAT.
func (sh *shard) forkTo(to *shard, n *NAT) bool {
	to.nat, to.number, to.policy, to.audit, to.udp, to.counters = n, sh.number, sh.policy, sh.audit, sh.udp, sh.counters
	sh.resets.ForkTo(&to.resets, &n.notice)
	return sh.State.ForkTo(&to.State, n.ports, n.table.Shard(sh.number), to, &to.mem)
}

// forkFragments copies what there is of datagrams in pieces, and reports whether there was memory.
func (n *NAT) forkFragments(to *NAT) (ok bool) {
	f, g := &n.fragments, &to.fragments
	g.ids, g.udpOnly, g.forwardedOnly = f.ids.Fork(), f.udpOnly, f.forwardedOnly
	f.corrections.ForkTo(&g.corrections)
	g.table, ok = f.table.Fork(to.pieceTies())
	return ok
}

// forkCounts copies what is counted without a lock, or under control.
func (n *NAT) forkCounts(to *NAT) {
	n.records.ForkTo(&to.records)
	for _, d := range n.departed {
		c := new(counters.Direct)
		d.ForkTo(c)
		to.departed = append(to.departed, c)
	}
	n.early.ForkTo(&to.early)
	to.faults.Store(n.faults.Load())
}

// forkConfig copies the instances, and the configuration as packets read it.
func (n *NAT) forkConfig(to *NAT, admit func(flow.Side, *ports.Instance, ports.Tuple) flow.Reason, hooks compiled.Hooks) {
	to.config, to.follows = n.config, slices.Clone(n.follows)
	to.config.Admit, to.config.Hooks, to.config.Forwards = admit, hooks, slices.Clone(n.config.Forwards)
	for i := range to.config.Forwards {
		to.config.Forwards[i].Targets = slices.Clone(n.config.Forwards[i].Targets)
	}
	switch {
	case hooks.Parameters == nil:
		to.records.Stop()
	case n.records.Stopped() && n.config.Ports.Deterministic:
		to.records.Begin()
	}
	to.instances = make([]*instance, len(n.instances))
	all := make([]*ports.Instance, len(n.instances))
	for i, inst := range n.instances {
		if inst != nil {
			to.instances[i] = inst.Fork()
			all[i] = &to.instances[i].Instance
		}
	}
	for _, inst := range n.order {
		to.order = append(to.order, to.instances[inst.Index])
	}
	to.ports = n.ports.Fork(all, to.table.Hasher(), &to.notice, hooks.Ports)
	was := n.routes.Load()
	n.fragments.traffic.Lock()
	r := was.Fork(to.instances, to.ports, to.config.Admit)
	n.fragments.traffic.Unlock()
	to.routes.Store(r)
	if n.steady.Load() != nil {
		to.steady.Store(r)
	}
}
