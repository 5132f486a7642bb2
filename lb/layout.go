// Layout: handing blocks of frontends out to backends, each block once.

package lb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// inventory hands out the blocks of one frontend and protocol, ascending.
type inventory struct {
	frontend netip.Addr
	lost     []int // blocks lost to rules and not yet passed, ascending
	next     int   // the first block that is neither handed out nor passed
	free     int   // blocks that can still be handed out
}

func newInventory(frontend netip.Addr, rulePorts []uint16) *inventory {
	lost := lostBlocks(rulePorts)
	return &inventory{frontend: frontend, lost: lost, next: firstBlock, free: blocksPerFrontend - len(lost)}
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
	v.free -= len(blocks)
}

// take hands out n blocks, at most v.free, and appends them to ranges.
func (v *inventory) take(n int, ranges []snat.PortRange) []snat.PortRange {
	v.free -= n
	for n > 0 {
		if len(v.lost) > 0 && v.lost[0] == v.next {
			v.lost, v.next = v.lost[1:], v.next+1
			continue
		}
		run := n
		if len(v.lost) > 0 {
			run = min(run, v.lost[0]-v.next)
		}
		ranges = append(ranges, snat.PortRange{
			Frontend: v.frontend,
			First:    uint16(v.next * snat.BlockSize),
			Count:    run * snat.BlockSize,
		})
		v.next += run
		n -= run
	}
	return ranges
}

// layOut takes blocks for one backend out of the inventories, which must have that
// many free together. The ranges come in the order of consumption: inventory by
// inventory, because a frontend is used only when none of the ports before it will
// do (outbound connections document), and ascending within each.
func layOut(blocks int, from []*inventory, layout Layout) []snat.PortRange {
	share := make([]int, len(from))
	rest := blocks
	if layout == Spread {
		for i, v := range from {
			share[i] = blocks / len(from)
			if i < blocks%len(from) {
				share[i]++
			}
			share[i] = min(share[i], v.free)
			rest -= share[i]
		}
	}
	var ranges []snat.PortRange
	for i, v := range from {
		extra := min(rest, v.free-share[i])
		rest -= extra
		ranges = v.take(share[i]+extra, ranges)
	}
	if rest > 0 {
		panic("lb: laying out more blocks than the frontends have")
	}
	return ranges
}
