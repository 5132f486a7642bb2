package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// numStocks returns how many protocols have ports in the inventory, or
// identifiers.
func (n *NAT) numStocks() int {
	if n.icmp.Queries {
		return ports.NumPools
	}
	return ports.NumProtocols
}

// maxDraws bounds how many random identifiers are tried for a query.
const maxDraws = 16

// lowest returns the ordinal for a new mapping or session: the lowest free one,
// but a random one for queries if so configured.
func (sh *shard) lowest(p *pool, inst *instance, t *ports.Tuple, s *scope, taken func(ordinal int) bool) (ordinal int, ok bool) {
	if sh.nat.icmp.RandomIDs && wire.IsICMP(t.Proto) {
		if ordinal, ok = sh.draw(p, inst, taken); ok {
			return ordinal, true
		}
	}
	return sh.destinations.lowest(s, p.granted, taken)
}

// draw returns a random ordinal of the instance's identifiers that is free. The
// hash of a counter is the random number, so what an instance gets does not
// depend on the others.
func (sh *shard) draw(p *pool, inst *instance, taken func(ordinal int) bool) (ordinal int, ok bool) {
	for range maxDraws {
		inst.draws++
		k := flow.Key{Src: inst.index, Dst: uint32(inst.draws >> 32), SrcPort: uint16(inst.draws >> 16), DstPort: uint16(inst.draws)}
		if ordinal = int(sh.nat.seeded.Hash(&k) >> 1 % uint64(p.granted)); !taken(ordinal) {
			return ordinal, true
		}
	}
	return 0, false
}
