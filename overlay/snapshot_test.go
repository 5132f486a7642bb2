package overlay_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay"
)

// snapshotOf returns what a cluster writes.
func snapshotOf(t testing.TB, c *overlay.Cluster) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, c.Snapshot(&b))
	return b.Bytes()
}

// restored returns a cluster of a snapshot, of which another snapshot has the same bytes.
func (p *clusterPlay) restored() *overlay.Cluster {
	p.t.Helper()
	b := snapshotOf(p.t, p.c)
	r := bytes.NewReader(append(bytes.Clone(b), "more"...))
	c, err := overlay.Restore(p.c.Config(), r)
	require.NoError(p.t, err)
	p.t.Cleanup(c.Close)
	require.Equal(p.t, len("more"), r.Len(), "nothing behind it is read")
	require.True(p.t, bytes.Equal(b, snapshotOf(p.t, c)))
	return c
}
