package podtable_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/podtable"
)

// The dull twin of a table: pods by name, and by node the offset that was given last.
type twin struct {
	pods     map[string]podtable.Place
	last     []int
	cordoned []bool
}

func (w *twin) on(node int) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		if w.pods[name].Node == node {
			names = append(names, name)
		}
	}
	return names
}

func (w *twin) at(node, offset int) string {
	for name, p := range w.pods {
		if p == (podtable.Place{Node: node, Offset: offset}) {
			return name
		}
	}
	return ""
}

// add finds the first free offset after the last one given, round and round.
func (w *twin) add(node int, name string, room int) podtable.Place {
	at := w.last[node]
	for {
		if at++; at >= addressing.FirstPodOffset+room {
			at = addressing.FirstPodOffset
		}
		if w.at(node, at) == "" {
			w.last[node], w.pods[name] = at, podtable.Place{Node: node, Offset: at}
			return w.pods[name]
		}
	}
}

func TestTableAgainstATwin(t *testing.T) {
	const seed, nodes = 5, 4
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	room := []int{1, 7, addressing.PodOffsets, 30}
	table := podtable.New(1)
	table.Grow(nodes)
	table.Grow(2) // never smaller
	w := &twin{pods: map[string]podtable.Place{}, last: []int{1, 1, 1, 1}, cordoned: make([]bool, nodes)}
	serial := 0
	for range 6_000 {
		node := rng.IntN(nodes)
		names := w.on(node)
		switch n := rng.IntN(400); {
		case n == 0:
			require.ElementsMatch(t, names, table.Clear(node))
			for _, name := range names {
				delete(w.pods, name)
			}
			w.last[node], w.cordoned[node] = addressing.FirstPodOffset-1, false
		case n < 5:
			w.cordoned[node] = !w.cordoned[node]
			table.Cordon(node, w.cordoned[node])
		case n < 240:
			if len(names) < room[node] {
				serial++
				name := fmt.Sprint("p", serial)
				require.Equal(t, w.add(node, name, room[node]), table.Add(node, name, room[node]))
			}
		case len(names) > 0:
			name := names[rng.IntN(len(names))]
			require.Equal(t, w.pods[name], table.Remove(name))
			delete(w.pods, name)
		}
		require.Equal(t, len(w.pods), table.Len())
		require.Equal(t, len(w.on(node)), table.Count(node))
		require.Equal(t, w.cordoned[node], table.Cordoned(node))
		for _, offset := range []int{0, 1, 2, rng.IntN(300)} {
			require.Equal(t, w.at(node, offset), table.At(node, uint64(offset)))
		}
	}
	for node := range nodes {
		var names []string
		for i, name := range table.Names(node) {
			if name != "" {
				names = append(names, name)
				at, ok := table.Of(name)
				require.True(t, ok)
				require.Equal(t, podtable.Place{Node: node, Offset: addressing.FirstPodOffset + i}, at)
			}
		}
		require.ElementsMatch(t, w.on(node), names)
	}
	_, ok := table.Of("nobody")
	require.False(t, ok)
}

// A node that is full has no address to give, which its caller has to know.
func TestAddToAFullNode(t *testing.T) {
	table := podtable.New(1)
	table.Add(0, "a", 1)
	require.Panics(t, func() { table.Add(0, "b", 1) })
}

func TestBits(t *testing.T) {
	var b podtable.Bits
	set := map[int]bool{}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		at := rng.IntN(256)
		set[at] = rng.IntN(2) == 0
		b.Set(at, set[at])
	}
	for at := range uint64(256) {
		require.Equal(t, set[int(at)], b.Has(at), at)
	}
	for _, beyond := range []uint64{256, 1 << 20, 1<<64 - 1} {
		require.False(t, b.Has(beyond))
	}
}
