package fragments

import "github.com/seed-a61be3fe/natplane/flow"

// over reports whether a datagram has reached its lifetime.
func (t *Table) over(now flow.Time, id uint32) bool {
	return t.datagrams.At(id).since+t.limits.Lifetime <= now
}

// Work that is done for datagrams that have reached their lifetime: at a door, so
// that they are forgotten even if nobody calls Advance, and in a step of Advance.
// The unit is a datagram or one of its fragments; what begins with a datagram is
// finished. Nothing else depends on when it is done.
const (
	expireAtDoor = 8
	expireStep   = 2048
)

// expire forgets what has reached its lifetime, as far as some work goes. It reports
// whether that was all.
func (t *Table) expire(now flow.Time, work int) (done bool) {
	for _, l := range &t.lists {
		for id := l.head; id != 0 && t.over(now, id); {
			if work <= 0 {
				return false
			}
			d := t.datagrams.At(id)
			next := d.in[inStage].next
			work -= 1 + int(d.count)
			t.end(now, id)
			id = next
		}
	}
	return true
}

// end forgets a datagram that has reached its lifetime.
func (t *Table) end(now flow.Time, id uint32) {
	if t.datagrams.At(id).stage == waiting {
		t.discard(now, id, flow.ReasonFragTimeout)
	}
	t.remove(id)
}
