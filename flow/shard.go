package flow

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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

	hasher Hasher                                      // immutable; that of the table
	keys   func(ID, *Session) (inside, outside uint64) // immutable; see Config.Keys

	nextDue atomic.Uint64 // tick before which no timer fires; written under mu

	// Guarded by mu.
	wheel    wheel              // its tick shares a line with the lock
	told     uint64             // what NextDeadline has last answered, as a tick; MaxUint64 is none
	notice   *Notice            // immutable; raised when a timer is armed before told
	timeouts [NumClasses]uint32 // ticks
	mem      slab.Memory
	v4       slab.Slab[Session]
	v6       slab.Slab[session6]
	index    index.Index
	sessions int
	checker  checker

	_ [64]byte // the next shard's lock has a line of its own
}

const (
	dueBatch     = 64   // sessions returned by one Expire
	expireBudget = 1024 // timers visited by one Expire
	rearmBudget  = 4096 // timers put off by one NextDeadline

	never = 1<<32 - 1 // timeout of classes that do not expire
)

func (sh *Shard) init(hasher Hasher, timeouts Timeouts, notice *Notice) {
	sh.hasher, sh.notice, sh.told = hasher, notice, math.MaxUint64
	sh.nextDue.Store(math.MaxUint64)
	sh.setTimeouts(timeouts)
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
	sh.setTimeouts(t)
}

// setTimeouts is SetTimeouts of what is valid.
func (sh *Shard) setTimeouts(t Timeouts) {
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

// Has reports whether there is a session with an ID, which was one once.
func (sh *Shard) Has(id ID) bool {
	if id&id6 == 0 {
		return sh.v4.Next(uint32(id)-1) == uint32(id) && sh.At(id).Proto() != 0
	}
	return sh.v6.Next(uint32(id&^id6)-1) == uint32(id&^id6) && sh.At(id).Proto() != 0
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
	sh.wheel.tagged = 0 // an ID may be used again
	if is6 {
		id := ID(sh.v6.Alloc())
		if id == 0 || id >= slotMark {
			return 0, sh.tooMany(id | id6)
		}
		return id | id6, &sh.v6.At(uint32(id)).Session
	}
	id := ID(sh.v4.Alloc())
	if id == 0 || id >= slotMark {
		return 0, sh.tooMany(id)
	}
	return id, sh.v4.At(uint32(id))
}

// tooMany gives a record back that has an ID which no session can have, unless there is
// none, and returns nil.
func (sh *Shard) tooMany(id ID) *Session {
	if id&^id6 != 0 {
		sh.Discard(id)
	}
	return nil
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
	return sh.insert(id, s, in, out, now)
}

// InsertHashed is Insert for a caller that knows the hashes of both keys: what Config.Keys
// says, or the [Hasher] of Key and KeyOutside; 0 is one that is not known. A wrong one makes
// a session that is not found; builds with the tag natplane_invariants panic.
func (sh *Shard) InsertHashed(id ID, s *Session, inside, outside uint64, now Time) bool {
	if inside == 0 || outside == 0 {
		return sh.Insert(id, s, now)
	}
	sh.checker.hashes(sh, id, s, inside, outside)
	return sh.insert(id, s, index.Tag(inside), index.Tag(outside), now)
}

// insert is Insert by the tags of the keys.
func (sh *Shard) insert(id ID, s *Session, in, out uint32, now Time) bool {
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
	in, out, known := sh.wheel.takeTags(id)
	if !known {
		in, out = sh.tags(id, s)
	} else {
		sh.prefetchTags(sh.wheel.taken + dueAhead - 1)
	}
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
	if sh.keys != nil {
		in, out := sh.keys(id, s)
		return index.Tag(in), index.Tag(out)
	}
	if id.Is6() {
		in, out := s.KeyInside6(), s.KeyOutside6()
		return index.Tag(sh.hasher.Hash6(&in)), index.Tag(sh.hasher.Hash6(&out))
	}
	return index.Tag(sh.hasher.Hash(&s.Key)),
		index.Tag(sh.hasher.HashParts(s.Key.Dst, s.Outside, uint32(s.Key.DstPort)<<16|uint32(s.OutsidePort), uint32(s.Proto())))
}

// Info returns a copy of a session for people.
func (sh *Shard) Info(id ID) Info {
	s := sh.At(id)
	in := Info{
		Proto: s.Proto(), Kind: s.Kind(), VNI: s.Key.VNI(), Class: s.Track.Class, Data: s.Data,
		Idle: time.Duration(max(0, sh.since(s.last))) * Tick, Due: sh.Deadline(s),
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

// Sample appends the IDs of sessions at random places to dst, as many as fit into its capacity but sometimes
// fewer, and some twice: all if there are no more. The same seed gives the same while nothing is inserted or removed.
// Cost: O(capacity), however many sessions there are.
func (sh *Shard) Sample(dst []ID, seed uint64) []ID {
	if sh.Len() <= cap(dst)-len(dst) {
		return sh.IDs(dst, 0)
	}
	h, below4, below6 := NewHasher(seed), sh.v4.Bound(), sh.v6.Bound()
	for k := uint32(0); len(dst) < cap(dst) && k < 16*uint32(cap(dst)); k++ {
		i := uint32(h.HashParts(k, 0, 0, 0) % (uint64(below4) + uint64(below6)))
		switch {
		case i < below4:
			if i > 0 && sh.v4.Next(i-1) == i && sh.v4.At(i).Proto() != 0 {
				dst = append(dst, ID(i))
			}
		default:
			if i -= below4; i > 0 && sh.v6.Next(i-1) == i && sh.v6.At(i).Proto() != 0 {
				dst = append(dst, ID(i)|id6)
			}
		}
	}
	return dst
}

// walkStep is how many sessions Walk shows under one lock.
const walkStep = 512

// Walk shows the sessions of the shard, whose lock must not be held and is while do runs. do may
// remove sessions, and others may come and go between two steps: those that stay all the while are shown once.
func (sh *Shard) Walk(do func(ID, *Session)) {
	ids := make([]ID, 0, walkStep)
	for after := ID(0); ; after = ids[len(ids)-1] {
		sh.Lock()
		ids = sh.IDs(ids[:0], after)
		for _, id := range ids {
			if sh.Has(id) {
				do(id, sh.At(id))
			}
		}
		sh.Unlock()
		if len(ids) == 0 {
			return
		}
	}
}

// Tidy gives a little of the memory that has been idle for 30 to 60 seconds back to
// the system, 512 KiB at most. It is for the owner of the table to call now and then,
// as [Table.Expire] does. Cost: 0.1 ms at most.
func (sh *Shard) Tidy(now Time) { sh.mem.Tidy(int64(now)) }

// Bytes returns the memory the shard holds: sessions and index. What has become free
// does not count, although the system has it back only after a while; see Tidy.
func (sh *Shard) Bytes() int { return sh.mem.Bytes() }
