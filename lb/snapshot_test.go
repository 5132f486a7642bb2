package lb

import (
	"bytes"
	"io"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/likeness"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
)

// What a restored one does not have as the original has it, besides what a copy shares.
var restoreDiffers = func() map[string]string {
	all := maps.Clone(forkShares)
	maps.Copy(all, map[string]string{
		"Monitor.pending": "a heap in another order; package probe has a test of it",
	})
	return all
}()

// snapshotOf returns what a Snapshot writes.
func snapshotOf(t testing.TB, write func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, write(&b))
	return b.Bytes()
}

// restored returns an egress of a snapshot of e, of which another snapshot has the same bytes.
func (p *egressPlay) restored(e *Egress) *Egress {
	p.t.Helper()
	b := snapshotOf(p.t, e.Snapshot)
	r := bytes.NewReader(append(bytes.Clone(b), "more"...))
	copied, err := RestoreEgress(e.Config(), r)
	require.NoError(p.t, err)
	p.t.Cleanup(copied.Close)
	require.Equal(p.t, len("more"), r.Len(), "nothing behind it is read")
	require.Empty(p.t, likeness.Compare(e, copied, restoreDiffers))
	require.True(p.t, bytes.Equal(b, snapshotOf(p.t, copied.Snapshot)))
	return copied
}

// restore lets what is restored of a snapshot go on in the place of the load balancer, which ends.
func (m *inboundModel) restore() {
	m.t.Helper()
	b := snapshotOf(m.t, m.l.Snapshot)
	c := m.l.Config()
	copied, err := Restore(c, bytes.NewReader(b))
	require.NoError(m.t, err)
	m.t.Cleanup(copied.Close)
	require.Empty(m.t, likeness.Compare(m.l, copied, restoreDiffers))
	require.True(m.t, bytes.Equal(b, snapshotOf(m.t, copied.Snapshot)))
	seen := func(l *LoadBalancer) []string {
		at, ok := l.NextDeadline()
		return what(&l.observation, l.Metrics(), l.Allocations(), l.PortMappings(), at, ok)
	}
	require.Equal(m.t, seen(m.l), seen(copied))
	m.l.Close()
	m.l = copied
}

// A gateway that is restored goes on, and one of an egress has no snapshot of its own.
func TestRestoredGateway(t *testing.T) {
	c := GatewayConfig{NATGateway: sixteenIPs(), Backends: publicPool(2, 0, 0).Backends}
	g := newGateway(t, c)
	send := func(g *Gateway, from string) []byte {
		p := pkttest.UDP(from, "203.0.113.53:53", "query")
		require.Equal(t, flow.Forward, g.Outbound(0, p).Action)
		return p
	}
	send(g, "10.224.0.4:5000")
	b := snapshotOf(t, g.Snapshot)
	restored, err := RestoreGateway(c, bytes.NewReader(b))
	require.NoError(t, err)
	t.Cleanup(restored.Close)
	require.Empty(t, likeness.Compare(g, restored, restoreDiffers))
	require.True(t, bytes.Equal(b, snapshotOf(t, restored.Snapshot)))
	require.Equal(t, what(&g.observation, g.Metrics()), what(&restored.observation, restored.Metrics()))
	require.Equal(t, send(g, "10.224.0.4:5000"), send(restored, "10.224.0.4:5000"), "a flow that there was")
	require.Equal(t, send(g, "10.224.0.5:6000"), send(restored, "10.224.0.5:6000"), "a new one")

	other := c
	other.Generation++
	_, err = RestoreGateway(other, bytes.NewReader(b))
	require.ErrorIs(t, err, flow.ErrOtherConfig)
	require.ErrorContains(t, err, "Generation")

	e := newEgress(t, withGateway(EgressConfig{LoadBalancer: publicPool(2, 1, 0)}))
	require.ErrorIs(t, e.Gateway().Snapshot(io.Discard), ErrUnsupported)
}

// Another configuration than that in force is refused by the name of what is other, and whatever is
// wrong with a stream by where that is; nothing is left behind.
func TestRestoreRefuses(t *testing.T) {
	pkttest.OneGoroutine(t)
	c := withGateway(EgressConfig{LoadBalancer: publicPool(4, 1, 0)})
	e := newEgress(t, c)
	leaves(t, e, 0, "10.224.0.4:5000")
	b := snapshotOf(t, e.Snapshot)
	for want, change := range map[string]func(*EgressConfig){
		"Layout": func(c *EgressConfig) { c.LoadBalancer.Layout = Pack },
		"OutboundRules[0]": func(c *EgressConfig) {
			c.LoadBalancer.OutboundRules[0].EnableTCPReset = !c.LoadBalancer.OutboundRules[0].EnableTCPReset
		},
		"Seed":                 func(c *EgressConfig) { c.LoadBalancer.Seed++ },
		"NATGateway":           func(c *EgressConfig) { c.NATGateway.IdleTimeout = 8 * time.Minute },
		"Backends":             func(c *EgressConfig) { *c = withGateway(EgressConfig{LoadBalancer: publicPool(3, 1, 0)}) },
		"DefaultOutboundRange": func(c *EgressConfig) { c.DefaultOutboundRange = netip.MustParsePrefix("198.18.0.0/16") },
	} {
		other := e.Config()
		change(&other)
		_, err := RestoreEgress(other, bytes.NewReader(b))
		require.ErrorIs(t, err, flow.ErrOtherConfig, want)
		require.ErrorContains(t, err, want)
	}
	wrong := e.Config()
	wrong.LoadBalancer.SKU = 9
	_, err := RestoreEgress(wrong, bytes.NewReader(b))
	require.ErrorContains(t, err, "LoadBalancer.SKU")
	fewer := e.Config()
	fewer.LoadBalancer.Shards = 1
	restored, err := RestoreEgress(fewer, bytes.NewReader(b))
	require.NoError(t, err)
	restored.Close()
	_, err = Restore(c.LoadBalancer, bytes.NewReader(b))
	require.ErrorIs(t, err, flow.ErrDamaged)
	for i := 0; i < len(b); i += 7 {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		_, err := RestoreEgress(e.Config(), bytes.NewReader(bad))
		require.Error(t, err, "byte %d", i)
		_, err = RestoreEgress(e.Config(), bytes.NewReader(b[:i]))
		require.ErrorIs(t, err, flow.ErrDamaged, "without byte %d", i)
	}
	e.Close()
	require.ErrorIs(t, e.Snapshot(io.Discard), flow.ErrClosed)

	probed := probedPool(2)
	probed.Prober = &arbitraryProber{}
	l, err := New(probed)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	b = snapshotOf(t, l.Snapshot)
	probed.Prober = nil
	_, err = Restore(probed, bytes.NewReader(b))
	require.ErrorIs(t, err, flow.ErrOtherConfig)
	require.ErrorContains(t, err, "Prober")
}
