package destinations

import (
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/bitmap"
	"github.com/seed-a61be3fe/natplane/internal/index"
)

// Looking ahead: what a search for the lowest port will read, so that it can be fetched
// before. All answers are guesses; nothing changes.

// Home returns the hash of a scope and where the search for its record begins; nil if
// there are no records at all.
func (t *Table) Home(s *Scope) (hash uint64, bucket unsafe.Pointer) {
	if t.slab.Len() == 0 {
		return 0, nil
	}
	hash = s.Hash(&t.hasher)
	return hash, unsafe.Pointer(t.index.Home(index.Tag(hash)))
}

// Guess returns what is probably the record of a scope with that hash, or nil. It reads the
// bucket that Home has named.
func (t *Table) Guess(hash uint64) *Record {
	home := t.index.Home(index.Tag(hash))
	m := home.Match(index.Tag(hash))
	if m == 0 {
		return nil
	}
	return t.slab.At(home.ID(bits.TrailingZeros32(m)))
}

// Marks returns the words that say which ordinals a record, as Guess has returned it, has
// marked; nil if it is that of another scope.
func (t *Table) Marks(d *Record, s *Scope) []uint64 {
	if d.Scope != *s || d.bits == 0 {
		return nil
	}
	return t.runs.Words(d.bits)
}

// Around returns which of the words of a record probably says that its lowest ordinal is
// free: with no gaps below, that is the ordinal after those that are taken.
func Around(words []uint64, d *Record, ports int) int {
	n := span(words, ports)
	return bitmap.WordOf(n, min(int(d.Taken), n-1))
}

// LowestClear returns the lowest ordinal that is not marked in such words, or 0.
func LowestClear(words []uint64, ports int) int {
	o, _ := bitmap.FirstZero(words, span(words, ports))
	return o
}
