// Looking up sessions, packet by packet. guesses.go does it for many at once.

package flow

import (
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/internal/index"
)

// Candidates iterates over the sessions whose index entry may stand for a hash.
type Candidates struct{ p index.Probe }

// Candidates begins a search. Cost: one cache line in most cases.
func (sh *Shard) Candidates(hash uint64) Candidates {
	return Candidates{sh.index.Probe(index.Tag(hash))}
}

// Next returns the next candidate, or 0. Candidates may be of either family
// and direction; compare the record.
func (c *Candidates) Next() ID { return ID(c.p.Next()) }

// Absent reports whether no entry can stand for a hash, if its home bucket says so: false is
// no answer. It costs less than Candidates, which then need not be asked.
func (sh *Shard) Absent(hash uint64) bool {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	return home.Match(tag) == 0 && !home.Full() && !sh.index.Overflown()
}

// Place returns where the search for a hash begins, for who wants to prefetch it: the line
// may be gone after the next change.
func (sh *Shard) Place(hash uint64) unsafe.Pointer {
	return unsafe.Pointer(sh.index.Home(index.Tag(hash)))
}

// LookupInside returns the session on which the inside sends k, or 0. The home
// bucket is searched without the machinery of Candidates, which costs more than
// the search.
func (sh *Shard) LookupInside(k *Key, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); !id.Is6() && sh.At(id).MatchInside(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || !id.Is6() && sh.At(id).MatchInside(k) {
			return id
		}
	}
}

// LookupOutside returns the session on which the remote sends k, or 0.
func (sh *Shard) LookupOutside(k *Key, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); !id.Is6() && sh.At(id).MatchOutside(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || !id.Is6() && sh.At(id).MatchOutside(k) {
			return id
		}
	}
}

// LookupInside6 is LookupInside for IPv6.
func (sh *Shard) LookupInside6(k *Key6, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); id.Is6() && sh.At(id).MatchInside6(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || id.Is6() && sh.At(id).MatchInside6(k) {
			return id
		}
	}
}

// LookupOutside6 is LookupOutside for IPv6.
func (sh *Shard) LookupOutside6(k *Key6, hash uint64) ID {
	tag := index.Tag(hash)
	home := sh.index.Home(tag)
	for m := home.Match(tag); m != 0; m &= m - 1 {
		if id := ID(home.ID(bits.TrailingZeros32(m))); id.Is6() && sh.At(id).MatchOutside6(k) {
			return id
		}
	}
	if !home.Full() && !sh.index.Overflown() {
		return 0
	}
	for c := sh.Candidates(hash); ; {
		id := c.Next()
		if id == 0 || id.Is6() && sh.At(id).MatchOutside6(k) {
			return id
		}
	}
}

// IndexExtra adds a further index entry for a session, and reports whether there
// was room; see Insert. The owner of the table must remove it with UnindexExtra
// before the session is removed.
func (sh *Shard) IndexExtra(hash uint64, id ID) bool {
	return sh.index.Insert(index.Tag(hash), uint32(id))
}

// UnindexExtra removes an entry that IndexExtra added.
func (sh *Shard) UnindexExtra(hash uint64, id ID) { sh.index.Remove(index.Tag(hash), uint32(id)) }
