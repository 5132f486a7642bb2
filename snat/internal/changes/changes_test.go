package changes

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// A report tells what says something, in the order that it is asked for.
func TestReport(t *testing.T) {
	var r Report
	require.Empty(t, r.All(slices.Values([]string{"a"})))
	r.Of("b").Granted = 8
	r.Of("a").Removed = true
	r.Of("c")
	r.Of("b").Reclaimed = 16
	require.Equal(t, []Change{{Name: "b", Granted: 8, Reclaimed: 16}, {Name: "a", Removed: true}}, r.All(slices.Values([]string{"c", "b", "d", "a"})))
}
