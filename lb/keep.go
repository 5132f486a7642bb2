// Keeping ports when the configuration of a running load balancer changes. Read
// the outbound connections document's section on scaling a pool first.

package lb

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat"
)

// keep returns planned ports, by backend, moved to where the backends had theirs:
// each keeps as many of its blocks on a frontend as it is to have there, the first
// ones in the order of consumption, and gets the rest from blocks that nobody keeps.
// So a tier that halves the ports of a backend takes the upper half of its range,
// which is our choice: Azure says that half is reclaimed and not which. Ports are of
// one protocol and family; inventories are those before anything was handed out.
func keep(planned, had [][]snat.PortRange, inventories map[netip.Addr]*inventory) [][]snat.PortRange {
	type holding struct {
		frontend netip.Addr
		kept     []int // blocks
		rest     int   // how many more
	}
	holdings := make([][]holding, len(planned))
	taken := map[netip.Addr][]int{}
	for b, ranges := range planned {
		before := blocksByFrontend(had[b])
		for _, s := range blocksByFrontend(ranges) {
			h := holding{frontend: s.frontend}
			for _, f := range before {
				if f.frontend == s.frontend {
					h.kept = slices.DeleteFunc(f.blocks, inventories[s.frontend].isLost)
				}
			}
			h.kept = h.kept[:min(len(h.kept), len(s.blocks))]
			h.rest = len(s.blocks) - len(h.kept)
			holdings[b] = append(holdings[b], h)
			taken[s.frontend] = append(taken[s.frontend], h.kept...)
		}
	}
	for frontend, blocks := range taken {
		inventories[frontend].lose(blocks)
	}
	settled := make([][]snat.PortRange, len(planned))
	for b := range holdings {
		for _, h := range holdings[b] {
			for _, block := range h.kept {
				settled[b] = appendBlock(settled[b], h.frontend, block)
			}
			for _, r := range inventories[h.frontend].take(h.rest, nil) {
				for i := range r.Count / snat.BlockSize {
					settled[b] = appendBlock(settled[b], h.frontend, int(r.First)/snat.BlockSize+i)
				}
			}
		}
	}
	return settled
}

// frontendBlocks are blocks of one frontend in the order of consumption.
type frontendBlocks struct {
	frontend netip.Addr
	blocks   []int
}

// blocksByFrontend returns the blocks of ranges, frontend by frontend.
func blocksByFrontend(ranges []snat.PortRange) (all []frontendBlocks) {
	for _, r := range ranges {
		i := slices.IndexFunc(all, func(f frontendBlocks) bool { return f.frontend == r.Frontend })
		if i < 0 {
			i = len(all)
			all = append(all, frontendBlocks{frontend: r.Frontend})
		}
		for k := range r.Count / snat.BlockSize {
			all[i].blocks = append(all[i].blocks, int(r.First)/snat.BlockSize+k)
		}
	}
	return all
}

// appendBlock appends a block to ranges, to the last one if it follows that.
func appendBlock(ranges []snat.PortRange, frontend netip.Addr, block int) []snat.PortRange {
	if n := len(ranges); n > 0 {
		if last := &ranges[n-1]; last.Frontend == frontend && int(last.First)+last.Count == block*snat.BlockSize {
			last.Count += snat.BlockSize
			return ranges
		}
	}
	return append(ranges, snat.PortRange{Frontend: frontend, First: uint16(block * snat.BlockSize), Count: snat.BlockSize})
}

// of returns the ranges of one protocol, TCP or UDP, and family.
func (a Allocation) of(p snat.Protocol, is6 bool) (ranges []snat.PortRange) {
	for _, r := range a.Ports {
		if covers(r.Protocol, p) && r.Frontend.Is6() == is6 {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// had returns the ranges that each backend has until now.
func (r *resolved) had(p snat.Protocol, is6 bool) [][]snat.PortRange {
	all := make([][]snat.PortRange, len(r.Backends))
	for _, a := range r.former {
		if b, ok := r.backends[a.Instance]; ok {
			all[b] = a.of(p, is6)
		}
	}
	return all
}
