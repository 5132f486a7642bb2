package bitmap

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// filled returns a bitmap of n bits of which percent are set: the lowest ones, as after
// lowest-first allocation, so that a scan would be at its slowest.
func filled(n, percent int) []uint64 {
	w := make([]uint64, Words(n))
	for i := range n * percent / 100 {
		Set(w, n, i)
	}
	return w
}

// BenchmarkTake takes the lowest free bit and gives back a random one, in maps of
// different sizes and fills. It must be flat.
func BenchmarkTake(b *testing.B) {
	for _, n := range []int{64, 1024, 64000, 262144, MaxBits} {
		for _, fill := range []int{1, 50, 99} {
			b.Run(fmt.Sprintf("bits=%d/fill=%d", n, fill), func(b *testing.B) {
				w := filled(n, fill)
				rng := rand.New(rand.NewPCG(4, 4))
				back := make([]int, 4096)
				for k := range back {
					back[k] = rng.IntN(max(1, n*fill/100))
				}
				k := 0
				for b.Loop() {
					i, _ := FirstZero(w, n)
					Set(w, n, i)
					Clear(w, n, back[k&4095])
					k++
				}
			})
		}
	}
}

// BenchmarkFirstZeroFrom starts at the bottom of the map, below all that is taken.
func BenchmarkFirstZeroFrom(b *testing.B) {
	for _, n := range []int{1024, 64000} {
		for _, fill := range []int{1, 99} {
			b.Run(fmt.Sprintf("bits=%d/fill=%d", n, fill), func(b *testing.B) {
				w := filled(n, fill)
				for b.Loop() {
					FirstZeroFrom(w, n, 1)
				}
			})
		}
	}
}
