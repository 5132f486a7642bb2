package flow

import "math/bits"

// wheel is a hierarchical timing wheel over intrusive lists of sessions. The
// lowest level has 512 slots of one tick; three higher ones have 256 slots each, of
// 256, 256^2 and 256^3 ticks.
//
// Packets never touch it. A session sits in the slot of the deadline it had
// when it was armed; when that slot fires, the deadline is computed anew from
// the last-activity tick and a session that has been used moves on. Only a
// deadline that comes earlier (a RST shortens the timeout) re-arms at once.
//
// A slot of the lowest level fires when the wheel's tick reaches it. One of a higher
// level is spread over the lower ones 256 ticks before it begins, so that every
// deadline less than 256 ticks ahead stands in a slot of its own. Owned by the
// shard, under its lock.
type wheel struct {
	tick uint64 // now, in ticks since the beginning
	busy [allSlots / 64]uint64
	*lists

	last struct { // timer that was armed: many that follow each other have the same deadline
		tick, deadline uint64
		slot           int
		fires          uint64
	}

	tagged int // sessions of due that have tags, until a record is handed out that may have one of the IDs
	taken  int // how many of them have been removed
}

// lists are the ends of the slots' lists, and what Expire has returned last. They are made
// with the first timer.
type lists struct {
	head, tail [allSlots]ID

	due  [dueBatch]ID
	tags [dueBatch][2]uint32 // of due: index tags of the inside and of the outside
}

// takeTags returns the tags of a session that is the next one of due to be removed.
func (w *wheel) takeTags(id ID) (inside, outside uint32, ok bool) {
	if w.taken >= w.tagged || w.due[w.taken&(dueBatch-1)] != id {
		return 0, 0, false
	}
	t := &w.tags[w.taken&(dueBatch-1)]
	w.taken++
	return t[0], t[1], true
}

const (
	wheelLevels = 4
	wheelBits   = 8
	wheelSlots  = 1 << wheelBits // of a higher level
	slotMask    = wheelSlots - 1
	lowSlots    = 2 * wheelSlots // of the lowest level
	allSlots    = lowSlots + (wheelLevels-1)*wheelSlots

	// slotMark + slot stands where a list begins (prev) and ends (next).
	// IPv4 session IDs stay below it.
	slotMark ID = 1<<kindShift - allSlots
)

func isSlot(id ID) bool { return id >= slotMark && id < 1<<kindShift }

// before returns the previous session in the list of the slot, or the slot.
func (s *Session) before() ID { return s.prev &^ kindMask }

// setBefore replaces what before returns.
func (s *Session) setBefore(id ID) { s.prev = s.prev&kindMask | id }

// lowSlot returns the slot of a tick on the lowest level.
func lowSlot(tick uint64) int { return int(tick) & (lowSlots - 1) }

// highSlot returns the slot of a tick on a higher level.
func highSlot(level int, tick uint64) int {
	return firstSlot(level) + int(tick>>(level*wheelBits))&slotMask
}

// firstSlot returns the first slot of a higher level.
func firstSlot(level int) int { return lowSlots + (level-1)*wheelSlots }

// ahead is the present tick of the higher levels.
func (w *wheel) ahead() uint64 { return w.tick + wheelSlots }

// present returns the slot of the lowest level that fires now.
func (w *wheel) present() int { return lowSlot(w.tick) }

// spread returns the slot of a higher level that is spread now, if one is.
func (w *wheel) spread(level int) (slot int, ok bool) {
	return highSlot(level, w.ahead()), w.ahead()&(1<<(level*wheelBits)-1) == 0
}

// slotOf returns the slot for a deadline at or after w.tick, or for the tick maxLag
// ahead if that comes first.
func (w *wheel) slotOf(deadline uint64) int {
	deadline = min(deadline, w.tick+maxLag)
	if deadline>>wheelBits <= w.ahead()>>wheelBits {
		return lowSlot(deadline)
	}
	return highSlot(max(1, (bits.Len64(deadline-w.ahead())-1)/wheelBits), deadline)
}

// firesAt returns the tick at which the slot of a deadline, as slotOf has chosen it,
// fires: that of the deadline, or when what stands in a higher level is spread.
func (w *wheel) firesAt(slot int, deadline uint64) uint64 {
	if slot < lowSlots {
		return deadline
	}
	level := 1 + (slot-lowSlots)/wheelSlots
	deadline = min(deadline, w.tick+maxLag)
	return deadline&^(1<<(level*wheelBits)-1) - wheelSlots
}

