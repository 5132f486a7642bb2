package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The source of the other command is beside this file.
func TestSource(t *testing.T) {
	dir, err := source()
	require.NoError(t, err)
	here, err := os.Getwd()
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(here, "cluster"), dir)
}

// Without the go command it is said what it is needed for.
func TestWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := handOver(t.Context(), []string{"-cluster", "x"}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "-cluster: needs the go command")
}
