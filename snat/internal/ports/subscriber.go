package ports

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Subscribers: the inside addresses of an instance, as far as an option needs to
// know what each of them has. A subscriber has a record while it has sessions on
// ports of the instance, and longer only while its rate is not forgotten.

// enroll finds the record of a flow's subscriber, for t.subscriber, and reports
// why it may not begin a session, if so.
func (sh *State) enroll(now flow.Time, inst *Instance, t *Tuple) flow.Reason {
	want := subscriberOf(inst, t)
	t.subscriber = sh.subscribers.obtain(now, &want)
	if t.subscriber == 0 {
		return flow.ReasonMemory
	}
	s := sh.subscribers.slab.At(t.subscriber)
	if reason := sh.space.rules.Limits.admit(now, inst, s); reason != flow.ReasonNone {
		return reason
	}
	if s.home == 0 && sh.space.rules.paired() {
		if home := inst.homeOf(t); home >= 0 {
			sh.settleAt(inst, s, home)
		}
	}
	return flow.ReasonNone
}

// homeOf returns the home of a new subscriber: where its fixed ports are, if it
// has such. It is -1 if the instance has no ports of the protocol, but a mapping on
// one that awaits removal, to which somebody outside sends.
func (inst *Instance) homeOf(t *Tuple) int {
	if m := inst.fixed(int(t.Family)); m != nil {
		if f, ok := m.Outside(t.InsideAddr()); ok {
			return slices.IndexFunc(inst.homes[t.Family], func(h home) bool { return netAddr(int(t.Family), h.outside) == f.Outside })
		}
	}
	return inst.emptiest(t.Family, PoolIndex(t.Proto))
}

// enrollAt is enroll for a session that begins outside, on a mapping that the
// subscriber has.
func (sh *State) enrollAt(now flow.Time, inst *Instance, t *Tuple, mapping uint32) flow.Reason {
	reason := sh.enroll(now, inst, t)
	if sh.space.rules.Limits.full(sh.mappings.at(mapping)) {
		reason = flow.ReasonSessionCap
	}
	return reason
}

// emptiest returns the home with the fewest subscribers that has ports of a
// protocol, or -1 if there is none.
func (inst *Instance) emptiest(family uint8, protocol int) int {
	best := -1
	for i, h := range inst.homes[family] {
		if (best < 0 || h.subscribers < inst.homes[family][best].subscribers) && inst.pools[family][protocol].at(h.outside) {
			best = i
		}
	}
	return best
}

// at reports whether a pool is granted ports of an outside address.
func (p *pool) at(outside [2]uint64) bool {
	for i := range p.shares {
		if s := &p.shares[i]; s.outside == outside && !s.awaiting {
			return s.allocated > 0
		}
	}
	return false
}

// settleAt makes a home that of a subscriber.
func (sh *State) settleAt(inst *Instance, s *subscriber, home int) {
	s.home = uint16(home + 1)
	inst.homes[s.family][home].subscribers++
}

// home returns the home of a tuple's subscriber.
func (sh *State) home(t *Tuple) int { return int(sh.subscribers.slab.At(t.subscriber).home) - 1 }

// dismiss is the end of a flow that was refused.
func (sh *State) dismiss(inst *Instance, t *Tuple) {
	sh.moveOut(inst, sh.subscribers.slab.At(t.subscriber))
	sh.subscribers.drop(t.subscriber)
}

// moveOut gives up the home of a subscriber without sessions.
func (sh *State) moveOut(inst *Instance, s *subscriber) {
	if s.home != 0 && s.sessions == 0 && s.numBlocks == 0 {
		inst.homes[s.family][s.home-1].subscribers--
		if s.bound {
			sh.tellHome(sh.EndedAt, HomeLeft, inst, s)
		}
		s.home, s.bound = 0, false
	}
}

// spend counts a port for a tuple's subscriber.
func (sh *State) spend(t *Tuple) {
	if t.subscriber != 0 {
		sh.subscribers.slab.At(t.subscriber).ports[PoolIndex(t.Proto)]++
	}
}

