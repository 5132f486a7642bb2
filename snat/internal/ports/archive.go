package ports

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/mappings"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// How ports get into a snapshot: what only their history tells. Which ports are in use, and for what, is
// counted anew from the sessions, as Attach does in a reconfiguration. The order is
//
//	ArchivePlaces       which frontends there are, and which ports await removal; then a layout
//	                    of the same configuration is installed
//	State.Archive       of every shard of the snapshot, behind its sessions
//	ArchiveHistory      of instances, frontends, and of what all share

// ArchivePlaces writes the indexes of frontends and the ports that await removal, or reads them, for the
// next Lay. owners is how many instances there may be.
func (sp *Space) ArchivePlaces(a *snapshot.Archive, owners int) {
	a.Section("frontends")
	n := len(sp.frontends)
	if n = a.Len(n, 1<<24); !a.Writing() {
		sp.frontends, sp.awaited = make([]*Frontend, n), map[awaiting]flow.Time{}
	}
	snapshot.Slice(a, &sp.order, n, func(f **Frontend) {
		var addr netip.Addr
		index := uint32(0)
		if a.Writing() {
			addr, index = (*f).Addr, (*f).Index
		}
		a.Addr(&addr)
		if snapshot.Num(a, &index); a.Writing() || !a.Check(addr.IsValid() && int(index) < n && sp.frontends[index] == nil, "frontend %d is there twice, or none", index) {
			return
		}
		*f = newFrontend(addr, int(index))
		sp.frontends[index] = *f
	})
	var all []awaiting
	if a.Writing() {
		all = sp.awaits()
	}
	snapshot.Slice(a, &all, 1<<30, func(b *awaiting) {
		until := sp.awaited[*b]
		snapshot.Num(a, &b.instance)
		snapshot.Num(a, &b.protocol)
		a.Addr(&b.addr)
		snapshot.Num(a, &b.block)
		if snapshot.Num(a, &until); !a.Writing() && a.Check(int(b.instance) < owners && b.protocol >= 0 && b.protocol < NumPools && b.addr.IsValid() && b.block < 65536/BlockSize && until > 0, "ports that await removal are nobody's") {
			sp.awaited[*b] = until
		}
	})
	if a.Writing() {
		sp.awaited = nil
	}
}

// awaits returns the blocks that await removal, in order, and notes until when.
func (sp *Space) awaits() (all []awaiting) {
	sp.awaited = map[awaiting]flow.Time{}
	for _, inst := range sp.instances {
		inst.eachRange(func(p *pool, r *ordinals) {
			for k := 0; r.until != 0 && k < r.count; k += BlockSize {
				b := awaiting{inst.Index, int(p.protocol), netAddr(int(p.family), p.outside(r)), (r.first + uint16(k)) / BlockSize}
				sp.awaited[b] = r.until
				all = append(all, b)
			}
		})
	}
	slices.SortFunc(all, func(a, b awaiting) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.protocol, b.protocol), a.addr.Compare(b.addr), cmp.Compare(a.block, b.block))
	})
	return all
}

// Listen says who is told of events from now on, nil if nobody is.
func (sp *Space) Listen(tell func(Event)) { sp.tell = tell }

// shardFor returns the state that has what is known of a scope.
func (sp *Space) shardFor(s *destinations.Scope) *State {
	if sp.shared != nil {
		return sp.states[sp.ShardOfRemote(s.Family&1 != 0, s.Addr, s.Port, s.Proto)]
	}
	return sp.states[sp.instances[s.Instance].Shard]
}

// portsOf returns how many ports a scope is about, or refuses it.
func (sp *Space) portsOf(a *snapshot.Archive, s *destinations.Scope) int {
	switch {
	case s.Family >= destinations.AtNode:
		if a.Check(s.Family < 2*destinations.AtPublic && sp.has(s.Instance), "a destination of instance %d, which is none", s.Instance) {
			return nodePortCount
		}
	case sp.shared != nil:
		ranges := sp.shared.stocks[s.Family&1][PoolIndex(s.Proto)].ranges
		if a.Check(int(s.Instance) < len(ranges), "a destination of frontend %d, which is none", s.Instance) {
			return ranges[s.Instance].count
		}
	case a.Check(sp.has(s.Instance) && sp.instances[s.Instance].pools[s.Family&1][PoolIndex(s.Proto)].granted > 0, "a destination of instance %d, which has no ports", s.Instance):
		return sp.instances[s.Instance].pools[s.Family&1][PoolIndex(s.Proto)].granted
	}
	return 1
}

