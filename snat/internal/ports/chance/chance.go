// Package chance makes the generators of the random numbers that decide about ports, each keyed by
// what it may depend on. They are values, and part of the state of whoever draws from them.
//
// It refuses to know what is drawn for.
package chance

import (
	"encoding/binary"
	"math/rand/v2"
)

// New returns a generator with a key of four words.
func New(words [4]uint64) rand.ChaCha8 {
	var key [32]byte
	for i, w := range words {
		binary.LittleEndian.PutUint64(key[8*i:], w)
	}
	return *rand.NewChaCha8(key)
}

// Seeded returns the generator with a key made of a seed alone.
func Seeded(seed uint64) rand.ChaCha8 {
	var words [4]uint64
	for i := range words {
		words[i] = seed + uint64(i)*0x9e3779b97f4a7c15
	}
	return New(words)
}
