package upgrade

import (
	"bytes"
	"flag"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay"
)

var update = flag.Bool("update", false, "write the snapshots in testdata anew")

// underway starts an upgrade and carries it so many steps.
func underway(t testing.TB, steps int) *Upgrade {
	t.Helper()
	var cfg overlay.ClusterConfig
	cfg.NodePools = []overlay.NodePool{{Name: "apps", Count: 2}}
	c, err := overlay.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for _, node := range c.Nodes() {
		_, err := c.AddPod(node.Name, "on-"+node.Name)
		require.NoError(t, err)
	}
	u, err := Start(c, 0, "apps", Settings{})
	require.NoError(t, err)
	for range steps {
		at, ok := u.NextDeadline()
		require.True(t, ok)
		_, err := u.Advance(at)
		require.NoError(t, err)
	}
	return u
}

// written returns what an upgrade writes.
func written(t testing.TB, u *Upgrade) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, u.Snapshot(&b))
	return b.Bytes()
}

// finish carries an upgrade to its end, and returns its steps.
func finish(u *Upgrade) (all []Step, err error) {
	for at, ok := u.NextDeadline(); ok; at, ok = u.NextDeadline() {
		done, err := u.Advance(at)
		if all = append(all, done...); err != nil {
			return all, err
		}
	}
	return all, nil
}

// An upgrade that is restored between any two steps ends as one does that goes on.
func TestRestoredUpgradeGoesOn(t *testing.T) {
	want, err := finish(underway(t, 0))
	require.NoError(t, err)
	for steps := range 6 {
		u := underway(t, steps)
		r := bytes.NewReader(append(written(t, u), "more"...))
		restored, err := Restore(u.c, r)
		require.NoError(t, err)
		require.Equal(t, len("more"), r.Len(), "nothing behind it is read")
		require.Equal(t, written(t, u), written(t, restored))
		require.ElementsMatch(t, u.Waiting(), restored.Waiting())
		rest, err := finish(restored)
		require.NoError(t, err)
		require.NotEmpty(t, rest)
		require.Equal(t, want[len(want)-len(rest):], rest)
	}
}

// What a program of version 1 has written is read by every later one, and means the same; as long as the
// version is 1, it is written so.
func TestGoldenUpgrade(t *testing.T) {
	const file = "testdata/upgrade.v1.snapshot"
	u := underway(t, 2)
	if *update {
		require.NoError(t, os.WriteFile(file, written(t, u), 0o644))
	}
	golden, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, golden, written(t, u), "the layout has changed: it needs another version, or, before a release, -update")
	restored, err := Restore(underway(t, 2).c, bytes.NewReader(golden))
	require.NoError(t, err)
	want, err := finish(u)
	require.NoError(t, err)
	got, err := finish(restored)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Every damaged bit and every end before the end is refused, and errors of streams are told.
func TestRestoreRefuses(t *testing.T) {
	u := underway(t, 2)
	b := written(t, u)
	for i := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			_, err := Restore(u.c, bytes.NewReader(bad))
			require.Error(t, err, "byte %d, bit %d", i, bit)
		}
		_, err := Restore(u.c, bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, flow.ErrDamaged, "without byte %d", i)
	}
	_, err := Restore(u.c, iotest.ErrReader(io.ErrClosedPipe))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	_, w := io.Pipe()
	require.NoError(t, w.CloseWithError(nil))
	require.ErrorIs(t, u.Snapshot(w), io.ErrClosedPipe)
}

// FuzzRestore puts anything into a snapshot, with checksums that fit: it is refused, or is of an upgrade
// that can be, whose steps succeed or tell why not.
func FuzzRestore(f *testing.F) {
	b := written(f, underway(f, 2))
	snapshot.Forgeries(f, b)
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		u, err := Restore(underway(t, 2).c, bytes.NewReader(snapshot.Forge(b, int(at), with)))
		if err != nil {
			return
		}
		written(t, u)
		if _, err := finish(u); err != nil {
			require.NotEmpty(t, err.Error())
		}
	})
}