// has reports whether there is an instance with an index.
func (sp *Space) has(index uint32) bool {
	return int64(index) < int64(len(sp.instances)) && sp.instances[index] != nil
}

// Archive writes what the shard at hand knows of ports, or reads it, each into the shard where it belongs now.
// Sessions have been written or read before. It reports whether there was memory.
func (sh *State) Archive(a *snapshot.Archive, ar *flow.Archive) bool {
	sp := sh.space
	at := func(index uint32) *State {
		if sp.shared == nil && a.Check(sp.has(index), "something of instance %d, which is none", index) {
			return sp.states[sp.instances[index].Shard]
		}
		return sh
	}
	ref := func(id *flow.ID) {
		place := flow.Place{ID: *id}
		ar.Ref(&place)
		*id = place.ID
	}
	a.Section("subscribers")
	ok := sh.subscribers.Archive(a, func(n subscribers.Name) *subscribers.Table { return &at(n.Instance).subscribers }, func(t *subscribers.Table, id uint32) {
		sp.archiveSubscriber(a, at(t.At(id).Name().Instance), id, ref)
	})
	a.Section("mappings")
	ok = ok && sh.mappings.Archive(a, func(k *mappings.Key, ordinal uint32) (*mappings.Table, bool) {
		b := sp.Behavior(k.Proto)
		if !b.PerFlow && a.Check(sp.shared == nil && sp.has(k.Instance) && k.Family <= 1 && int64(ordinal) < int64(sp.instances[k.Instance].pools[k.Family][PoolIndex(k.Proto)].end()), "a mapping of a port that instance %d has not", k.Instance) {
			return &at(k.Instance).mappings, b.plain()
		}
		a.Check(!b.PerFlow, "a mapping, and there are none")
		return &sh.mappings, true
	}, ref)
	a.Section("destinations")
	ok = ok && sh.destinations.Archive(a, func(s *destinations.Scope) *destinations.Table { return &sp.shardFor(s).destinations },
		func(s *destinations.Scope) int { return sp.portsOf(a, s) }, sp.shared != nil)
	ok = ok && sh.holders.Archive(a, ar.Apart(), func(n *holders.Name) *holders.Table {
		if !n.IsDestination() || n.Of != holders.AllInstances {
			return &at(n.Of).holders
		}
		if a.Check(sp.shared != nil, "a destination of all instances, which share no ports") {
			return &sp.states[sp.ShardOfRemote(n.Family&1 != 0, n.Addr, n.Port, n.Proto)].holders
		}
		return &sh.holders
	})
	if !a.Writing() && ok {
		ar.Each(func(at flow.Place, s *flow.Session) {
			ok = ok && a.OK() && sp.states[at.Shard].restore(a, at.ID, s, ar.Apart()) || !a.OK()
		})
	}
	return ok
}

// archiveSubscriber writes or reads what a subscriber has besides sessions.
func (sp *Space) archiveSubscriber(a *snapshot.Archive, sh *State, id uint32, ref func(*flow.ID)) {
	s := sh.subscribers.At(id)
	n := s.Name()
	if !a.Check(sp.has(n.Instance), "a subscriber of nobody") {
		return
	}
	inst := sp.instances[n.Instance]
	b := &inst.blocks[n.Family]
	var blocks []uint32
	for at := s.Blocks; at != 0; at = b.all[at-1].next {
		blocks = append(blocks, at-1)
	}
	all := sh.subscribers.HalfOpen(s)
	snapshot.Slice(a, &blocks, len(b.all), func(k *uint32) {
		if snapshot.Num(a, k); !a.Writing() && a.Check(int64(*k) < int64(len(b.all)) && b.all[*k].owner == 0 && b.all[*k].shelf != 0, "block %d is somebody's, or none", *k) {
			sh.grantBlock(b, int(*k), id)
		}
	})
	snapshot.Slice(a, &all, subscribers.MaxHalfOpen+1, func(session *flow.ID) {
		if ref(session); !a.Writing() && a.OK() {
			sh.subscribers.Begin(id, *session)
		}
	})
	if !a.Writing() && s.Home != 0 && a.Check(int(s.Home) <= len(inst.addrs[n.Family]), "a subscriber is at home at address %d of %d", s.Home, len(inst.addrs[n.Family])) {
		inst.addrs[n.Family][s.Home-1].home++
	}
}

