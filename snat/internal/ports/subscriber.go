package ports

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Subscribers: the inside addresses of an instance, as far as an option needs to
// know what each of them has. A subscriber has a record while it has sessions on
// ports of the instance, and longer only while its rate is not forgotten.

// enroll finds the record of a flow's subscriber, for t.subscriber, and reports
// why it may not begin a session, if so.
func (sh *State) enroll(now flow.Time, inst *Instance, t *Tuple) flow.Reason {
	want := subscriberOf(inst, t)
	t.subscriber = sh.subscribers.Obtain(now, &want)
	if t.subscriber == 0 {
		return flow.ReasonMemory
	}
	s := sh.subscribers.At(t.subscriber)
	if reason := sh.space.rules.Limits.Admit(now, inst.subscribers, s); reason != flow.ReasonNone {
		return reason
	}
	if s.Home == 0 && sh.space.rules.paired() {
		if home := inst.homeOf(t); home >= 0 {
			sh.pair(inst, s, home)
		}
	}
	return flow.ReasonNone
}

// homeOf returns the home of a new subscriber: where its fixed ports are, if it
// has such. It is -1 if the instance has no ports of the protocol left; a
// subscriber can still be new then, when somebody outside sends to its mapping on a
// port that awaits removal.
func (inst *Instance) homeOf(t *Tuple) int {
	if m := inst.fixed(int(t.Family)); m != nil {
		if f, ok := m.Outside(t.InsideAddr()); ok {
			return slices.IndexFunc(inst.addrs[t.Family], func(h outsideAddr) bool { return netAddr(int(t.Family), h.addr) == f.Outside })
		}
	}
	return inst.emptiest(t.Family, PoolIndex(t.Proto))
}

// enrollAt is enroll for a session that begins outside, on a mapping that the
// subscriber has.
func (sh *State) enrollAt(now flow.Time, inst *Instance, t *Tuple, mapping uint32) flow.Reason {
	reason := sh.enroll(now, inst, t)
	if sh.space.rules.Limits.MappingFull(sh.mappings.At(mapping).Sessions) {
		reason = flow.ReasonSessionCap
	}
	return reason
}

