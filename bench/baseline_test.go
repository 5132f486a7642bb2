package bench

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The baseline is a whole run of several counts, which benchstat can read, and names its
// machine.
func TestBaseline(t *testing.T) {
	text, err := os.ReadFile("testdata/baseline.txt")
	require.NoError(t, err)
	head, run, ok := strings.Cut(string(text), "\ngoos: ")
	require.True(t, ok)
	assert.Contains(t, head, "CPUs")
	assert.Contains(t, head, "Go 1.")
	assert.True(t, strings.HasSuffix(strings.TrimSpace(run), "PASS"), "the run came to its end")
	counts := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^(Benchmark\S+)-\d+\s+\d+\s+[0-9.]+ ns/op`).FindAllStringSubmatch(run, -1) {
		counts[m[1]]++
	}
	for _, name := range []string{"BenchmarkOutbound/ip=4/flows=1024/batch=64", "BenchmarkSetup/ip=4/flows=1024/fill=50", "BenchmarkExpire/ip=4/flows=1024"} {
		assert.GreaterOrEqual(t, counts[name], 5, name)
	}
}
