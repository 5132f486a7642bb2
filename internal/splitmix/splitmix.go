// Package splitmix is the generator SplitMix64 (Steele, Lea and Flood 2014): a counter
// and a mixing function. It makes a few good numbers out of a seed of 8 bytes, in a
// nanosecond each. It is no secret what comes next for who has seen one of them, so
// seed it with what cannot be guessed where that matters.
package splitmix

import "math/bits"

// Source is a sequence of random numbers. Its value is its state: a copy repeats what
// comes. Any value is a good seed.
type Source uint64

// Uint64 returns the next number.
func (s *Source) Uint64() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Below returns a number from 0 to n-1. n must be above 0. Numbers differ in their
// chance by n/2^64.
func (s *Source) Below(n int) int {
	hi, _ := bits.Mul64(s.Uint64(), uint64(n))
	return int(hi)
}
