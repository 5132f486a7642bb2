package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every peer translates: what leaves has an outside source, true checksums, and the
// destination and payload it had; a flow keeps its port.
func TestPeersTranslate(t *testing.T) {
	w, err := newWorkload(2 * flowsPerSource)
	require.NoError(t, err)
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			tr, err := p.open(w.flows)
			require.NoError(t, err)
			defer tr.close()
			require.NoError(t, check(p, tr, w))
			_, err = openAll(tr, w)
			require.NoError(t, err)
			_, err = established(tr, w, time.Millisecond)
			require.NoError(t, err)
			require.NoError(t, check(p, tr, w), "after all flows were opened")
		})
	}
}

// The check sees each kind of wrong output.
func TestCheckComplains(t *testing.T) {
	w, err := newWorkload(batch)
	require.NoError(t, err)
	calls := 0
	for want, wrong := range map[string]func(p []byte){
		"left untranslated": func([]byte) {},
		"datagram sums":     func(p []byte) { p[20] ^= 1 },
		"IP header sums":    func(p []byte) { p[8]-- },
		"left with payload": func(p []byte) { p[40]++; fix(p[26:], update(0, 0, 256)) },
		"and then from": func(p []byte) {
			calls++
			port := binary.BigEndian.Uint16(p[20:])
			fix(p[26:], update(update(0, port, uint16(calls)), uint16(0x0a01), uint16(0x0b01)))
			fix(p[10:], update(0, uint16(0x0a01), uint16(0x0b01)))
			p[12] = 0x0b
			binary.BigEndian.PutUint16(p[20:], uint16(calls))
		},
	} {
		assert.ErrorContains(t, check(peer{name: "wrong"}, broken{wrong: wrong}, w), want)
	}
	assert.NoError(t, check(peer{name: "plain", plain: true}, broken{wrong: func([]byte) {}}, w))
}

// broken lets a packet pass after a change.
type broken struct {
	translator
	wrong func(p []byte)
}

func (b broken) one(p []byte) ([]byte, error) {
	b.wrong(p)
	return p, nil
}

// A short run of the fast ones writes a table with a remark for each, and plots.
func TestRunWritesTableAndPlots(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run("1024,2048", "map|xsync", dir, time.Millisecond))
	table, err := os.ReadFile(filepath.Join(dir, "table.md"))
	require.NoError(t, err)
	for _, name := range []string{"natplane", "Go map and mutex", "xsync.Map"} {
		assert.Equal(t, 3, strings.Count(string(table), "\n| "+name+" |"), name)
		assert.Contains(t, string(table), "\n- "+name+": ")
	}
	for _, kind := range kinds {
		svg, err := os.ReadFile(filepath.Join(dir, kind.file))
		require.NoError(t, err)
		assert.Contains(t, string(svg), "<svg")
		assert.Contains(t, string(svg), "natplane")
	}
}

func TestRunRefuses(t *testing.T) {
	assert.ErrorContains(t, run("12,x", ".", t.TempDir(), time.Second), `"12"`)
	assert.ErrorContains(t, run("1024", "(", t.TempDir(), time.Second), "-peers")
	assert.ErrorContains(t, run("1024", ".", t.TempDir(), 0), "-time")
}

// The results that the README shows are whole: every peer that this kind of machine has.
func TestResultsAreCommitted(t *testing.T) {
	table, err := os.ReadFile("results/table.md")
	require.NoError(t, err)
	for _, p := range peers() {
		assert.Contains(t, string(table), "- "+p.name+": "+p.unfair+"\n", "go run . writes it")
	}
	for _, kind := range kinds {
		assert.FileExists(t, filepath.Join("results", kind.file))
	}
}
