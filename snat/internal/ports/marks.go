package ports

import (
	"math/bits"

	"github.com/seed-a61be3fe/natplane/internal/bitmap"
)

// What a destination remembers of ports that are spread over all of a range. A
// few are a list, so that a destination costs memory by its flows and not by the
// range; where the list would take an eighth of a bitmap, a bitmap takes its place.
// The record's count of what is taken is the length of the list.

// listed reports whether a record of so many words is a list, where ports can be
// taken.
func listed(words []uint64, ports int) bool { return 8*len(words) <= bitmap.Words(ports) }

// marksWords returns how many words a new record takes.
func marksWords(ports int) int {
	if n := bitmap.Words(ports); n < 8*minWords {
		return n
	}
	return minWords
}

// item returns entry i of a list.
func item(words []uint64, i int) int { return int(uint32(words[i>>1] >> (i & 1 * 32))) }

// setItem changes entry i of a list.
func setItem(words []uint64, i, ordinal int) {
	shift := i & 1 * 32
	words[i>>1] = words[i>>1]&^((1<<32-1)<<shift) | uint64(ordinal)<<shift
}

// position returns where an ordinal stands in the list of a record, or -1.
func (d *destination) position(words []uint64, ordinal int) int {
	for i := range int(d.taken) {
		if item(words, i) == ordinal {
			return i
		}
	}
	return -1
}

// mark remembers that an ordinal below ports is taken, and reports whether there was
// memory for that.
func (t *destinations) mark(d *destination, ports, ordinal int) bool {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		if !bitmap.Test(words, ports, ordinal) {
			bitmap.Set(words, ports, ordinal)
			d.taken++
		}
		return true
	}
	if d.position(words, ordinal) >= 0 {
		return true
	}
	if n := int(d.taken); n == 2*len(words) {
		grown := 2 * len(words)
		if 8*grown > bitmap.Words(ports) {
			grown = bitmap.Words(ports)
		}
		bits := t.alloc(grown)
		if bits == 0 {
			return false
		}
		to := t.runs.Words(bits)
		if words = t.runs.Words(d.bits); listed(to, ports) {
			copy(to, words)
		} else {
			for i := range n {
				bitmap.Set(to, ports, item(words, i))
			}
		}
		t.runs.Free(d.bits)
		d.bits = bits
		return t.mark(d, ports, ordinal)
	}
	setItem(words, int(d.taken), ordinal)
	d.taken++
	return true
}

// unmark forgets that an ordinal is taken, and reports whether it was known.
func (t *destinations) unmark(d *destination, ports, ordinal int) bool {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		if !bitmap.Test(words, ports, ordinal) {
			return false
		}
		bitmap.Clear(words, ports, ordinal)
		d.taken--
		return true
	}
	i := d.position(words, ordinal)
	if i < 0 {
		return false
	}
	d.taken--
	setItem(words, i, item(words, int(d.taken)))
	return true
}

// marked returns what a record remembers as bits, which are good until the next
// call or change. Cost: O(ports/64) for a list.
func (t *destinations) marked(d *destination, ports int) []uint64 {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		return bitmap.Bits(words, ports)
	}
	bits := t.blank(ports)
	for i := range int(d.taken) {
		o := item(words, i)
		bits[o>>6] |= 1 << (o & 63)
	}
	return bits
}

// blank returns so many bits that are all zero, the same memory for every call.
func (t *destinations) blank(ports int) []uint64 {
	if n := (ports + 63) / 64; len(t.scratch) < n {
		t.scratch = make([]uint64, n)
	}
	clear(t.scratch)
	return t.scratch
}

// unmarkedFrom returns the first ordinal from one on, and behind the last one from
// 0 on, that a record does not remember as taken.
func (t *destinations) unmarkedFrom(d *destination, ports, from int) (int, bool) {
	if words := t.runs.Words(d.bits); !listed(words, ports) {
		if o, ok := bitmap.FirstZeroFrom(words, ports, from); ok {
			return o, true
		}
		return bitmap.FirstZero(words, ports)
	}
	// A list is shorter than the range, so it ends before the search does.
	for words, w, skip := t.marked(d, ports), from>>6, ^uint64(0)<<(from&63); ; w, skip = w+1, ^uint64(0) {
		if w*64 >= ports {
			w = 0
		}
		if free := ^words[w] & skip; free != 0 {
			if o := w<<6 + bits.TrailingZeros64(free); o < ports {
				return o, true
			}
		}
	}
}
