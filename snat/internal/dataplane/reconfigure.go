package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/changes"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Reconfiguration: a new configuration takes the place of the one in force at a
// single moment, with the locks of all shards held. The packet path finds the
// shard of a packet before it takes the lock, so once it has the lock it makes
// sure that the routes it used are still those in force, and else begins again.
//
// An instance whose addresses, ports and shard stay the same goes on as it is, untouched.
// The sessions of any other are looked at one by one: those that cannot go
// on are cut, the others are booked anew, since ordinals are counted along the
// ranges of an instance, and mappings and destination records hold ordinals.
//
// layout.go plans the new state beside the old one, and survey.go finds the sessions that
// it concerns, both while packets go on. At the moment cut.go ends the sessions that
// cannot go on, and keep.go books the others anew; change.go reports.

// Reconfigure puts another configuration in force at now, at one moment for all
// instances, and reports what that did to them: those that were added or removed, or
// whose ports or sessions changed, in the order of c, then the removed ones. All that
// was due at now ends first. With rebook all sessions are booked anew, because ports
// are handed out by other rules. n must not be closed.
func (n *NAT) Reconfigure(now flow.Time, c compiled.Config, rebook bool) []changes.Change {
	n.changing.Lock()
	defer n.changing.Unlock()
	n.endGrace(now)
	return n.apply(now, c, rebook, false)
}

// renew returns the routes in force at now.
func (n *NAT) renew(now flow.Time) *routes {
	r := n.routes.Load()
	if r.Over(now) {
		n.changing.Lock()
		defer n.changing.Unlock()
		n.endGrace(now)
		r = n.routes.Load()
	}
	return r
}

// inForce reports whether r are the routes in force at now. It needs the lock of
// a shard, under which the answer remains true.
func (n *NAT) inForce(r *routes, now flow.Time) bool {
	return n.routes.Load() == r.Whole && !r.Over(now)
}

// endGrace cuts the flows whose grace is over at now. The caller holds changing.
func (n *NAT) endGrace(now flow.Time) {
	for r := n.routes.Load(); r.Over(now); r = n.routes.Load() {
		n.apply(r.Until, n.config, false, true)
	}
}

// apply puts a valid configuration into force; c belongs to n from now on. The caller holds
// changing. With rebook all sessions are booked anew. With addresses set, the present frontends stay
// ours, so that other packets do not notice whether the end of a grace has been processed.
func (n *NAT) apply(now flow.Time, c compiled.Config, rebook, addresses bool) []changes.Change {
	l := n.lay(&c, rebook, addresses)
	l.compare()
	n.survey(now, l)
	n.makeShards(l.inhabited())
	n.replace(now, c, l)
	return l.change()
}

// replace makes the layout of c, for which sessions have been noted, the one in force. The
// locks of all shards are held meanwhile. Cost: O(shards × (frontends + forwards)), and what
// changes: instances, their ports and the sessions that are noted; O(sessions) of the shards
// whose policy changes.
func (n *NAT) replace(now flow.Time, c compiled.Config, l *layout) {
	n.control.Lock()
	defer n.control.Unlock()
	for _, sh := range n.all() {
		sh.Lock()
		defer sh.Unlock()
	}
	for _, sh := range n.all() {
		sh.expireAll(now)
		sh.endSurvey(l)
	}
	n.ports.FixPeaks()
	n.config = c
	for _, sh := range n.all() {
		sh.cutOrKeep(now, l)
		sh.cutForwards(now, l)
	}
	n.revokePermits(l)
	if l.ports.Await() {
		l.routes.SetFrontends(l.ports.Frontends, l.ports.Order)
	}
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
	for _, sh := range n.all() {
		sh.TellHomes(now)
		sh.expireAll(now)
		sh.check()
	}
	n.scheduleRecords(now, l)
	l.countAwaiting()
}

// install makes the layout the one in force, without the sessions that have to be
// booked anew. It returns the shards whose policy has changed.
func (n *NAT) install(now flow.Time, l *layout) (changed []*shard) {
	n.ports.Install(now, l.ports, n.config.Ports, n.config.Hooks.Ports)
	for _, old := range l.gone {
		if old.Public != [2][2]uint64{} || old.Direct.Used() {
			n.departed = append(n.departed, old.Direct)
		}
	}
	l.routes.Until = l.ports.Until
	l.routes.Forwards.Inherit(n.routes.Load().Forwards)
	l.routes.Meter(n.routes.Load(), n.config.CountTraffic, len(n.shards))
	n.order, n.instances = l.order, l.routes.Instances
	l.routes.Seal()
	n.routes.Store(l.routes)
	n.notice.Raise()
	if l.routes.Until == ports.Never {
		n.steady.Store(l.routes)
	} else {
		n.steady.Store(nil)
	}
	n.follows = l.follows
	for _, sh := range n.all() {
		if p := &n.config.Policies[l.follows[sh.number]]; sh.policy != *p {
			sh.setPolicy(*p)
			changed = append(changed, sh)
		}
	}
	return changed
}
