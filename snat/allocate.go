package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// allocate finds and claims the outside port of a new flow: the lowest one of
// the instance's ports that is usable towards the destination, unless
// Owned.Allocation says otherwise. It fails if and only if none is, the
// subscriber has reached a limit, or memory is short.
func (sh *shard) allocate(now flow.Time, inst *instance, t *ports.Tuple) (*frontend, uint16, flow.Reason) {
	if sh.nat.inventory != nil {
		return sh.choose(now, t)
	}
	protocol := ports.PoolIndex(t.Proto)
	pool := &inst.pools[t.Family][protocol]
	if pool.granted == 0 {
		return nil, 0, flow.ReasonNoOutbound
	}
	b := sh.nat.behavior(t.Proto)
	scope := b.scope(inst, t)
	var (
		ordinal int
		reason  flow.Reason
	)
	if sh.nat.enrolls {
		if reason = sh.enroll(now, inst, t); reason != flow.ReasonNone {
			if t.Subscriber != 0 {
				sh.dismiss(inst, t)
			}
			return nil, 0, reason
		}
	}
	sh.destinations.short = false
	if b.perFlow {
		ordinal, reason = sh.allocateConnection(pool, inst, t, &scope)
	} else {
		ordinal, reason = sh.allocateMapping(b, pool, inst, t, &scope)
	}
	if reason != flow.ReasonNone {
		if t.Subscriber != 0 {
			sh.dismiss(inst, t)
		}
		return nil, 0, sh.destinations.blame(reason)
	}
	if t.Subscriber != 0 {
		if k, granted := sh.settleIn(pool, t.Subscriber, ordinal); granted {
			sh.logBlock(now, EventBlockCreate, pool.blocks, k, sh.subscribers.slab.At(t.Subscriber))
		}
		sh.joined(now, inst, t)
	}
	if pool.uses[ordinal] == (portUse{}) {
		sh.occupied(pool, ordinal)
	}
	sh.occupy(pool, ordinal, flow.ClassTCPOpening, now)
	pool.rangeOf(ordinal).share.created++
	f, port := pool.port(ordinal)
	return f, port, flow.ReasonNone
}

// allocateConnection maps a flow on its own.
func (sh *shard) allocateConnection(p *pool, inst *instance, t *ports.Tuple, s *scope) (int, flow.Reason) {
	ordinal, reason := sh.pick(p, inst, t, s, func(o int) bool {
		f, port := p.port(o)
		id := sh.outsideID(t, f.packed, port)
		return id != 0 && sh.At(id).Track.Phase() != flow.TCPResetSent
	})
	if reason != flow.ReasonNone {
		return 0, reason
	}
	f, port := p.port(ordinal)
	sh.clear(t, f, port)
	return ordinal, flow.ReasonNone
}

// clear removes the tombstone, which holds no port, that may be left between a
// tuple's remote and an outside port.
func (sh *shard) clear(t *ports.Tuple, f *frontend, port uint16) {
	if id := sh.outsideID(t, f.packed, port); id != 0 {
		sh.remove(id, sh.At(id))
	}
}

// allocateMapping maps a flow with all others of its mapping. A socket whose port
// is another's towards the destination gets a further one for that destination.
func (sh *shard) allocateMapping(b *behavior, p *pool, inst *instance, t *ports.Tuple, s *scope) (int, flow.Reason) {
	maps, key, claim := &sh.mappings, b.key(inst, t), b.claimScope(inst, t)
	ordinal, id, c := 0, uint32(0), uint32(0)
	if b.Mapping != PerConnection {
		id, c = maps.toward(&key, &claim)
	}
	if id != 0 {
		ordinal = int(maps.at(id).ordinal)
		if f, port := p.port(ordinal); t.Loops(f.packed, port) {
			return 0, flow.ReasonHairpinLoop
		}
		if sh.nat.config.Limits.full(maps.at(id)) {
			return 0, flow.ReasonSessionCap
		}
		if !maps.join(id, c, &claim) {
			return 0, flow.ReasonMemory
		}
	} else {
		var reason flow.Reason
		ordinal, reason = sh.pick(p, inst, t, s, func(o int) bool {
			if b.Share == ShareNever {
				return p.uses[o] != portUse{}
			}
			return maps.claimed(&claim, o) != 0
		})
		if reason != flow.ReasonNone {
			return 0, reason
		}
		if f, port := p.port(ordinal); t.Loops(f.packed, port) { // nobody has it, so nobody is there
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
		f, port := p.port(ordinal)
		sh.clear(t, f, port)
	}
	return ordinal, flow.ReasonNone
}

// release gives the outside port of a session back.
func (sh *shard) release(id flow.ID, s *flow.Session, inst *instance) {
	if !s.Kind().HoldsPort() {
		return
	}
	if sh.nat.inventory != nil {
		sh.giveBack(id, s)
		return
	}
	t := ports.TupleOf(id, s)
	pool, ordinal := sh.portOf(id, s, inst)
	was := pool.useOf(ordinal)
	*pool.uses[ordinal].of(s.Track.Class)--
	if !sh.retire(pool, ordinal, was) {
		sh.shift(pool, ordinal, was, sh.endedAt)
		if pool.uses[ordinal] == (portUse{}) {
			sh.vacant(pool, ordinal, sh.endedAt)
		}
	}
	b := sh.nat.behavior(t.Proto)
	scope := b.scope(inst, &t)
	free, gone := true, true // for the scope, the mapping
	if !b.perFlow {
		claim := b.claimScope(inst, &t)
		free, gone = sh.mappings.leave(id, &claim, ordinal)
		if b.Share == ShareNever {
			free = gone
		}
	}
	if sh.nat.enrolls {
		sh.completes(inst, id, s, s.Track.Class)
		sh.left(inst, &t, gone)
	}
	if free {
		sh.destinations.free(&scope, pool.granted, ordinal)
	}
}

// hold counts what a session uses its outside port for, which has been of another
// class until now.
func (sh *shard) hold(id flow.ID, s *flow.Session, inst *instance, was, is flow.Class) {
	if sh.nat.inventory != nil {
		st, ordinal := sh.stockOf(id, s)
		sh.nat.inventory.hold(sh, st, ordinal, was, is)
		return
	}
	pool, ordinal := sh.portOf(id, s, inst)
	sh.exchange(pool, ordinal, was, is)
}

// portOf returns the pool and ordinal of a session's outside port.
func (sh *shard) portOf(id flow.ID, s *flow.Session, inst *instance) (*pool, int) {
	r := sh.nat.routes.Load()
	var v uint32
	family := 0
	if id.Is6() {
		family, v = 1, r.outside6.Get(s.Addrs6().Outside)
	} else {
		v = r.outside4.Get(s.Outside)
	}
	pool := &inst.pools[family][ports.PoolIndex(s.Proto())]
	return pool, pool.ordinal(r.frontends[v-1], s.OutsidePort)
}

// held reports whether sessions of a class are over and only keep their port
// from their destination.
func held(c flow.Class) bool {
	switch c {
	case flow.ClassTCPClosing, flow.ClassTCPTimeWait, flow.ClassTCPReset, flow.ClassUDPHeld:
		return true
	}
	return false
}
