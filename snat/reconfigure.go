package snat

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Reconfiguration: a new configuration takes the place of the one in force at a
// single moment, with the locks of all shards held. The packet path finds the
// shard of a packet before it takes the lock, so once it has the lock it makes
// sure that the routes it used are still those in force, and else begins again.
//
// An instance whose addresses, ports and shard stay the same keeps its state as
// it is. The sessions of any other are looked at one by one: those that cannot go
// on are cut, the others are booked anew, since ordinals are counted along the
// ranges of an instance, and mappings and destination records hold ordinals.

// CutCause says why a reconfiguration ended a session.
type CutCause uint8

// The causes.
const (
	CutReclaimed   CutCause = iota // its port is no longer granted to its instance, and its grace is over
	CutRemoved                     // its instance has been removed
	CutReaddressed                 // its inside address, or one of its node's, no longer belongs to its instance or is translated 1:1 now
	CutMemory                      // there is no memory to keep it where its instance is now

	// NumCutCauses is the number of causes.
	NumCutCauses
)

var cutCauseNames = [...]string{"reclaimed", "removed", "readdressed", "memory"}

var _ = [1]struct{}{}[len(cutCauseNames)-int(NumCutCauses)] // one name per cause

// String returns "reclaimed", "removed", "readdressed" or "memory".
func (c CutCause) String() string {
	if c < NumCutCauses {
		return cutCauseNames[c]
	}
	return "cause(?)"
}

// Change is what a reconfiguration did.
type Change struct {
	// Instances are those that were added or removed, or whose ports or sessions
	// changed, in the order of the new configuration, then the removed ones.
	Instances []InstanceChange
}

// InstanceChange is what a reconfiguration did to one instance. Ports of TCP, of
// UDP and identifiers of queries count separately.
type InstanceChange struct {
	Name           string // of the instance; empty in a total
	Added, Removed bool   // whether the instance is new, or gone

	Granted         int // ports it has got
	Reclaimed       int // ports it has lost
	AwaitingRemoval int // ports it has lost, now or before, that carry flows for a while

	Cut [NumCutCauses]int // sessions ended, by cause
}

// Total returns the sum over all instances, without a name.
func (c Change) Total() (t InstanceChange) {
	for i := range c.Instances {
		r := &c.Instances[i]
		t.Granted += r.Granted
		t.Reclaimed += r.Reclaimed
		t.AwaitingRemoval += r.AwaitingRemoval
		for cause, k := range r.Cut {
			t.Cut[cause] += k
		}
	}
	return t
}

// Reconfigure replaces the configuration while traffic flows, and reports what
// that changed. It takes effect at now, at one moment for all instances: each
// packet is judged by the old configuration or by the new one. All that was due
// at now ends first, by the old one. An error names every bad field; then nothing
// has changed. Shards, Seed, HashKey, TCP, UDP, Hairpin, ICMP, Lenient, Fragments,
// HoldSYN, Blocks and Log cannot be changed (because what was made under one rule would
// contradict another), a NAT with Shared ports not at all, and there must not be more
// different policies than shards.
//
// Instances are identified by Name and frontends by address, so counters and
// peaks survive, and instances keep their index ([flow.Verdict].Instance) as long
// as they exist; a new one gets the lowest index that is free.
//
//   - A flow on a port that its instance keeps survives untouched, if its inside
//     address still belongs to the instance, in the same realm, and is not
//     translated 1:1 now, and, for a flow that was translated to its node on the
//     way or in the end, the node's own and public addresses are the same. That
//     its destination is routed differently now does not matter.
//   - A flow on a port that its instance loses is cut: it ends without a RST
//     (Azure: flows on reclaimed ports time out and must be made again). A port
//     that another instance gets is free for that one at once. Only with
//     ReclaimGrace, and only on a port that nobody gets, it goes on until it ends
//     or the grace does. No mapping begins on such a port, but one that has it
//     keeps it for further sessions, as long as its instance has any ports at
//     all: a UDP socket has it for all its destinations. A port that its instance
//     gets back in time is as before.
//   - All flows of an instance that is removed are cut.
//   - A changed policy applies to running sessions at once. One that has been
//     idle for longer than it now may ends at now.
//
// Cost: O(instances + ports), and O(sessions) of the shards with instances whose
// ports, addresses or policies change; packets wait meanwhile. now must not lie
// before that of an earlier call. Hooks run during the call; those of c are in
// force from the first flow that is cut.
func (n *NAT) Reconfigure(now flow.Time, config Config) (Change, error) {
	c := config.settings()
	n.control.Lock()
	defer n.control.Unlock()
	if n.closed.Load() {
		return Change{}, flow.ErrClosed
	}
	var wrong problems.List
	wrong.Include("", c.validate())
	wrong.Include("", n.validateChange(&c))
	if err := wrong.Err(); err != nil {
		return Change{}, err
	}
	n.endGrace(now)
	own := c.clone()
	own.Hooks = n.shielded(own.Hooks)
	return n.apply(now, own, false), nil
}

