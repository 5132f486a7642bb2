package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// How an instance that owns its ports gives one to a new flow: the book of [owned].

func (owned) take(now flow.Time, sh *State, inst *Instance, t Tuple) (outside [2]uint64, port uint16, _ flow.Reason) {
	return sh.takeOwned(now, inst, &t)
}

// takeOwned is take without the copy that an interface asks for.
func (sh *State) takeOwned(now flow.Time, inst *Instance, t *Tuple) (outside [2]uint64, port uint16, _ flow.Reason) {
	protocol := PoolIndex(t.Proto)
	pool := &inst.pools[t.Family][protocol]
	if pool.granted == 0 {
		return outside, 0, flow.ReasonNoOutbound
	}
	b := sh.space.Behavior(t.Proto)
	var (
		scope   destinations.Scope
		ordinal int
		reason  flow.Reason
	)
	scopeIn(&scope, inst.Index, t, b.Sharing)
	if sh.space.enrolls {
		if reason = sh.enroll(now, inst, t); reason != flow.ReasonNone {
			if t.subscriber != 0 {
				sh.dismiss(inst, t)
			}
			return outside, 0, reason
		}
	}
	sh.destinations.BeginSearch()
	if b.PerFlow {
		ordinal, reason = sh.allocateConnection(pool, inst, t, &scope)
	} else {
		ordinal, reason = sh.allocateMapping(b, pool, inst, t, &scope)
	}
	if reason != flow.ReasonNone {
		if t.subscriber != 0 {
			sh.dismiss(inst, t)
		}
		return outside, 0, sh.destinations.Blame(reason)
	}
	if t.subscriber != 0 {
		if k, granted := sh.ownBlock(pool, t.subscriber, ordinal); granted {
			sh.tellBlock(now, BlockGranted, inst, k, sh.subscribers.At(t.subscriber))
		}
		sh.joined(now, inst, t)
	}
	r := pool.rangeOf(ordinal)
	free := pool.uses[ordinal] == (portUse{})
	if free {
		sh.occupied(pool, ordinal)
	}
	if free && pool.shut == nil {
		sh.begin(pool, r, ordinal, now)
	} else {
		sh.occupy(pool, ordinal, flow.ClassTCPOpening, now)
	}
	pool.shares[r.share].created++
	return pool.outside(r), r.portAt(ordinal), flow.ReasonNone
}

// allocateConnection maps a flow on its own.
func (sh *State) allocateConnection(p *pool, inst *Instance, t *Tuple, s *destinations.Scope) (int, flow.Reason) {
	there := flow.ID(0) // on the ordinal that was asked last
	ordinal, reason := sh.pick(p, inst, t, s, func(o int) bool {
		outside, port := p.port(o)
		there = sh.OutsideID(t, outside, port)
		return there != 0 && sh.At(there).Track.Phase() != flow.TCPResetSent
	})
	if reason != flow.ReasonNone {
		return 0, reason
	}
	if there != 0 { // a tombstone, which holds no port
		sh.owner.End(there, sh.At(there))
	}
	return ordinal, flow.ReasonNone
}

// clear removes the tombstone, which holds no port, that may be left between a
// tuple's remote and the port of an ordinal.
func (sh *State) clear(t *Tuple, p *pool, ordinal int) {
	outside, port := p.port(ordinal)
	if id := sh.OutsideID(t, outside, port); id != 0 {
		sh.owner.End(id, sh.At(id))
	}
}

// allocateMapping maps a flow with all others of its mapping. A socket whose port
// is another's towards the destination gets a further one for that destination.
func (sh *State) allocateMapping(b *Behavior, p *pool, inst *Instance, t *Tuple, s *destinations.Scope) (int, flow.Reason) {
	maps, key, claim := &sh.mappings, b.key(inst, t), b.claimScope(inst, t)
	ordinal, id, c := 0, uint32(0), uint32(0)
	if b.Mapping != PerConnection {
		id, c = maps.toward(&key, &claim)
	}
	if id != 0 {
		ordinal = int(maps.at(id).ordinal)
		if t.loops(p.port(ordinal)) {
			return 0, flow.ReasonHairpinLoop
		}
		if sh.space.rules.Limits.MappingFull(maps.at(id).sessions) {
			return 0, flow.ReasonSessionCap
		}
		if !maps.join(id, c, &claim) {
			return 0, flow.ReasonMemory
		}
	} else {
		var reason flow.Reason
		ordinal, reason = sh.pick(p, inst, t, s, func(o int) bool {
			if b.Sharing == Exclusive {
				return p.uses[o] != portUse{}
			}
			return maps.claimed(&claim, o) != 0
		})
		if reason != flow.ReasonNone {
			return 0, reason
		}
		if t.loops(p.port(ordinal)) { // nobody has it, so nobody is there
			sh.putBack(p, t, s, ordinal)
			return 0, flow.ReasonHairpinLoop
		}
		if id = maps.add(b, &key, ordinal); id == 0 || !maps.join(id, 0, &claim) {
			if id != 0 {
				maps.end(id)
			}
			sh.putBack(p, t, s, ordinal)
			return 0, flow.ReasonMemory
		}
	}
	if t.Proto == wire.ProtoTCP {
		sh.clear(t, p, ordinal)
	}
	return ordinal, flow.ReasonNone
}

func (owned) release(sh *State, id flow.ID, s *flow.Session, inst *Instance) {
	var (
		t     Tuple
		scope destinations.Scope
	)
	t.read(id, s)
	pool, ordinal := portOf(id, s, inst)
	if !sh.end(pool, ordinal, s.Track.Class) {
		was := pool.useOf(ordinal)
		*pool.uses[ordinal].of(s.Track.Class)--
		if !sh.retire(pool, ordinal, was) {
			sh.shift(pool, ordinal, was, sh.EndedAt)
			if pool.uses[ordinal] == (portUse{}) {
				sh.vacant(pool, ordinal, sh.EndedAt)
			}
		}
	}
	b := sh.space.Behavior(t.Proto)
	scopeIn(&scope, inst.Index, &t, b.Sharing)
	free, gone := true, true // for the scope, the mapping
	if !b.PerFlow {
		claim := b.claimScope(inst, &t)
		free, gone = sh.mappings.leave(id, &claim, ordinal)
		if b.Sharing == Exclusive {
			free = gone
		}
	}
	if sh.space.enrolls {
		sh.Completes(inst, id, s, s.Track.Class)
		sh.left(inst, &t, gone)
	}
	if free {
		sh.destinations.Free(&scope, pool.granted, ordinal)
	}
}

func (owned) exchange(sh *State, id flow.ID, s *flow.Session, inst *Instance, was, is flow.Class) {
	pool, ordinal := portOf(id, s, inst)
	sh.exchange(pool, ordinal, was, is)
}

func (owned) count(counter *uint64)       { *counter++ }
func (owned) read(counter *uint64) uint64 { return *counter }

func (owned) refused(inst *Instance, family uint8, protocol int) { inst.pools[family][protocol].fail() }

func (owned) pool(inst *Instance, family uint8, protocol int) *pool {
	return &inst.pools[family][protocol]
}
