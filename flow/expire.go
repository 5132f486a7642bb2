// When sessions end: the time of a shard, idle timers and their expiry.

package flow

import (
	"math"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Ticks of sessions and of packets are kept modulo 2^32, 49.7 days, and compared by
// their distance from the tick that Expire has reached, which is known in full. The
// distance is unambiguous from maxLag ticks ahead to 3 x maxLag behind:
//
//   - packets are at most maxLag away from it (Near), so no last activity lies
//     further ahead;
//   - a timer is armed at most maxLag ahead, and when it fires an activity that lies
//     more than the longest timeout behind is moved up to that (visit), where it
//     means the same. So none falls back by more than the sum of both.
//
// A packet is then less than 2^32 ticks away from the last activity of its session.
const (
	maxLag   = 1 << 30
	maxTicks = uint32(MaxTimeout / Tick)

	_ = uint32(3*maxLag - 1 - int64(maxTicks) - maxLag) // does not compile if it is negative
)

// MaxLag, 12.4 days, is how far the time of a packet may lie from the time that
// Expire has reached; see [Shard.Near].
const MaxLag = maxLag * Tick

// Reached returns the time that Expire has reached, rounded down to a tick.
func (sh *Shard) Reached() Time { return timeOf(sh.wheel.tick) }

// Near reports whether now lies no more than MaxLag before or after the time that
// Expire has reached. The methods that take a time, or a tick, need one that does,
// except Expire. An owner who is given one that is later calls Expire first; for one
// that is earlier, because time has gone back, it takes Reached less MaxLag instead.
func (sh *Shard) Near(now Time) bool { return tickOf(now)-sh.wheel.tick+maxLag <= 2*maxLag }

// since returns how many ticks a tick lies before the one that Expire has reached;
// see maxLag.
func (sh *Shard) since(tick uint32) int64 {
	return int64(uint32(sh.wheel.tick)-tick+maxLag) - maxLag
}

// Before reports whether tick t of a session, see [TickOf], lies before tick u.
func (sh *Shard) Before(t, u uint32) bool { return sh.since(t) > sh.since(u) }

// visit keeps the ticks of a session unambiguous, when its timer fires.
func (sh *Shard) visit(s *Session) {
	sh.moveUp(&s.last)
	if s.Proto() != protoTCP {
		sh.moveUp(&s.Track.Ack[Inside])
		sh.moveUp(&s.Track.Ack[Outside])
	}
}

// moveUp moves a tick up to the longest timeout ago, if it lies before that.
func (sh *Shard) moveUp(tick *uint32) {
	if sh.since(*tick) > int64(maxTicks) {
		*tick = uint32(sh.wheel.tick) - maxTicks
	}
}

// Touch restarts the idle timer. It only writes the record.
func (s *Session) Touch(now Time) { s.last = uint32(tickOf(now)) }

// TouchTick is Touch for a caller that has computed now's tick for many packets.
func (s *Session) TouchTick(tick uint32) { s.last = tick }

// TickOf returns the tick that now lies in, modulo 2^32, as TouchTick wants it.
func TickOf(now Time) uint32 { return uint32(tickOf(now)) }

// Expired reports whether s has reached its idle timeout at tick, although its
// timer may not have fired yet.
func (sh *Shard) Expired(s *Session, tick uint32) bool {
	timeout := sh.timeouts[int(s.Track.Class)&(NumClasses-1)]
	return tick-s.last >= timeout && sh.over(s, tick, timeout)
}

// over is Expired where tick lies before the last activity, which a packet of
// another goroutine may have been, or the session is over.
func (sh *Shard) over(s *Session, tick, timeout uint32) bool {
	return sh.since(s.last)-sh.since(tick) >= int64(timeout)
}

// Deadline returns the moment at which s expires if no packet comes; for a
// session that has expired already, when that was, though not before the time
// that Expire has reached.
func (sh *Shard) Deadline(s *Session) Time { return timeOf(sh.deadline(s)) }

// deadline returns the tick at which s expires, but not less than the wheel's
// present tick.
func (sh *Shard) deadline(s *Session) uint64 {
	timeout := sh.timeouts[s.Track.Class]
	if timeout == never {
		return math.MaxUint64
	}
	return sh.wheel.tick + uint64(max(int64(timeout)-sh.since(s.last), 0))
}

// ExpireBy lets s expire at by at the latest, if no packet comes, and returns the
// tick of its last activity, which for that may move into the past. by must not lie
// before the time that Expire has reached.
func (sh *Shard) ExpireBy(id ID, s *Session, by Time) (last uint32) {
	if late := int64(sh.deadline(s)) - int64(tickOf(by)); late > 0 && sh.timeouts[s.Track.Class] != never {
		s.last -= uint32(late)
		sh.Rearm(id, s)
	}
	return s.last
}

// Rearm moves the timer after the idle class has changed, or after Expire has
// returned the session. Cost: four cache lines.
func (sh *Shard) Rearm(id ID, s *Session) {
	sh.unarm(s)
	sh.arm(id, s, sh.deadline(s))
}

// Expire returns sessions whose idle timeout has passed at now, in the order of
// their deadlines; at is the time that it has reached, when they expired. At most 64 are
// returned and at most expireBudget timers visited, so that the lock is never
// held for long; more reports that another call is needed. ids is valid until
// then. The caller removes or re-arms each of them before it calls again.
func (sh *Shard) Expire(now Time) (ids []ID, at Time, more bool) {
	w, target, n := &sh.wheel, tickOf(now), 0
	w.tagged = 0
	for budget := expireBudget; ; {
		for level := wheelLevels - 1; level > 0; level-- {
			if slot, fires := w.spread(level); fires && budget > 0 && w.occupied(slot) {
				budget = sh.spread(slot, budget)
			}
		}
		if slot := w.present(); budget > 0 && w.occupied(slot) {
			n, budget = sh.fire(slot, budget)
		}
		if n > 0 || budget == 0 {
			if n == 0 {
				return nil, timeOf(w.tick), true
			}
			sh.prefetchDue(n)
			return w.due[:n], timeOf(w.tick), true
		}
		tick, ok := w.next()
		if !ok || tick > target {
			w.tick = max(w.tick, target)
			if !ok {
				tick = math.MaxUint64
			}
			sh.nextDue.Store(tick)
			sh.checker.check(sh)
			return nil, timeOf(w.tick), false
		}
		w.tick = tick
	}
}

// spread arms the sessions of a slot of a higher level anew, which never puts them back into
// it, and returns what is left of the budget.
func (sh *Shard) spread(slot, budget int) int {
	id := sh.wheel.detach(slot)
	for ; budget > 0 && !isSlot(id); budget-- {
		s := sh.At(id)
		next := s.next
		sh.visit(s)
		sh.arm(id, s, sh.deadline(s))
		id = next
	}
	sh.attach(slot, id)
	return budget
}

// fire takes the sessions out of the slot that fires now: those that are over become the
// first n of due, the others are armed anew, for later.
func (sh *Shard) fire(slot, budget int) (n, left int) {
	w := &sh.wheel
	id := w.detach(slot)
	for ; budget > 0 && n < dueBatch && !isSlot(id); budget-- {
		s := sh.At(id)
		next := s.next
		sh.visit(s)
		if deadline := sh.deadline(s); deadline > w.tick {
			sh.arm(id, s, deadline)
		} else {
			s.leave()
			in, out := sh.tags(id, s)
			w.due[n], w.tags[n] = id, [2]uint32{in, out}
			n++
		}
		id = next
	}
	sh.attach(slot, id)
	return n, budget
}

// NextDeadline returns the earliest time at which Expire may have work to do,
// and whether there is any: never later than the first deadline, and not before
// the time that Expire has reached. It is exact for a deadline less than 256 ms
// ahead of that, unless packets have put off more than 4,096 others that would have
// come before; else it may lie before the deadline, and calling Expire then brings
// the answer closer. Timers that have been put off are armed anew on the way.
//
// It notes the answer: a timer that is armed before that from now on raises the
// [Config].Notice.
func (sh *Shard) NextDeadline() (Time, bool) {
	sh.told = 0
	tick, ok := sh.nextDeadline()
	if sh.told = tick; !ok {
		sh.told = math.MaxUint64
	}
	return timeOf(tick), ok
}

// nextDeadline is NextDeadline as a tick.
func (sh *Shard) nextDeadline() (tick uint64, ok bool) {
	w := &sh.wheel
	if w.overdue() {
		return w.tick, true
	}
	higher, ok := w.nextSpread()
	for budget := rearmBudget; ; budget-- {
		tick, found := w.nextLow()
		if !found || ok && tick > higher {
			return higher, ok
		}
		id := w.head[lowSlot(tick)]
		if s := sh.At(id); budget > 0 && sh.deadline(s) > tick {
			sh.Rearm(id, s)
			higher, ok = w.nextSpread()
			continue
		}
		return tick, true
	}
}

// Due reports whether Expire may have work to do at now: if not, no session has
// reached its idle timeout. It needs no lock.
func (sh *Shard) Due(now Time) bool { return sh.nextDue.Load() <= tickOf(now) }

// Pass is Expire where that has nothing to do: it lets time reach now and reports true.
// Else it does nothing and reports false. Cost: two comparisons.
func (sh *Shard) Pass(now Time) bool {
	tick := max(sh.wheel.tick, tickOf(now))
	if sh.nextDue.Load() <= tick {
		return false
	}
	sh.wheel.tick = tick
	sh.checker.check(sh)
	return true
}

// dueAhead is how many sessions of due are removed while the index buckets of one are on
// their way.
const dueAhead = 12

// prefetchDue prefetches the index buckets of the first of the n sessions that Expire is
// about to return, for a caller that removes them all; Remove does it for those that follow,
// each in its turn, so that the memory is busy while they are removed and nobody waits.
func (sh *Shard) prefetchDue(n int) {
	w := &sh.wheel
	w.tagged, w.taken = n, 0
	for i := range min(n, dueAhead) {
		sh.prefetchTags(i)
	}
}

// prefetchTags prefetches the index buckets of one session of due, if there are so many.
func (sh *Shard) prefetchTags(i int) {
	if w := &sh.wheel; i < w.tagged {
		tags := &w.tags[i&(dueBatch-1)]
		slab.Prefetch(unsafe.Pointer(sh.index.Home(tags[0])))
		slab.Prefetch(unsafe.Pointer(sh.index.Home(tags[1])))
	}
}
