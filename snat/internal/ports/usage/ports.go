package usage

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Ports counts the sessions on each port of a pool, by ordinal. A port takes 2 bytes, a word, as long
// as its counts fit in there, which those of nearly all do:
//
//	00 nnnnnnnnnnnnnn   active sessions only, or none at all
//	01 nnnnnnnnnnnnnn   held ones only
//	10 nnnnnnnnnnnnnn   reset ones only
//	11 aaaaahhhhhrrrr   of several kinds: active, held and reset ones
//	11 00000000000000   more than fit: they are in a page
//
// So nothing is counted that cannot be told exactly, a port without a session is a word of zero,
// and one with an active session and no other a word of one. Pages are of pagePorts ports in a row,
// because ports with many sessions stand side by side: the first ones are given to every destination.
// A page stays once it is there.
//
// The zero Ports has room for none: see Grow.
type Ports struct {
	words []word   // first: what is read of a port whose counts fit
	pages []uint32 // by ordinal / pagePorts: the page in wide, plus one, or 0; shorter where there is none
	wide  []Port   // pages, one behind the other
}

// word is what Ports says of a port.
type word uint16

// The kinds of words, and the fields of one of several kinds.
const (
	kind  word = 3 << 14
	held  word = 1 << 14
	reset word = 2 << 14
	mixed word = 3 << 14
	paged      = mixed // of nothing
	one   word = 1     // active session

	mostAlone  = 1<<14 - 1
	resetBits  = 4
	heldBits   = 5
	activeBits = 5

	pagePorts = 16
)

var _ = [1]struct{}{}[resetBits+heldBits+activeBits-14]

// pack returns a port as a word, which is paged if it does not fit.
func pack(p Port) word {
	switch {
	case p.Held|p.Reset == 0 && p.Active <= mostAlone:
		return word(p.Active)
	case p.Active|p.Reset == 0 && p.Held <= mostAlone:
		return held | word(p.Held)
	case p.Active|p.Held == 0 && p.Reset <= mostAlone:
		return reset | word(p.Reset)
	case p.Active>>activeBits|p.Held>>heldBits|p.Reset>>resetBits == 0:
		return mixed | word(p.Active<<(heldBits+resetBits)|p.Held<<resetBits|p.Reset)
	}
	return paged
}

// port is the inverse of pack, for what fits.
func (w word) port() Port {
	n := uint32(w &^ kind)
	switch w & kind {
	case held:
		return Port{Held: n}
	case reset:
		return Port{Reset: n}
	case mixed:
		return Port{Active: n >> (heldBits + resetBits), Held: n >> resetBits & (1<<heldBits - 1), Reset: n & (1<<resetBits - 1)}
	}
	return Port{Active: n}
}

// Len returns for how many ports there is room.
func (p *Ports) Len() int { return len(p.words) }

// Grow makes room for n ports in all, not fewer than now; new ones have no session.
func (p *Ports) Grow(n int) {
	words := make([]word, n)
	copy(words, p.words)
	p.words = words
}

// At returns the counts of a port, which are zero where there is no room for it.
func (p *Ports) At(ordinal int) Port {
	if ordinal >= len(p.words) {
		return Port{}
	}
	if w := p.words[ordinal]; w != paged {
		return w.port()
	}
	return *p.paged(ordinal)
}

// Free reports whether a port has no session. One that there is no room for has none.
func (p *Ports) Free(ordinal int) bool { return ordinal >= len(p.words) || p.words[ordinal] == 0 }

// Used returns which of n ports have sessions, in order, as distances from the first.
func (p *Ports) Used(first, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := range min(n, len(p.words)-first) {
			if p.words[first+at] != 0 && !yield(at) {
				return
			}
		}
	}
}

// Begin counts an active session on a port that has none.
func (p *Ports) Begin(ordinal int) { p.words[ordinal] = one }

// End takes away the only session of a port, if that is an active one; else it does nothing and
// reports false.
func (p *Ports) End(ordinal int) bool {
	if p.words[ordinal] != one {
		return false
	}
	p.words[ordinal] = 0
	return true
}

// Add counts a session of a class on a port.
func (p *Ports) Add(ordinal int, c flow.Class) {
	u := p.At(ordinal)
	*u.Of(c)++
	p.set(ordinal, u)
}

// Remove takes away a session of a class.
func (p *Ports) Remove(ordinal int, c flow.Class) {
	u := p.At(ordinal)
	*u.Of(c)--
	p.set(ordinal, u)
}

// Exchange counts a session that was of one class and is of another.
func (p *Ports) Exchange(ordinal int, from, to flow.Class) {
	u := p.At(ordinal)
	*u.Of(from)--
	*u.Of(to)++
	p.set(ordinal, u)
}

// set makes the counts of a port what they are now.
func (p *Ports) set(ordinal int, u Port) {
	w := pack(u)
	if p.words[ordinal] = w; w == paged {
		p.page(ordinal)
		*p.paged(ordinal) = u
	}
}

// paged returns the place of a port in its page.
func (p *Ports) paged(ordinal int) *Port {
	return &p.wide[int(p.pages[ordinal/pagePorts]-1)*pagePorts+ordinal%pagePorts]
}

// page makes the page of a port if there is none.
func (p *Ports) page(ordinal int) {
	if n := (len(p.words) + pagePorts - 1) / pagePorts; len(p.pages) < n {
		p.pages = append(p.pages, make([]uint32, n-len(p.pages))...)
	}
	if at := &p.pages[ordinal/pagePorts]; *at == 0 {
		p.wide = append(p.wide, make([]Port, pagePorts)...)
		*at = uint32(len(p.wide) / pagePorts)
	}
}

// Place returns where the word of a port is, for who wants to prefetch it; nil where there is no room.
func (p *Ports) Place(ordinal int) *word {
	if ordinal >= len(p.words) {
		return nil
	}
	return &p.words[ordinal]
}

// Clone returns a copy that shares nothing with p.
func (p *Ports) Clone() Ports {
	return Ports{words: slab.Clone(p.words), pages: slab.Clone(p.pages), wide: slab.Clone(p.wide)}
}

// Bytes returns the memory that p takes.
func (p *Ports) Bytes() int { return 2*cap(p.words) + 4*cap(p.pages) + 12*cap(p.wide) }
