package overlay_test

import (
	"bytes"
	"flag"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/overlay"
)

var update = flag.Bool("update", false, "write the snapshots in testdata anew")

// inUse is a small cluster in which everything is used that a snapshot has.
func inUse(t testing.TB) *overlay.Cluster {
	t.Helper()
	cfg := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "apps", Count: 2, MaxPods: 10}}}
	cfg.CountTraffic, cfg.Seed = true, 7
	c, err := overlay.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.AddPod(c.Nodes()[0].Name, "web")
	require.NoError(t, err)
	pod, err := c.AddPod(c.Nodes()[1].Name, "client")
	require.NoError(t, err)
	_, err = c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", overlay.Endpoint{Pod: "web"}))
	from := pod.Addrs[0].String()
	frontend := c.Services()[0].ClusterIPs[0].String()
	for i, to := range []string{"198.51.100.53:53", "198.51.100.53:53", frontend + ":80"} {
		pkt := pkttest.UDP(from+":41000", to, "query")
		if i > 0 {
			pkt = pkttest.TCP(from+":41000", to, pkttest.SYN, pkttest.Seq(1000))
		}
		require.Equal(t, flow.Forward, c.Outbound(flow.At(time.Duration(i)*time.Second), pkt).Action)
	}
	return c
}

// What a program of version 1 has written is read by every later one, and means the same; as long as the
// version is 1, it is written so.
func TestGoldenCluster(t *testing.T) {
	const file = "testdata/cluster.v1.snapshot"
	c := inUse(t)
	b := snapshotOf(t, c)
	if *update {
		require.NoError(t, os.WriteFile(file, b, 0o644))
	}
	golden, err := os.ReadFile(file)
	require.NoError(t, err)
	restored, err := overlay.Restore(c.Config(), bytes.NewReader(golden))
	require.NoError(t, err)
	t.Cleanup(restored.Close)
	require.Equal(t, seenOf(c), seenOf(restored))
	require.True(t, bytes.Equal(golden, b), "the layout has changed: it needs another version, or, before a release, -update")
}

// Every damaged byte and every end before the end is refused, and so is another configuration.
func TestRestoreClusterRefuses(t *testing.T) {
	pkttest.OneGoroutine(t)
	c := inUse(t)
	b := snapshotOf(t, c)
	step := max(1, len(b)/400)
	for i := 0; i < len(b); i += step {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		_, err := overlay.Restore(c.Config(), bytes.NewReader(bad))
		require.Error(t, err, "byte %d", i)
		_, err = overlay.Restore(c.Config(), bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, flow.ErrDamaged, "without byte %d", i)
	}
	other := c.Config()
	other.NodePools[0].MaxPods++
	_, err := overlay.Restore(other, bytes.NewReader(b))
	require.ErrorIs(t, err, flow.ErrOtherConfig)
	require.ErrorContains(t, err, "NodePools[0]")
	c.Close()
	require.ErrorIs(t, c.Snapshot(io.Discard), flow.ErrClosed)
}

// FuzzRestore puts anything into a snapshot, with checksums that fit: it is refused, or is of a cluster that
// can be, which works.
func FuzzRestore(f *testing.F) {
	c := inUse(f)
	b := snapshotOf(f, c)
	config := c.Config()
	snapshot.Forgeries(f, b)
	pod, _ := c.Pod("client")
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		c, err := overlay.Restore(config, bytes.NewReader(snapshot.Forge(b, int(at), with)))
		if err != nil {
			return
		}
		defer c.Close()
		seenOf(c)
		snapshotOf(t, c)
		pkt := pkttest.UDP(pod.Addrs[0].String()+":41001", "198.51.100.53:53", "query")
		c.Outbound(flow.At(3*time.Second), pkt)
		c.Advance(flow.At(time.Hour), nil)
	})
}
