package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/planner"
)

const root = "../../.."

// data returns the path of a file that package manifest is tested with.
func data(name string) string { return filepath.Join(root, "overlay/manifest/testdata", name) }

func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("COLUMNS", "300")
	var out, complaints bytes.Buffer
	status = planner.Command{Cluster: cluster, Workload: workload}.Run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// document is what the tests need of -json.
type document struct {
	Cluster struct {
		Nodes, Pods, PortsPerNode int
		IdleSeconds               float64
		NotModelled, Pending      []string
	}
	AsItIs struct {
		Total struct{ Conversations, Refused int }
	}
	Sweep []struct {
		Setting, Error string
		Result         *struct {
			Total struct{ Refused int }
		}
	}
	Recommendation *struct{ IPs, PortsPerNode int }
}

func decoded(t *testing.T, args ...string) (d document) {
	t.Helper()
	status, stdout, stderr := run(t, append(args, "-json")...)
	require.Zero(t, status, stderr)
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	return d
}

// Pods of manifests send what a workload file says, under all settings.
func TestFiles(t *testing.T) {
	d := decoded(t, "-cluster", data("guides/shop.yaml"), "-workload", "testdata/traffic.yaml", "-until", "15m", "-sweep", "ports=1024,8000 nodes=2,6", "-recommend")
	assert.Equal(t, 3, d.Cluster.Nodes)
	assert.NotZero(t, d.AsItIs.Total.Refused)
	require.Len(t, d.Sweep, 4)
	assert.Equal(t, "ports=1024 nodes=2", d.Sweep[0].Setting)
	assert.NotZero(t, d.Sweep[0].Result.Total.Refused)
	assert.Zero(t, d.Sweep[3].Result.Total.Refused)
	assert.Equal(t, 1, d.Recommendation.IPs)
	assert.Greater(t, d.Recommendation.PortsPerNode, 1024)

	twice := decoded(t, "-cluster", data("guides/shop.yaml"), "-workload", "testdata/traffic.yaml", "-until", "15m", "-sweep", "ports=1024,8000 nodes=2,6", "-recommend")
	assert.Equal(t, d, twice)
}

// What az prints is the cluster, a trace is what its pods send, and -scale gives it other nodes.
func TestWhatAzPrints(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "flows.csv")
	require.NoError(t, os.WriteFile(trace, []byte("start,src,dst,port\n1,192.168.0.9,203.0.113.9,443\n2,192.168.0.10,203.0.113.9,443\n"), 0o600))
	args := []string{"-cluster", data("aks-show.json"), "-cluster", data("nodepool-list.json"), "-cluster", data("outbound-rule-list.json"),
		"-cluster", data("guides/vote.yaml"), "-trace", trace, "-until", "1m"}
	d := decoded(t, args...)
	assert.Equal(t, []any{6, 3, 4000, 600.0, 1}, []any{d.Cluster.Nodes, d.Cluster.Pods, d.Cluster.PortsPerNode, d.Cluster.IdleSeconds, len(d.Cluster.NotModelled)})
	assert.Equal(t, 2, d.AsItIs.Total.Conversations)
	status, _, stderr := run(t, append(args, "-scale", "x=3")...)
	assert.Equal(t, 1, status)
	_, names, ok := strings.Cut(strings.TrimSpace(stderr), `the cluster has no pool "x"; it has `)
	require.True(t, ok, stderr)
	pool, _, _ := strings.Cut(names, ",")
	assert.Equal(t, 8, decoded(t, append(args, "-scale", pool+"=4")...).Cluster.Nodes)
}

func TestPendingPodsAreTold(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pods.yaml")
	require.NoError(t, os.WriteFile(name, []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: x, containers: [{name: c}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: q}\nspec: {containers: [{name: c}]}\n"), 0o600))
	site, err := cluster([]string{name})
	require.NoError(t, err)
	r, err := site.Start(site.Config)
	require.NoError(t, err)
	defer r.Cluster.Close()
	assert.Equal(t, []string{"pod default/p: there is no node x"}, r.Pending)
	require.Len(t, r.Hosts, 1)
	assert.Equal(t, "default/q", r.Hosts[0].Name)

	// Those that find no room on fewer nodes are told as well.
	many := filepath.Join(t.TempDir(), "many.yaml")
	require.NoError(t, os.WriteFile(many, []byte("apiVersion: natplane/v1\nkind: Cluster\nnodePools: [{name: np, count: 2, maxPods: 10}]\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 20, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}}\n"), 0o600))
	args := []string{"-cluster", many, "-workload", "testdata/every.yaml", "-until", "10s"}
	assert.Empty(t, decoded(t, args...).Cluster.Pending)
	d := decoded(t, append(args, "-scale", "np=1")...)
	assert.Len(t, d.Cluster.Pending, 10)
	assert.Equal(t, 10, d.Cluster.Pods)
	_, stdout, _ := run(t, append(args, "-scale", "np=1")...)
	assert.Contains(t, stdout, "Pending   pod default/d-")
}

// All that is wrong with all files is told, a line each, and nothing is printed.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	objects := write("objects.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  typ: NodePort\n")
	traffic := write("traffic.yaml", "apiVersion: natplane/v1\nkind: Workload\ntraffic:\n- name: a\n  to: [{addr: '203.0.113.9'}]\n  rate: {perHost: -1}\n")
	log := write("flows.csv", "start,src,dst,port\nx,10.0.0.1,203.0.113.9,443\n")
	status, stdout, stderr := run(t, "-cluster", objects, "-workload", traffic, "-trace", log)
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	for _, want := range []string{
		objects + ":5: spec.typ \"NodePort\": unknown name", traffic + ":5: traffic[0].to[0].addr ", traffic + ":6: traffic[0].rate.perHost -1: out of range", log + ":2",
	} {
		assert.Contains(t, stderr, "capacity: "+want)
	}

	status, stdout, stderr = run(t, "-cluster", data("guides/vote.yaml"), "-workload", write("who.yaml", "apiVersion: natplane/v1\nkind: Workload\ntraffic: [{name: a, from: {pods: nobody}, to: [{addr: '203.0.113.9:443'}], rate: {total: 1}}]\n"))
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Regexp(t, `^capacity: .*who.yaml:3: traffic\[0\].from.pods "nobody": unknown name: no host and no group of hosts is named so\n$`, stderr)

	status, _, stderr = run(t, "-cluster", filepath.Join(dir, "a"), "-workload", filepath.Join(dir, "b"))
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "-cluster "+filepath.Join(dir, "a")+": ")
	assert.Contains(t, stderr, "-workload "+filepath.Join(dir, "b")+": ")
	status, _, stderr = run(t, "-cluster", objects, "-workload", dir)
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "-workload "+dir+": must be one file")
}

// The command of the library's module hands over to this one, and keeps arguments, output and status.
func TestHandedOver(t *testing.T) {
	cmd := exec.Command("go", "run", "./examples/capacity", "-workload", "examples/capacity/cluster/testdata/nothing.yaml")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "capacity: -workload examples/capacity/cluster/testdata/nothing.yaml: open ")

	cmd = exec.Command("go", "run", "./examples/capacity", "-cluster", "overlay/manifest/testdata/guides/shop.yaml", "-workload", "examples/capacity/cluster/testdata/traffic.yaml", "-until", "1m", "-csv")
	cmd.Dir = root
	out, err = cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "setting,conversations,refused")
}
