package snat

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
		sh.expire(ids[i], sh.At(ids[i]), at)
	}
	return nil
}

// expire ends a session that reached its idle timeout at at. One that is reset lives
// on as a tombstone.
func (sh *shard) expire(id flow.ID, s *flow.Session, at flow.Time) {
	class := s.Track.Class
	sh.EndedAt = at
	if class == flow.ClassTCPResetSent || class == flow.ClassUDPHeld {
		sh.remove(id, s)
		return
	}
	sh.counters.expired[class]++
	if h := sh.nat.config.Hooks.SessionExpired; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	sh.logEnd(at, id, s)
	if (class == flow.ClassTCPEstablished || class == flow.ClassTCPUnacknowledged) && sh.policy.EnableTCPReset && sh.resetIdle(id, s, at) {
		// The port is free at once; the record stays to answer stragglers.
		sh.Release(id, s, &sh.nat.instances[s.Key.VNI()].Instance)
		s.Track.MarkReset()
		s.Touch(at)
		sh.Rearm(id, s)
		sh.counters.tombstones++
		sh.counters.ended++
		sh.counters.connections[ports.TCPIndex].ended++
		return
	}
	if sh.HoldsUDP && s.Proto() == wire.ProtoUDP && s.Kind().HoldsPort() {
		sh.holdUDP(id, s, at)
	} else {
		sh.remove(id, s)
	}
}

// endNow lets the idle timeout of a refused connection be over, so that it is gone
// as soon as the packet at hand has passed.
func (sh *shard) endNow(m *moment, id flow.ID, s *flow.Session) {
	t := sh.policy.timeouts()
	s.TouchTick(m.tick - uint32(t.TCPReset/flow.Tick))
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
