package destinations

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A list of ordinals holds what has been written last, whatever was there before, at
// even and at odd places.
func TestListsHoldWhatWasWrittenLast(t *testing.T) {
	words, want, r := make([]uint64, 8), [16]int{}, rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		i, ordinal := r.IntN(len(want)), r.IntN(MaxPorts)
		setItem(words, i, ordinal)
		want[i] = ordinal
		for k := range want {
			require.Equal(t, want[k], item(words, k), "entry %d", k)
		}
	}
}
