package ports

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/mappings"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Ports while the configuration changes. An instance whose addresses, ports and shard
// stay the same goes on as it is, and so does a frontend whose ports all have the same
// owners: nothing of them is touched. The sessions of any other instance are taken off the
// books and booked anew, since ordinals are counted along the ranges of an instance,
// and mappings and records of destinations hold ordinals.
//
//	Lay, Add or GoOn,       what the new configuration grants, nothing in force yet; all
//	Grant, Settle           that does not depend on sessions
//	NoteHomes, Keep,        of every shard with affected instances: which sessions can
//	Detach, Forget          go on, and off the books with them
//	Await, Install          the layout is in force, without those sessions
//	Attach                  every session that goes on, where its instance is now
//	Resume, TellMoved,      what rested goes on resting, blocks and homes are as they
//	PairAgain, TellHomes    were, as far as that is possible

// Lay begins a layout, for indexes below n. With addresses all present frontends remain,
// used or not, behind those that have been added by then: see KeepFrontends.
func (sp *Space) Lay(n int) *Layout {
	l := &Layout{
		Until: Never, instances: make([]*Instance, n), Frontends: make([]*Frontend, len(sp.frontends)),
		byAddr: map[netip.Addr]*Frontend{}, before: sp.frontends, index: map[netip.Addr]uint32{}, former: sp.instances,
		awaiting: map[awaiting]flow.Time{}, homes: map[subscribers.Name][2]uint64{},
	}
	for i, f := range sp.frontends {
		if f != nil {
			l.index[f.Addr] = uint32(i)
		}
	}
	if sp.awaited != nil {
		l.awaiting, sp.awaited = sp.awaited, nil
	}
	if l.shared = sp.shared != nil; l.shared { // whose ports stay what they are
		for _, f := range sp.order {
			l.Frontends[f.Index], l.byAddr[f.Addr] = f, f
			l.Order = append(l.Order, f)
		}
	}
	return l
}

// GoOn lets an instance that is in force go on as it is, with all that it is granted. The frontends of
// that have to be used.
func (l *Layout) GoOn(inst *Instance) { l.instances[inst.Index] = inst }

// Use notes the use of the frontend with an address.
func (l *Layout) Use(addr netip.Addr) {
	for _, at := range [2]int{l.used + 1, l.used} { // most instances use the same ones, in the same order
		if at < len(l.Order) && l.Order[at].Addr == addr {
			l.used = at
			return
		}
	}
	l.used = slices.Index(l.Order, l.frontend(addr))
}

// goesOn reports whether an instance that is in force goes on as it is.
func (l *Layout) goesOn(old *Instance) bool {
	return int(old.Index) < len(l.instances) && l.instances[old.Index] == old
}

// Settle ends what is granted, by rules that are going to be in force. Frontends whose ports
// have the same owners as before go on as they are.
func (l *Layout) Settle(r *Rules, excluded *Exclusions) {
	for _, inst := range l.fresh {
		inst.shutters(r, excluded)
		inst.divide(r.SubscriberBlockSize, r.Class)
	}
	for _, old := range l.former {
		if old != nil && !l.goesOn(old) {
			l.affected = append(l.affected, old)
		}
	}
	l.settleOwners()
}

// Add adds an instance at its index.
func (l *Layout) Add(inst *Instance) {
	for f := range inst.pools {
		for p := range inst.pools[f] {
			pool := &inst.pools[f][p]
			pool.instance, pool.family, pool.protocol = inst.Index, uint8(f), uint8(p)
		}
	}
	l.instances[inst.Index] = inst
	l.fresh = append(l.fresh, inst)
}

// Grant makes an instance that is added the owner of a range of ports of one protocol, whole blocks,
// which come after those that it has. Its address becomes one of the instance.
func (l *Layout) Grant(inst *Instance, addr netip.Addr, protocol int, first uint16, count int) {
	f, family := l.frontend(addr), flow.Family(addr)
	p := &inst.pools[family][protocol]
	p.add(f, first, count, 0)
	p.granted = p.end()
	if addrs := &inst.addrs[family]; !slices.ContainsFunc(*addrs, func(a outsideAddr) bool { return a.addr == f.Packed }) {
		*addrs = append(*addrs, outsideAddr{addr: f.Packed})
	}
}

// Fix gives an instance a deterministic mapping, which has been checked.
func (inst *Instance) Fix(d *deterministic.Parameters) {
	inst.Deterministic = d
	inst.mapping, _ = deterministic.New(*d)
}

// KeepFrontends keeps the frontends that are in force, used or not.
func (l *Layout) KeepFrontends(sp *Space) {
	for _, f := range sp.order {
		l.frontend(f.Addr)
	}
}

