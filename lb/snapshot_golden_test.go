package lb

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
)

var writeGolden = flag.Bool("update", false, "write the snapshots in testdata anew")

// golden returns what a program of version 1 has written of something, which, as long as the version
// is 1, is what it writes now.
func golden(t *testing.T, name string, write func(io.Writer) error) []byte {
	t.Helper()
	file := "testdata/" + name + ".v1.snapshot"
	b := snapshotOf(t, write)
	if *writeGolden {
		require.NoError(t, os.WriteFile(file, b, 0o644))
	}
	was, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(was, b), "the layout has changed: it needs another version, or, before a release, -update")
	return was
}

// sends sends the same two flows from a backend through anything.
func sends(t testing.TB, o flow.Translator, from string) {
	t.Helper()
	require.Equal(t, flow.Forward, o.Outbound(0, pkttest.UDP(from+":5000", "203.0.113.53:53", "query")).Action)
	require.Equal(t, flow.Forward, o.Outbound(flow.At(time.Second), pkttest.TCP(from+":5000", "203.0.113.80:443", pkttest.SYN, pkttest.Seq(1000))).Action)
}

// What a program of version 1 has written is read by every later one, and means the same.
func TestGolden(t *testing.T) {
	l := newLoadBalancer(t, publicPool(2, 1, 8))
	sends(t, l, "10.224.0.4")
	restored, err := Restore(l.Config(), bytes.NewReader(golden(t, "loadbalancer", l.Snapshot)))
	require.NoError(t, err)
	t.Cleanup(restored.Close)
	require.Equal(t, what(&l.observation, l.Allocations()), what(&restored.observation, restored.Allocations()))

	c := GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends}
	g := newGateway(t, c)
	sends(t, g, "10.224.0.4")
	again, err := RestoreGateway(c, bytes.NewReader(golden(t, "gateway", g.Snapshot)))
	require.NoError(t, err)
	t.Cleanup(again.Close)
	require.Equal(t, what(&g.observation, g.Metrics()), what(&again.observation, again.Metrics()))

	e := newEgress(t, withGateway(EgressConfig{LoadBalancer: publicPool(2, 1, 0)}))
	sends(t, e, "10.224.0.4")
	other, err := RestoreEgress(e.Config(), bytes.NewReader(golden(t, "egress", e.Snapshot)))
	require.NoError(t, err)
	t.Cleanup(other.Close)
	require.Equal(t, what(&e.observation, e.Metrics()), what(&other.observation, other.Metrics()))
}

// FuzzRestore puts anything into a snapshot, with checksums that fit: it is refused, or is of an egress that
// can be, which works.
func FuzzRestore(f *testing.F) {
	e, err := NewEgress(withGateway(EgressConfig{LoadBalancer: publicPool(2, 1, 0)}))
	require.NoError(f, err)
	defer e.Close()
	sends(f, e, "10.224.0.4")
	b := snapshotOf(f, e.Snapshot)
	config := e.Config()
	snapshot.Forgeries(f, b)
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		e, err := RestoreEgress(config, bytes.NewReader(snapshot.Forge(b, int(at), with)))
		if err != nil {
			return
		}
		defer e.Close()
		what(&e.observation, e.Metrics())
		snapshotOf(t, e.Snapshot)
		e.Outbound(flow.At(2*time.Second), pkttest.UDP("10.224.0.5:5001", "203.0.113.53:53", "query"))
		e.Advance(flow.At(time.Hour), nil)
	})
}
