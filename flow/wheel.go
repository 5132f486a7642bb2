package flow

import "math/bits"

// wheel is a hierarchical timing wheel over intrusive lists of sessions: four
// levels of 256 slots, the lowest one tick wide, the highest 256^3 ticks, 49.7
// days in all.
//
// Packets never touch it. A session sits in the slot of the deadline it had
// when it was armed; when that slot fires, the deadline is computed anew from
// the last-activity tick and a session that has been used moves on. Only a
// deadline that comes earlier (a RST shortens the timeout) re-arms at once.
//
// A slot fires when the wheel's tick reaches it; a slot of a higher level is
// then spread over the lower ones. Owned by the shard, under its lock.
type wheel struct {
	tick uint64 // now, in ticks since the beginning
	busy [wheelLevels][4]uint64
	head [wheelLevels * wheelSlots]ID
	tail [wheelLevels * wheelSlots]ID
}

const (
	wheelLevels = 4
	wheelBits   = 8
	wheelSlots  = 1 << wheelBits
	slotMask    = wheelSlots - 1

	// slotMark + slot stands where a list begins (prev) and ends (next).
	// IPv4 session IDs stay below it.
	slotMark ID = id6 - wheelLevels*wheelSlots

	// maxTimeout is the longest span that can be armed, in ticks.
	maxTimeout = 1<<(wheelLevels*wheelBits) - 1
)

func isSlot(id ID) bool { return id >= slotMark && id < id6 }

// slotOf returns the slot for a deadline at or after w.tick, or the last slot to
// fire if the wheel does not reach as far.
func (w *wheel) slotOf(deadline uint64) int {
	d := min(deadline-w.tick, maxTimeout)
	deadline = w.tick + d
	level := 0
	if d >= wheelSlots {
		level = (bits.Len64(d) - 1) / wheelBits
	}
	return level<<wheelBits | int(deadline>>(level*wheelBits))&slotMask
}

// arm appends s to the slot of deadline, which does not lie before w.tick.
func (sh *Shard) arm(id ID, s *Session, deadline uint64) {
	w := &sh.wheel
	if deadline < sh.nextDue.Load() {
		sh.nextDue.Store(deadline)
	}
	slot := w.slotOf(deadline)
	mark := slotMark + ID(slot)
	s.next = mark
	if !w.occupied(slot) {
		w.busy[slot>>wheelBits][slot&slotMask>>6] |= 1 << (slot & 63)
		s.prev = mark
		w.head[slot] = id
	} else {
		s.prev = w.tail[slot]
		sh.At(s.prev).next = id
	}
	w.tail[slot] = id
}

// unarm takes s out of its slot.
func (sh *Shard) unarm(s *Session) {
	w := &sh.wheel
	next, prev := s.next, s.prev
	if next == 0 {
		return // not armed
	}
	switch {
	case isSlot(prev) && isSlot(next):
		slot := int(prev - slotMark)
		w.busy[slot>>wheelBits][slot&slotMask>>6] &^= 1 << (slot & 63)
	case isSlot(prev):
		w.head[prev-slotMark] = next
		sh.At(next).prev = prev
	case isSlot(next):
		w.tail[next-slotMark] = prev
		sh.At(prev).next = next
	default:
		sh.At(prev).next = next
		sh.At(next).prev = prev
	}
	s.next, s.prev = 0, 0
}

// nextSlot returns the tick of the first busy slot of a level after now, and
// whether there is one. For a level above the lowest it is the slot's first tick.
func (w *wheel) nextSlot(level int) (uint64, bool) {
	b := &w.busy[level]
	cur := w.tick >> (level * wheelBits)
	from := int(cur+1) & slotMask
	for i := range 5 { // the first word twice: its bits from, then those below
		word := (from>>6 + i) & 3
		m := b[word]
		switch i {
		case 0:
			m &= ^uint64(0) << (from & 63)
		case 4:
			m &= 1<<(from&63) - 1
		}
		if m != 0 {
			slot := word<<6 | bits.TrailingZeros64(m)
			ahead := uint64(slot-int(cur)-1)&slotMask + 1
			return (cur + ahead) << (level * wheelBits), true
		}
	}
	return 0, false
}

// next returns the tick of the next slot to fire on any level.
func (w *wheel) next() (tick uint64, ok bool) {
	for level := range wheelLevels {
		if t, found := w.nextSlot(level); found && (!ok || t < tick) {
			tick, ok = t, true
		}
	}
	return tick, ok
}

// overdue reports whether a slot that fires at the present tick holds sessions:
// Expire has stopped in the middle, or a timer was armed for no later than now.
func (w *wheel) overdue() bool {
	for level := range wheelLevels {
		if w.tick&(1<<(level*wheelBits)-1) == 0 && w.occupied(level<<wheelBits|int(w.tick>>(level*wheelBits))&slotMask) {
			return true
		}
	}
	return false
}

// occupied reports whether the slot's list is not empty.
func (w *wheel) occupied(slot int) bool {
	return w.busy[slot>>wheelBits][slot&slotMask>>6]>>(slot&63)&1 != 0
}
