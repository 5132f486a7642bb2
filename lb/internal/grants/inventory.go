package grants

import (
	"math/bits"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// The blocks of every frontend: those of ports 1024..65023.
const (
	FirstBlock = 1024 / snat.BlockSize   // the number of the first
	NumBlocks  = 64_000 / snat.BlockSize // how many there are
)

// Inventory hands out the blocks of one frontend, ascending.
type Inventory struct {
	lost    []int                         // numbers, ascending
	gone    [(NumBlocks + 63) / 64]uint64 // by number from FirstBlock on: lost, or handed out
	next    int                           // no block before it is there; an index of gone
	here    int                           // blocks that are neither lost nor taken out by take and withhold
	Promise int                           // blocks that are here and not promised to anybody
}

// NewInventory returns the inventory of a frontend that has lost blocks to others, which are
// numbers of its blocks, ascending and different. It keeps lost.
func NewInventory(lost []int) *Inventory {
	v := &Inventory{lost: lost, here: NumBlocks}
	for _, block := range lost {
		v.withhold(block)
	}
	v.Forget()
	return v
}

// Forget forgets all promises.
func (v *Inventory) Forget() { v.Promise = v.here }

// Has reports whether a block is the frontend's to hand out.
func (v *Inventory) Has(block int) bool { return v.has(block, block+1) }

// has reports whether the blocks from one on, up to another, are the frontend's to hand out.
func (v *Inventory) has(first, end int) bool {
	if first < FirstBlock || end > FirstBlock+NumBlocks {
		return false
	}
	at, found := 0, false
	if len(v.lost) > 0 {
		at, found = slices.BinarySearch(v.lost, first)
	}
	return !found && (at == len(v.lost) || v.lost[at] >= end)
}

// withhold takes out a block that is there.
func (v *Inventory) withhold(block int) {
	block -= FirstBlock
	v.gone[block/64] |= 1 << (block % 64)
	v.here--
}

// withholdRange takes out the blocks of a range, which are there.
func (v *Inventory) withholdRange(r *snat.PortRange) {
	from, to := first(r)-FirstBlock, end(r)-FirstBlock
	v.here -= to - from
	for from < to {
		n := min(64-from%64, to-from)
		v.gone[from/64] |= (1<<n - 1) << (from % 64)
		from += n
	}
}

// take hands out n blocks, which must be there.
func (v *Inventory) take(n int) []int {
	blocks := make([]int, 0, n)
	v.here -= n
	for ; len(blocks) < n; v.next++ {
		for free := ^v.gone[v.next]; free != 0; free &= free - 1 {
			if len(blocks) == n {
				return blocks
			}
			bit := bits.TrailingZeros64(free)
			v.gone[v.next] |= 1 << bit
			blocks = append(blocks, FirstBlock+v.next*64+bit)
		}
	}
	return blocks
}

// Dealer promises blocks of frontends to one backend after the other, from what is not promised
// yet.
type Dealer struct {
	From   []*Inventory // in the order of consumption
	Spread bool         // over all of them; else those of one before those of the next

	room int     // the first inventory that may have any
	last []Share // the most recent answer
	next []Share // scratch
}

// Promise promises blocks to one backend. The inventories must have that many together.
func (d *Dealer) Promise(blocks int) []Share {
	rest, shares := blocks, d.next[:0]
	if d.Spread {
		each, more := blocks/len(d.From), blocks%len(d.From)
		some := len(d.From)
		if each == 0 {
			some = more
		}
		for i, v := range d.From[:some] {
			n := each
			if i < more {
				n++
			}
			if n = min(n, v.Promise); n > 0 {
				v.Promise -= n
				rest -= n
				shares = append(shares, Share{i, n})
			}
		}
	}
	for rest > 0 {
		v := d.From[d.room]
		if v.Promise == 0 {
			d.room++
			continue
		}
		n := min(rest, v.Promise)
		v.Promise -= n
		rest -= n
		if at, found := slices.BinarySearchFunc(shares, d.room, func(s Share, at int) int { return s.At - at }); found {
			shares[at].Blocks += n
		} else {
			shares = slices.Insert(shares, at, Share{d.room, n})
		}
	}
	if d.next = shares; !slices.Equal(shares, d.last) {
		d.last = slices.Clone(shares)
	}
	return d.last
}
