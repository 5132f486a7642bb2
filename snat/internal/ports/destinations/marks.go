package destinations

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
func (d *Record) position(words []uint64, ordinal int) int {
	for i := range int(d.Taken) {
		if item(words, i) == ordinal {
			return i
		}
	}
	return -1
}

// Mark remembers that an ordinal below ports is taken, and reports whether there was
// memory for that.
func (t *Table) Mark(d *Record, ports, ordinal int) bool {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		if !bitmap.Test(words, ports, ordinal) {
			bitmap.Set(words, ports, ordinal)
			d.Taken++
		}
		return true
	}
	if d.position(words, ordinal) >= 0 {
		return true
	}
	if n := int(d.Taken); n == 2*len(words) {
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
		return t.Mark(d, ports, ordinal)
	}
	setItem(words, int(d.Taken), ordinal)
	d.Taken++
	return true
}

// unmark forgets that an ordinal is taken, and reports whether it was known.
func (t *Table) unmark(d *Record, ports, ordinal int) bool {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		if !bitmap.Clear(words, ports, ordinal) {
			return false
		}
		d.Taken--
		return true
	}
	i := d.position(words, ordinal)
	if i < 0 {
		return false
	}
	d.Taken--
	setItem(words, i, item(words, int(d.Taken)))
	return true
}

// Marked returns what a record remembers as bits, which are good until the next
// call or change. Cost: O(ports/64) for a list.
func (t *Table) Marked(d *Record, ports int) []uint64 {
	words := t.runs.Words(d.bits)
	if !listed(words, ports) {
		return bitmap.Bits(words, ports)
	}
	bits := t.Blank(ports)
	for i := range int(d.Taken) {
		o := item(words, i)
		bits[o>>6] |= 1 << (o & 63)
	}
	return bits
}

// Filled reports whether the ports from first to end-1 are all marked, as far as that is
// known without a search: of a list it is not.
func (t *Table) Filled(d *Record, ports, first, end int) bool {
	words := t.runs.Words(d.bits)
	if listed(words, ports) {
		return false
	}
	o, ok := bitmap.FirstZeroFrom(words, ports, first)
	return !ok || o >= end
}

// Blank returns so many bits that are all zero, the same memory for every call.
func (t *Table) Blank(ports int) []uint64 {
	if n := (ports + 63) / 64; len(t.scratch) < n {
		t.scratch = make([]uint64, n)
	}
	clear(t.scratch)
	return t.scratch
}

// UnmarkedFrom returns the first ordinal from one on, and behind the last one from
// 0 on, that a record does not remember as taken.
func (t *Table) UnmarkedFrom(d *Record, ports, from int) (int, bool) {
	if words := t.runs.Words(d.bits); !listed(words, ports) {
		if o, ok := bitmap.FirstZeroFrom(words, ports, from); ok {
			return o, true
		}
		return bitmap.FirstZero(words, ports)
	}
	// A list is shorter than the range, so it ends before the search does.
	for words, w, skip := t.Marked(d, ports), from>>6, ^uint64(0)<<(from&63); ; w, skip = w+1, ^uint64(0) {
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

// Enlist returns a new record of a scope, which has none, for so many ports; nil for want
// of memory.
func (t *Table) Enlist(s *Scope, ports int) *Record {
	if id := t.begin(s, marksWords(ports)); id != 0 {
		return t.slab.At(id)
	}
	return nil
}

// Strike drops a record that knows nothing.
func (t *Table) Strike(s *Scope, d *Record) {
	if d.Taken == 0 {
		t.end(t.seek(s))
	}
}