// restore counts a session that has been read, and reports whether there was memory.
func (sh *State) restore(a *snapshot.Archive, id flow.ID, s *flow.Session, apart bool) bool {
	sp := sh.space
	inst := sp.instances[s.Key.VNI()]
	if s.Data[DataNodePort] != 0 {
		scope := nodeScopeAt(id, s, inst)
		if sh.remotes.Add(scope.Hash(&sh.hasher)); s.Kind().HoldsPort() && !sh.IndexExtra(sh.NodeHash(id, s, inst), id) {
			return false
		}
	}
	if !s.Kind().HoldsPort() || s.Track.Phase() == flow.TCPResetSent {
		return true
	}
	t := TupleOf(id, s)
	family, outside := outsideOf(id, s)
	pool := sp.book.pool(inst, uint8(family), PoolIndex(t.Proto))
	ordinal := pool.find(outside, s.OutsidePort)
	if ordinal < 0 {
		a.Refuse("a session of instance %d has port %d of %v, which is not its own", inst.Index, s.OutsidePort, netAddr(family, outside))
		return true
	}
	if sh.holders.On() {
		var f holders.Flow
		sh.holderOf(&f, id, s)
		sh.holders.Restore(&f, useOf(s.Track.Class), apart)
	}
	if b := sp.shared; b != nil {
		st := &b.stocks[family][PoolIndex(t.Proto)]
		r := st.rangeOf(ordinal)
		if !usage.Held(s.Track.Class) {
			b.flows++
		}
		if st.isFree(ordinal) {
			st.shelves.Take(st.shelves.Split(ordinal))
		}
		sh.occupy(&st.pool, ordinal, s.Track.Class, 0)
		dest := destinationOf(&t)
		a.Check(sh.destinations.Restore(dest.On(r.base/r.count), r.count, ordinal-r.base), "a destination does not know its flow")
		return true
	}
	first := true
	if b := sp.Behavior(t.Proto); !b.PerFlow {
		claim, ok := b.claimScope(inst, &t), false
		first, ok = sh.mappings.Restore(t.Inside, t.InsidePort, &claim, ordinal)
		a.Check(ok, "a session without a mapping")
	}
	if sp.enrolls {
		want := subscriberOf(inst, &t)
		if record := sh.subscribers.Find(&want); a.Check(record != 0, "a session of nobody") {
			who := sh.subscribers.At(record)
			if who.Sessions++; who.Sessions == 1 {
				inst.subscribers++
			}
			if first {
				who.Ports[PoolIndex(t.Proto)]++
			}
		}
	}
	if pool.isFree(ordinal) {
		sh.occupied(pool, ordinal)
	}
	sh.occupy(pool, ordinal, s.Track.Class, 0)
	return true
}

// ArchiveHistory writes or reads what has been with instances, frontends and shared ports. apart says
// that what is read comes from other shards, of which there were so many.
func (sp *Space) ArchiveHistory(a *snapshot.Archive, apart bool, shards int) {
	a.Section("instances")
	for _, inst := range sp.instances {
		if inst != nil && a.OK() {
			inst.archive(a, sp)
		}
	}
	a.Section("peaks")
	for _, f := range sp.order {
		for p := range f.counts {
			f.counts[p].Archive(a)
		}
	}
	if b := sp.shared; b != nil {
		a.Section("shared ports")
		archiveRandom(a, &b.random)
		for f := range b.stocks {
			for p := range b.stocks[f] {
				snapshot.Num(a, &b.stocks[f][p].peak)
			}
		}
	}
	a.Section("quarantine")
	for i := range shards {
		if apart {
			new(State).archiveSleepers(a)
		} else {
			sp.states[i].archiveSleepers(a)
		}
	}
	if a.Writing() || !a.OK() {
		return
	}
	if apart {
		sp.fallAsleep()
	}
	sp.checkSleepers(a)
	for _, sh := range sp.states {
		sh.destinations.Whole(a)
		sh.mappings.Whole(a)
		sh.subscribers.Whole(a)
		sh.holders.Whole(a)
	}
}

// checkSleepers refuses what does not wake every pool with ports in quarantine, once and in time.
func (sp *Space) checkSleepers(a *snapshot.Archive) {
	woken := map[*pool]bool{}
	for _, sh := range sp.states {
		for i, s := range sh.sleepers {
			if !a.Check(sp.has(s.instance) && s.family <= 1 && s.protocol < NumPools && sp.states[sp.instances[s.instance].Shard] == sh, "somebody sleeps elsewhere") {
				return
			}
			p := sp.asleep(&s)
			inTime := (len(p.queue) == 0 || s.at <= p.queue[0].at) && sh.WakeAt <= s.at.Add(sp.rules.Quarantine.Hold)
			a.Check(!woken[p] && inTime && !s.Before(sh.sleepers[max(i-1, 0)/2]), "ports of instance %d wake twice, late or out of order", s.instance)
			woken[p] = true
		}
	}
	for _, inst := range sp.instances {
		for pool := range inst.each() {
			a.Check(len(pool.queue) == 0 || woken[pool], "ports of instance %d rest, and nothing wakes them", inst.Index)
		}
	}
}