// validateChange complains about what cannot change.
func (n *NAT) validateChange(c *settings) error {
	var v validation
	if was := cmp.Or(n.config.Shards, flow.DefaultShards); cmp.Or(c.Shards, flow.DefaultShards) != was {
		v.Add("Shards", c.Shards, ErrFixed, "it is %d", was)
	}
	for _, f := range []struct {
		name    string
		is, was any // comparable
	}{
		{"Seed", c.Seed, n.config.Seed}, {"HashKey", c.HashKey, n.config.HashKey}, {"Ports.TCP", c.TCP, n.config.TCP}, {"Ports.UDP", c.UDP, n.config.UDP},
		{"Ports.Hairpin", c.Hairpin, n.config.Hairpin}, {"Fragments", c.Fragments, n.config.Fragments},
		{"HoldSYN", c.HoldSYN, n.config.HoldSYN}, {"Ports.Blocks", c.Blocks, n.config.Blocks}, {"Log", c.Log, n.config.Log},
		{"Lenient", c.Lenient, n.config.Lenient},
	} {
		if f.is != f.was {
			v.Add(f.name, f.is, ErrFixed, "it is %+v", f.was)
		}
	}
	if !c.ICMP.same(&n.config.ICMP) {
		v.Add("ICMP", c.ICMP, ErrFixed, "it is %+v", n.config.ICMP)
	}
	if n.inventory != nil || c.shared != nil {
		v.Add("Ports", problems.None, ErrFixed, "where they are Shared, nor from or to that, and neither can anything else then")
	}
	if k := len(c.policies()); k > len(n.shards) {
		v.Add("Instances", problems.Rawf("has %d different policies", k), flow.ErrTooMany, "at most %d, the number of shards", len(n.shards))
	}
	return v.Err()
}

// endGrace cuts the flows whose grace is over at now. The caller holds control.
func (n *NAT) endGrace(now flow.Time) {
	for r := n.routes.Load(); r.over(now); r = n.routes.Load() {
		n.apply(r.until, n.config, true)
	}
}

// over reports whether a grace has ended by now, so that other routes are in force.
func (r *routes) over(now flow.Time) bool { return r.until <= now && r.until != noEnd }

// awaiting names a block of ports that awaits removal.
type awaiting struct {
	instance uint32
	protocol int
	addr     netip.Addr
	block    uint16
}

// kept is a session that has to be booked anew, and the mapping it was on.
type kept struct {
	sh      *shard
	id      flow.ID
	mapping mappingKey
	anchor  bool // of that mapping
}

