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
//
// layout.go plans the new state beside the old one; cut.go ends the sessions that
// cannot go on; keep.go books the others anew; change.go reports.

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

// renew returns the routes in force at now.
func (n *NAT) renew(now flow.Time) *routes {
	r := n.routes.Load()
	if r.over(now) {
		n.control.Lock()
		defer n.control.Unlock()
		n.endGrace(now)
		r = n.routes.Load()
	}
	return r
}

// inForce reports whether r are the routes in force at now. It needs the lock of
// a shard, under which the answer remains true.
func (n *NAT) inForce(r *routes, now flow.Time) bool {
	return n.routes.Load() == r.whole && !r.over(now)
}

// endGrace cuts the flows whose grace is over at now. The caller holds control.
func (n *NAT) endGrace(now flow.Time) {
	for r := n.routes.Load(); r.over(now); r = n.routes.Load() {
		n.apply(r.until, n.config, true)
	}
}

// over reports whether a grace has ended by now, so that other routes are in force.
func (r *routes) over(now flow.Time) bool { return r.until <= now && r.until != ports.Never }

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
		n.shards[i].cutOrKeep(now, l)
		n.shards[i].cutForwards(now, l)
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
	n.moveForwards(now, l)
	n.ports.Resume(l.ports)
	n.ports.TellMoved(now, l.ports)
	for _, k := range l.kept {
		k.sh.addNodePort(k.id)
		if n.ports.Paired() {
			k.sh.PairAgain(l.ports, k.id)
		}
	}
	for _, sh := range changed {
		for _, id := range sh.all() {
			s := sh.At(id)
			sh.udp.Reclassify(s)
			sh.udp.Age(sh.Shard, id, s)
		}
	}
	for i := range n.shards {
		n.shards[i].TellHomes(now)
		n.shards[i].expireAll(now)
		n.shards[i].check()
	}
	n.scheduleRecords(now, l)
	return l.change()
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
	l.routes.forwards.Inherit(n.routes.Load().forwards)
	l.routes.meter(n.routes.Load(), n.config.CountTraffic, len(n.shards))
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
