package snat

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A heap gives back what was put in, in order, whatever the order was.
func TestHeap(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var (
			h    heap[sleeper]
			want []flow.Time
		)
		for range rng.IntN(60) {
			if at := flow.Time(rng.IntN(20)); len(h) == 0 || rng.IntN(3) > 0 {
				h.push(sleeper{at: at})
				want = append(want, at)
			} else {
				h[0].at += at
				*slices.MinFunc(pointers(want), func(a, b *flow.Time) int { return int(*a - *b) }) += at
				h.down()
			}
		}
		slices.Sort(want)
		for _, at := range want {
			require.Equal(t, at, h.pop().at, "seed %d", seed)
		}
		require.Empty(t, h)
	}
}

func pointers(all []flow.Time) (p []*flow.Time) {
	for i := range all {
		p = append(p, &all[i])
	}
	return p
}
