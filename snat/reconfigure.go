package snat

import (
	"cmp"

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
	if n.ports.ByRemote() || c.shared != nil {
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
func (r *routes) over(now flow.Time) bool { return r.until <= now && r.until != ports.Never }

// kept is a session that has to be booked anew, and the mapping it was on.
type kept struct {
	sh      *shard
	id      flow.ID
	booking ports.Booking
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
	n.ports.FixPeaks()
	n.config = c
	for i := range n.shards {
		n.shards[i].sift(now, l)
	}
	l.ports.Await()
	l.routes.setFrontends(l.ports.Frontends)
	changed := n.install(now, l)
	rest := l.kept[:0]
	for _, k := range l.kept {
		if k, ok := k.attach(now, l); ok {
			rest = append(rest, k)
		}
	}
	l.kept = rest
	n.ports.Resume(l.ports)
	n.ports.TellMoved(now, l.ports)
	for _, k := range l.kept {
		k.sh.masquerade(k.id)
		if n.ports.Paired() {
			k.sh.Rehome(l.ports, k.id)
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
		n.shards[i].TellHomes(now)
		n.shards[i].expireAll(now)
		n.shards[i].Check(n.shards[i].counters.tombstones, n.shards[i].counters.holds)
	}
	n.scheduleRecords(now, l)
	return l.change()
}

// all returns the IDs of all sessions.
func (sh *shard) all() []flow.ID { return sh.IDs(make([]flow.ID, 0, sh.Len()), 0) }

// compare counts the ports that an instance gets and loses.
func (l *layout) compare(old *instance) {
	row := &InstanceChange{Name: old.Name}
	l.changes[old] = row
	next := l.successor(old)
	row.Removed = next == nil
	switch {
	case !l.ports.Affected[old.Index]:
	case next == nil:
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, nil)
	default:
		row.Granted, row.Reclaimed = l.ports.Compare(&old.Instance, &next.Instance)
	}
}

// sift cuts the sessions that cannot go on, takes those that have to be booked
// anew off the books, and forgets the destinations of their instances.
func (sh *shard) sift(now flow.Time, l *layout) {
	if !l.ports.Concerns(&sh.State) {
		return
	}
	sh.EndedAt = now
	for _, id := range sh.all() {
		s := sh.At(id)
		if !l.ports.Here(&sh.State, s.Key.VNI()) {
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
				h(now, old.Index, sh.Info(id), cause)
			}
			sh.logEnd(now, id, s)
		}
		sh.remove(id, s)
	}
	sh.Notice(l.ports)
	for i := range l.kept {
		if k := &l.kept[i]; k.sh == sh {
			k.booking = sh.Detach(k.id)
		}
	}
	sh.Forget(now, l.ports)
}

// judge reports whether a session can go on, and the cause if not.
func (sh *shard) judge(now flow.Time, l *layout, id flow.ID, s *flow.Session, old *instance) (CutCause, bool) {
	next := l.successor(old)
	if next == nil {
		return CutRemoved, false
	}
	t := ports.TupleOf(id, s)
	in := l.routes.realm(next.Realm)
	var inside, outside uint32
	if t.Family == 0 {
		inside, outside = in.inside4.Get(uint32(t.Inside[0])), l.routes.outside4.Get(s.Outside)
	} else {
		inside, outside = in.inside6.Get(t.Inside), l.routes.outside6.Get(s.Addrs6().Outside)
	}
	moved := old.Own(t.Family) != next.Own(t.Family) || old.Public[t.Family] != next.Public[t.Family]
	if inside != in.mark(next) || next.Realm != old.Realm || s.Data[ports.DataNodePort] != 0 && moved {
		return CutReaddressed, false
	}
	if !s.Kind().HoldsPort() {
		return 0, true
	}
	if !next.Deterministic.Equal(old.Deterministic) {
		return CutReclaimed, false
	}
	grace := now.Add(sh.nat.config.ReclaimGrace)
	if !l.ports.Keep(now, id, s, &old.Instance, &next.Instance, grace, outside > publicFlag) {
		return CutReclaimed, false
	}
	return 0, true
}

// install makes the layout the one in force, without the sessions that have to be
// booked anew. It returns the shards whose policy has changed.
func (n *NAT) install(now flow.Time, l *layout) (changed []*shard) {
	n.ports.Install(now, l.ports, n.config.rules(), n.config.Allocation.exclusions(), n.teller())
	for _, inst := range l.order {
		if old := l.predecessor(inst); old != nil {
			inst.direct, inst.alarms = old.direct, old.alarms
		}
	}
	for _, old := range l.former {
		if old != nil && l.successor(old) == nil && (old.Public != [2][2]uint64{} || old.direct.used()) {
			n.departed = append(n.departed, old.direct)
		}
	}
	l.routes.until = l.ports.Until
	n.meter(l.routes, n.routes.Load())
	n.order, n.instances = l.order, l.routes.instances
	l.routes.seal()
	n.routes.Store(l.routes)
	n.notice.Raise()
	if l.routes.until == ports.Never {
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

// attach books a session anew, in the shard where its instance is now, and returns
// where that is. A session that there is no memory for is cut.
func (k kept) attach(now flow.Time, l *layout) (at kept, ok bool) {
	sh, id := k.sh, k.id
	s := sh.At(id)
	inst := sh.nat.instances[s.Key.VNI()]
	tombstone, ported := s.Track.Phase() == flow.TCPResetSent, s.Kind().HoldsPort()
	indexed := s.Data[ports.DataNodePort] != 0 && ported
	if to := &sh.nat.shards[inst.Shard]; to != sh {
		if s.Data[ports.DataNodePort] != 0 {
			sh.LeaveNode(id, s, &inst.Instance)
		}
		if indexed {
			sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
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
		if sh = to; indexed && !sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id) {
			return k, sh.forsake(now, l, id, false)
		}
		if s.Data[ports.DataNodePort] != 0 {
			sh.SettleAtNode(id, s, &inst.Instance)
		}
	}
	k.sh, k.id = sh, id
	if tombstone || !ported {
		return k, true
	}
	if !sh.Attach(now, id, &k.booking) {
		return k, sh.forsake(now, l, id, true)
	}
	return k, true
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
	if inst := sh.nat.instances[index]; settled && s.Data[ports.DataNodePort] != 0 {
		sh.LeaveNode(id, s, &inst.Instance)
		sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
	}
	sh.Remove(id, s)
	return false
}

// masquerade gives a session of the instance's own address a port there, as every
// session has from its beginning where there are sources behind the instance.
func (sh *shard) masquerade(id flow.ID) {
	s := sh.At(id)
	inst, t := sh.nat.instances[s.Key.VNI()], ports.TupleOf(id, s)
	if s.Data[ports.DataNodePort] != 0 || !inst.Masquerades || !inst.Owns(t.Family, t.Inside) {
		return
	}
	if port, ok := sh.NodePort(&inst.Instance, &t, t.Inside); ok {
		s.Data[ports.DataNodePort] = port
		if !sh.IndexExtra(sh.NodeHash(id, s, &inst.Instance), id) {
			s.Data[ports.DataNodePort] = 0
			return
		}
		sh.SettleAtNode(id, s, &inst.Instance)
	}
}

// change returns the report.
func (l *layout) change() (c Change) {
	for _, inst := range l.order {
		row := &InstanceChange{Name: inst.Name, Added: true}
		if old := l.predecessor(inst); old != nil {
			row = l.changes[old]
		}
		granted, awaiting := inst.Ports()
		row.AwaitingRemoval += awaiting
		if row.Added {
			row.Granted += granted
		}
		if *row != (InstanceChange{Name: inst.Name}) {
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
