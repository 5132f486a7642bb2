//go:build unix

package capture

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// fifo makes a named pipe.
func fifo(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(name, 0o600))
	return name
}

// write makes a file with a packet in it, and gives it its name.
func write(t *testing.T, name string) {
	t.Helper()
	f, err := Create(t.Context(), name)
	require.NoError(t, err)
	defer f.Remove()
	require.NoError(t, f.Write(time.Unix(1_700_000_000, 0), datagram()))
	require.NoError(t, f.Finish())
	require.NoError(t, f.Rename())
	f.Remove()
	assert.Equal(t, name, f.Name())
}

// What is no file is written through, and stays what it is.
func TestFileWritesThroughToAPipe(t *testing.T) {
	name := fifo(t)
	read := make(chan []byte, 1)
	go func() {
		b, err := os.ReadFile(name)
		read <- b
		assert.NoError(t, err)
	}()
	write(t, name)
	c, err := Read(<-read)
	require.NoError(t, err)
	assert.Len(t, c.Packets, 1)
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, fs.ModeNamedPipe, info.Mode().Type())
	entries, err := os.ReadDir(filepath.Dir(name))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
	require.NoError(t, (&File{at: name, through: true}).Withdraw())
	assert.FileExists(t, name)
}

func TestFileFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	link := func(to, name string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.Symlink(to, name))
		return name
	}
	isLink := func(name string) {
		info, err := os.Lstat(name)
		require.NoError(t, err)
		assert.Equal(t, fs.ModeSymlink, info.Mode().Type(), name)
	}
	for _, name := range []string{link("file", "to a file"), link("sub/new", "to nothing yet"), link("to nothing yet", "to a link"), link(os.DevNull, "to a device")} {
		write(t, name)
		isLink(name)
	}
	for _, name := range []string{"file", "sub/new"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		c, err := Read(b)
		require.NoError(t, err)
		assert.Len(t, c.Packets, 1)
	}
	info, err := os.Stat(os.DevNull)
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&fs.ModeDevice)

	_, err = Create(t.Context(), link("round", "round"))
	require.Error(t, err)
	_, err = Create(t.Context(), link("missing/x", "into nothing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// soon returns a context that ends in a moment, while something waits.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestWaitingForAPipeCanBeInterrupted(t *testing.T) {
	_, err := Load(soon(t), fifo(t)) // nobody writes
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = Create(soon(t), fifo(t)) // nobody reads
	require.ErrorIs(t, err, context.DeadlineExceeded)

	name := fifo(t)
	both, err := os.OpenFile(name, os.O_RDWR, 0) // a reader that does not, and a writer that does not end
	require.NoError(t, err)
	defer both.Close()
	_, err = both.Write(pkttest.Pcap(layers.LinkTypeRaw, datagram()))
	require.NoError(t, err)
	_, err = Load(soon(t), name)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	f, err := Create(soon(t), name)
	require.NoError(t, err)
	for err == nil { // until the pipe is full
		err = f.Write(time.Unix(1, 0), datagram())
	}
	require.ErrorContains(t, err, "i/o timeout")
	require.Error(t, f.Finish())
	f.Remove()
	assert.FileExists(t, name)
}

func TestLoadReadsPipes(t *testing.T) {
	name, file := fifo(t), pkttest.Pcap(layers.LinkTypeRaw, datagram())
	go func() { assert.NoError(t, os.WriteFile(name, file, 0)) }()
	got, err := Load(t.Context(), name)
	require.NoError(t, err)
	assert.Equal(t, file, got)

	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer func(was *os.File) { os.Stdin = was }(os.Stdin)
	os.Stdin = r
	_, err = w.Write(compressed(t, file))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	got, err = Load(t.Context(), Stdin)
	require.NoError(t, err)
	assert.Equal(t, compressed(t, file), got)
}

// A file that somebody writes to without end is read as far as it was at first.
func TestLoadReadsGrowingFilesOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "growing")
	w, err := os.Create(name)
	require.NoError(t, err)
	block := make([]byte, 1<<16)
	_, err = w.Write(block)
	require.NoError(t, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; i < 1<<12; i++ { // 256 MB, should reading never end
			select {
			case <-stop:
				return
			default:
				_, _ = w.Write(block)
			}
		}
	}()
	got, err := Load(t.Context(), name)
	close(stop)
	<-stopped
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Less(t, len(got), 1<<28)
}

func TestLoadTakesNoMoreThanItNeeds(t *testing.T) {
	for _, name := range []string{"/dev/zero", os.DevNull} {
		got, err := Load(t.Context(), name)
		require.NoError(t, err)
		_, err = Salvage(got)
		require.Error(t, err)
		assert.LessOrEqual(t, len(got), 4)
	}
	sparse := filepath.Join(t.TempDir(), "sparse")
	require.NoError(t, os.WriteFile(sparse, nil, 0o600))
	if err := os.Truncate(sparse, 17<<30); errors.Is(err, syscall.EFBIG) {
		t.Skip("no such long files here")
	}
	_, err := Load(t.Context(), sparse)
	require.ErrorContains(t, err, "has 18253611008 bytes, more than")
	_, err = Load(t.Context(), t.TempDir())
	require.EqualError(t, err, "is a directory")
	_, err = Load(t.Context(), "missing")
	require.EqualError(t, err, "no such file or directory")
}
