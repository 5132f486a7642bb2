//go:build natplane_invariants

package flow

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/internal/index"
)

// checker checks a shard after Expire. A check is O(sessions), so it waits for
// as many calls as there are sessions.
type checker struct{ skip int }

func (c *checker) check(sh *Shard) {
	if c.skip--; c.skip < 0 {
		c.skip = sh.sessions
		sh.verify()
	}
}

// hashes panics unless they are those of a session's keys.
func (*checker) hashes(sh *Shard, id ID, s *Session, inside, outside uint64) {
	if in, out := sh.tags(id, s); in != index.Tag(inside) || out != index.Tag(outside) {
		panic(fmt.Sprintf("flow: session %#x has hashes %#x and %#x, not %#x and %#x", id, in, out, index.Tag(inside), index.Tag(outside)))
	}
}

// verify recounts the shard's sessions and panics if an index entry is missing,
// or if the lists of the timers and the sessions disagree. A session without a
// timer is one that Expire has just returned.
func (sh *Shard) verify() {
	sessions, armed := 0, 0
	ids := make([]ID, 0, 1024)
	for after := ID(0); ; after = ids[len(ids)-1] {
		if ids = sh.IDs(ids[:0], after); len(ids) == 0 {
			break
		}
		for _, id := range ids {
			s := sh.At(id)
			in, out := sh.tags(id, s)
			if !sh.indexed(in, id) || !sh.indexed(out, id) {
				panic(fmt.Sprintf("flow: session %#x is not indexed under both of %#x and %#x", id, in, out))
			}
			if s.next != 0 {
				armed++
			}
		}
		sessions += len(ids)
	}
	if sessions != sh.sessions || sh.index.Len() < 2*sessions {
		panic(fmt.Sprintf("flow: %d sessions, counted %d, with %d index entries", sessions, sh.sessions, sh.index.Len()))
	}
	if n := sh.checkWheel(); n != armed {
		panic(fmt.Sprintf("flow: %d sessions have timers, %d are on the wheel", armed, n))
	}
}

// checkWheel walks every list of the wheel both ways and counts its sessions.
func (sh *Shard) checkWheel() (n int) {
	w := &sh.wheel
	for slot := range allSlots {
		if !w.occupied(slot) {
			continue
		}
		mark := slotMark + ID(slot)
		prev := mark
		for id := w.head[slot]; id != mark; id = sh.At(id).next {
			if isSlot(id) || sh.At(id).before() != prev || n == sh.sessions {
				panic(fmt.Sprintf("flow: session %#x is linked wrongly behind %#x in slot %#x", id, prev, slot))
			}
			prev = id
			n++
		}
		if prev == mark || w.tail[slot] != prev {
			panic(fmt.Sprintf("flow: slot %#x ends with %#x, not %#x", slot, prev, w.tail[slot]))
		}
	}
	return n
}
