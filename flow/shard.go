package flow

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Shard is an independent part of a [Table]: one lock over sessions, the index
// of both directions and the timers. Sessions that must be consistent with each
// other belong to one shard; the owner of the table decides which.
//
// Call Lock first; every other method needs the lock unless it says otherwise.
type Shard struct {
	mu sync.Mutex

	hasher *Hasher // immutable

	nextDue atomic.Uint64 // tick before which no timer fires; written under mu
	notice  *Notice       // immutable; raised when a timer is armed before told

	// Guarded by mu.
	told     uint64             // what NextDeadline has last answered, as a tick; MaxUint64 is none
	wheel    wheel              // its tick shares a line with the lock
	timeouts [NumClasses]uint32 // ticks
	mem      slab.Memory
	v4       slab.Slab[Session]
	v6       slab.Slab[session6]
	index    index.Index
	sessions int
	due      [dueBatch]ID // scratch of Expire
	checker  checker

	_ [64]byte // the next shard's lock has a line of its own
}

const (
	dueBatch     = 64   // sessions returned by one Expire
	expireBudget = 4096 // timers visited by one Expire

	never = 1<<32 - 1 // timeout of classes that do not expire
)

func (sh *Shard) init(hasher *Hasher, timeouts Timeouts, notice *Notice) {
	sh.hasher, sh.notice, sh.told = hasher, notice, math.MaxUint64
	sh.nextDue.Store(math.MaxUint64)
	sh.SetTimeouts(timeouts)
	sh.v4.Init(&sh.mem)
	sh.v6.Init(&sh.mem)
	sh.index.Init(&sh.mem)
}

// Lock locks the shard.
func (sh *Shard) Lock() { sh.mu.Lock() }

// Unlock unlocks the shard.
func (sh *Shard) Unlock() { sh.mu.Unlock() }

// Close returns the shard's memory to the system. The shard is empty afterwards and
// stays so: New has no record any more. Closing it twice is harmless.
func (sh *Shard) Close() {
	sh.mem.Release()
	sh.wheel, sh.sessions = wheel{tick: sh.wheel.tick}, 0
	sh.nextDue.Store(math.MaxUint64)
}

// SetTimeouts replaces the shard's idle timeouts; see [Config].Timeouts. It does
// not touch timers that are armed: they fire when they would have, and are then
// judged by the new timeouts, as every look-up is from now on. A session that
// expires earlier than before needs Rearm to be expired on time. It panics if t
// is not valid.
func (sh *Shard) SetTimeouts(t Timeouts) {
	if err := t.Validate(); err != nil {
		panic("flow: " + err.Error())
	}
	sh.timeouts = t.ticks()
	for class, ticks := range sh.timeouts {
		if ticks == 0 {
			sh.timeouts[class] = never
		}
	}
}

// SetClassTimeout gives a class of the caller's own, FirstCustomClass to
// NumClasses-1, an idle timeout: a whole number of milliseconds from 1 ms to
// MaxTimeout, or 0 for none. SetTimeouts takes it away again; what it says about
// timers holds here too. It panics if class or timeout are not valid.
func (sh *Shard) SetClassTimeout(class Class, d time.Duration) {
	if class < FirstCustomClass || int(class) >= NumClasses || d < 0 || d > MaxTimeout || d%Tick != 0 {
		panic(fmt.Sprintf("flow: SetClassTimeout(%v, %v)", class, d))
	}
	if sh.timeouts[class] = uint32(d / Tick); d == 0 {
		sh.timeouts[class] = never
	}
}

// Len returns the number of sessions.
func (sh *Shard) Len() int { return sh.sessions }

// At returns the session that id names. ID 0 names a record that is never in use
// and matches no key, for callers that would rather compare than branch. Cost:
// one directory look-up.
func (sh *Shard) At(id ID) *Session {
	if id&id6 == 0 {
		return sh.v4.At(uint32(id))
	}
	return &sh.v6.At(uint32(id &^ id6)).Session
}

// Ready reports whether New has a record: there is none if the system has no
// memory left, or if the shard has 268 million sessions of the family.
func (sh *Shard) Ready(is6 bool) bool {
	if is6 {
		return sh.v6.Ready(uint32(slotMark))
	}
	return sh.v4.Ready(uint32(slotMark))
}

// New returns a zeroed session record that is neither indexed nor armed, or 0 and
// nil if there is none; see Ready. Fill in its keys, whose protocol must not be 0,
// then Insert or Discard it.
func (sh *Shard) New(is6 bool) (ID, *Session) {
	if !sh.Ready(is6) {
		return 0, nil
	}
	if is6 {
		id := ID(sh.v6.Alloc())
		return id | id6, &sh.v6.At(uint32(id)).Session
	}
	id := ID(sh.v4.Alloc())
	return id, sh.v4.At(uint32(id))
}

