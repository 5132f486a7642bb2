package ports

import (
	"github.com/cespare/xxhash/v2"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/chance"
)

// setRandom gives an instance its generator, the one that it has been using if it has;
// none if the rules need none. It is one of its own, so that nothing that others get
// tells anything about it (RFC 6056 section 3.3.4), keyed by the seed and the instance's
// name, so that results do not depend on shards.
func (inst *Instance) setRandom(r *Rules, old *Instance) {
	inst.draws = r.random()
	switch {
	case !inst.draws:
	case old != nil && old.draws:
		inst.random = old.random
	default:
		inst.random = chance.New([4]uint64{r.Seed, xxhash.Sum64String(inst.Name), uint64(len(inst.Name))})
	}
}
