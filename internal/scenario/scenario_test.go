package scenario_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/scenario"
)

var update = flag.Bool("update", false, "write the output of scenarios into testdata")

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 40)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got, err := scenario.Play(file, string(text))
			require.NoError(t, err)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			require.Equal(t, string(text), got)
		})
	}
}

const scene = "instance vm addr=10.0.0.4 ports=198.51.100.7:1024+8\n"

// Mistakes are told with the place, the command and what is expected.
func TestErrors(t *testing.T) {
	for text, want := range map[string]string{
		"jump 3":                                            "x.txt:1: jump: no such command",
		"# a story\n\nroute":                                "x.txt:3: route: wrong usage; it is route PREFIX translate|node|pass|drop [both]",
		"route 10.0.0.0/8 sideways":                         "x.txt:1: route: wrong usage; it is route PREFIX",
		"instance vm speed=9":                               `x.txt:1: instance: "speed=9": wrong usage; it is instance NAME`,
		"instance vm addr=ten":                              "addr=ten: ParseAddr",
		"options idle=1s idle=2s":                           `"idle=2s": wrong usage`,
		"options shards=65":                                 "shards=65: no number of 0..64",
		"preset windows":                                    `x.txt:1: preset: "windows": no such preset`,
		scene + "outbound 10.0.0.4:1 > [::1]:2 udp":         "x.txt:2: outbound: 10.0.0.4:1 > [::1]:2: no ends of such a packet",
		scene + "outbound 10.0.0.4:1 > 1.1.1.1:2 tcp AS":    `"AS": wrong usage`,
		scene + "outbound 10.0.0.4:1 > 1.1.1.1:2 udp cut=9": "cut=9: no multiple of 8",
		scene + "inbound 1.1.1.1 > 2.2.2.2 error of=last":   "an error quotes the last packet",
		scene + "reply udp":                                 "x.txt:2: reply: no packet has left",
		scene + "advance soon":                              "x.txt:2: advance: soon: no duration",
		scene + "repeat 9 repeat 9 stats":                   "x.txt:2: repeat: 9: no number",
		scene + "repeat 2 advance {}":                       "x.txt:2: repeat: round 1: 1: no duration",
		scene + "stats":                                     "x.txt:2: the last commands have no line of dashes",
		"instance vm ports=fe80::1:8+8\nstats":              "x.txt:1: instance: ports=fe80::1:8+8",
	} {
		_, err := scenario.Play("x.txt", text)
		assert.ErrorContains(t, err, want, "%q", text)
	}
}

// Every command that there is occurs in a scenario.
func TestEveryCommandIsUsed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	all := ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all += "\n" + string(text)
	}
	for _, name := range scenario.Commands() {
		assert.Contains(t, all, "\n"+name, "a scenario with it is missing")
	}
}

// long is what would only take time.
var long = regexp.MustCompile(`repeat +\+?[0-9]{3}|nodes=[0-9]{2}|maxflows=|ports=[0-9]{4}`)

// Whatever a script says, it is played or refused.
func FuzzPlay(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		if len(text) < 2000 {
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4000 || long.MatchString(text) || strings.Count(text, "repeat") > 2 {
			t.Skip("it would only take time")
		}
		got, err := scenario.Play("x.txt", text)
		if err != nil {
			return
		}
		again, err := scenario.Play("x.txt", got)
		require.NoError(t, err)
		require.Equal(t, got, again, "what is printed does not change what is read")
	})
}
