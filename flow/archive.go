package flow

import (
	"math"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// How sessions get into a snapshot, and out of it into a table that has as many shards, or others. Into as
// many they come back with the same IDs, and timers in the same slots, in the same order. Into
// others they get new IDs, and those of one slot follow each other shard by shard.

// Archive is the sessions of a table on their way into a snapshot, or out of one into a table that is
// empty. First come the times of all shards; then of each shard in turn its sessions, what refers to
// them, and nothing after the next shard has begun. It is for the owner of a table, and not safe for
// concurrent use. The locks of all shards must be held while it is written.
type Archive struct {
	Shards int // that the snapshot has

	a      codec
	table  *Table
	ticks  []uint64 // by shard
	apart  bool     // the table has other shards
	shard  int      // at hand
	places [2][]Place
	queue  []placed // sessions that are in no index yet
	memory bool     // was short

	sessions, timers int // read so far
}

// placed is a session in its place, with the tags of its keys.
type placed struct {
	Place
	inside, outside uint32
}

// maxQueued is how many sessions are placed before they are indexed: as many as one can fetch the buckets of.
const maxQueued = 32

// codec is what a snapshot goes through: a *snapshot.Archive.
type codec = *snapshot.Archive

// Place is where a session is.
type Place struct {
	Shard int // index of the shard
	ID    ID  // there; 0 is none
}

// Archive begins to write the sessions of t, or to read them. Sessions must be placed in shards as the
// owner would, who sees each with Sessions.
func (t *Table) Archive(a codec) *Archive {
	ar := &Archive{a: a, table: t, Shards: len(t.shards)}
	a.Section("time")
	if ar.Shards = a.Len(ar.Shards, MaxShards); !a.Check(ar.Shards > 0, "no shards") {
		return ar
	}
	ar.ticks, ar.apart = make([]uint64, ar.Shards), ar.Shards != len(t.shards)
	first := uint64(math.MaxUint64)
	for i := range ar.Shards {
		tick, told, due := uint64(0), uint64(0), uint64(0)
		if a.Writing() {
			sh := t.Shard(i)
			tick, told, due = sh.wheel.tick, sh.told, sh.nextDue.Load()
		}
		snapshot.Nums(a, &tick, &told, &due)
		a.Check(tick <= uint64(math.MaxInt64/Tick), "tick %d", tick)
		ar.ticks[i], first = tick, min(first, tick)
		if sh := t.Shard(min(i, len(t.shards)-1)); !a.Writing() && !ar.apart {
			sh.wheel.tick, sh.told = tick, told
			sh.nextDue.Store(due)
		}
	}
	if !a.Writing() && ar.apart {
		for i := range t.shards {
			t.Shard(i).wheel.tick = first
		}
	}
	return ar
}

// Apart reports whether the table that is read into has other shards than that which was written.
func (ar *Archive) Apart() bool { return ar.apart }

// Memory reports whether there was memory so far.
func (ar *Archive) Memory() bool { return !ar.memory }

// Sessions writes or reads the sessions of a shard of the snapshot, without their timers. Of each one that is
// read, where says in which shard it belongs, or refuses it; then each is told where it is. Both are nil
// while it is written.
func (ar *Archive) Sessions(shard int, where func(id ID, s *Session) (shard int), each func(at Place, s *Session)) {
	a := ar.a
	a.Section("sessions")
	ar.shard, ar.places = shard, [2][]Place{}
	if a.Writing() {
		sh := ar.table.Shard(shard)
		sh.v4.Archive(a, func(_ uint32, s *Session) { s.archive(a, nil) })
		sh.v6.Archive(a, func(_ uint32, s *session6) { s.archive(a, &s.Addrs6) })
		return
	}
	take := func(id ID, s *Session) {
		if !s.check(a) {
			*s = Session{}
			return
		}
		at := where(id, s)
		if !a.OK() || !ar.place(id, at, s) {
			return
		}
		is := ar.placeOf(id)
		each(is, ar.table.Shard(is.Shard).At(is.ID))
	}
	read4 := func(i uint32, s *Session) {
		s.archive(a, nil)
		take(ID(i), s)
	}
	read6 := func(i uint32, s *session6) {
		s.archive(a, &s.Addrs6)
		take(ID(i)|id6, &s.Session)
	}
	if sh := ar.table.Shard(shard % len(ar.table.shards)); ar.apart {
		sh.v4.Scan(a, read4)
		sh.v6.Scan(a, read6)
	} else {
		ok := sh.v4.Archive(a, read4) && sh.v6.Archive(a, read6)
		ar.memory = ar.memory || !ok
	}
	ar.index()
}

// archive writes or reads the fields of a session, and of one of IPv6 its addresses.
func (s *Session) archive(a codec, addrs *Addrs6) {
	if addrs == nil {
		snapshot.Nums(a, &s.Key.Src, &s.Key.Dst, &s.Outside)
	} else {
		snapshot.Nums(a, &addrs.Inside[0], &addrs.Inside[1], &addrs.Remote[0], &addrs.Remote[1], &addrs.Outside[0], &addrs.Outside[1])
	}
	t := &s.Track
	n := [...]uint64{
		uint64(s.Key.SrcPort), uint64(s.Key.DstPort), uint64(s.OutsidePort), uint64(s.Data[0]), uint64(s.Data[1]), uint64(s.Data[2]),
		uint64(s.Key.VNIProto), uint64(s.last), uint64(s.Kind()), uint64(t.Ack[0]), uint64(t.Ack[1]), uint64(t.End[0]), uint64(t.End[1]),
		uint64(t.Win[0]), uint64(t.Win[1]), uint64(t.Scale), uint64(t.Flags), uint64(t.State), uint64(t.Class),
	}
	if a.Uints(n[:]); a.Writing() {
		return
	}
	words := n[0] | n[1] | n[2] | n[3] | n[4] | n[5] | n[13] | n[14]
	if long, bytes := n[6]|n[7]|n[9]|n[10]|n[11]|n[12], n[8]|n[15]|n[16]|n[17]|n[18]; words>>16 != 0 || long>>32 != 0 || bytes>>8 != 0 {
		a.Refuse("a session has a number that is out of range: %d", n)
	}
	s.Key.SrcPort, s.Key.DstPort, s.OutsidePort, s.Data = uint16(n[0]), uint16(n[1]), uint16(n[2]), [3]uint16{uint16(n[3]), uint16(n[4]), uint16(n[5])}
	s.Key.VNIProto, s.last, s.next, s.prev = uint32(n[6]), uint32(n[7]), 0, 0
	s.SetKind(Kind(n[8]))
	*t = Track{
		Ack: [2]uint32{uint32(n[9]), uint32(n[10])}, End: [2]uint32{uint32(n[11]), uint32(n[12])}, Win: [2]uint16{uint16(n[13]), uint16(n[14])},
		Scale: uint8(n[15]), Flags: uint8(n[16]), State: TCPState(n[17]), Class: Class(n[18]),
	}
}

// check refuses a session that cannot be. A text is made only of one that is wrong.
func (s *Session) check(a codec) bool {
	switch {
	case s.Proto() == 0:
		a.Refuse("a session without a protocol")
	case s.Kind() >= numSessionKinds:
		a.Refuse("a session of kind %d", s.Kind())
	case int(s.Track.Class) >= NumClasses:
		a.Refuse("a session of class %d", s.Track.Class)
	case s.Track.State&phaseMask >= numTCPStates:
		a.Refuse("a session in state %d", s.Track.State)
	}
	return a.OK()
}

// place puts a session, whose ID it was, into the shard where it belongs, and indexes it.
func (ar *Archive) place(id ID, shard int, s *Session) bool {
	sh, at := ar.table.Shard(shard), Place{shard, id}
	if ar.apart {
		fresh, record := sh.New(id.Is6())
		if at.ID = fresh; fresh == 0 {
			ar.memory = true
			return false
		}
		*record = *s
		if id.Is6() {
			*record.Addrs6() = *s.Addrs6()
		}
		s = record
		ar.note(id, at)
	} else if shard != ar.shard {
		ar.a.Refuse("a session of shard %d is in shard %d", shard, ar.shard)
		return false
	}
	in, out := sh.tags(at.ID, s)
	slab.Prefetch(unsafe.Pointer(sh.index.Home(in)))
	slab.Prefetch(unsafe.Pointer(sh.index.Home(out)))
	if ar.queue = append(ar.queue, placed{at, in, out}); len(ar.queue) == maxQueued {
		ar.index()
	}
	sh.sessions++
	ar.sessions++
	return true
}

// index puts the sessions that are placed into the indexes of their shards.
func (ar *Archive) index() {
	for _, p := range ar.queue {
		sh := ar.table.Shard(p.Shard)
		if other := sh.outside(p.ID, p.outside); other != 0 {
			ar.a.Refuse("sessions %#x and %#x have the same addresses and ports", uint32(p.ID), uint32(other))
		}
		if !sh.index.Insert(p.inside, uint32(p.ID)) || !sh.index.Insert(p.outside, uint32(p.ID)) {
			ar.memory = true
		}
	}
	ar.queue = ar.queue[:0]
}

// outside returns the session in the index that has the outside tuple of another one, whose tag is given, or 0. Of
// tables with keys of their own it knows nothing.
func (sh *Shard) outside(id ID, tag uint32) ID {
	if sh.keys != nil {
		return 0
	}
	s := sh.At(id)
	for p := sh.index.Probe(tag); ; {
		other := ID(p.Next())
		switch {
		case other == 0:
			return 0
		case other.Is6() != id.Is6():
		case id.Is6():
			if k := s.KeyOutside6(); sh.At(other).MatchOutside6(&k) {
				return other
			}
		default:
			if k := s.KeyOutside(); sh.At(other).MatchOutside(&k) {
				return other
			}
		}
	}
}

// note notes where a session of the shard at hand is now.
func (ar *Archive) note(id ID, at Place) {
	family, i := 0, uint32(id)
	if id.Is6() {
		family, i = 1, uint32(id&^id6)
	}
	all := &ar.places[family]
	for uint32(len(*all)) <= i {
		*all = append(*all, Place{})
	}
	(*all)[i] = at
}

// placeOf returns where a session of the shard at hand is now, or nothing if there is none.
func (ar *Archive) placeOf(id ID) Place {
	if !ar.apart {
		if ar.table.Shard(ar.shard).hasRecord(id) {
			return Place{ar.shard, id}
		}
		return Place{}
	}
	family, i := 0, uint32(id)
	if id.Is6() {
		family, i = 1, uint32(id&^id6)
	}
	if all := ar.places[family]; i < uint32(len(all)) {
		return all[i]
	}
	return Place{}
}

// hasRecord is Has for an ID that was never one, too.
func (sh *Shard) hasRecord(id ID) bool { return id&^id6 != 0 && sh.Has(id) }

// Ref writes or reads a reference to a session of the shard at hand, which is where it is now. One to
// none is refused.
func (ar *Archive) Ref(at *Place) {
	id := at.ID
	snapshot.Num(ar.a, &id)
	if !ar.a.Writing() {
		if *at = ar.placeOf(id); ar.a.OK() && at.ID == 0 {
			ar.a.Refuse("there is no session %#x", uint32(id))
		}
	}
}

// Timers writes or reads the timers of the shard at hand.
func (ar *Archive) Timers() {
	a := ar.a
	a.Section("timers")
	if a.Writing() {
		sh := ar.table.Shard(ar.shard)
		for slot := range allSlots {
			if sh.wheel.occupied(slot) {
				snapshot.Num(a, &slot)
				for id := sh.wheel.head[slot]; !isSlot(id); id = sh.At(id).next {
					snapshot.Num(a, &id)
				}
				a.Len(0, 0)
			}
		}
		end := allSlots
		snapshot.Num(a, &end)
		return
	}
	for last := -1; ; {
		slot := 0
		if snapshot.Num(a, &slot); slot == allSlots || !a.Check(slot > last && slot < allSlots, "slot %d comes after slot %d", slot, last) {
			break
		}
		for last = slot; a.OK(); {
			var id ID
			if snapshot.Num(a, &id); id == 0 {
				break
			}
			at := ar.placeOf(id)
			if at.ID == 0 {
				a.Refuse("a timer of session %#x, which is none", uint32(id))
				return
			}
			sh := ar.table.Shard(at.Shard)
			s := sh.At(at.ID)
			if s.next != 0 {
				a.Refuse("a second timer of session %#x", uint32(id))
				return
			}
			if ar.timers++; ar.apart {
				sh.arm(at.ID, s, max(firing(ar.ticks[ar.shard], slot), sh.wheel.tick))
			} else {
				sh.armIn(at.ID, s, slot)
			}
		}
	}
}

// Whole refuses a table that has sessions without timers. It comes last.
func (ar *Archive) Whole() {
	if ar.a.Writing() || !ar.a.OK() {
		return
	}
	ar.a.Check(ar.timers == ar.sessions, "there are %d timers of %d sessions", ar.timers, ar.sessions)
}

// firing returns when a slot fires of a wheel whose tick is given, or when it is spread.
func firing(tick uint64, slot int) uint64 {
	if slot < lowSlots {
		return tick + uint64(slot-lowSlot(tick))&(lowSlots-1)
	}
	w := wheel{tick: tick}
	level := 1 + (slot-lowSlots)/wheelSlots
	cur := w.ahead() >> (level * wheelBits)
	n := uint64(slot-firstSlot(level)-int(cur)) & slotMask
	if _, now := w.spread(level); n == 0 && !now {
		n = wheelSlots
	}
	return (cur+n)<<(level*wheelBits) - wheelSlots
}

// armIn is arm for the slot that a timer was in.
func (sh *Shard) armIn(id ID, s *Session, slot int) {
	if sh.wheel.lists == nil {
		sh.wheel.lists = new(lists)
	}
	sh.append(id, s, slot)
}

// Each calls do for the sessions of the shard at hand that have been read.
func (ar *Archive) Each(do func(at Place, s *Session)) {
	if !ar.apart {
		sh := ar.table.Shard(ar.shard)
		for ids, after := make([]ID, 0, walkStep), ID(0); ; after = ids[len(ids)-1] {
			if ids = sh.IDs(ids[:0], after); len(ids) == 0 {
				return
			}
			for _, id := range ids {
				do(Place{ar.shard, id}, sh.At(id))
			}
		}
	}
	for family := range ar.places {
		for _, at := range ar.places[family] {
			if at.ID != 0 {
				do(at, ar.table.Shard(at.Shard).At(at.ID))
			}
		}
	}
}