// apply puts a configuration into force, which is valid and belongs to n from now
// on. The caller holds control. With addresses the present frontends remain ours,
// so that it does not matter for other packets whether the end of a grace has
// been processed.
func (n *NAT) apply(now flow.Time, c settings, addresses bool) Change {
	l := n.lay(&c, addresses)
	for _, inst := range l.former {
		if inst != nil {
			l.compare(inst)
		}
	}
	for i := range n.shards {
		n.shards[i].Lock()
		defer n.shards[i].Unlock()
	}
	for i := range n.shards {
		n.shards[i].expireAll(now)
	}
	n.fixPeaks()
	n.config = c
	for i := range n.shards {
		n.shards[i].sift(now, l)
	}
	l.await()
	changed := n.install(now, l)
	rest := l.kept[:0]
	for _, k := range l.kept {
		if k, ok := k.attach(now, l); ok {
			rest = append(rest, k)
		}
	}
	l.kept = rest
	n.resume(l)
	n.logMovedBlocks(now, l)
	for _, k := range l.kept {
		k.sh.masquerade(k.id)
		if n.config.Allocation.paired() {
			k.sh.rehome(l, k.id)
		}
	}
	for _, sh := range changed {
		for _, id := range sh.all() {
			s := sh.At(id)
			sh.reclassify(s)
			sh.age(id, s)
		}
	}
	for i := range n.shards {
		n.shards[i].bind(now)
		n.shards[i].expireAll(now)
		n.shards[i].check()
	}
	n.scheduleRecords(now, l)
	return l.change()
}

// compare counts the ports that an instance gets and loses.
func (l *layout) compare(old *instance) {
	row := &InstanceChange{Name: old.name}
	l.changes[old] = row
	next := l.successor(old)
	row.Removed = next == nil
	if !l.affected[old.index] {
		return
	}
	for f := range old.pools {
		for p := range old.pools[f] {
			pool, still := &old.pools[f][p], 0
			for i := range pool.ranges {
				if r := &pool.ranges[i]; next != nil && r.until == 0 {
					still += l.still(old.index, p, r)
				}
			}
			row.Reclaimed += pool.granted - still
			if next != nil {
				row.Granted += next.pools[f][p].granted - still
			}
		}
	}
}

// still returns how many ports of a range remain with an instance.
func (l *layout) still(index uint32, protocol int, r *ordinals) (n int) {
	f := l.byAddr[r.frontend.addr]
	if f == nil || f.owner[protocol] == nil {
		return 0
	}
	first := int(r.first) / BlockSize
	for _, owner := range f.owner[protocol].instance[first : first+r.count/BlockSize] {
		if owner == index+1 {
			n += BlockSize
		}
	}
	return n
}

// all returns the IDs of all sessions.
func (sh *shard) all() []flow.ID { return sh.IDs(make([]flow.ID, 0, sh.Len()), 0) }

// sift cuts the sessions that cannot go on, takes those that have to be booked
// anew off the books, and forgets the destinations of their instances.
func (sh *shard) sift(now flow.Time, l *layout) {
	here := func(index uint32) bool {
		return l.affected[index] && &sh.nat.shards[l.former[index].shard] == sh
	}
	if !slices.ContainsFunc(l.former, func(inst *instance) bool { return inst != nil && here(inst.index) }) {
		return
	}
	sh.endedAt = now
	for _, id := range sh.all() {
		s := sh.At(id)
		if !here(s.Key.VNI()) {
			continue
		}
		old := l.former[s.Key.VNI()]
		tombstone := s.Track.Phase() == flow.TCPResetSent
		cause, ok := sh.judge(now, l, id, s, old)
		switch {
		case ok:
			l.kept = append(l.kept, kept{sh: sh, id: id})
			continue
		case !tombstone:
			l.changes[old].Cut[cause]++
			sh.counters.cut[cause]++
			if h := sh.nat.config.Hooks.SessionCut; h != nil {
				h(now, old.index, sh.Info(id), cause)
			}
			sh.logEnd(now, id, s)
		}
		sh.remove(id, s)
	}
	sh.notice(l, here)
	for i := range l.kept {
		if l.kept[i].sh == sh {
			sh.detach(&l.kept[i])
		}
	}
	sh.destinations.forget(here)
	sh.dispossess(now, l, here)
	sh.subscribers.forget(here)
}