// emptiest returns the home with the fewest subscribers that has ports of a
// protocol, or -1 if there is none.
func (inst *Instance) emptiest(family uint8, protocol int) int {
	best := -1
	for i, h := range inst.addrs[family] {
		if (best < 0 || h.home < inst.addrs[family][best].home) && inst.pools[family][protocol].at(h.addr) {
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

// pair makes a home that of a subscriber.
func (sh *State) pair(inst *Instance, s *subscribers.Record, home int) {
	s.Home = uint16(home + 1)
	inst.addrs[s.Name().Family][home].home++
}

// home returns the home of a tuple's subscriber.
func (sh *State) home(t *Tuple) int { return int(sh.subscribers.At(t.subscriber).Home) - 1 }

// dismiss is the end of a flow that was refused.
func (sh *State) dismiss(inst *Instance, t *Tuple) {
	sh.unpair(inst, sh.subscribers.At(t.subscriber))
	sh.subscribers.Drop(t.subscriber)
}

// unpair gives up the home of a subscriber without sessions.
func (sh *State) unpair(inst *Instance, s *subscribers.Record) {
	if s.Home != 0 && s.Sessions == 0 && s.NumBlocks == 0 {
		inst.addrs[s.Name().Family][s.Home-1].home--
		if s.Told {
			sh.tellHome(sh.EndedAt, HomeLeft, inst, s)
		}
		s.Home, s.Told = 0, false
	}
}

// spend counts a port for a tuple's subscriber.
func (sh *State) spend(t *Tuple) {
	if t.subscriber != 0 {
		sh.subscribers.At(t.subscriber).Ports[PoolIndex(t.Proto)]++
	}
}

// joined counts a new session for a tuple's subscriber.
func (sh *State) joined(now flow.Time, inst *Instance, t *Tuple) {
	s := sh.subscribers.At(t.subscriber)
	if s.Sessions++; s.Sessions == 1 {
		inst.subscribers++
	}
	if s.Home != 0 && !s.Told {
		s.Told = true
		sh.tellHome(now, HomeGiven, inst, s)
	}
	sh.space.rules.Limits.Spend(now, s)
}

// left counts down a session of a tuple's subscriber, and with port also the port
// of its mapping.
func (sh *State) left(inst *Instance, t *Tuple, port bool) {
	want := subscriberOf(inst, t)
	id := sh.subscribers.Find(&want)
	s := sh.subscribers.At(id)
	if port {
		s.Ports[PoolIndex(t.Proto)]--
	}
	if s.Sessions--; s.Sessions > 0 {
		return
	}
	inst.subscribers--
	sh.unpair(inst, s)
	sh.subscribers.Leave(id, sh.EndedAt)
}

// returned counts a session that has been there before the instance was
// configured anew, and returns the record of its subscriber, or 0 for want of memory.
func (sh *State) returned(now flow.Time, inst *Instance, t *Tuple, port bool) uint32 {
	want := subscriberOf(inst, t)
	id := sh.subscribers.Obtain(now, &want)
	if id == 0 {
		return 0
	}
	s := sh.subscribers.At(id)
	if s.Sessions++; s.Sessions == 1 {
		inst.subscribers++
	}
	if port {
		s.Ports[PoolIndex(t.Proto)]++
	}
	return id
}

// NoteHomes writes down where the subscribers of affected instances are at home.
func (sh *State) NoteHomes(l *Layout) {
	for s := range sh.subscribers.All() {
		if n := s.Name(); s.Home != 0 && l.here(sh.number, n.Instance) {
			l.homes[n] = l.former[n.Instance].addrs[n.Family][s.Home-1].addr
		}
	}
}

// PairAgain gives the subscriber of a session that has been booked anew the home that
// it had, if its instance still has that, else the first one where it has a
// session.
func (sh *State) PairAgain(l *Layout, id flow.ID) {
	session := sh.At(id)
	inst, t := sh.space.instances[session.Key.VNI()], TupleOf(id, session)
	want := subscriberOf(inst, &t)
	record := sh.subscribers.Find(&want)
	if record == 0 || session.Track.Phase() == flow.TCPResetSent || !session.Kind().HoldsPort() {
		return
	}
	s, addrs := sh.subscribers.At(record), inst.addrs[t.Family]
	was := l.homes[want]
	i := slices.IndexFunc(addrs, func(h outsideAddr) bool { return h.addr == was })
	if i < 0 {
		_, outside := outsideOf(id, session)
		i = slices.IndexFunc(addrs, func(h outsideAddr) bool { return h.addr == outside })
	}
	if i < 0 || s.Home != 0 && i >= int(s.Home)-1 {
		return
	}
	if s.Home != 0 {
		addrs[s.Home-1].home--
	}
	sh.pair(inst, s, i)
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
	for s := range sh.subscribers.All() {
		if s.Sessions == 0 {
			continue // free, or idle
		}
		n := s.Name()
		inst := sh.space.instances[n.Instance]
		row := Subscriber{Instance: inst, Addr: netAddr(int(n.Family), n.Addr), Sessions: int(s.Sessions)}
		for p, n := range s.Ports {
			row.Ports[p] = int(n)
		}
		if s.Home != 0 {
			row.Frontend = netAddr(int(n.Family), inst.addrs[n.Family][s.Home-1].addr)
		}
		all = append(all, row)
	}
	return all
}

// subscriberOf names the subscriber of a tuple.
func subscriberOf(inst *Instance, t *Tuple) subscribers.Name {
	return subscribers.Name{Addr: t.Inside, Instance: inst.Index, Family: t.Family}
}

// quota reports why a tuple's subscriber may not have another port, if so.
func (sh *State) quota(t *Tuple) flow.Reason {
	if t.subscriber != 0 && sh.space.rules.Limits.Quota(sh.subscribers.At(t.subscriber), PoolIndex(t.Proto)) > 0 {
		return flow.ReasonQuota
	}
	return flow.ReasonNone
}

// isHalfOpen reports whether a session in a class is one of those that are limited.
func isHalfOpen(s *flow.Session, class flow.Class) bool {
	return class == flow.ClassTCPOpening && s.Track.Initiator() == flow.Outside
}

// begins notes that a session of a subscriber is half-open, if it is limited.
func (sh *State) begins(subscriber uint32, id flow.ID, s *flow.Session) {
	if sh.space.rules.Limits.HalfOpen > 0 && isHalfOpen(s, s.Track.Class) {
		sh.subscribers.Begin(subscriber, id)
	}
}

// Completes undoes begins for a session that has been in a class, if it is noted.
func (sh *State) Completes(inst *Instance, id flow.ID, s *flow.Session, class flow.Class) {
	if sh.subscribers.NumHalfOpen() == 0 || !isHalfOpen(s, class) {
		return
	}
	t := TupleOf(id, s)
	want := subscriberOf(inst, &t)
	sh.subscribers.Complete(sh.subscribers.Find(&want), id)
}

// giveWay ends the oldest half-open session of a tuple's subscriber if that has more than
// it may.
func (sh *State) giveWay(now flow.Time, t *Tuple) {
	if l := sh.space.rules.Limits.HalfOpen; l > 0 {
		if id := sh.subscribers.Oldest(t.subscriber, l); id != 0 {
			sh.owner.Evict(now, id, sh.At(id))
		}
	}
}

// tellHome tells that a subscriber is paired with a frontend, or no longer.
func (sh *State) tellHome(at flow.Time, kind EventKind, inst *Instance, s *subscribers.Record) {
	if tell := sh.space.tell; tell != nil {
		n := s.Name()
		tell(Event{At: at, Kind: kind, Instance: inst, Inside: netAddr(int(n.Family), n.Addr), Frontend: netAddr(int(n.Family), inst.addrs[n.Family][s.Home-1].addr)})
	}
}

// TellHomes tells of the homes that subscribers have got in a reconfiguration.
func (sh *State) TellHomes(now flow.Time) {
	for s := range sh.subscribers.All() {
		if s.Home != 0 && s.Sessions > 0 && !s.Told {
			s.Told = true
			sh.tellHome(now, HomeGiven, sh.space.instances[s.Name().Instance], s)
		}
	}
}
