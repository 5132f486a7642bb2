package probe_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// chance answers by a hash of who is asked when, so that it is the same whoever asks.
var chance = probe.ProberFunc(func(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	return probe.Result(rand.New(rand.NewPCG(uint64(at), uint64(b.Addr.As4()[3])+uint64(p.Port))).IntN(3))
})

// A monitor that is restored again and again does what one does that goes on, whatever is changed meanwhile.
func TestRestoredMonitorGoesOn(t *testing.T) {
	const seed = 8
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	config := func() probe.Config {
		web := probe.Probe{Name: "web", Port: 80, Interval: time.Duration(5+rng.IntN(3)) * time.Second, NumberOfProbes: 1 + rng.IntN(3)}
		ssh := probe.Probe{Name: "ssh", Port: 22}
		return probe.Config{
			Probes: []probe.Probe{web, ssh},
			Watches: []probe.Watch{
				{Probe: "web", Backends: backends(1 + rng.IntN(5))}, {Probe: "ssh", Backends: backends(rng.IntN(3))},
			},
		}
	}
	c := config()
	whole, err := probe.NewMonitor(c, chance)
	require.NoError(t, err)
	restored, err := probe.NewMonitor(c, chance)
	require.NoError(t, err)
	now := flow.Time(0)
	for range 400 {
		var was bytes.Buffer
		require.NoError(t, restored.Snapshot(&was))
		b := bytes.Clone(was.Bytes())
		restored, err = probe.RestoreMonitor(c, chance, bytes.NewReader(b))
		require.NoError(t, err)
		var again bytes.Buffer
		require.NoError(t, restored.Snapshot(&again))
		require.True(t, bytes.Equal(b, again.Bytes()))

		var news [2][]probe.Change
		if rng.IntN(8) == 0 {
			c = config()
			require.NoError(t, whole.Reconfigure(now, c))
			require.NoError(t, restored.Reconfigure(now, c))
		}
		now += flow.At(time.Duration(rng.IntN(20_000)) * time.Millisecond)
		whole.Advance(now, func(c probe.Change) { news[0] = append(news[0], c) })
		restored.Advance(now, func(c probe.Change) { news[1] = append(news[1], c) })
		require.Equal(t, news[0], news[1])
		require.Equal(t, slices.Collect(whole.Statuses()), slices.Collect(restored.Statuses()))
		at, ok := whole.NextDeadline()
		restoredAt, restoredOK := restored.NextDeadline()
		require.Equal(t, fmt.Sprint(at, ok), fmt.Sprint(restoredAt, restoredOK))
	}
}

// Whatever is changed in a snapshot is refused, or means something that can be: no change makes a
// monitor panic.
func TestRestoreMonitorRefuses(t *testing.T) {
	c := one(probe.Probe{Name: "web", Port: 80})
	m, err := probe.NewMonitor(c, chance)
	require.NoError(t, err)
	m.Advance(0, nil)
	m.Advance(flow.At(time.Minute), nil)
	var w bytes.Buffer
	require.NoError(t, m.Snapshot(&w))
	refused := 0
	for i := range w.Len() {
		for _, flip := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(w.Bytes())
			b[i] ^= flip
			_, err := probe.RestoreMonitor(c, chance, bytes.NewReader(b))
			require.Error(t, err, "byte %d", i)
			if forged, err := probe.RestoreMonitor(c, chance, bytes.NewReader(snapshot.Reseal(b))); err != nil {
				refused++
			} else {
				forged.Advance(flow.At(time.Hour), nil)
			}
		}
		_, err := probe.RestoreMonitor(c, chance, bytes.NewReader(w.Bytes()[:i]))
		require.ErrorIs(t, err, flow.ErrDamaged)
	}
	require.NotZero(t, refused)
	c.Watches[0].Backends = backends(3)
	_, err = probe.RestoreMonitor(c, chance, bytes.NewReader(w.Bytes()))
	require.ErrorIs(t, err, flow.ErrOtherConfig)
	c.Watches[0].Backends = []probe.Backend{backend(7)}
	_, err = probe.RestoreMonitor(c, chance, bytes.NewReader(w.Bytes()))
	require.ErrorContains(t, err, "vm7")
}
