// Package grants deals the ports of frontends out to backends, in one protocol and one address
// family, each port once, and lets backends keep what they have when the deal changes. It refuses
// to know who may have how many, and why.
//
// Terminology, used exactly so in names and comments:
//   - Block: [snat.BlockSize] consecutive ports; the unit in which ports are granted. Its number
//     is that of its first port, divided by the size.
//   - Inventory: the blocks of one frontend. Some are lost, and never handed out.
//   - Demand: a claim of several backends on the same frontends, in the order of consumption.
//   - Portion: what one backend is to get for one demand; a share of it is the number of blocks
//     from one frontend.
//   - Resting block: one that a backend has lost, but may have flows on.
//
// What a backend keeps it keeps as it stands in the former deal, so that a change of a few
// backends costs memory for those few. All functions are pure but for the inventories and demands
// that they are given, which no two goroutines may use at once.
package grants

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/snat"
)

// Demand is a claim on frontends.
type Demand struct {
	Frontends []netip.Addr // all different, in the order of consumption

	positions   map[netip.Addr]int // of Frontends, once somebody has asked
	inventories []*Inventory       // of Frontends, of the settlement that has asked last
}

// position returns the number of a frontend, and false if it is none of the demand's. guess is
// the number that it probably has.
func (d *Demand) position(frontend netip.Addr, guess int) (at int, ok bool) {
	if guess < len(d.Frontends) && d.Frontends[guess] == frontend {
		return guess, true
	}
	if d.positions == nil {
		d.positions = make(map[netip.Addr]int, len(d.Frontends))
		for i, f := range d.Frontends {
			d.positions[f] = i
		}
	}
	at, ok = d.positions[frontend]
	return at, ok
}

// Portion is what one backend is to get for one demand. The shares are those of the frontends
// that give some, in the order of consumption: frontend by frontend, because one is used only
// when none of the ports before it will do (outbound connections document).
type Portion struct {
	Demand  *Demand
	Backend int     // its number
	Blocks  int     // in all
	Shares  []Share // ascending; portions may have the same ones, which nobody changes
}

// Share is a number of blocks of one frontend.
type Share struct {
	At     int // number of the frontend in its demand
	Blocks int
}

// Granted is what a backend has got.
type Granted struct {
	Kept   bool             // exactly what it had; then Ranges is nil
	Ranges []snat.PortRange // in the order of consumption, with the protocol left at its zero value
}

// Fresh deals the blocks of inventories out to backends that have none yet, in the order of the
// portions, and returns what each of n backends has got.
func Fresh(portions []Portion, n int, inventories map[netip.Addr]*Inventory) []Granted {
	granted := make([]Granted, n)
	for i := range portions {
		q := &portions[i]
		var own []snat.PortRange
		for _, s := range q.Shares {
			frontend := q.Demand.Frontends[s.At]
			own = appendBlocks(own, frontend, inventories[frontend].take(s.Blocks))
		}
		g := &granted[q.Backend]
		g.Ranges = append(g.Ranges, own...)
	}
	return granted
}

// appendBlocks appends blocks of a frontend to ranges, each to the last range if it
// follows that.
func appendBlocks(ranges []snat.PortRange, frontend netip.Addr, blocks []int) []snat.PortRange {
	for _, block := range blocks {
		if n := len(ranges); n > 0 {
			if last := &ranges[n-1]; last.Frontend == frontend && end(last) == block {
				last.Count += snat.BlockSize
				continue
			}
		}
		ranges = append(ranges, snat.PortRange{Frontend: frontend, First: uint16(block * snat.BlockSize), Count: snat.BlockSize})
	}
	return ranges
}

// first and end return the number of the first block of a range, and that of the first behind it.
func first(r *snat.PortRange) int { return int(r.First) / snat.BlockSize }
func end(r *snat.PortRange) int   { return (int(r.First) + r.Count) / snat.BlockSize }
