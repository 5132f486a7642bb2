package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Forwards when the configuration changes: how they are laid out, and what becomes of the
// sessions that they have.

// targeted returns the names of the instances that answer from sockets of targets, or have
// done so and still have such sessions.
func (l *layout) targeted(n *NAT, c *compiled.Config) map[string]bool {
	was := n.routes.Load().Forwards
	if len(c.Forwards) == 0 && was.Len() == 0 {
		return nil
	}
	names := map[string]bool{}
	for i := range c.Forwards {
		for _, name := range c.Forwards[i].Instances {
			names[name] = names[name] || !c.Forwards[i].Floating
		}
	}
	for _, name := range n.retargeted {
		names[name] = true
	}
	if len(c.Forwards) > 0 {
		l.sockets = n.formerSockets(l, was)
		for i := range l.sockets {
			names[l.former[l.sockets[i].Instance].Name] = true
		}
	}
	return names
}

// formerSockets returns the sockets whose sessions may go on: those of targets, and those that are
// no target's any more, which get no new ones, as far as they have any.
func (n *NAT) formerSockets(l *layout, was *forwards.Set) (all []forwards.Socket) {
	add := func(at forwards.Socket) {
		if old := l.former[at.Instance]; old != nil && l.stays[old.Name] {
			all = append(all, at)
		}
	}
	for at := range was.Sockets() {
		add(at)
	}
	if !was.Departs() {
		return all
	}
	r, seen := n.routes.Load(), map[forwards.Socket]bool{}
	for _, sh := range n.all() {
		sh.eachForwarded(func(id flow.ID, s *flow.Session) {
			at := socketOf(id, s, s.Key.VNI(), r.Forwarding(id, s))
			if !seen[at] && !r.Forwards.Get(at.Forward).Floating && was.Departed(at) {
				seen[at] = true
				add(at)
			}
		})
	}
	return all
}

// socketOf returns the inside socket of a session of an instance, for a forward.
func socketOf(id flow.ID, s *flow.Session, instance, number uint32) forwards.Socket {
	t := ports.TupleOf(id, s)
	return forwards.Socket{Forward: number, Instance: instance, V6: id.Is6(), Proto: t.Proto, Port: t.InsidePort, Addr: t.Inside, Outside: s.OutsidePort}
}

// addForwards lays forwards out, after the instances.
func (l *layout) addForwards(n *NAT, c *compiled.Config) {
	was := n.routes.Load().Forwards
	l.unmoved = was.Len() == 0 && len(c.Forwards) == 0
	if len(c.Forwards) == 0 {
		return
	}
	l.unmoved = len(l.fresh) == 0 && len(l.gone) == 0 && slices.EqualFunc(c.Forwards, n.config.Forwards, func(a, b compiled.Forward) bool { return a.Same(&b) })
	for _, sh := range n.all() {
		l.unmoved = l.unmoved && sh.policy == c.Policies[l.follows[sh.number]]
	}
	indexes := map[string]uint32{}
	for _, inst := range l.order {
		indexes[inst.Name] = inst.Index
	}
	specs := make([]forwards.Spec, len(c.Forwards))
	for i := range c.Forwards {
		f, spec := &c.Forwards[i], &specs[i]
		*spec = f.Spec
		spec.Frontend = l.ports.FrontendIndex(f.Addr)
		for s, policy := range l.follows {
			if policy == f.Policy {
				spec.Shards = append(spec.Shards, uint8(s))
			}
		}
		l.unmoved = l.unmoved && slices.Equal(spec.Shards, was.Get(uint32(i+1)).Shards)
		spec.Targets = slices.Clone(f.Targets)
		for j, name := range f.Instances {
			spec.Targets[j].Instance = indexes[name]
		}
	}
	config := forwards.Config{Key: n.seeded.Hash(&flow.Key{}), Spread: c.DistributionKey, Shards: len(n.shards), Tables: &n.tables}
	l.routes.Forwards = forwards.New(config, specs, was, l.sockets)
}

// cutForwards cuts the forwarded sessions of a shard that cannot go on, and notes those
// that belong to another shard now.
func (sh *shard) cutForwards(now flow.Time, l *layout) {
	for _, id := range l.noted[sh.number] {
		if !sh.Has(id) { // it has been cut already
			continue
		}
		s := sh.At(id)
		if s.Kind() != flow.KindForwarded {
			continue
		}
		shard, cause, ok := l.judgeForwarded(id, s)
		switch {
		case ok && shard == sh.number:
		case ok:
			l.moving = append(l.moving, moving{sh, id, shard})
		default:
			if s.Track.Phase() != flow.TCPResetSent {
				l.changes.Of(l.former[s.Key.VNI()].Name).Cut[cause]++
			}
			sh.cutForwarded(now, id, s, cause)
		}
	}
}

// judgeForwarded reports whether a forwarded session can go on, and where, or the cause if
// not.
func (l *layout) judgeForwarded(id flow.ID, s *flow.Session) (shard int, cause counters.CutCause, ok bool) {
	next := l.successor(l.former[s.Key.VNI()])
	if next == nil {
		return 0, counters.CutRemoved, false
	}
	r, t := l.routes, ports.TupleOf(id, s)
	number := r.Forwarding(id, s)
	if number == 0 {
		return 0, counters.CutForward, false
	}
	f := r.Forwards.Get(number)
	if floating := t.Inside == ports.OutsideOf(id, s); floating != f.Floating {
		return 0, counters.CutForward, false
	} else if !floating {
		inside := r.Realm(next.Realm).Source(&t)
		if index, _ := addresses.Unpack(inside); inside == 0 || index != next.Index {
			return 0, counters.CutReaddressed, false
		}
		if !r.Forwards.Answers(socketOf(id, s, next.Index, number)) ||
			f.Elsewhere(next.Index, t.Inside, t.InsidePort, s.OutsidePort) {
			return 0, counters.CutForward, false
		}
	}
	if f.State(next.Index, t.Inside) == forwards.Gone {
		return 0, counters.CutTarget, false
	}
	addr := t.Remote[0]
	if id.Is6() {
		addr = prefixes.Hash6(t.Remote)
	}
	return int(r.Forwards.Shard(number, addr, t.DestPort, t.Proto)), 0, true
}

// moveForwards moves the sessions that belong to other shards now. One that there is no
// memory for is cut.
func (n *NAT) moveForwards(now flow.Time, l *layout) {
	for _, m := range l.moving {
		sh, to := m.sh, n.shards[m.to]
		tombstone := sh.At(m.id).Track.Phase() == flow.TCPResetSent
		id := sh.Move(m.id, to.Shard, now)
		if id == 0 {
			sh.cutUnbooked(now, l, m.id, false)
			continue
		}
		to.udp.Age(to.Shard, id, to.At(id))
		if tombstone {
			sh.counters.Tombstones--
			to.counters.Tombstones++
		}
	}
}

// cutForwarded ends a forwarded session, which may be a tombstone, and tells of it.
func (sh *shard) cutForwarded(now flow.Time, id flow.ID, s *flow.Session, cause counters.CutCause) {
	if s.Track.Phase() != flow.TCPResetSent {
		sh.tellEnd(now, id, s, cause)
	}
	sh.EndedAt = now
	sh.remove(id, s)
}
