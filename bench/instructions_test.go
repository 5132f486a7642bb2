package bench

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var updateInstructions = flag.Bool("update", false, "write testdata/instructions.txt anew, for this architecture and version of Go")

const instructionsFile = "testdata/instructions.txt"

// instructionsTolerance is by how much a count may exceed the baseline. Counts repeat to
// one in a million; the rest is for changes that are worth it.
const instructionsTolerance = 1.01

// countedRoundsEach is how many rounds are counted, after one that is not.
const countedRoundsEach = 4

// TestInstructions counts the instructions of a packet and of a flow with callgrind and
// compares them with the baseline: a regression guard that no busy machine can disturb.
// Cache misses do not count, so it sees more work, not worse memory access.
func TestInstructions(t *testing.T) {
	if os.Getenv("NATPLANE_INSTRUCTIONS") == "" && !*updateInstructions {
		t.Skip("counts only with NATPLANE_INSTRUCTIONS=1 or -update: it takes some minutes")
	}
	_, err := exec.LookPath("valgrind")
	require.NoError(t, err, "valgrind counts")
	key := countsKey()
	baseline := readInstructions(t)
	if baseline[key] == nil && !*updateInstructions {
		t.Skipf("%s has no counts for %s; -update adds them", instructionsFile, key)
	}
	program := filepath.Join(t.TempDir(), "counted")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	work := countedWork()
	counted, errs := make([]int, len(work)), make([]error, len(work))
	var all sync.WaitGroup
	turns := make(chan struct{}, runtime.NumCPU())
	for i, c := range work {
		all.Go(func() {
			turns <- struct{}{}
			counted[i], errs[i] = instructions(program, c.name)
			<-turns
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...))
	counts := map[string]float64{}
	for i, c := range work {
		counts[c.name] = float64(counted[i]) / float64(countedRoundsEach*c.units)
		was, ok := baseline[key][c.name]
		t.Logf("%-45s %8.1f instructions, baseline %8.1f", c.name, counts[c.name], was)
		switch {
		case *updateInstructions:
		case !ok:
			t.Errorf("%s: not in %s; -update adds it", c.name, instructionsFile)
		case exceeds(counts[c.name], was):
			t.Errorf("%s: %.1f instructions, %.1f %% more than the baseline's %.1f; make it cheaper, or say why with -update",
				c.name, counts[c.name], (counts[c.name]/was-1)*100, was)
		}
	}
	if *updateInstructions {
		baseline[key] = counts
		require.NoError(t, os.WriteFile(instructionsFile, formatInstructions(baseline), 0o644))
	}
}

// exceeds reports whether a count is more than the baseline allows.
func exceeds(count, was float64) bool { return count > was*instructionsTolerance }

// The baseline has each kind of work once for every key, as -update writes it, and allows
// one per cent and no more.
func TestInstructionsBaseline(t *testing.T) {
	baseline := readInstructions(t)
	require.NotEmpty(t, baseline)
	for key, counts := range baseline {
		assert.Len(t, counts, len(countedWork()), key)
		for _, c := range countedWork() {
			assert.Greater(t, counts[c.name], 100.0, "%s: %s", key, c.name)
		}
	}
	text, err := os.ReadFile(instructionsFile)
	require.NoError(t, err)
	assert.Equal(t, string(formatInstructions(baseline)), string(text))
	assert.False(t, exceeds(1009, 1000))
	assert.True(t, exceeds(1011, 1000))
}

// countsKey names what counts depend on: the architecture and the compiler.
func countsKey() string {
	version, _, _ := strings.Cut(runtime.Version(), " ")
	if parts := strings.Split(version, "."); len(parts) > 2 {
		version = strings.Join(parts[:2], ".") // corrections do not change the compiler
	}
	return runtime.GOARCH + " " + version
}

// instructions runs the program for one kind of work and returns how many instructions
// countedPart took.
func instructions(program, name string) (int, error) {
	profile := filepath.Join(filepath.Dir(program), strings.ReplaceAll(name, "/", "-"))
	cmd := exec.Command("valgrind", "--tool=callgrind", "--separate-threads=yes",
		"--collect-atstart=no", "--toggle-collect=*bench.countedPart*", "--callgrind-out-file="+profile, program)
	cmd.Env = append(os.Environ(), countedName+"="+name, countedRounds+"="+strconv.Itoa(countedRoundsEach),
		// One thread at a time, no collection, and no signals, which callgrind does not bear.
		"GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	text, err := os.ReadFile(profile + "-01")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^(?:totals|summary): (\d+)`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%s: callgrind's profile has no total", name)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: callgrind has not found countedPart", name)
	}
	return n, err
}

// readInstructions reads the baseline: key, name and count, separated by tabs.
func readInstructions(t *testing.T) map[string]map[string]float64 {
	all := map[string]map[string]float64{}
	text, err := os.ReadFile(instructionsFile)
	if os.IsNotExist(err) {
		return all
	}
	require.NoError(t, err)
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if s.Text() == "" || s.Text()[0] == '#' {
			continue
		}
		fields := strings.Split(s.Text(), "\t")
		require.Len(t, fields, 3, s.Text())
		count, err := strconv.ParseFloat(fields[2], 64)
		require.NoError(t, err, s.Text())
		if all[fields[0]] == nil {
			all[fields[0]] = map[string]float64{}
		}
		all[fields[0]][fields[1]] = count
	}
	return all
}

func formatInstructions(all map[string]map[string]float64) []byte {
	var b bytes.Buffer
	b.WriteString("# Instructions per packet or flow, counted by callgrind: architecture and Go, work, count.\n" +
		"# Written by: go test -run TestInstructions ./bench -update\n")
	for _, key := range sortedKeys(all) {
		for _, name := range sortedKeys(all[key]) {
			fmt.Fprintf(&b, "%s\t%s\t%.1f\n", key, name, all[key][name])
		}
	}
	return b.Bytes()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
