// Layout: dealing the blocks of frontends out to backends, each block once.

package lb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// inventory hands out the blocks of one frontend and protocol, ascending.
type inventory struct {
	lost []int // blocks lost to rules and not yet passed, ascending
	next int   // the first block that is neither handed out nor passed
	free int   // blocks that are not promised to anybody
}

func newInventory(rulePorts []uint16) *inventory {
	lost := lostBlocks(rulePorts)
	return &inventory{lost: lost, next: firstBlock, free: blocksPerFrontend - len(lost)}
}

// isLost reports whether a block is never handed out.
func (v *inventory) isLost(block int) bool {
	_, lost := slices.BinarySearch(v.lost, block)
	return lost || block < firstBlock || block >= firstBlock+blocksPerFrontend
}

// lose takes blocks out of an inventory that has not handed out any yet; they are
// different, and not lost already.
func (v *inventory) lose(blocks []int) {
	v.lost = slices.Concat(v.lost, blocks)
	slices.Sort(v.lost)
	v.free = blocksPerFrontend - len(v.lost)
}

// take hands out n blocks, which must be there, and appends them to blocks.
func (v *inventory) take(n int, blocks []int) []int {
	for ; n > 0; v.next++ {
		if len(v.lost) > 0 && v.lost[0] == v.next {
			v.lost = v.lost[1:]
			continue
		}
		blocks = append(blocks, v.next)
		n--
	}
	return blocks
}

// share is a number of blocks of one frontend.
type share struct {
	at     int // number of the frontend in its demand
	blocks int
}

// portion is what one backend is to get for one demand. The shares are those of the
// frontends that give some, in the order of consumption: frontend by frontend,
// because one is used only when none of the ports before it will do (outbound
// connections document).
type portion struct {
	demand  *demand
	backend int
	blocks  int // in all
	shares  []share
}

// promise takes blocks for one backend from what is free in the inventories, which
// must have that many together. room is the first inventory that may have any, the
// same variable for all calls.
func promise(blocks int, from []*inventory, layout Layout, room *int) (shares []share) {
	rest := blocks
	if layout == Spread {
		each, more := blocks/len(from), blocks%len(from)
		some := len(from)
		if each == 0 {
			some = more
		}
		for i, v := range from[:some] {
			n := each
			if i < more {
				n++
			}
			if n = min(n, v.free); n > 0 {
				v.free -= n
				rest -= n
				shares = append(shares, share{i, n})
			}
		}
	}
	for rest > 0 {
		v := from[*room]
		if v.free == 0 {
			*room++
			continue
		}
		n := min(rest, v.free)
		v.free -= n
		rest -= n
		if at, found := slices.BinarySearchFunc(shares, *room, func(s share, at int) int { return s.at - at }); found {
			shares[at].blocks += n
		} else {
			shares = slices.Insert(shares, at, share{*room, n})
		}
	}
	return shares
}

// appendBlocks appends blocks of a frontend to ranges, each to the last range if it
// follows that.
func appendBlocks(ranges []snat.PortRange, frontend netip.Addr, blocks []int) []snat.PortRange {
	for _, block := range blocks {
		if n := len(ranges); n > 0 {
			if last := &ranges[n-1]; last.Frontend == frontend && int(last.First)+last.Count == block*snat.BlockSize {
				last.Count += snat.BlockSize
				continue
			}
		}
		ranges = append(ranges, snat.PortRange{Frontend: frontend, First: uint16(block * snat.BlockSize), Count: snat.BlockSize})
	}
	return ranges
}
