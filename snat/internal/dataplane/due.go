package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What a shard does when something is due. expire.go has the doors that call for it.

// expireAll does all that is due, before a new flow looks for a port: the lowest
// free one must not depend on when somebody last called Advance, or on what other
// instances of the shard do. It ends no session that is not Expired at now.
func (sh *shard) expireAll(now flow.Time) {
	if now < sh.WakeAt && sh.Pass(now) {
		return
	}
	for sh.work(now) {
	}
}

// expireBatch ends the sessions that one call of Expire returns.
func (sh *shard) expireBatch(now flow.Time) (more bool) {
	ids, at, more := sh.Expire(now)
	sh.Overdue = true
	for len(ids) > 0 {
		ids = sh.expireEach(ids, at)
	}
	sh.Overdue = false
	return more
}

// expireEach ends sessions, and returns those behind one that has not gone well.
func (sh *shard) expireEach(ids []flow.ID, at flow.Time) (left []flow.ID) {
	i := 0
	defer func() {
		if what := recover(); what != nil {
			sh.fault(at, what, ids[i])
			left = ids[i+1:]
		}
	}()
	for ; i < len(ids); i++ {
		sh.expire(ids[i], sh.At(ids[i]), at, sh.policy.ResetIdle)
	}
	return nil
}

// expire ends a session that reached its idle timeout at time at, or as if it had. With reset, an
// established connection is reset, and lives on as a tombstone.
func (sh *shard) expire(id flow.ID, s *flow.Session, at flow.Time, reset bool) {
	class := s.Track.Class
	sh.EndedAt = at
	if class == flow.ClassTCPResetSent || class == flow.ClassUDPHeld {
		sh.remove(id, s)
		return
	}
	sh.counters.Expired[class]++
	if h := sh.nat.config.Hooks.Expired; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	sh.logEnd(at, id, s)
	if (class == flow.ClassTCPEstablished || class == flow.ClassTCPUnacknowledged) && reset && sh.resetIdle(id, s, at) {
		// The port is free at once; the record stays to answer stragglers.
		sh.Release(id, s, &sh.nat.instances[s.Key.VNI()].Instance)
		s.Track.MarkReset()
		s.Touch(at)
		sh.Rearm(id, s)
		sh.counters.Tombstones++
		sh.Tombstones = true
		sh.counters.Ended++
		sh.counters.Connections[ports.TCPIndex].Ended++
		return
	}
	if sh.HoldsUDP && s.Proto() == wire.ProtoUDP && s.Kind().HoldsPort() {
		sh.holdUDP(id, s, at)
	} else {
		sh.remove(id, s)
	}
}

// resetIdle queues the RSTs for both ends of an established connection that has reached
// its idle timeout, and reports whether it did.
func (sh *shard) resetIdle(id flow.ID, s *flow.Session, at flow.Time) bool {
	if !sh.resets.Idle(id, s, at, sh.hairpinned(id, s)) { // then the other host is told by its own session
		return false
	}
	if h := sh.nat.config.Hooks.Reset; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	return true
}

// settle comes before a session that is over although its timer has not been
// processed yet: all that is due ends, each in its turn, and find looks for what is
// there now, a tombstone or nothing.
//
// So a packet only holds a session whose time is not up at the packet's moment, and
// expireAll only ends sessions whose time is up: the two never meet. If a packet ends
// a session for another reason, a tombstone that gives way or one that is broken, it
// does not use that session again.
func (sh *shard) settle(m *moment, id flow.ID, s *flow.Session, find func() flow.ID) (flow.ID, *flow.Session) {
	sh.Rearm(id, s) // where time has gone back, the timer is late
	sh.expireAll(m.now)
	if id = find(); id == 0 {
		return 0, nil
	}
	if s = sh.At(id); sh.Expired(s, m.tick) {
		sh.fault(m.now, "snat: a session does not end", id)
		return 0, nil
	}
	return id, s
}

// settleLane is settle for a session, if id is not 0, that a packet from a side
// belongs to.
func (sh *shard) settleLane(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session) (flow.ID, *flow.Session) {
	if id == 0 {
		return 0, nil
	}
	return sh.settle(m, id, s, func() flow.ID { return sh.find(from, l) })
}

// find returns the session of a packet from a side, or 0. What is sought as the answer of a
// target may belong to a forwarded session only.
func (sh *shard) find(from flow.Side, l *lane) flow.ID {
	switch {
	case from == flow.Inside && l.answer == soughtAnswer && l.is6:
		return sh.inside6(&l.key6, l.hash, true)
	case from == flow.Inside && l.answer == soughtAnswer:
		return sh.inside4(&l.key, l.hash, true)
	case from == flow.Inside && l.is6:
		return sh.LookupInside6(&l.key6, l.hash)
	case from == flow.Inside:
		return sh.LookupInside(&l.key, l.hash)
	case l.is6:
		return sh.LookupOutside6(&l.key6, l.hash)
	}
	return sh.LookupOutside(&l.key, l.hash)
}

// endNow lets the idle timeout of a refused connection be over, so that it is gone
// as soon as the packet at hand has passed.
func (sh *shard) endNow(m *moment, id flow.ID, s *flow.Session) {
	s.TouchTick(m.tick - uint32(sh.policy.Timeouts.TCPReset/flow.Tick))
	sh.Rearm(id, s)
}

// all returns the IDs of all sessions.
func (sh *shard) all() []flow.ID { return sh.IDs(make([]flow.ID, 0, sh.Len()), 0) }

// work does a bounded piece of what is due at now, in the order of time: sessions
// end, and ports that have rested wake, after what ends at the same time. It reports
// whether there may be more.
func (sh *shard) work(now flow.Time) (more bool) {
	if sh.expireBatch(min(now, sh.WakeAt)) {
		return true
	}
	if sh.WakeAt > now || sh.WakeAt == ports.Never {
		return false
	}
	sh.Wake(sh.WakeAt)
	return true
}

// catchUp ends what is due in all shards, before a new flow looks for a shared
// port: which are free must not depend on when somebody last called Advance,
// or on how many shards there are. No shard's lock may be held.
func (n *NAT) catchUp(now flow.Time) {
	for _, sh := range n.all() {
		if sh.Due(now) {
			sh.Lock()
			sh.expireAll(now)
			sh.Unlock()
		}
	}
}
