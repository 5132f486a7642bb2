package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// How an instance that owns its ports gives one to a new flow: the book of [owned].

// takeOwned is how an instance takes a port of its own.
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
	free := pool.isFree(ordinal)
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
	there := flow.ID(0)                                                // on the ordinal that was asked last
	if !sh.space.picky && !(sh.space.rules.RandomIDs && t.isQuery()) { // pick would do the same, by way of calls
		for q := destinations.NewSearch(s, p.granted); sh.destinations.Next(&q); {
			outside, port := p.socket(q.Ordinal)
			if there = sh.OutsideID(t, outside, port); there == 0 {
				return q.Ordinal, flow.ReasonNone
			}
			if sh.At(there).Track.Phase() == flow.TCPResetSent {
				sh.owner.End(there, sh.At(there)) // it holds no port
				return q.Ordinal, flow.ReasonNone
			}
		}
		return 0, flow.ReasonPorts
	}
	ordinal, reason := sh.pick(p, inst, t, s, func(o int) bool {
		outside, port := p.socket(o)
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
	outside, port := p.socket(ordinal)
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
		id, c = maps.Toward(&key, &claim)
	}
	if id != 0 {
		ordinal = int(maps.At(id).Ordinal)
		if t.loops(p.socket(ordinal)) {
			return 0, flow.ReasonHairpinLoop
		}
		if sh.space.rules.Limits.MappingFull(maps.At(id).Sessions) {
			return 0, flow.ReasonSessionCap
		}
		if !maps.Join(id, c, &claim) {
			return 0, flow.ReasonMemory
		}
	} else {
		var reason flow.Reason
		ordinal, reason = sh.pick(p, inst, t, s, func(o int) bool {
			if b.Sharing == Exclusive {
				return !p.isFree(o)
			}
			return maps.Claimed(&claim, o) != 0
		})
		if reason != flow.ReasonNone {
			return 0, reason
		}
		if t.loops(p.socket(ordinal)) { // nobody has it, so nobody is there
			sh.putBack(p, t, s, ordinal)
			return 0, flow.ReasonHairpinLoop
		}
		if id = maps.Add(b.plain(), &key, ordinal); id == 0 || !maps.Join(id, 0, &claim) {
			if id != 0 {
				maps.End(id)
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
		pool.uses.Remove(ordinal, s.Track.Class)
		if !sh.retire(pool, ordinal, was) {
			sh.shift(pool, ordinal, was, sh.EndedAt)
			if pool.isFree(ordinal) {
				sh.vacant(pool, ordinal, sh.EndedAt)
			}
		}
	}
	b := sh.space.Behavior(t.Proto)
	scopeIn(&scope, inst.Index, &t, b.Sharing)
	free, gone := true, true // for the scope, the mapping
	if !b.PerFlow {
		claim := b.claimScope(inst, &t)
		free, gone = sh.mappings.Leave(id, &claim, ordinal)
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