// Here reports whether a session of an instance that was in force is to be looked at in a
// shard.
func (l *Layout) Here(sh *State, index uint32) bool { return l.here(sh.number, index) }

// Concerns reports whether a shard has sessions that have to be looked at.
func (l *Layout) Concerns(sh *State) bool {
	return slices.ContainsFunc(l.affected, func(inst *Instance) bool { return l.here(sh.number, inst.Index) })
}

// Compare returns how many ports an instance gets and loses, which becomes next, or is
// removed if that is nil.
func (l *Layout) Compare(old, next *Instance) (granted, reclaimed int) {
	for pool := range old.each() {
		still := 0
		for i := range pool.ranges {
			if r := &pool.ranges[i]; next != nil && r.until == 0 {
				still += l.still(old.Index, pool, r)
			}
		}
		reclaimed += pool.granted - still
		if next != nil {
			granted += next.pools[pool.family][pool.protocol].granted - still
		}
	}
	return granted, reclaimed
}

// still returns how many ports of a range remain with an instance.
func (l *Layout) still(index uint32, p *pool, r *ordinals) (n int) {
	f := l.byAddr[netAddr(int(p.family), p.outside(r))]
	if f == nil {
		return 0
	}
	for o := 0; o < r.count; o += BlockSize {
		if f.Owner[p.protocol].Instance(r.first+uint16(o)) == index+1 {
			n += BlockSize
		}
	}
	return n
}

// Keep reports whether a session of an instance, which becomes next, keeps its port. With
// grace one that is nobody's may be kept until it ends or the grace does, unless its
// address is taken for something else.
func (l *Layout) Keep(now flow.Time, id flow.ID, s *flow.Session, old, next *Instance, grace flow.Time, taken bool) bool {
	pool, ordinal := portOf(id, s, old)
	r := pool.rangeOf(ordinal)
	protocol, addr, owner := int(pool.protocol), netAddr(int(pool.family), pool.outside(r)), uint32(0)
	if f := l.byAddr[addr]; f != nil {
		owner = f.Owner[protocol].Instance(s.OutsidePort)
	}
	switch {
	case owner == next.Index+1:
		return true
	case owner != 0 || taken || s.Track.Phase() == flow.TCPResetSent:
		return false
	}
	until := grace
	if r.until != 0 {
		until = min(until, r.until)
	}
	if until <= now {
		return false
	}
	l.awaiting[awaiting{old.Index, protocol, addr, s.OutsidePort / BlockSize}] = until
	return true
}

// Await gives the blocks that await removal to the instances that have flows on
// them, behind all that they are granted, and reports whether there are any.
func (l *Layout) Await() bool {
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
		inst, f := l.instances[b.instance], l.frontend(b.addr)
		inst.pools[flow.Family(b.addr)][b.protocol].add(f, b.block*BlockSize, k*BlockSize, until)
		l.own(f.Index, b.protocol, b.block*BlockSize, k*BlockSize, newOwner(inst.Index, inst.Shard))
		l.Until = min(l.Until, until)
	}
	return len(blocks) > 0
}

// Install puts a layout into force, with the rules it was settled by, without the sessions
// that have to be booked anew. The locks of all shards must be held. Cost: O(frontends), what is granted to
// instances that do not go on as they are, and O(parties) of their shards where holders are counted.
func (sp *Space) Install(now flow.Time, l *Layout, r Rules, tell func(Event)) {
	for _, old := range l.affected {
		old.withdraw(l.before)
	}
	for _, f := range l.Order {
		if k, known := l.index[f.Addr]; known && f != l.before[k] {
			for p := range f.counts {
				f.counts[p].Inherit(&l.before[k].counts[p])
			}
		}
	}
	sp.frontends, sp.order = l.Frontends, l.Order
	sp.setRules(r, tell)
	for _, inst := range l.fresh {
		sp.install(now, l, inst)
	}
	sp.instances = l.instances
	for _, sh := range sp.states {
		if sh != nil && sh.holders.On() && l.Concerns(sh) {
			sh.holders.Follow(func(index uint32) *holders.Table { return sh.countsFor(l, index) })
		}
	}
}

// install puts one instance into force.
func (sp *Space) install(now flow.Time, l *Layout, inst *Instance) {
	old := l.predecessor(inst)
	if sp.picky {
		inst.setRandom(&sp.rules, old)
	}
	if old != nil {
		inst.created, inst.failed, inst.drawn = old.created, old.failed, old.drawn
	}
	for pool := range inst.each() {
		if old != nil {
			was := &old.pools[pool.family][pool.protocol]
			pool.peak = was.peak
			pool.inherit(was)
		}
		sp.states[inst.Shard].countExcluded(now, pool)
	}
}

