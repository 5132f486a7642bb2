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

	// Guarded by mu.
	timeouts [NumClasses]uint32 // ticks
	mem      slab.Memory
	v4       slab.Slab[Session]
	v6       slab.Slab[session6]
	index    index.Index
	wheel    wheel
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

func (sh *Shard) init(hasher *Hasher, timeouts Timeouts) {
	sh.hasher = hasher
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
// memory left, or if the shard has 2,147,418,111 sessions of the family.
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
// now and arms its timer for the idle class in its Track. It reports whether there
// was room in the index: there is none if the system has no memory left, or if
// thousands of sessions collide there, as only chosen ones do. Then it has done
// nothing. Amortised cost: two bucket insertions.
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
	sh.arm(id, s, sh.deadline(s, tick))
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

// Home returns the address of the index bucket where a search for a tag begins,
// for prefetching and Hints. It is valid until the next insertion.
func (sh *Shard) Home(tag uint32) unsafe.Pointer {
	return unsafe.Pointer(sh.index.Home(tag))
}

// Hints looks for many hashes at once: homes[i] is what Home returned for the hash
// whose tag (see [Tag]) is tags[i], of whatever shard, and ids[i] becomes the
// first candidate in that bucket, or 0. It looks no further: a miss is not an
// answer, and a hit must be compared. It needs the locks of all the shards.
func Hints(homes []unsafe.Pointer, tags []uint32, ids []ID) {
	index.Hints(homes, tags, unsafe.Slice((*uint32)(unsafe.SliceData(ids)), len(ids)))
}

// Tag returns the part of a hash that the index stores.
func Tag(hash uint64) uint32 { return index.Tag(hash) }

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

func tickOf(t Time) uint64 { return uint64(t) / uint64(Tick) }

// Touch restarts the idle timer. It only writes the record.
func (s *Session) Touch(now Time) { s.last = uint32(tickOf(now)) }

// TouchTick is Touch for a caller that has computed now's tick for many packets.
func (s *Session) TouchTick(tick uint32) { s.last = tick }

// TickOf returns the tick that now lies in, modulo 2^32, as TouchTick wants it.
func TickOf(now Time) uint32 { return uint32(tickOf(now)) }

// Expired reports whether s has reached its idle timeout at tick, although its
// timer may not have fired yet.
func (sh *Shard) Expired(s *Session, tick uint32) bool {
	idle := tick - s.last // tick may lie before s.last when goroutines race
	return idle >= sh.timeouts[int(s.Track.Class)&(NumClasses-1)] && int32(idle) > 0
}

// Deadline returns the moment at which s expires if no packet comes; for a
// session that has expired already, when that was, though not before the time
// that Expire has reached.
func (sh *Shard) Deadline(s *Session) Time {
	return Time(sh.deadline(s, sh.wheel.tick)) * Time(Tick)
}

// deadline returns the tick at which s expires, but not less than the wheel's
// present tick. now is a tick at most 24 days away from the last activity.
func (sh *Shard) deadline(s *Session, now uint64) uint64 {
	timeout := sh.timeouts[s.Track.Class]
	if timeout == never {
		return max(now, sh.wheel.tick) + 1<<30
	}
	left := int64(timeout) - int64(int32(uint32(now)-s.last))
	return max(uint64(max(int64(now)+left, 0)), sh.wheel.tick)
}

// ExpireBy lets s expire at by at the latest, if no packet comes, and returns the
// tick of its last activity, which for that may move into the past.
func (sh *Shard) ExpireBy(id ID, s *Session, by, now Time) (last uint32) {
	if late := int64(sh.deadline(s, tickOf(now))) - int64(tickOf(by)); late > 0 && sh.timeouts[s.Track.Class] != never {
		s.last -= uint32(late)
		sh.Rearm(id, s, now)
	}
	return s.last
}

// Rearm moves the timer after the idle class has changed, or after Expire has
// returned the session. Cost: four cache lines.
func (sh *Shard) Rearm(id ID, s *Session, now Time) {
	sh.unarm(s)
	sh.arm(id, s, sh.deadline(s, tickOf(now)))
}

// Expire returns sessions whose idle timeout has passed at now, in the order of
// their deadlines; at is the moment the returned ones expired. At most 64 are
// returned and at most expireBudget timers visited, so that the lock is never
// held for long; more reports that another call is needed. ids is valid until
// then. The caller removes or re-arms each of them before it calls again.
func (sh *Shard) Expire(now Time) (ids []ID, at Time, more bool) {
	w, target, n := &sh.wheel, tickOf(now), 0
	for budget := expireBudget; ; {
		for level := wheelLevels - 1; level > 0; level-- {
			if w.tick&(1<<(level*wheelBits)-1) != 0 {
				continue // this level's slot does not begin here
			}
			slot := level<<wheelBits | int(w.tick>>(level*wheelBits))&slotMask
			for ; budget > 0 && w.occupied(slot); budget-- {
				id := w.head[slot]
				s := sh.At(id)
				sh.unarm(s)
				sh.arm(id, s, sh.deadline(s, w.tick))
			}
		}
		for slot := int(w.tick) & slotMask; budget > 0 && n < len(sh.due) && w.occupied(slot); budget-- {
			id := w.head[slot]
			s := sh.At(id)
			sh.unarm(s)
			if d := sh.deadline(s, w.tick); d > w.tick {
				sh.arm(id, s, d)
				continue
			}
			sh.due[n] = id
			n++
		}
		if n > 0 || budget == 0 {
			return sh.due[:n], Time(w.tick) * Time(Tick), true
		}
		tick, ok := w.next()
		if !ok || tick > target {
			w.tick = max(w.tick, target)
			if !ok {
				tick = math.MaxUint64
			}
			sh.nextDue.Store(tick)
			sh.checker.check(sh)
			return nil, now, false
		}
		w.tick = tick
	}
}

// NextDeadline returns the earliest time at which Expire may have work to do,
// and whether there is any: never later than the first deadline, and not before
// the time that Expire has reached. It is exact for a deadline less than 256 ms
// ahead of that if no packet has put it off; else it may lie before the deadline,
// and calling Expire then brings the answer closer.
func (sh *Shard) NextDeadline() (Time, bool) {
	if sh.wheel.overdue() {
		return Time(sh.wheel.tick) * Time(Tick), true
	}
	tick, ok := sh.wheel.next()
	return Time(tick) * Time(Tick), ok
}

// Due reports whether Expire may have work to do at now: if not, no session has
// reached its idle timeout. It needs no lock.
func (sh *Shard) Due(now Time) bool { return sh.nextDue.Load() <= tickOf(now) }

// PrefetchDue prefetches the index buckets of the sessions that Expire returned,
// for a caller that is about to remove them all.
func (sh *Shard) PrefetchDue(ids []ID) {
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
		Proto: s.Proto(), VNI: s.Key.VNI(), Class: s.Track.Class, Data: s.Data,
		Idle: time.Duration(max(0, int32(uint32(sh.wheel.tick)-s.last))) * Tick,
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

// Bytes returns the memory the shard holds: sessions, index and what waits to be
// reused.
func (sh *Shard) Bytes() int { return sh.mem.Bytes() }
