package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// How the state of ports is copied: first that of instances, then what all shards have in
// common, then shard by shard. The locks of all shards must be held meanwhile. What a copy
// has of its own, and what both share because it never changes, is listed in state_test.go.

// ForkTo makes to, which is zero, a copy of an instance.
func (inst *Instance) ForkTo(to *Instance) {
	*to = *inst
	h := &to.holdings
	for f := range h.pools {
		for p := range h.pools[f] {
			h.pools[f][p].own()
		}
		h.addrs[f] = slab.Clone(h.addrs[f])
		b := &h.blocks[f]
		b.all, b.shelves, b.free = slab.Clone(b.all), slab.Clone(b.shelves), slab.Clone(b.free)
	}
}

// own makes a pool that has been copied as a value share nothing with the original.
func (p *pool) own() {
	p.ranges, p.byPort, p.uses, p.shares = slab.Clone(p.ranges), slab.Clone(p.byPort), p.uses.Clone(), slab.Clone(p.shares)
	p.shut, p.excluded, p.queue = slab.Clone(p.shut), slab.Clone(p.excluded), slab.Clone(p.queue)
}

// fork returns a copy of a frontend. The owners of one in force never change.
func (f *Frontend) fork() *Frontend {
	to := &Frontend{Addr: f.Addr, Packed: f.Packed, Owner: f.Owner, Index: f.Index}
	for p := range f.counts {
		f.counts[p].ForkTo(&to.counts[p])
	}
	return to
}

// Fork returns a copy of sp for the shards of a table with a hasher, the same as that of the
// original's. instances are the copies of those in force, by index. notice and tell are its
// own; see [NewSpace] and [Space.Install].
func (sp *Space) Fork(instances []*Instance, hasher *flow.Hasher, notice *flow.Notice, tell func(Event)) *Space {
	to := &Space{
		rules: sp.rules, picky: sp.picky, enrolls: sp.enrolls,
		states: make([]*State, len(sp.states)), instances: instances, book: sp.book,
		hasher: hasher, seeded: sp.seeded, notice: notice, tell: tell, counts: sp.counts,
	}
	to.frontends, to.order = make([]*Frontend, len(sp.frontends)), make([]*Frontend, len(sp.order))
	for i, f := range sp.frontends {
		if f != nil {
			to.frontends[i] = f.fork()
		}
	}
	for i, f := range sp.order {
		to.order[i] = to.frontends[f.Index]
	}
	if sp.shared != nil {
		to.shared = sp.shared.fork()
		to.book = to.shared
	}
	return to
}

// fork returns a copy of the book of shared ports.
func (b *shared) fork() *shared {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := &shared{Shared: b.Shared, key: b.key, shards: b.shards, random: b.random, flows: b.flows, stocks: b.stocks}
	for f := range to.stocks {
		for p := range to.stocks[f] {
			st := &to.stocks[f][p]
			st.own()
			st.shelves = st.shelves.Clone()
		}
	}
	return to
}

// ForkTo makes to, which is zero, a copy of the ports of a shard, in the place of Init. It
// belongs to sp, a copy of the space that sh belongs to, has the sessions of s, a copy of those
// of sh, and takes its memory from mem. It reports whether there was any.
func (sh *State) ForkTo(to *State, sp *Space, s *flow.Shard, owner Owner, mem *slab.Memory) bool {
	*to = State{
		Shard: s, space: sp, owner: owner, number: sh.number, hasher: sh.hasher, Tombstones: sh.Tombstones, HoldsUDP: sh.HoldsUDP,
		EndedAt: sh.EndedAt, Overdue: sh.Overdue, WakeAt: sh.WakeAt, remotes: sh.remotes.Fork(), sleepers: slab.Clone(sh.sleepers),
	}
	sp.states[sh.number] = to
	return sh.destinations.ForkTo(&to.destinations, mem) && sh.mappings.ForkTo(&to.mappings, mem) && sh.subscribers.ForkTo(&to.subscribers, mem) &&
		sh.holders.ForkTo(&to.holders, mem)
}
