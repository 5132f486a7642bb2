package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// maxDraws bounds how many random identifiers are tried for a query.
const maxDraws = 16

// lowest returns the ordinal for a new mapping or session: the lowest free one,
// but a random one for queries if so configured.
func (sh *State) lowest(p *pool, inst *Instance, t *Tuple, s *destinations.Scope, taken func(ordinal int) bool) (ordinal int, ok bool) {
	if sh.space.rules.RandomIDs && t.isQuery() {
		if ordinal, ok = sh.draw(p, inst, taken); ok {
			return ordinal, true
		}
	}
	return sh.destinations.Lowest(s, p.granted, taken)
}

// draw returns a random ordinal of the instance's identifiers that is free. The
// hash of a counter is the random number, so what an instance gets does not
// depend on the others.
func (sh *State) draw(p *pool, inst *Instance, taken func(ordinal int) bool) (ordinal int, ok bool) {
	for range maxDraws {
		inst.drawn++
		k := flow.Key{Src: inst.Index, Dst: uint32(inst.drawn >> 32), SrcPort: uint16(inst.drawn >> 16), DstPort: uint16(inst.drawn)}
		if ordinal = int(sh.space.seeded.Hash(&k) >> 1 % uint64(p.granted)); !taken(ordinal) {
			return ordinal, true
		}
	}
	return 0, false
}
