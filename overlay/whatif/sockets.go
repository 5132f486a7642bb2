// Sockets: which conversation has a port of a host.

package whatif

import (
	"math/bits"
	"slices"
)

// sockets finds conversations by their sockets. It is a hash table with linear probing that keeps
// indexes only: the keys are those of the conversations, so that it is small and has no pointers.
// What is removed leaves no mark, for those that follow it move up.
type sockets struct {
	slots []uint32 // a power of two of them, half of which are free; none stands for a free one
	n     int
}

// home returns where the search for a socket begins.
func (t *sockets) home(k socket) int {
	return int(uint64(k) * 0x9e3779b97f4a7c15 >> (64 - bits.TrailingZeros(uint(len(t.slots)))))
}

// find returns where a socket is, or the free slot where it would be.
func (t *sockets) find(all []conversation, k socket) (slot int, ok bool) {
	for slot = t.home(k); t.slots[slot] != none; slot = (slot + 1) & (len(t.slots) - 1) {
		if all[t.slots[slot]].socket() == k {
			return slot, true
		}
	}
	return slot, false
}

// get returns the conversation that has a socket.
func (t *sockets) get(all []conversation, k socket) (i uint32, ok bool) {
	if t.n == 0 {
		return 0, false
	}
	slot, ok := t.find(all, k)
	return t.slots[slot], ok
}

// add enters a conversation unless another one has its socket, and reports whether it has.
func (t *sockets) add(all []conversation, i uint32) bool {
	if 2*(t.n+1) > len(t.slots) {
		was := t.slots
		t.slots = slices.Repeat([]uint32{none}, max(64, 2*len(was)))
		for _, j := range was {
			if j != none {
				slot, _ := t.find(all, all[j].socket())
				t.slots[slot] = j
			}
		}
	}
	slot, taken := t.find(all, all[i].socket())
	if taken {
		return false
	}
	t.slots[slot] = i
	t.n++
	return true
}

// remove takes out a conversation, which must be there.
func (t *sockets) remove(all []conversation, i uint32) {
	free, _ := t.find(all, all[i].socket())
	mask := len(t.slots) - 1
	t.n--
	for at := (free + 1) & mask; t.slots[at] != none; at = (at + 1) & mask {
		// One whose search passes the free slot moves there.
		if home := t.home(all[t.slots[at]].socket()); (at-home)&mask >= (at-free)&mask {
			t.slots[free] = t.slots[at]
			free = at
		}
	}
	t.slots[free] = none
}

// clone returns an independent copy.
func (t *sockets) clone() sockets { return sockets{slices.Clone(t.slots), t.n} }