// fallAsleep notes which pools have ports in quarantine, and when the first wakes.
func (sp *Space) fallAsleep() {
	for _, inst := range sp.instances {
		for pool := range inst.each() {
			if len(pool.queue) > 0 {
				sh := sp.states[inst.Shard]
				sh.sleepers.Push(pool.sleeper())
				sh.WakeAt = min(sh.WakeAt, pool.queue[0].at.Add(sp.rules.Quarantine.Hold))
			}
		}
	}
}

// archiveSleepers writes or reads who sleeps in a shard, and what it knows of its sessions' past.
func (sh *State) archiveSleepers(a *snapshot.Archive) {
	a.Value(&sh.sleepers, 1<<26)
	snapshot.Num(a, &sh.WakeAt)
	a.Bool(&sh.Tombstones)
	snapshot.Num(a, &sh.EndedAt)
}

// archive writes or reads the history of an instance's ports.
func (inst *Instance) archive(a *snapshot.Archive, sp *Space) {
	snapshot.Nums(a, &inst.created, &inst.failed, &inst.drawn)
	if inst.draws {
		archiveRandom(a, &inst.random)
	}
	for f := range inst.pools {
		for p := range inst.pools[f] {
			inst.pools[f][p].archive(a, sp.states[inst.Shard])
		}
		b := &inst.blocks[f]
		for i := range b.shelves {
			b.archiveShelf(a, i)
		}
	}
}

func (p *pool) archive(a *snapshot.Archive, sh *State) {
	snapshot.Num(a, &p.peak)
	snapshot.Num(a, &p.failed)
	all := slices.Clone(p.shares)
	snapshot.Slice(a, &all, 1<<20, func(s *share) {
		snapshot.Nums(a, &s.outside[0], &s.outside[1], &s.created, &s.failed)
		a.Bool(&s.awaiting)
		if !a.Writing() && a.OK() {
			to := &p.shares[p.share(s.outside, s.awaiting)]
			to.created, to.failed = s.created, s.failed
		}
	})
	snapshot.Slice(a, (*[]resting)(&p.queue), len(p.shut)*64, func(r *resting) {
		snapshot.Num(a, &r.at)
		snapshot.Num(a, &r.ordinal)
		o := int(r.ordinal)
		if !a.Writing() && a.Check(o >= 0 && o < p.granted && p.isFree(o) && !p.isShut(o), "port %d rests, and does not", o) {
			sh.occupied(p, o)
			p.shut[o>>6] |= 1 << (o & 63)
			sh.shift(p, o, usage.Unused, 0)
		}
	})
	for i := range p.queue {
		a.Check(!p.queue[i].Before(p.queue[max(i-1, 0)/2]), "ports do not rest in order")
	}
}

// archiveShelf writes or reads the order of the free blocks on a shelf.
func (b *blocks) archiveShelf(a *snapshot.Archive, i int) {
	s := &b.shelves[i]
	seen := map[uint32]bool{}
	for at := range s.count {
		k := b.free[s.first+at]
		if snapshot.Num(a, &k); !a.Check(int64(k) < int64(len(b.all)) && b.all[k].place != 0 && b.all[k].shelf == uint32(i+1) && !seen[k], "block %d is not free", k) {
			return
		}
		seen[k] = true
		b.free[s.first+at], b.all[k].place = k, at+1
	}
}

// archiveRandom writes or reads the state of a generator.
func archiveRandom(a *snapshot.Archive, r *rand.ChaCha8) {
	b, _ := r.MarshalBinary() // never fails
	if a.Bytes(&b, 1<<10); !a.Writing() && a.OK() {
		a.Check(r.UnmarshalBinary(b) == nil, "a generator of random numbers in no state")
	}
}

// ShardOfRemote is ShardOf of a whole address. A session of queries has port 0.
func (sp *Space) ShardOfRemote(v6 bool, addr [2]uint64, port uint16, proto uint8) uint8 {
	proto = Normal(proto)
	if PoolIndex(proto) == QueryIndex {
		port = 1 // as package dataplane has it, see noPorts there
	}
	at := addr[0]
	if v6 {
		at = prefixes.Hash6(addr)
	}
	return sp.ShardOf(at, port, proto)
}
