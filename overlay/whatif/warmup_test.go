package whatif_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// After a warm-up each setting is what happens if the cluster is changed at that moment, and the
// warm-up is simulated once.
func TestSweepWithWarmUp(t *testing.T) {
	starts := 0
	begin := start(8)
	warm, after := pkttest.Operations(1, 3, 10), pkttest.Operations(2, 5, 20) // minutes
	p := whatif.Plan{Cluster: small(), Workload: everything(1), Until: time.Duration(warm+after) * time.Minute, WarmUp: time.Duration(warm)*time.Minute + 7*time.Millisecond, Start: func(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
		starts++
		return begin(c)
	}}
	settings := append(whatif.Grid(whatif.OutboundPorts(64, 128, 256), whatif.IdleTimeouts(4*time.Minute, 6*time.Minute)),
		whatif.Setting{Name: "as it is"},
		whatif.Nodes("", 5)[0], // two of them without pods
		whatif.Nodes("", 1)[0], // with pods that send
		whatif.DNSCache(0)[0],
		whatif.OutboundPorts(30_000)[0],
	)
	var last float64
	p.Progress = func(share float64) { assert.GreaterOrEqual(t, share, last); last = share }
	rows, err := whatif.Sweep(context.Background(), p, settings)
	require.NoError(t, err)
	assert.Equal(t, 1, starts)
	assert.InDelta(t, float64(warm+8*after)/float64(warm+11*after), last, 2e-4, "three cannot be made")
	for i, s := range settings[:8] {
		require.NoError(t, rows[i].Err, s.Name)
		c, hosts, err := begin(p.Cluster)
		require.NoError(t, err)
		sim := newSimulation(t, whatif.Config{World: c, Hosts: hosts, Workload: p.Workload})
		sim.Advance(p.WarmUp)
		if s.Change != nil {
			config, w := p.Cluster, p.Workload
			s.Change(&config, &w)
			_, err = c.Reconfigure(flow.Time(p.WarmUp), config)
			require.NoError(t, err)
		}
		sim.Advance(p.Until)
		assert.Equal(t, sim.Result(), rows[i].Result, s.Name)
		c.Close()
	}
	assert.ErrorContains(t, rows[8].Err, "Cluster.NodePools: conflict")
	assert.ErrorContains(t, rows[9].Err, "Workload: conflict")
	assert.Error(t, rows[10].Err)

	p.WarmUp, p.Progress = p.Until, nil
	_, err = whatif.Sweep(context.Background(), p, settings)
	assert.ErrorContains(t, err, fmt.Sprintf("WarmUp %v: out of range", p.Until))
	p.WarmUp = time.Minute
	_, err = whatif.Recommend(context.Background(), p, whatif.Wish{})
	assert.ErrorContains(t, err, "Plan.WarmUp 1m0s: conflict")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	rows, err = whatif.Sweep(ctx, p, settings)
	require.NoError(t, err)
	for i := range rows {
		assert.ErrorIs(t, rows[i].Err, context.Canceled)
		assert.Equal(t, settings[i].Name, rows[i].Setting)
	}
}

// Sweeps and recommendations are the same, byte for byte, however many processors there are and
// whatever runs together.
func TestSameBytes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want [3][]byte
	for i, procs := range []int{1, 4, 2} {
		runtime.GOMAXPROCS(procs)
		p := whatif.Plan{Cluster: small(), Workload: everything(5), Until: time.Duration(pkttest.Operations(80, 180, 600)) * time.Second, Start: start(4)}
		if i > 0 {
			p.Together = parallel
		}
		settings := whatif.Grid(whatif.OutboundPorts(64, 256), whatif.IdleTimeouts(4*time.Minute, 10*time.Minute))
		cold, err := whatif.Sweep(context.Background(), p, settings)
		require.NoError(t, err)
		p.WarmUp = time.Minute
		warm, err := whatif.Sweep(context.Background(), p, settings)
		require.NoError(t, err)
		p.WarmUp = 0
		r, err := whatif.Recommend(context.Background(), p, whatif.Wish{Headroom: 0.1})
		require.NoError(t, err)
		for k, v := range []any{cold, warm, []any{r.IPs, r.Ports, r.Least, r.IdleTimeout, r.Result, r.Refusing}} {
			got, err := json.Marshal(v)
			require.NoError(t, err)
			if i == 0 {
				want[k] = got
			}
			require.Equal(t, string(want[k]), string(got), "%d processors", procs)
		}
	}
}
