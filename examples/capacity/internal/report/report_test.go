package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
)

// Long lists are cut, and it is said where the rest is.
func TestLongReports(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	var a answer.Answer
	a.Cluster.NotModelled = make([]string, 20)
	for range 2 * mostRows {
		a.Sweep = append(a.Sweep, answer.Row{Setting: "x", Result: &answer.Result{}})
	}
	for range 2 * mostTraffic {
		a.AsItIs.Traffic = append(a.AsItIs.Traffic, answer.Counts{Name: "y"})
	}
	var out bytes.Buffer
	Write(page.New(&out, &out), &a)
	for _, want := range []string{"and 40 more settings in -json and -csv", "and 12 more; -json has all", "and 20 more rows in -json"} {
		assert.Contains(t, out.String(), want)
	}
}

// Long names and settings fit 80 columns, too.
func TestLongNames(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	var a answer.Answer
	long := strings.Repeat("n", 100)
	setting := "outbound=managedNATGateway ips=16 ports=64000 idle=120m dns-cache=30s reuse=off close=on keepalive=1m"
	a.AsItIs.Traffic = []answer.Counts{{Name: long, Conversations: 9_999_999, Refused: 9_999_999, Failed: 9_999_999}, {Name: "y"}}
	a.AsItIs.Nodes = []answer.Fill{{Name: long, Protocol: "TCP", AllocatedPorts: 64000, PeakPorts: 64000, IPv6: true}}
	a.Sweep = []answer.Row{{Setting: setting, Result: &answer.Result{Total: answer.Counts{Refused: 9_999_999, FirstRefusedSeconds: 3599}}}, {Setting: "x", Error: "cannot be"}}
	var out bytes.Buffer
	Write(page.New(&out, &out), &a)
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
	}
	for _, want := range []string{strings.Repeat("n", longName-1) + "…", "outbound=managedNATGateway", "keepalive=1m", "after 59m59s", "-: cannot be"} {
		assert.Contains(t, out.String(), want)
	}
}

// An upgrade is told beside the cluster as it is, within 80 columns.
func TestUpgrade(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	a := answer.Answer{Upgrade: &answer.Upgrade{Pool: "np", BeginSeconds: 600, EndSeconds: 1200, MostNodes: 4, Moved: 15, Lost: 30, Steps: []answer.Step{{Seconds: 600, Action: "surge", Nodes: []string{"aks-np-vmss000003", "aks-np-vmss000004", "aks-np-vmss000005"}}}}}
	a.Upgrade.Result.Stranded = []answer.Stranded{{Name: "aks-np-vmss000001", Protocol: "TCP", Failed: 9, FreeElsewhere: 700}}
	var out bytes.Buffer
	Write(page.New(&out, &out), &a)
	for _, want := range []string{"WHILE NP IS UPGRADED  (from 10m on, until 20m)", "ended with their pod", "moves of pods", "10m  surge", "aks-np-vmss000001 refused 9 packets of TCP"} {
		assert.Contains(t, out.String(), want)
	}
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
	}
}

// Settings that an interrupt came before do not count.
func TestInterruptedSweep(t *testing.T) {
	refuses := answer.Result{Total: answer.Counts{Refused: 1}}
	a := answer.Answer{Sweep: []answer.Row{{Setting: "a", Result: &answer.Result{}}, {Setting: "b", Result: &refuses}, {Setting: "c", Error: answer.NotDone}}}
	var out bytes.Buffer
	Write(page.New(&out, &out), &a)
	assert.Contains(t, out.String(), "OTHER SETTINGS  (1 of 2 done, of 3, refuse nothing)\n")
}

// What of a recommendation is needed is told apart from what is free to take.
func TestRecommendation(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	a := answer.Answer{Recommendation: &answer.Recommendation{Needed: []string{"more ports"}, Free: []string{"the idle timeout"}, Mind: []string{"addresses"}}}
	var out bytes.Buffer
	Write(page.New(&out, &out), &a)
	assert.Regexp(t, `Needed +more ports\nFree +the idle timeout\nMind +addresses\n`, out.String())
}
