package bitmap

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// sizes has every shape of tree and every kind of edge.
var sizes = []int{1, 2, 63, 64, 65, 127, 128, 1000, 1024, 4032, 4095, 4096, 4097, 4160, 64000, 64512, 65536, 262143, 262144, 262145, 266240, 327640, MaxBits - 1, MaxBits}

func TestWords(t *testing.T) {
	for _, tt := range []struct{ n, want int }{
		{1, 1}, {64, 1}, {65, 1 + 2}, {1024, 1 + 16}, {4096, 1 + 64}, {4097, 1 + 2 + 65},
		{64000, 1 + 16 + 1000}, {262144, 1 + 64 + 4096}, {262145, 2 + 65 + 4097}, {MaxBits, 8192},
	} {
		if got := Words(tt.n); got != tt.want {
			t.Errorf("Words(%d) = %d, want %d", tt.n, got, tt.want)
		}
	}
}

// TestFillAndDrain takes the lowest bit until none is left, as a port allocator does.
func TestFillAndDrain(t *testing.T) {
	for _, n := range sizes {
		w := make([]uint64, Words(n))
		for want := range n {
			i, ok := FirstZero(w, n)
			if !ok || i != want {
				t.Fatalf("n %d: FirstZero = %d, %v, want %d, true", n, i, ok, want)
			}
			word, bit := &w[WordOf(n, i)], uint64(1)<<(i&63)
			if *word&bit != 0 {
				t.Fatalf("n %d: word %d does not hold bit %d", n, WordOf(n, i), i)
			}
			if i, ok := Take(w, n); !ok || i != want || *word&bit == 0 || !Test(w, n, i) {
				t.Fatalf("n %d: Take = %d, %v, want %d, true", n, i, ok, want)
			}
		}
		if i, ok := Take(w, n); ok {
			t.Fatalf("n %d: Take of a full map = %d", n, i)
		}
		if i, ok := FirstZero(w, n); ok {
			t.Fatalf("n %d: FirstZero of a full map = %d", n, i)
		}
		rng := rand.New(rand.NewPCG(2, uint64(n)))
		for range 200 { // one hole at a time
			hole := rng.IntN(n)
			Clear(w, n, hole)
			if i, ok := FirstZero(w, n); !ok || i != hole {
				t.Fatalf("n %d: FirstZero = %d, %v, want %d, true", n, i, ok, hole)
			}
			from := rng.IntN(n)
			if i, ok := FirstZeroFrom(w, n, from); ok != (from <= hole) || ok && i != hole {
				t.Fatalf("n %d: FirstZeroFrom(%d) = %d, %v with a hole at %d", n, from, i, ok, hole)
			}
			Set(w, n, hole)
		}
		for i := range n {
			Clear(w, n, i)
		}
		if !slices.Equal(w, make([]uint64, Words(n))) {
			t.Fatalf("n %d: a drained map is not all zero", n)
		}
	}
}

func TestGrow(t *testing.T) {
	pkttest.OneGoroutine(t)
	for k, nOld := range sizes {
		for _, nNew := range sizes[k:] {
			for _, fill := range []float64{0, 0.5, 1} {
				rng := rand.New(rand.NewPCG(uint64(nOld), uint64(nNew)))
				src, dst := make([]uint64, Words(nOld)), make([]uint64, Words(nNew))
				want := make([]uint64, Words(nNew))
				for i := range nOld {
					if rng.Float64() < fill {
						Set(src, nOld, i)
						Set(want, nNew, i)
					}
				}
				if Grow(dst, nNew, src, nOld); !slices.Equal(dst, want) {
					t.Fatalf("Grow from %d to %d bits at %v fill differs from setting the bits one by one", nOld, nNew, fill)
				}
			}
		}
	}
}

func TestMisuse(t *testing.T) {
	w := make([]uint64, Words(100))
	for what, f := range map[string]func(){
		"Words(0)":          func() { Words(0) },
		"Words too many":    func() { Words(MaxBits + 1) },
		"Set negative":      func() { Set(w, 100, -1) },
		"Set beyond":        func() { Set(w, 100, 100) },
		"Clear beyond":      func() { Clear(w, 100, 100) },
		"Test beyond":       func() { Test(w, 100, 127) },
		"negative from":     func() { FirstZeroFrom(w, 100, -1) },
		"Grow smaller":      func() { Grow(w, 99, w, 100) },
		"words are missing": func() { Set(w[:2], 100, 99) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
	if i, ok := FirstZeroFrom(w, 100, 100); ok {
		t.Errorf("FirstZeroFrom(n) = %d, want none", i)
	}
}

func TestNoAllocs(t *testing.T) {
	const n = 64000
	w := make([]uint64, Words(n))
	if a := testing.AllocsPerRun(1000, func() {
		i, _ := FirstZero(w, n)
		j, _ := FirstZeroFrom(w, n, i+5000)
		Set(w, n, j)
		if Test(w, n, j) {
			Clear(w, n, j)
		}
	}); a != 0 {
		t.Errorf("%v allocs, want 0", a)
	}
}