// arm appends s to the slot of deadline, which does not lie before w.tick.
func (sh *Shard) arm(id ID, s *Session, deadline uint64) {
	w := &sh.wheel
	if w.lists == nil {
		w.lists = new(lists)
	}
	last := &w.last
	if last.deadline != deadline || last.tick != w.tick {
		last.tick, last.deadline, last.slot = w.tick, deadline, w.slotOf(deadline)
		last.fires = w.firesAt(last.slot, deadline)
	}
	slot := last.slot
	if last.fires < sh.nextDue.Load() {
		sh.nextDue.Store(last.fires)
	}
	if deadline < sh.told {
		sh.told = deadline
		sh.notice.Raise()
	}
	sh.append(id, s, slot)
}

// append appends s to the list of a slot.
func (sh *Shard) append(id ID, s *Session, slot int) {
	w, mark := &sh.wheel, slotMark+ID(slot)
	s.next = mark
	if !w.occupied(slot) {
		w.busy[slot>>6] |= 1 << (slot & 63)
		s.setBefore(mark)
		w.head[slot] = id
	} else {
		tail := w.tail[slot]
		s.setBefore(tail)
		sh.At(tail).next = id
	}
	w.tail[slot] = id
}

// detach takes the whole list out of a slot that is occupied, for a caller that goes
// through it, and returns its first session. What goes through it only reads next, and arms
// each session anew or clears its links with leave.
func (w *wheel) detach(slot int) ID {
	w.busy[slot>>6] &^= 1 << (slot & 63)
	return w.head[slot]
}

// attach gives a slot back what is left of its list, from a session on, or nothing if that
// is a slot's mark: the end.
func (sh *Shard) attach(slot int, id ID) {
	if isSlot(id) {
		return
	}
	w := &sh.wheel
	w.busy[slot>>6] |= 1 << (slot & 63)
	w.head[slot] = id
	sh.At(id).setBefore(slotMark + ID(slot))
}

// leave makes s, from a list that has been detached, one that is not armed.
func (s *Session) leave() {
	s.next = 0
	s.setBefore(0)
}

// unarm takes s out of its slot.
func (sh *Shard) unarm(s *Session) {
	w := &sh.wheel
	next, prev := s.next, s.before()
	if next == 0 {
		return // not armed
	}
	switch {
	case isSlot(prev) && isSlot(next):
		slot := int(prev - slotMark)
		w.busy[slot>>6] &^= 1 << (slot & 63)
	case isSlot(prev):
		w.head[prev-slotMark] = next
		sh.At(next).setBefore(prev)
	case isSlot(next):
		w.tail[next-slotMark] = prev
		sh.At(prev).next = next
	default:
		sh.At(prev).next = next
		sh.At(next).setBefore(prev)
	}
	s.next = 0
	s.setBefore(0)
}

// behind returns how many slots after cur the first busy one of a level comes, 1 to
// the number of its slots, and whether there is one. first is the level's first slot.
func (w *wheel) behind(first, slots int, cur uint64) (n uint64, ok bool) {
	from, words := int(cur+1)&(slots-1), slots/64
	for i := range words + 1 { // the first word twice: its bits from, then those below
		word := (from>>6 + i) & (words - 1)
		m := w.busy[first/64+word]
		switch i {
		case 0:
			m &= ^uint64(0) << (from & 63)
		case words:
			m &= 1<<(from&63) - 1
		}
		if m != 0 {
			slot := word<<6 | bits.TrailingZeros64(m)
			return uint64((slot-from)&(slots-1)) + 1, true
		}
	}
	return 0, false
}

// nextLow returns the tick of the first busy slot of the lowest level after now,
// and whether there is one.
func (w *wheel) nextLow() (tick uint64, ok bool) {
	n, ok := w.behind(0, lowSlots, w.tick)
	return w.tick + n, ok
}

// nextSpread returns the tick with which the first busy slot of the higher levels
// begins, and whether there is one. It is spread 256 ticks before that.
func (w *wheel) nextSpread() (tick uint64, ok bool) {
	for level := 1; level < wheelLevels; level++ {
		cur := w.ahead() >> (level * wheelBits)
		if n, found := w.behind(firstSlot(level), wheelSlots, cur); found {
			if t := (cur + n) << (level * wheelBits); !ok || t < tick {
				tick, ok = t, true
			}
		}
	}
	return tick, ok
}

// next returns the tick of the next slot to fire on any level.
func (w *wheel) next() (tick uint64, ok bool) {
	tick, ok = w.nextLow()
	if t, found := w.nextSpread(); found && (!ok || t-wheelSlots < tick) {
		return t - wheelSlots, true
	}
	return tick, ok
}

// overdue reports whether a slot that fires at the present tick holds sessions:
// Expire has stopped in the middle, or a timer was armed for no later than now.
func (w *wheel) overdue() bool {
	for level := 1; level < wheelLevels; level++ {
		if slot, fires := w.spread(level); fires && w.occupied(slot) {
			return true
		}
	}
	return w.occupied(w.present())
}

// occupied reports whether the slot's list is not empty.
func (w *wheel) occupied(slot int) bool { return w.busy[slot>>6]>>(slot&63)&1 != 0 }
