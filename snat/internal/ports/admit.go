package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Sessions that begin outside, on a port that a mapping has. The mapping is found by its
// claim on the port, in one look-up: claims are as fine as the filter needs, and there is
// one exactly where the mapping has a session.

// Admission is a mapping that admits a packet from outside, with the port that it has.
type Admission struct {
	outside        [2]uint64
	pool           *pool
	ordinal        int
	mapping, claim uint32
	scope          destinations.Scope
}

// Admit finds the mapping that has a port of an instance and admits the remote of a
// tuple, or says why there is none. It changes nothing.
func (sh *State) Admit(inst *Instance, t *Tuple, outside [2]uint64, port uint16) (a Admission, reason flow.Reason) {
	a.outside, a.pool = outside, &inst.pools[t.Family][PoolIndex(t.Proto)]
	a.ordinal = a.pool.ordinal(outside, port)
	if a.pool.isFree(a.ordinal) {
		return a, flow.ReasonNoFlow
	}
	b := sh.space.Behavior(t.Proto)
	a.scope = b.claimScope(inst, t)
	if b.Opens {
		a.claim = sh.mappings.Claimed(&a.scope, a.ordinal)
	}
	if a.claim == 0 {
		return a, flow.ReasonFiltered
	}
	a.mapping = sh.mappings.Claimant(a.claim)
	return a, flow.ReasonNone
}

// Inside returns the inside socket of the mapping.
func (sh *State) Inside(a *Admission) (addr [2]uint64, port uint16) {
	m := sh.mappings.At(a.mapping)
	return m.Addr, m.Port
}

// Enroll finds the record of the subscriber of an admitted tuple, where there are any,
// and reports why it may not have another session, if so.
func (sh *State) Enroll(now flow.Time, inst *Instance, t *Tuple, a *Admission) flow.Reason {
	if !sh.space.enrolls {
		return flow.ReasonNone
	}
	return sh.enrollAt(now, inst, t, a.mapping)
}

// Join counts the session of an admitted tuple that begins on the mapping's port.
func (sh *State) Join(now flow.Time, inst *Instance, t *Tuple, a *Admission) {
	if sh.space.enrolls {
		sh.joined(now, inst, t)
	}
	sh.clear(t, a.pool, a.ordinal)
	sh.occupy(a.pool, a.ordinal, flow.ClassTCPOpening, now)
	a.pool.shareOf(a.ordinal).created++
	sh.mappings.Join(a.mapping, a.claim, &a.scope)
	if sh.holders.On() {
		sh.beginsToHold(now, inst, t)
	}
}

// Begun notes that the session of an admitted tuple is half-open, if such are limited.
// The oldest one of its subscriber gives way.
func (sh *State) Begun(now flow.Time, id flow.ID, s *flow.Session, t *Tuple) {
	if sh.space.enrolls {
		sh.begins(t.subscriber, id, s)
		sh.giveWay(now, t)
	}
}

// Anchor keeps strangers from keeping a mapping alive (RFC 7857 section 7): until
// the inside has answered, a session that begins outside ends no later than the
// mapping's anchor, the last session that began inside. If the anchor has ended
// while others live, a session from outside takes its place, so strangers can add
// one idle timeout at most. UDP sessions that any packet refreshes may be kept
// alive by strangers on purpose.
func (sh *State) Anchor(from flow.Side, inst *Instance, t *Tuple, id flow.ID, s *flow.Session, anyRefreshes bool) {
	b := sh.space.Behavior(t.Proto)
	if !b.Opens {
		return
	}
	maps, claim := &sh.mappings, b.claimScope(inst, t)
	_, ordinal := portOf(id, s, inst)
	m := maps.Claimant(maps.Claimed(&claim, ordinal))
	if from == flow.Inside || maps.Anchor(m) == 0 {
		maps.SetAnchor(m, id)
		return
	}
	if t.Proto == wire.ProtoUDP && anyRefreshes {
		return
	}
	last := sh.ExpireBy(id, s, sh.Deadline(sh.At(maps.Anchor(m))))
	if t.Proto == wire.ProtoUDP {
		s.Track.Ack[flow.Inside] = last
	}
}

// Alone reports whether a session is the only one of its binding.
func (sh *State) Alone(id flow.ID, s *flow.Session, inst *Instance) bool {
	b := sh.space.Behavior(s.Proto())
	if b.PerFlow || !s.Kind().HoldsPort() {
		return true
	}
	t := TupleOf(id, s)
	_, ordinal := portOf(id, s, inst)
	claim, maps := b.claimScope(inst, &t), &sh.mappings
	return maps.At(maps.Claimant(maps.Claimed(&claim, ordinal))).Sessions == 1
}
