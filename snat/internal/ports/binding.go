package ports

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Alone reports whether a session is the only one of its binding.
func (sh *State) Alone(id flow.ID, s *flow.Session, inst *Instance) bool {
	b := sh.space.Behavior(s.Proto())
	if b.PerFlow || !s.Kind().HoldsPort() {
		return true
	}
	t := TupleOf(id, s)
	_, ordinal := portOf(id, s, inst)
	claim, maps := b.claimScope(inst, &t), &sh.mappings
	return maps.at(maps.claims.At(maps.claimed(&claim, ordinal)).mapping).sessions == 1
}

// tellHome tells that a subscriber is paired with a frontend, or no longer.
func (sh *State) tellHome(at flow.Time, kind EventKind, inst *Instance, s *subscriber) {
	if tell := sh.space.tell; tell != nil {
		tell(Event{At: at, Kind: kind, Instance: inst, Inside: s.netAddr(), Frontend: netAddr(int(s.family), inst.homes[s.family][s.home-1].outside)})
	}
}

// TellHomes tells of the homes that subscribers have got in a reconfiguration.
func (sh *State) TellHomes(now flow.Time) {
	for id := sh.subscribers.slab.Next(0); id != 0; id = sh.subscribers.slab.Next(id) {
		if s := sh.subscribers.slab.At(id); s.home != 0 && s.sessions > 0 && !s.bound {
			s.bound = true
			sh.tellHome(now, HomeGiven, sh.space.instances[s.instance], s)
		}
	}
}

// OnlyFrontend returns the address whose ports a flow could have got, if it is
// only one.
func (sh *State) OnlyFrontend(inst *Instance, t *Tuple) (only netip.Addr, ok bool) {
	p := sh.space.book.pool(inst, t.Family, PoolIndex(t.Proto))
	for i := range p.ranges {
		if p.outside(&p.ranges[i]) != p.outside(&p.ranges[0]) {
			return netip.Addr{}, false
		}
	}
	if len(p.ranges) == 0 {
		return netip.Addr{}, false
	}
	return netAddr(int(p.family), p.outside(&p.ranges[0])), true
}
