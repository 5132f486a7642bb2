package heap

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

type entry struct{ at int }

func (e entry) Before(o entry) bool { return e.at < o.at }

// A heap gives back what was put in, in order, whatever the order was.
func TestHeap(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var (
			h    Heap[entry]
			want []int
		)
		for range rng.IntN(60) {
			if at := int(rng.IntN(20)); len(h) == 0 || rng.IntN(3) > 0 {
				h.Push(entry{at})
				want = append(want, at)
			} else {
				h[0].at += at
				*slices.MinFunc(pointers(want), func(a, b *int) int { return *a - *b }) += at
				h.Down()
			}
		}
		slices.Sort(want)
		for _, at := range want {
			require.Equal(t, at, h.Pop().at, "seed %d", seed)
		}
		require.Empty(t, h)
	}
}

func pointers(all []int) (p []*int) {
	for i := range all {
		p = append(p, &all[i])
	}
	return p
}

// counted is an element that counts comparisons.
type counted struct {
	n        int
	compared *int
}

func (c counted) Before(o counted) bool { *c.compared++; return c.n < o.n }

// What comes in order costs one comparison each, and no order costs more than n log n.
func TestHeapCost(t *testing.T) {
	const n, log = 1 << 14, 14
	for name, c := range map[string]struct{ key, most func(i int) int }{
		"in order": {func(i int) int { return i }, func(n int) int { return n }},
		"reversed": {func(i int) int { return n - i }, func(n int) int { return n * log }},
		"shuffled": {func(i int) int { return i * 7919 % n }, func(n int) int { return n * log }},
	} {
		var h Heap[counted]
		compared := 0
		for i := range n {
			h.Push(counted{c.key(i), &compared})
		}
		require.LessOrEqual(t, compared, c.most(n), name)
		compared = 0
		for range n {
			h.Pop()
		}
		require.LessOrEqual(t, compared, 2*n*log, name)
	}
}