// joined counts a new session for a tuple's subscriber.
func (sh *State) joined(now flow.Time, inst *Instance, t *Tuple) {
	s := sh.subscribers.slab.At(t.subscriber)
	if s.sessions++; s.sessions == 1 {
		inst.subscribers++
	}
	if s.home != 0 && !s.bound {
		s.bound = true
		sh.tellHome(now, HomeGiven, inst, s)
	}
	if l := &sh.space.rules.Limits; l.SessionRate > 0 {
		s.due = max(s.due, now).Add(l.interval())
	}
}

// left counts down a session of a tuple's subscriber, and with port also the port
// of its mapping.
func (sh *State) left(inst *Instance, t *Tuple, port bool) {
	want := subscriberOf(inst, t)
	id := sh.subscribers.find(&want)
	s := sh.subscribers.slab.At(id)
	if port {
		s.ports[PoolIndex(t.Proto)]--
	}
	if s.sessions--; s.sessions > 0 {
		return
	}
	inst.subscribers--
	sh.moveOut(inst, s)
	if s.due > sh.EndedAt && !s.idle {
		s.idle = true
		sh.subscribers.idle = append(sh.subscribers.idle, idleSubscriber{id, s.due})
	}
	sh.subscribers.drop(id)
}

// returned counts a session that has been there before the instance was
// configured anew, and returns the record of its subscriber, or 0 for want of memory.
func (sh *State) returned(now flow.Time, inst *Instance, t *Tuple, port bool) uint32 {
	want := subscriberOf(inst, t)
	id := sh.subscribers.obtain(now, &want)
	if id == 0 {
		return 0
	}
	s := sh.subscribers.slab.At(id)
	if s.sessions++; s.sessions == 1 {
		inst.subscribers++
	}
	if port {
		s.ports[PoolIndex(t.Proto)]++
	}
	return id
}

// Notice writes down where the subscribers of affected instances are at home.
func (sh *State) Notice(l *Layout) {
	for id := sh.subscribers.slab.Next(0); id != 0; id = sh.subscribers.slab.Next(id) {
		if s := sh.subscribers.slab.At(id); s.home != 0 && l.here(sh, s.instance) {
			l.homes[household{s.instance, s.addr, s.family}] = l.former[s.instance].homes[s.family][s.home-1].outside
		}
	}
}

// Rehome gives the subscriber of a session that has been booked anew the home that
// it had, if its instance still has that, else the first one where it has a
// session.
func (sh *State) Rehome(l *Layout, id flow.ID) {
	session := sh.At(id)
	inst, t := sh.space.instances[session.Key.VNI()], TupleOf(id, session)
	want := subscriberOf(inst, &t)
	record := sh.subscribers.find(&want)
	if record == 0 || session.Track.Phase() == flow.TCPResetSent || !session.Kind().HoldsPort() {
		return
	}
	s, homes := sh.subscribers.slab.At(record), inst.homes[t.Family]
	was := l.homes[household{inst.Index, t.Inside, t.Family}]
	i := slices.IndexFunc(homes, func(h home) bool { return h.outside == was })
	if i < 0 {
		_, outside := outsideOf(id, session)
		i = slices.IndexFunc(homes, func(h home) bool { return h.outside == outside })
	}
	if i < 0 || s.home != 0 && i >= int(s.home)-1 {
		return
	}
	if s.home != 0 {
		homes[s.home-1].subscribers--
	}
	sh.settleAt(inst, s, i)
}

// Subscriber is what one inside address has of its instance.
type Subscriber struct {
	Instance *Instance
	Addr     netip.Addr
	Frontend netip.Addr    // its home; zero if it has none
	Ports    [NumPools]int // by protocol: mappings, and sessions that are mapped on their own
	Sessions int
}

// Subscribers appends the subscribers with sessions, in no particular order. Cost:
// O(subscribers).
func (sh *State) Subscribers(all []Subscriber) []Subscriber {
	for id := sh.subscribers.slab.Next(0); id != 0; id = sh.subscribers.slab.Next(id) {
		s := sh.subscribers.slab.At(id)
		if s.sessions == 0 {
			continue // free, or idle
		}
		inst := sh.space.instances[s.instance]
		row := Subscriber{Instance: inst, Addr: s.netAddr(), Sessions: int(s.sessions)}
		for p, n := range s.ports {
			row.Ports[p] = int(n)
		}
		if s.home != 0 {
			row.Frontend = netAddr(int(s.family), inst.homes[s.family][s.home-1].outside)
		}
		all = append(all, row)
	}
	return all
}
