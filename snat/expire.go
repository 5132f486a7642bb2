package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Advance brings the translator to now: sessions that have reached their idle
// timeout end, their ports become free, and with EnableTCPReset both ends of an
// established connection are sent a RST. Resets and answers that packets have
// caused since the last call come out as well, then the fragments whose first one
// they have waited for, then ICMP errors, those for held SYNs too, and what exceeded
// the MTU in parts. emit may be nil, which discards all these.
//
// Ends are processed in the order of their deadlines within a shard, and shard
// by shard. The lock is released after every 64 of them, so that packets never
// wait for long. now must not lie before that of an earlier call. Call Advance
// at least once in 24 days.
//
// Packets need no Advance to be judged correctly: a session that is over is
// never used, whether or not its timer has been processed, and a new flow first
// ends all that is due in its shard. What packets become does not depend on how
// often Advance is called; how long a new flow takes does.
func (n *NAT) Advance(now flow.Time, emit flow.Sink) {
	n.renew(now)
	n.logDaily(now)
	for i := range n.shards {
		for !n.step(&n.shards[i], now, emit) {
		}
	}
	for !n.fragments.advance(now, emit, emitStep) {
	}
	n.held.advance(now)
	n.outbox.advance(emit)
}

// AdvanceStep is Advance for drivers that must not be away for long: it does a
// bounded piece of the work, 64 ends, 4,096 timers, 64 fragments, 2,048 that wait no
// longer, or 4 MiB of ICMP
// errors and parts of packets at most, and reports whether all is done. Only when
// a [Config].ReclaimGrace ends is a piece as large as a [NAT.Reconfigure].
func (n *NAT) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	n.renew(now)
	n.logDaily(now)
	for i := range n.shards {
		if !n.step(&n.shards[i], now, emit) {
			return false
		}
	}
	if !n.fragments.advance(now, emit, emitStep) {
		return false
	}
	n.held.advance(now)
	n.outbox.advance(emit)
	return true
}

// step does one piece of one shard's work.
func (n *NAT) step(sh *shard, now flow.Time, emit flow.Sink) (done bool) {
	sh.Lock()
	more := sh.expireBatch(now)
	if !more {
		sh.wake(now)
	}
	resets := sh.resets
	sh.resets = nil
	sh.audit.step(sh)
	sh.Unlock()
	if emit != nil {
		for i := range resets {
			resets[i].emit(emit)
		}
	}
	if resets != nil {
		sh.Lock()
		if sh.resets == nil {
			sh.resets = resets[:0] // keep the memory
		}
		sh.Unlock()
	}
	return !more
}

// NextDeadline returns the earliest time at which Advance may have work to do,
// and whether there is any. It is exact for deadlines less than 256 ms ahead and
// never later than the deadline; calling Advance at the time returned brings
// the answer closer to it.
func (n *NAT) NextDeadline() (at flow.Time, ok bool) {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		d, found := sh.NextDeadline()
		if len(sh.resets) > 0 {
			d, found = sh.resets[0].at, true
		}
		wake := sh.wakeAt
		sh.Unlock()
		if found && (!ok || d < at) {
			at, ok = d, true
		}
		if wake != noEnd && (!ok || wake < at) {
			at, ok = wake, true
		}
	}
	if d, found := n.fragments.nextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	if d, found := n.held.nextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	if d, found := n.outbox.nextDeadline(); found && (!ok || d < at) {
		at, ok = d, true
	}
	for _, due := range [...]flow.Time{n.routes.Load().until, flow.Time(n.recordAt.Load())} {
		if due >= 0 && due != noEnd && (!ok || due < at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// expireBatch ends the sessions that one call of Expire returns.
func (sh *shard) expireBatch(now flow.Time) (more bool) {
	ids, at, more := sh.Expire(now)
	sh.PrefetchDue(ids)
	for _, id := range ids {
		sh.expire(id, sh.At(id), at)
	}
	return more
}

// expireAll ends every session that is due, before a new flow looks for a port:
// the lowest free one must not depend on when somebody last called Advance, or
// on what other instances of the shard do.
func (sh *shard) expireAll(now flow.Time) {
	for sh.expireBatch(now) {
	}
	sh.wake(now)
}

// catchUp ends what is due in all shards, before a new flow looks for a port of an
// inventory: which are free must not depend on when somebody last called Advance,
// or on how many shards there are. No shard's lock may be held.
func (n *NAT) catchUp(now flow.Time) {
	for i := range n.shards {
		if sh := &n.shards[i]; sh.Due(now) {
			sh.Lock()
			sh.expireAll(now)
			sh.Unlock()
		}
	}
}

// endNow lets the idle timeout of a refused connection be over, so that it is gone
// as soon as the packet at hand has passed.
func (sh *shard) endNow(m *moment, id flow.ID, s *flow.Session) {
	t := sh.policy.timeouts()
	s.TouchTick(m.tick - uint32(t.TCPReset/flow.Tick))
	sh.Rearm(id, s, m.now)
}

// expire ends a session that reached its idle timeout at at, and reports whether
// it lives on as a tombstone.
func (sh *shard) expire(id flow.ID, s *flow.Session, at flow.Time) (tombstone bool) {
	class := s.Track.Class
	sh.endedAt = at
	if class == flow.ClassTCPResetSent || class == flow.ClassUDPHeld {
		sh.remove(id, s)
		return false
	}
	sh.counters.expired[class]++
	if h := sh.nat.config.Hooks.SessionExpired; h != nil {
		h(at, s.Key.VNI(), sh.Info(id))
	}
	sh.logEnd(at, id, s)
	if class == flow.ClassTCPEstablished && sh.policy.EnableTCPReset && sh.queueResets(id, s, at) {
		// The port is free at once; the record stays to answer stragglers.
		sh.release(id, s, sh.nat.instances[s.Key.VNI()])
		s.Track.MarkReset()
		s.Touch(at)
		sh.Rearm(id, s, at)
		sh.counters.tombstones++
		sh.counters.ended++
		sh.counters.connections[tcpIndex].ended++
		return true
	}
	if sh.holdsUDP && s.Proto() == wire.ProtoUDP && !sh.atNode(id, s, sh.nat.instances[s.Key.VNI()]) {
		sh.holdUDP(id, s, at)
	} else {
		sh.remove(id, s)
	}
	return false
}
