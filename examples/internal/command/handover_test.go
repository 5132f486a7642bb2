package command

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The sources of the other commands are in this module.
func TestSource(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	for _, name := range []string{"egress", "capacity"} {
		dir, err := Elsewhere{Dir: "examples/" + name + "/cluster"}.source()
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(here, "..", "..", name, "cluster"), dir)
	}
	_, err = Elsewhere{Dir: "examples/nothing", Option: "cluster"}.source()
	assert.ErrorContains(t, err, "-cluster: the source of what it needs, examples/nothing of ")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Without the go command it is said what it is needed for.
func TestWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Elsewhere{Name: "egress", Dir: "examples/egress/cluster", Option: "cluster"}.HandOver(t.Context(), []string{"-cluster", "x"}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "-cluster: needs the go command")
}
