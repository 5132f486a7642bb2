package manifest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/overlay/manifest"
)

// load reads files of testdata.
func load(t testing.TB, names ...string) []manifest.File {
	t.Helper()
	files := make([]manifest.File, len(names))
	for i, name := range names {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		files[i] = manifest.File{Name: name, Data: data}
	}
	return files
}

// start reads and starts files; the test ends them.
func start(t testing.TB, files ...manifest.File) (*manifest.Cluster, *manifest.Running) {
	t.Helper()
	c, err := manifest.Read(files...)
	require.NoError(t, err)
	r, err := c.Start(0)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return c, r
}

// tell writes what runs.
func tell(c *manifest.Cluster, r *manifest.Running) string {
	var b strings.Builder
	for _, n := range r.Nodes() {
		fmt.Fprintln(&b, "node", n.Name, n.Addrs, n.PublicAddrs)
	}
	for _, p := range r.Pods {
		pod, _ := r.Pod(p.Name)
		fmt.Fprintln(&b, "pod", p.Name, p.Node, pod.Addrs)
		for _, h := range p.HostPorts {
			fmt.Fprintln(&b, "  host port", h.Protocol, h.HostPort, "to", h.Port, h.Variable)
		}
	}
	for _, p := range r.Pending {
		fmt.Fprintln(&b, "pending", p.Pod+":", p.Reason)
	}
	for _, s := range r.Services() {
		fmt.Fprintln(&b, "service", s.Name, s.Type, s.IPFamilies, s.ClusterIPs, s.LoadBalancerIPs)
		for _, p := range s.Ports {
			fmt.Fprintln(&b, "  port", p.Protocol, p.Port, "to", p.TargetPort, p.NodePort, p.AppProtocol)
		}
		fmt.Fprintf(&b, "  policies %v %v affinity %v %v health %d ranges %v\n  endpoints", s.ExternalTrafficPolicy, s.InternalTrafficPolicy, s.SessionAffinity, s.AffinityTimeout, s.HealthCheckNodePort, s.LoadBalancerSourceRanges)
		for _, e := range s.Endpoints {
			fmt.Fprint(&b, " ", e.Pod+e.Node)
			if e.Addr.IsValid() {
				fmt.Fprint(&b, e.Addr)
			}
		}
		fmt.Fprintln(&b)
	}
	for _, o := range c.NotModelled {
		fmt.Fprintln(&b, "not modelled:", o)
	}
	return b.String()
}

// Manifests as they stand in guides run as they are. What becomes of each is in a text file
// beside it; -update writes that anew.
func TestGuides(t *testing.T) {
	all, err := filepath.Glob("testdata/guides/*.yaml")
	require.NoError(t, err)
	ran := 0
	for _, path := range all {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		if strings.HasSuffix(name, ".cluster") {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) {
			names := []string{"guides/" + name + ".yaml"}
			if _, err := os.Stat("testdata/guides/" + name + ".cluster.yaml"); err == nil {
				names = append(names, "guides/"+name+".cluster.yaml")
			}
			c, r := start(t, load(t, names...)...)
			got, golden := tell(c, r), "testdata/guides/"+name+".txt"
			if flag.Lookup("update").Value.String() == "true" {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got)
		})
	}
	assert.GreaterOrEqual(t, ran, 9)
}