// withdraw takes the ports that an instance uses out of the counts of frontends.
func (inst *Instance) withdraw(frontends []*Frontend) {
	for pool := range inst.each() {
		for i := range pool.shares {
			if s := &pool.shares[i]; s.Used > 0 {
				frontends[s.frontend].counts[pool.protocol].Withdraw(&s.Counts)
			}
		}
	}
}

// Forget forgets what a shard knows of the destinations and subscribers of affected
// instances, whose sessions are off the books.
func (sh *State) Forget(now flow.Time, l *Layout) {
	if l.shared { // what is known is about frontends, and about ports at nodes that nobody has now
		return
	}
	here := func(index uint32) bool { return l.here(sh.number, index) }
	sh.destinations.Forget(here)
	sh.dispossess(now, l, here)
	sh.subscribers.Forget(here)
}

// Booking is what a session that is off the books has been booked as.
type Booking struct {
	mapping mappings.Key
	anchor  bool // of that mapping
}

// Detach takes a session off the books of mappings and subscribers, which hold its
// ordinal.
func (sh *State) Detach(id flow.ID) (k Booking) {
	s := sh.At(id)
	inst, b := sh.space.instances[s.Key.VNI()], sh.space.Behavior(s.Proto())
	if !s.Kind().HoldsPort() || s.Track.Phase() == flow.TCPResetSent {
		return k
	}
	t, maps, gone := TupleOf(id, s), &sh.mappings, true
	if !b.PerFlow {
		claim := b.claimScope(inst, &t)
		_, ordinal := portOf(id, s, inst)
		m := maps.Claimant(maps.Claimed(&claim, ordinal))
		k.mapping = maps.KeyOf(m)
		k.anchor = maps.Anchor(m) == id
		_, gone = maps.Leave(id, &claim, ordinal)
	}
	if sh.space.enrolls {
		sh.Completes(inst, id, s, s.Track.Class)
		sh.left(inst, &t, gone)
	}
	if sh.holders.On() {
		sh.ceasesToHold(id, s)
	}
	return k
}

// Attach books a session anew that is on a port of its instance, and reports whether
// there was memory for that.
func (sh *State) Attach(now flow.Time, id flow.ID, k *Booking) bool {
	s := sh.At(id)
	inst := sh.space.instances[s.Key.VNI()]
	t := TupleOf(id, s)
	pool, ordinal := portOf(id, s, inst)
	b, gone := sh.space.Behavior(t.Proto), true // gone: the mapping has no other session
	claim := b.claimScope(inst, &t)
	if !b.PerFlow {
		var of uint32
		if of, gone = sh.rejoin(k, b, &claim, ordinal); of == 0 {
			return false
		}
		if k.anchor {
			sh.mappings.SetAnchor(of, id)
		}
	}
	subscriber := uint32(0)
	if sh.space.enrolls {
		if subscriber = sh.returned(now, inst, &t, gone); subscriber == 0 {
			if !b.PerFlow {
				sh.mappings.Leave(id, &claim, ordinal)
			}
			return false
		}
	}
	if pool.isFree(ordinal) {
		sh.occupied(pool, ordinal)
	}
	sh.occupy(pool, ordinal, s.Track.Class, now)
	if sh.space.enrolls {
		sh.ownBlock(pool, subscriber, ordinal)
		sh.begins(subscriber, id, s)
	}
	if sh.holders.On() {
		sh.holdsAgain(id, s)
	}
	return true
}

// rejoin counts a session that is booked anew for its mapping, which it may have to
// make. It returns the mapping, or 0 for want of memory, and whether it is the first one
// there.
func (sh *State) rejoin(k *Booking, b *Behavior, s *destinations.Scope, ordinal int) (id uint32, first bool) {
	maps := &sh.mappings
	c := maps.Claimed(s, ordinal)
	switch {
	case c != 0:
		id = maps.Claimant(c)
	case b.Mapping != PerConnection:
		id = maps.Find(&k.mapping)
	}
	if first = id == 0; first {
		id = maps.Add(b.plain(), &k.mapping, ordinal)
	}
	if id != 0 && !maps.Join(id, c, s) {
		if first {
			maps.End(id)
		}
		id = 0
	}
	return id, first
}

// Awaits reports whether ports of the instance await removal, or have done so
// since the configuration changed last.
func (inst *Instance) Awaits() bool {
	for pool := range inst.each() {
		if pool.granted < pool.end() {
			return true
		}
	}
	return false
}

// Ports returns how many ports an instance is granted, and how many await removal.
func (inst *Instance) Ports() (granted, awaiting int) {
	for pool := range inst.each() {
		granted += pool.granted
		awaiting += pool.awaiting
	}
	return granted, awaiting
}
