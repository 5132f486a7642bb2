package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/story"
	"github.com/seed-a61be3fe/natplane/overlay"
)

const root = "../../.."

// data returns the path of a file that package manifest is tested with.
func data(name string) string { return filepath.Join(root, "overlay/manifest/testdata", name) }

func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("COLUMNS", "500")
	var out, complaints bytes.Buffer
	status = story.Command{Open: open}.Run(t.Context(), args, &out, &complaints)
	return status, out.String(), complaints.String()
}

// Every manifest of a guide runs, alone or with the cluster that it needs.
func TestGuidesRun(t *testing.T) {
	for name, args := range map[string][]string{
		"shop": nil, "vote": nil, "annotations": nil, "mixed": nil, "internal": nil, "policies": nil,
		"hostports": {"-cluster", data("guides/hostports.cluster.yaml")},
		"static":    {"-cluster", data("guides/static.cluster.yaml")},
		"dualstack": {"-cluster", data("guides/dualstack.cluster.yaml")},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := run(t, append(args, "-cluster", data("guides/"+name+".yaml"), "-copies", "5")...)
			require.Zero(t, status, stderr)
			assert.Contains(t, stdout, "every one found a SNAT port and every reply its pod")
		})
	}
}

func TestWhatAzPrints(t *testing.T) {
	status, stdout, stderr := run(t, "-cluster", data("aks-show.json"), "-cluster", data("nodepool-list.json"), "-cluster", data("outbound-rule-list.json"),
		"-cluster", data("guides/vote.yaml"), "-json", "-copies", "5")
	require.Zero(t, status, stderr)
	var d struct {
		Settings struct {
			Nodes, PortsPerNode int
			IdleSeconds         float64
			NotModelled         []string
		}
		Pods []struct{ Name string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &d))
	assert.Equal(t, 6, d.Settings.Nodes)
	assert.Equal(t, 4000, d.Settings.PortsPerNode)
	assert.InDelta(t, 600, d.Settings.IdleSeconds, 0)
	assert.Len(t, d.Settings.NotModelled, 1)
	assert.Len(t, d.Pods, 3)
}

func TestPendingPodsAreTold(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pods.yaml")
	require.NoError(t, os.WriteFile(name, []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: x, containers: [{name: c}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: q}\nspec: {containers: [{name: c}]}\n"), 0o600))
	site, err := open([]string{name}, func(*overlay.ClusterConfig) {})
	require.NoError(t, err)
	defer site.Close()
	assert.Equal(t, []string{"default/q"}, site.Pods)
	assert.Equal(t, []string{"pod default/p is pending: there is no node x"}, site.NotModelled)
}

// All that is wrong with all files is told, a line each, and nothing runs.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  port: 80\n  typ: NodePort\n"), 0o600))
	status, stdout, stderr := run(t, "-cluster", bad)
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Equal(t, "egress: "+bad+":5: spec.port 80: unknown name: did you mean ports?\negress: "+bad+":6: spec.typ \"NodePort\": unknown name: did you mean type?\n", stderr)

	status, _, stderr = run(t, "-cluster", filepath.Join(dir, "a"), "-cluster", filepath.Join(dir, "b"))
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "-cluster "+filepath.Join(dir, "a"))
	assert.Contains(t, stderr, "-cluster "+filepath.Join(dir, "b"))
}

// The public address of a node has a name, too.
func TestPublicAddressOfANode(t *testing.T) {
	status, stdout, stderr := run(t, "-cluster", data("guides/hostports.yaml"), "-cluster", data("guides/hostports.cluster.yaml"), "-explain", "tcp 203.0.113.7 > public/aks-apps-vmss000000:40000")
	require.Zero(t, status, stderr)
	assert.Contains(t, stdout, "> 20.60.0.0:40000: forward")
	status, _, stderr = run(t, "-cluster", data("guides/vote.yaml"), "-explain", "tcp 203.0.113.7 > public/aks-nodepool1-vmss000000:80")
	assert.Equal(t, 1, status)
	assert.Contains(t, stderr, "the node has no public address")
}

// A directory is all files of it that may be of use.
func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	_, stdout, stderr := run(t, "-cluster", dir)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "-cluster "+dir+": the directory has no file *.yaml, *.yml or *.json")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d.yaml"), 0o700))
	for _, name := range []string{"b.yaml", "a.yml", "c.txt"} {
		text := "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name[:1] + "}\nspec: {containers: [{name: c}]}\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	site, err := open([]string{dir}, func(*overlay.ClusterConfig) {})
	require.NoError(t, err)
	defer site.Close()
	assert.Equal(t, []string{"default/a", "default/b"}, site.Pods)
}

// The command of the library's module hands over to this one, and keeps arguments, output and status.
func TestHandedOver(t *testing.T) {
	cmd := exec.Command("go", "run", "./examples/egress", "-cluster", "overlay/manifest/testdata/guides/vote.yaml", "-explain", "tcp pod/front-0 > service/store")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "COLUMNS=500")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "Service default/store")

	cmd = exec.Command("go", "run", "./examples/egress", "-cluster", "overlay/manifest/testdata/guides/nothing.yaml")
	cmd.Dir = root
	out, err = cmd.CombinedOutput()
	assert.Error(t, err)
	assert.Contains(t, string(out), "egress: -cluster overlay/manifest/testdata/guides/nothing.yaml: open ")
}