// Discard returns a record that was never inserted.
func (sh *Shard) Discard(id ID) {
	if id&id6 == 0 {
		sh.v4.Free(uint32(id))
	} else {
		sh.v6.Free(uint32(id &^ id6))
	}
}

// Insert indexes the session under both of its keys, sets its last activity to
// now and arms its timer for the idle class in its Track. now must be Near, unless
// the shard is empty. It reports whether there was room in the index: there is none if
// the system has no memory left, or if thousands of sessions collide there, as only
// chosen ones do. Then it has done nothing. Amortised cost: two bucket insertions.
func (sh *Shard) Insert(id ID, s *Session, now Time) bool {
	in, out := sh.tags(id, s)
	if !sh.index.Insert(in, uint32(id)) {
		return false
	}
	if !sh.index.Insert(out, uint32(id)) {
		sh.index.Remove(in, uint32(id))
		return false
	}
	tick := tickOf(now)
	if sh.sessions == 0 {
		sh.wheel.tick = max(sh.wheel.tick, tick) // no timer to pass on the way
	}
	sh.sessions++
	s.last = uint32(tick)
	sh.arm(id, s, sh.deadline(s))
	return true
}

// Remove takes the session out of index and timers and frees its record.
func (sh *Shard) Remove(id ID, s *Session) {
	in, out := sh.tags(id, s)
	sh.index.Remove(in, uint32(id))
	sh.index.Remove(out, uint32(id))
	sh.unarm(s)
	sh.sessions--
	sh.Discard(id)
}

// Drop is Remove for a session that something is wrong with: what is missing of it is
// not missed. extra are the hashes of its further entries; see IndexExtra.
func (sh *Shard) Drop(id ID, s *Session, extra ...uint64) {
	in, out := sh.tags(id, s)
	tags := []uint32{in, out}
	for _, hash := range extra {
		tags = append(tags, index.Tag(hash))
	}
	for _, tag := range tags {
		if sh.indexed(tag, id) {
			sh.index.Remove(tag, uint32(id))
		}
	}
	sh.unarm(s)
	sh.sessions--
	sh.Discard(id)
}

// indexed reports whether an index entry leads from tag to id.
func (sh *Shard) indexed(tag uint32, id ID) bool {
	for p := sh.index.Probe(tag); ; {
		switch ID(p.Next()) {
		case id:
			return true
		case 0:
			return false
		}
	}
}

// tags returns the index tags of a session's two keys.
func (sh *Shard) tags(id ID, s *Session) (inside, outside uint32) {
	if id.Is6() {
		in, out := s.KeyInside6(), s.KeyOutside6()
		return index.Tag(sh.hasher.Hash6(&in)), index.Tag(sh.hasher.Hash6(&out))
	}
	out := s.KeyOutside()
	return index.Tag(sh.hasher.Hash(&s.Key)), index.Tag(sh.hasher.Hash(&out))
}

// Candidates iterates over the sessions whose index entry may stand for a hash.
type Candidates struct{ p index.Probe }

// Candidates begins a search. Cost: one cache line in most cases.
func (sh *Shard) Candidates(hash uint64) Candidates {
	return Candidates{sh.index.Probe(index.Tag(hash))}
}

// Next returns the next candidate, or 0. Candidates may be of either family
// and direction; compare the record.
func (c *Candidates) Next() ID { return ID(c.p.Next()) }

// LookupInside returns the session on which the inside sends k, or 0. The home
// bucket is searched without the machinery of Candidates, which costs more than
// the search.
func (sh *Shard) LookupInside(k *Key, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); !id.Is6() && sh.At(id).MatchInside(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || !id.Is6() && sh.At(id).MatchInside(k) {
			return id
		}
	}
}

// LookupOutside returns the session on which the remote sends k, or 0.
func (sh *Shard) LookupOutside(k *Key, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); !id.Is6() && sh.At(id).MatchOutside(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || !id.Is6() && sh.At(id).MatchOutside(k) {
			return id
		}
	}
}

// LookupInside6 is LookupInside for IPv6.
func (sh *Shard) LookupInside6(k *Key6, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); id.Is6() && sh.At(id).MatchInside6(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || id.Is6() && sh.At(id).MatchInside6(k) {
			return id
		}
	}
}

// LookupOutside6 is LookupOutside for IPv6.
func (sh *Shard) LookupOutside6(k *Key6, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); id.Is6() && sh.At(id).MatchOutside6(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || id.Is6() && sh.At(id).MatchOutside6(k) {
			return id
		}
	}
}

