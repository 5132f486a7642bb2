package hostports

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// Bindings that are read are those that were written, and the next pod gets the same port; no damage panics, and
// what is accepted is written again.
func TestArchive(t *testing.T) {
	nodes := map[string]string{"echo": "n0", "dns": "n1", "late": "n0"}
	of := func(pod string) string { return nodes[pod] }
	var v Inventory
	for _, pod := range []string{"echo", "dns"} {
		_, err := v.Assign(nodes[pod], pod, []Port{tcp(80), udp(53)})
		require.NoError(t, err)
	}
	v.Release("none")
	b := snapshot.Written(func(a *snapshot.Archive) { v.Archive(a, of) })
	var w Inventory
	require.NoError(t, snapshot.Read(b, func(a *snapshot.Archive) { w.Archive(a, of) }))
	require.Empty(t, likeness.Compare(&v, &w, nil))
	want, err := v.Assign("n0", "late", []Port{tcp(1)})
	require.NoError(t, err)
	got, err := w.Assign("n0", "late", []Port{tcp(1)})
	require.NoError(t, err)
	require.Equal(t, want, got)
	refused := 0
	snapshot.Damaged(b, func(_ int, bad []byte) {
		var w Inventory
		if snapshot.Read(bad, func(a *snapshot.Archive) { w.Archive(a, of) }) != nil {
			refused++
			return
		}
		snapshot.Written(func(a *snapshot.Archive) { w.Archive(a, of) })
	})
	require.NotZero(t, refused)
	require.Error(t, snapshot.Read(b, func(a *snapshot.Archive) { new(Inventory).Archive(a, func(string) string { return "" }) }), "pods that are not there")
}