// judge reports whether a session can go on, and the cause if not.
func (sh *shard) judge(now flow.Time, l *layout, id flow.ID, s *flow.Session, old *instance) (CutCause, bool) {
	next := l.successor(old)
	if next == nil {
		return CutRemoved, false
	}
	t := ports.TupleOf(id, s)
	in := l.routes.realm(next.realm)
	var inside, outside uint32
	if t.Family == 0 {
		inside, outside = in.inside4.Get(uint32(t.Inside[0])), l.routes.outside4.Get(s.Outside)
	} else {
		inside, outside = in.inside6.Get(t.Inside), l.routes.outside6.Get(s.Addrs6().Outside)
	}
	moved := old.own(t.Family) != next.own(t.Family) || old.public[t.Family].addr != next.public[t.Family].addr
	if inside != in.mark(next) || next.realm != old.realm || s.Data[dataNodePort] != 0 && moved {
		return CutReaddressed, false
	}
	if !s.Kind().HoldsPort() {
		return 0, true
	}
	if !next.deterministic.Equal(old.deterministic) {
		return CutReclaimed, false
	}
	protocol, owner := ports.PoolIndex(t.Proto), uint32(0)
	if outside != 0 && outside <= publicFlag {
		if o := l.routes.frontends[outside-1].owner[protocol]; o != nil {
			owner = o.instance[s.OutsidePort/BlockSize]
		}
	}
	switch {
	case owner == next.index+1:
		return 0, true
	case owner != 0 || outside > publicFlag || s.Track.Phase() == flow.TCPResetSent:
		return CutReclaimed, false
	}
	pool, ordinal := sh.portOf(id, s, old)
	r := pool.rangeOf(ordinal)
	until := now.Add(sh.nat.config.ReclaimGrace)
	if r.until != 0 {
		until = min(until, r.until)
	}
	if until <= now {
		return CutReclaimed, false
	}
	l.awaiting[awaiting{old.index, protocol, r.frontend.addr, s.OutsidePort / BlockSize}] = until
	return 0, true
}

// await gives the blocks that await removal to the instances that have flows on
// them, behind all that they are granted.
func (l *layout) await() {
	blocks := make([]awaiting, 0, len(l.awaiting))
	for b := range l.awaiting {
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b awaiting) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.protocol, b.protocol), a.addr.Compare(b.addr), cmp.Compare(a.block, b.block))
	})
	for i := 0; i < len(blocks); {
		b, until, k := blocks[i], l.awaiting[blocks[i]], 1
		for ; i+k < len(blocks); k++ { // as long as the blocks are consecutive
			follows := b
			follows.block += uint16(k)
			if blocks[i+k] != follows || l.awaiting[follows] != until {
				break
			}
		}
		i += k
		inst := l.routes.instances[b.instance]
		p := &inst.pools[flow.Family(b.addr)][b.protocol]
		p.grant(inst, l.frontend(b.addr), b.protocol, b.block*BlockSize, k*BlockSize).until = until
		l.routes.until = min(l.routes.until, until)
	}
}

// install makes the layout the one in force, without the sessions that have to be
// booked anew. It returns the shards whose policy has changed.
func (n *NAT) install(now flow.Time, l *layout) (changed []*shard) {
	for _, old := range l.former {
		if old != nil && l.affected[old.index] {
			old.withdraw()
		}
	}
	for _, f := range l.routes.frontends {
		for p := range f.use {
			f.use[p].allocated.Store(0)
			f.use[p].awaiting.Store(0)
		}
	}
	n.setAllocation()
	excluded := n.config.Allocation.exclusions()
	for _, inst := range l.order {
		old := l.predecessor(inst)
		if same := old != nil && !l.affected[inst.index]; !same {
			inst.shutters(&n.config.Allocation, excluded)
			inst.divide(n.config.Blocks.Size, n.config.Allocation.Class)
		} else {
			inst.carryOver(old)
		}
		if n.picky {
			inst.random = n.randomOf(inst, old)
		}
		if old != nil {
			inst.created, inst.failed, inst.draws, inst.direct = old.created, old.failed, old.draws, old.direct
			inst.alarms = old.alarms
		}
		for f := range inst.pools {
			for p := range inst.pools[f] {
				pool := &inst.pools[f][p]
				switch {
				case old == nil:
				case !l.affected[inst.index]:
					was := &old.pools[f][p]
					pool.uses, pool.portCounts, pool.peak = was.uses, was.portCounts, was.peak
					pool.closed, pool.blocks = was.closed, was.blocks
				default:
					pool.peak = old.pools[f][p].peak
				}
				if pool.uses == nil {
					pool.uses = make([]portUse, pool.end())
				}
				pool.divide()
				if old != nil {
					pool.inherit(&old.pools[f][p], !l.affected[inst.index])
				}
				for _, r := range pool.ranges {
					if r.until == 0 {
						r.frontend.use[p].allocated.Add(int64(r.count))
					}
				}
				if old == nil || l.affected[inst.index] {
					n.shards[inst.shard].countExcluded(now, pool)
				}
			}
		}
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil && (old.public != [2]publicAddr{} || old.direct.used()) {
			n.departed = append(n.departed, old.direct)
		}
	}
	n.meter(l.routes)
	n.order, n.instances = l.order, l.routes.instances
	l.routes.seal()
	n.routes.Store(l.routes)
	n.notice.Raise()
	if l.routes.until == noEnd {
		n.steady.Store(l.routes)
	} else {
		n.steady.Store(nil)
	}
	for i := range n.shards {
		if sh := &n.shards[i]; sh.policy != l.policies[i] {
			sh.setPolicy(l.policies[i])
			changed = append(changed, sh)
		}
	}
	return changed
}

