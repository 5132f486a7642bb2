package flow

// Move takes a session to another shard of the same table and returns its new ID
// there; the old one is no longer valid. Activity, state and idle class stay what
// they are, and the timer is armed by the timeouts of the new shard. Both locks
// must be held. Index entries that IndexExtra added must be removed before, and
// added to the new shard afterwards. If there is no memory for it there, the session
// stays and Move returns 0. Cost: an Insert and a Remove.
func (sh *Shard) Move(id ID, to *Shard, now Time) ID {
	s := sh.At(id)
	moved, t := to.New(id.Is6())
	if moved == 0 {
		return 0
	}
	*t = *s
	t.next, t.prev = 0, 0
	t.SetKind(s.Kind())
	if id.Is6() {
		*t.Addrs6() = *s.Addrs6()
	}
	if !to.Insert(moved, t, now) {
		to.Discard(moved)
		return 0
	}
	t.last = s.last
	to.Rearm(moved, t)
	sh.Remove(id, s)
	return moved
}
