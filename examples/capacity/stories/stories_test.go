package stories_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
	"github.com/seed-a61be3fe/natplane/examples/capacity/stories"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

var update = flag.Bool("update", false, "write golden files anew")

func run(t *testing.T, args ...string) string {
	t.Helper()
	var out, complaints bytes.Buffer
	require.Zero(t, planner.Command{}.Run(t.Context(), args, &out, &complaints), complaints.String())
	assert.Empty(t, complaints.String())
	return out.String()
}

// Each story loses conversations before its advice is followed and none after, and prints what it printed.
func TestStories(t *testing.T) {
	if pkttest.Short() {
		t.Skip("takes minutes where every step is watched")
	}
	t.Setenv("COLUMNS", "80")
	for _, s := range stories.All() {
		t.Run(s.Name, func(t *testing.T) {
			text := run(t, "-story", s.Name)
			golden := s.Name + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(text), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), text, "go test -update writes it anew")
			for line := range strings.Lines(text) {
				assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
			}

			a, err := answer.ReadJSON(strings.NewReader(run(t, "-story", s.Name, "-json")))
			require.NoError(t, err)
			before, after := &a.AsItIs, a.Sweep[len(a.Sweep)-1].Result
			require.NotNil(t, after)
			assert.NotZero(t, before.Total.Refused+before.Total.Ended())
			assert.Zero(t, after.Total.Refused+after.Total.Ended())
			assert.Equal(t, &s.Story, a.Story)
		})
	}
}

// Names are there once, and all that a reader needs is said.
func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	for _, name := range stories.Names() {
		s := stories.Named(name)
		assert.False(t, seen[name], name)
		seen[name] = true
		for _, text := range []string{s.Title, s.Why, s.Advice, s.Sweep} {
			assert.NotEmpty(t, text, name)
		}
	}
	assert.Nil(t, stories.Named("x"))
	list := run(t, "-story", "list")
	for name := range seen {
		assert.Contains(t, list, name+" ")
	}
}