// withdraw takes the ports that an instance uses out of the counts of frontends.
func (inst *instance) withdraw() {
	for f := range inst.pools {
		for p := range inst.pools[f] {
			pool := &inst.pools[f][p]
			for o := range pool.uses {
				if is := pool.useOf(o); is != unused {
					f, _ := pool.port(o)
					f.use[p].withdraw(is)
				}
			}
		}
	}
}

// detach takes a session off the books of mappings, which hold its ordinal.
func (sh *shard) detach(k *kept) {
	s := sh.At(k.id)
	inst, b := sh.nat.instances[s.Key.VNI()], sh.nat.behavior(s.Proto())
	if !s.Kind().HoldsPort() || s.Track.Phase() == flow.TCPResetSent {
		return
	}
	t, maps, gone := ports.TupleOf(k.id, s), &sh.mappings, true
	if !b.perFlow {
		claim := b.claimScope(inst, &t)
		_, ordinal := sh.portOf(k.id, s, inst)
		m := maps.claims.At(maps.claimed(&claim, ordinal)).mapping
		k.mapping = maps.keyOf(m)
		k.anchor = m&wide != 0 && maps.wide.At(m&^wide).anchor == k.id
		_, gone = maps.leave(k.id, &claim, ordinal)
	}
	if sh.nat.enrolls {
		sh.completes(inst, k.id, s, s.Track.Class)
		sh.left(inst, &t, gone)
	}
}

// attach books a session anew, in the shard where its instance is now, and returns
// where that is. A session that there is no memory for is cut.
func (k kept) attach(now flow.Time, l *layout) (at kept, ok bool) {
	sh, id := k.sh, k.id
	s := sh.At(id)
	inst := sh.nat.instances[s.Key.VNI()]
	tombstone, ported := s.Track.Phase() == flow.TCPResetSent, s.Kind().HoldsPort()
	indexed := s.Data[dataNodePort] != 0 && ported
	t := ports.TupleOf(id, s)
	if to := &sh.nat.shards[inst.shard]; to != sh {
		if s.Data[dataNodePort] != 0 {
			sh.leaveNode(id, s, inst)
		}
		if indexed {
			sh.UnindexExtra(sh.nodeHash(id, s, inst), id)
		}
		to.reclassify(s)
		moved := sh.Move(id, to.Shard, now)
		if moved == 0 {
			return k, sh.forsake(now, l, id, false)
		}
		id, s = moved, to.At(moved)
		to.age(id, s)
		if tombstone {
			sh.counters.tombstones--
			to.counters.tombstones++
		}
		if sh = to; indexed && !sh.IndexExtra(sh.nodeHash(id, s, inst), id) {
			return k, sh.forsake(now, l, id, false)
		}
		if s.Data[dataNodePort] != 0 {
			sh.settleAtNode(id, s, inst)
		}
	}
	k.sh, k.id = sh, id
	if tombstone || !ported {
		return k, true
	}
	pool, ordinal := sh.portOf(id, s, inst)
	b, gone := sh.nat.behavior(t.Proto), true // gone: the mapping has no other session
	claim := b.claimScope(inst, &t)
	if !b.perFlow {
		var of uint32
		if of, gone = k.rejoin(b, &claim, ordinal); of == 0 {
			return k, sh.forsake(now, l, id, true)
		}
		if k.anchor {
			sh.mappings.wide.At(of &^ wide).anchor = id
		}
	}
	subscriber := uint32(0)
	if sh.nat.enrolls {
		if subscriber = sh.returned(now, inst, &t, gone); subscriber == 0 {
			if !b.perFlow {
				sh.mappings.leave(id, &claim, ordinal)
			}
			return k, sh.forsake(now, l, id, true)
		}
	}
	if pool.uses[ordinal] == (portUse{}) {
		sh.occupied(pool, ordinal)
	}
	sh.occupy(pool, ordinal, s.Track.Class, now)
	if sh.nat.enrolls {
		sh.settleIn(pool, subscriber, ordinal)
		sh.begins(subscriber, id, s)
	}
	return k, true
}

