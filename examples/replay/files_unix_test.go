//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The capture may come through a pipe and leave through one.
func TestPipes(t *testing.T) {
	in := captureOf(t, handshake(a+":4000", remote+":80")...)
	file, err := os.ReadFile(in)
	require.NoError(t, err)
	dir := t.TempDir()
	source, sink, link := filepath.Join(dir, "source"), filepath.Join(dir, "sink"), filepath.Join(dir, "link")
	require.NoError(t, syscall.Mkfifo(source, 0o600))
	require.NoError(t, syscall.Mkfifo(sink, 0o600))
	require.NoError(t, os.Symlink(sink, link))
	go func() { assert.NoError(t, os.WriteFile(source, file, 0)) }()
	out := make(chan []byte, 1)
	go func() {
		b, err := os.ReadFile(sink)
		assert.NoError(t, err)
		out <- b
	}()
	d := replayJSON(t, source, "-out", link)
	assert.Equal(t, 3, d.Roundtrip.Identical)
	written := filepath.Join(dir, "written")
	require.NoError(t, os.WriteFile(written, <-out, 0o600))
	assert.Len(t, packetsOf(t, written).Packets, 3)

	defer func(was *os.File) { os.Stdin = was }(os.Stdin)
	os.Stdin, err = os.Open(in)
	require.NoError(t, err)
	assert.Equal(t, 3, replayJSON(t, "-").Roundtrip.Identical)
}

// Ctrl-C ends the wait for a pipe, on either side.
func TestInterruptedWhileWaiting(t *testing.T) {
	in := captureOf(t, handshake(a+":4000", remote+":80")...)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.NoError(t, syscall.Mkfifo(pipe+"2", 0o600))
	for _, args := range [][]string{{"-in", pipe}, {"-in", in, "-out", pipe + "2"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		var stdout, stderr bytes.Buffer
		status := run(ctx, append(args, "-inside", insides, "-frontend", frontIPs), &stdout, &stderr)
		cancel()
		assert.Equal(t, 130, status)
		assert.Empty(t, stdout.String())
		assert.Equal(t, "replay: interrupted\n", stderr.String())
	}
}
