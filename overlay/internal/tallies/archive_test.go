package tallies

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Counts that are read are those that were written, and no damage panics.
func TestArchive(t *testing.T) {
	var n, m Counts
	n[0].Add(&Tally{Forwarded: 7, WasForwarded: 3, WasBypassed: 1})
	n[1].Drops[flow.NumReasons-1].Add(300)
	b := snapshot.Written(n.Archive)
	require.NoError(t, snapshot.Read(b, m.Archive))
	var want, got snat.Stats
	n.AddTo(&want)
	m.AddTo(&got)
	require.Equal(t, want, got)
	require.NotZero(t, got.Inbound.Dropped)
	require.Equal(t, b, snapshot.Written(m.Archive))
	snapshot.Damaged(b, func(_ int, bad []byte) { _ = snapshot.Read(bad, new(Counts).Archive) })
}