// IndexExtra adds a further index entry for a session, and reports whether there
// was room; see Insert. The owner of the table must remove it with UnindexExtra
// before the session is removed.
func (sh *Shard) IndexExtra(hash uint64, id ID) bool {
	return sh.index.Insert(index.Tag(hash), uint32(id))
}

// UnindexExtra removes an entry that IndexExtra added.
func (sh *Shard) UnindexExtra(hash uint64, id ID) { sh.index.Remove(index.Tag(hash), uint32(id)) }

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
	for budget := expireBudget; ; {
		for level := wheelLevels - 1; level > 0; level-- {
			slot, fires := w.spread(level)
			for ; fires && budget > 0 && w.occupied(slot); budget-- {
				id := w.head[slot]
				s := sh.At(id)
				sh.visit(s)
				sh.Rearm(id, s)
			}
		}
		for slot := w.present(); budget > 0 && n < len(sh.due) && w.occupied(slot); budget-- {
			id := w.head[slot]
			s := sh.At(id)
			sh.visit(s)
			if sh.unarm(s); sh.deadline(s) > w.tick {
				sh.arm(id, s, sh.deadline(s))
				continue
			}
			sh.due[n] = id
			n++
		}
		if n > 0 || budget == 0 {
			sh.prefetchDue(sh.due[:n])
			return sh.due[:n], timeOf(w.tick), true
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
	for budget := expireBudget; ; budget-- {
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

// prefetchDue prefetches the index buckets of the sessions that Expire is about to
// return, for a caller that removes them all.
func (sh *Shard) prefetchDue(ids []ID) {
	var lines [2 * dueBatch]unsafe.Pointer
	n := 0
	for _, id := range ids {
		in, out := sh.tags(id, sh.At(id))
		lines[n], lines[n+1] = unsafe.Pointer(sh.index.Home(in)), unsafe.Pointer(sh.index.Home(out))
		n += 2
	}
	slab.PrefetchEach(lines[:n])
}

// Info returns a copy of a session for people.
func (sh *Shard) Info(id ID) Info {
	s := sh.At(id)
	in := Info{
		Proto: s.Proto(), Kind: s.Kind(), VNI: s.Key.VNI(), Class: s.Track.Class, Data: s.Data,
		Idle: time.Duration(max(0, sh.since(s.last))) * Tick,
	}
	if id.Is6() {
		a := s.Addrs6()
		in.Inside = netip.AddrPortFrom(NetAddr6(a.Inside), s.Key.SrcPort)
		in.Remote = netip.AddrPortFrom(NetAddr6(a.Remote), s.Key.DstPort)
		in.Outside = netip.AddrPortFrom(NetAddr6(a.Outside), s.OutsidePort)
	} else {
		in.Inside = netip.AddrPortFrom(NetAddr4(s.Key.Src), s.Key.SrcPort)
		in.Remote = netip.AddrPortFrom(NetAddr4(s.Key.Dst), s.Key.DstPort)
		in.Outside = netip.AddrPortFrom(NetAddr4(s.Outside), s.OutsidePort)
	}
	if in.Proto == protoTCP {
		in.State = s.Track.State.String()
	}
	return in
}

// IDs appends the IDs of sessions that follow after (0 to begin with) to dst, as
// many as fit into its capacity, in an order that stays the same while nothing
// is inserted or removed. An empty result means the end.
func (sh *Shard) IDs(dst []ID, after ID) []ID {
	last := uint32(0)
	if after.Is6() {
		last = uint32(after &^ id6)
	} else {
		for i := sh.v4.Next(uint32(after)); i != 0; i = sh.v4.Next(i) {
			if len(dst) == cap(dst) {
				return dst
			}
			if sh.v4.At(i).Proto() != 0 {
				dst = append(dst, ID(i))
			}
		}
	}
	for i := sh.v6.Next(last); i != 0 && len(dst) < cap(dst); i = sh.v6.Next(i) {
		if sh.v6.At(i).Proto() != 0 {
			dst = append(dst, ID(i)|id6)
		}
	}
	return dst
}

// Tidy gives a little of the memory that has been idle for 30 to 60 seconds back to
// the system, 512 KiB at most. It is for the owner of the table to call now and then,
// as [Table.Expire] does. Cost: 0.1 ms at most.
func (sh *Shard) Tidy(now Time) { sh.mem.Tidy(int64(now)) }

// Bytes returns the memory the shard holds: sessions and index. What has become free
// does not count, although the system has it back only after a while; see Tidy.
func (sh *Shard) Bytes() int { return sh.mem.Bytes() }
