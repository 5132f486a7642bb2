package ports

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

// The sources of chance, which the seed decides. They are values, and part of the state.

// newRandom returns a generator with a key of four words.
func newRandom(words [4]uint64) rand.ChaCha8 {
	var key [32]byte
	for i, w := range words {
		binary.LittleEndian.PutUint64(key[8*i:], w)
	}
	return *rand.NewChaCha8(key)
}

// sharedRandom returns the generator of ports that all instances share.
func sharedRandom(seed uint64) rand.ChaCha8 {
	var words [4]uint64
	for i := range words {
		words[i] = seed + uint64(i)*0x9e3779b97f4a7c15
	}
	return newRandom(words)
}

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
		inst.random = newRandom([4]uint64{r.Seed, xxhash.Sum64String(inst.Name), uint64(len(inst.Name))})
	}
}
