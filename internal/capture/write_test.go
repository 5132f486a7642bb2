package capture

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFileAppearsWhenItIsRenamed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcap")
	f, err := Create(t.Context(), name)
	require.NoError(t, err)
	defer f.Remove()
	at := time.Unix(1_700_000_000, 123_456_789)
	require.NoError(t, f.Write(at, datagram()))
	require.NoError(t, f.Finish())
	assert.NoFileExists(t, name)
	require.NoError(t, f.Rename())
	assert.Equal(t, 1, f.Packets())

	file, err := os.ReadFile(name)
	require.NoError(t, err)
	got, err := Read(file)
	require.NoError(t, err)
	require.Len(t, got.Packets, 1)
	assert.Equal(t, datagram(), got.Packets[0].Data)
	assert.True(t, at.Equal(got.Begin), "%v", got.Begin)
}

func TestFileLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(t.Context(), filepath.Join(dir, "x.pcap"))
	require.NoError(t, err)
	require.NoError(t, f.Write(time.Unix(1<<32-1, 0), datagram()))
	require.ErrorContains(t, f.Write(time.Unix(1<<32, 0), datagram()), "cannot hold the time 2106-02-07 06:28:16")
	require.Error(t, f.Write(time.Unix(1, 0), datagram()), "the first error sticks")
	require.Error(t, f.Finish())
	require.Error(t, f.Err())
	assert.Equal(t, 1, f.Packets())
	f.Remove()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestCreateNeedsAPlaceForTheFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Create(t.Context(), dir)
	require.ErrorContains(t, err, "is a directory")
	_, err = Create(t.Context(), filepath.Join(dir, "missing", "x.pcap"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