// rejoin counts a session that is booked anew for its mapping, which it may have to
// make. It returns the mapping, or 0 for want of memory, and whether it is the first one
// there.
func (k kept) rejoin(b *behavior, s *scope, ordinal int) (id uint32, first bool) {
	maps := &k.sh.mappings
	c := maps.claimed(s, ordinal)
	switch {
	case c != 0:
		id = maps.claims.At(c).mapping
	case b.Mapping != PerConnection:
		id = maps.find(&k.mapping)
	}
	if first = id == 0; first {
		id = maps.add(b, &k.mapping, ordinal)
	}
	if id != 0 && !maps.join(id, c, s) {
		if first {
			maps.end(id)
		}
		id = 0
	}
	return id, first
}

// forsake cuts a session that is on no books, for want of memory, and returns false.
// settled says that its node port, if it has one, is counted and an entry of its own.
func (sh *shard) forsake(now flow.Time, l *layout, id flow.ID, settled bool) bool {
	s := sh.At(id)
	index := s.Key.VNI()
	if s.Track.Phase() == flow.TCPResetSent {
		sh.counters.tombstones--
	} else {
		l.changes[l.former[index]].Cut[CutMemory]++
		sh.counters.cut[CutMemory]++
		if h := sh.nat.config.Hooks.SessionCut; h != nil {
			h(now, index, sh.Info(id), CutMemory)
		}
		sh.logEnd(now, id, s)
		sh.counters.ended++
		sh.counters.connections[ports.PoolIndex(s.Proto())].ended++
	}
	if inst := sh.nat.instances[index]; settled && s.Data[dataNodePort] != 0 {
		sh.leaveNode(id, s, inst)
		sh.UnindexExtra(sh.nodeHash(id, s, inst), id)
	}
	sh.Remove(id, s)
	return false
}

// masquerade gives a session of the instance's own address a port there, as every
// session has from its beginning where there are sources behind the instance.
func (sh *shard) masquerade(id flow.ID) {
	s := sh.At(id)
	inst, t := sh.nat.instances[s.Key.VNI()], ports.TupleOf(id, s)
	if s.Data[dataNodePort] != 0 || !inst.masquerades || !inst.owns(t.Family, t.Inside) {
		return
	}
	if port, ok := sh.nodePort(inst, &t, t.Inside); ok {
		s.Data[dataNodePort] = port
		if !sh.IndexExtra(sh.nodeHash(id, s, inst), id) {
			s.Data[dataNodePort] = 0
			return
		}
		sh.settleAtNode(id, s, inst)
	}
}

// change returns the report.
func (l *layout) change() (c Change) {
	for _, inst := range l.order {
		row := &InstanceChange{Name: inst.name, Added: true}
		if old := l.predecessor(inst); old != nil {
			row = l.changes[old]
		}
		for f := range inst.pools {
			for p := range inst.pools[f] {
				row.AwaitingRemoval += inst.pools[f][p].awaiting
				if row.Added {
					row.Granted += inst.pools[f][p].granted
				}
			}
		}
		if *row != (InstanceChange{Name: inst.name}) {
			c.Instances = append(c.Instances, *row)
		}
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil {
			c.Instances = append(c.Instances, *l.changes[old])
		}
	}
	return c
}
