package whatif_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// start returns what starts a cluster with so many pods, on each node in turn.
func start(pods int) func(overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
	return func(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
		cluster, err := overlay.New(c)
		if err != nil {
			return nil, nil, err
		}
		nodes := cluster.Nodes()
		for i := range pods {
			if _, err := cluster.AddPod(nodes[i%len(nodes)].Name, fmt.Sprintf("web-%d", i)); err != nil {
				cluster.Close()
				return nil, nil, err
			}
		}
		return cluster, whatif.Pods(cluster), nil
	}
}

// parallel runs all tasks at once.
func parallel(tasks []func()) {
	var all sync.WaitGroup
	for _, t := range tasks {
		all.Go(t)
	}
	all.Wait()
}

// A sweep has a row for each setting, in order, whatever runs at once; each is as a simulation of its own.
func TestSweep(t *testing.T) {
	until := time.Duration(pkttest.Operations(2, 5, 20)) * time.Minute
	p := whatif.Plan{Cluster: small(), Workload: everything(1), Until: until, Start: start(8)}
	settings := whatif.Grid(
		whatif.OutboundPorts(64, 256, 30_000),
		whatif.Axis{{Name: "as it is"}, {Name: "no cache", Change: whatif.DNSCache(0)[0].Change}},
		whatif.ConnectionReuse(false, true),
	)
	require.Len(t, settings, 12)
	one, err := whatif.Sweep(context.Background(), p, settings)
	require.NoError(t, err)
	p.Together = parallel
	last := 0.0
	p.Progress = func(share float64) { assert.Greater(t, share, last); last = share }
	two, err := whatif.Sweep(context.Background(), p, settings)
	require.NoError(t, err)
	assert.InDelta(t, 8.0/12, last, 1e-9, "four cannot be made")
	assert.Equal(t, one[:8], two[:8])
	assert.Equal(t, "ports=64 as it is reuse=off", one[0].Setting)
	assert.Equal(t, "ports=256 no cache reuse=on", one[7].Setting)
	for i, r := range two[8:] {
		var few *lb.InsufficientPortsError
		assert.ErrorAs(t, r.Err, &few, r.Setting)
		assert.Nil(t, r.Result)
		assert.EqualError(t, r.Err, one[8+i].Err.Error())
	}
	assert.Greater(t, one[0].Result.Total.Refused, one[4].Result.Total.Refused, "more ports refuse less")
	assert.Greater(t, one[0].Result.Total.Refused, one[1].Result.Total.Refused, "reuse needs fewer")
	assert.Zero(t, one[2].Result.Traffic[5].Cached)

	c, hosts, err := start(8)(func() overlay.ClusterConfig {
		c := small()
		c.LoadBalancerProfile.AllocatedOutboundPorts = 64
		return c
	}())
	require.NoError(t, err)
	defer c.Close()
	s := newSimulation(t, whatif.Config{World: c, Hosts: hosts, Workload: everything(1)})
	s.Advance(until)
	assert.Equal(t, s.Result(), one[0].Result)

	ctx, cancel := context.WithCancel(context.Background())
	p.Progress = func(share float64) {
		if share > 0.2 {
			cancel()
		}
	}
	p.Together = nil
	rows, err := whatif.Sweep(ctx, p, settings)
	require.NoError(t, err)
	assert.Equal(t, one[0], rows[0])
	assert.ErrorIs(t, rows[5].Err, context.Canceled)

	_, err = whatif.Sweep(ctx, whatif.Plan{}, nil)
	for _, want := range []string{"Start: missing", "Until 0s: out of range", "Workload.Traffic: missing"} {
		assert.ErrorContains(t, err, want)
	}
}

// Axes change what they say and nothing else; the plan they change copies of stays.
func TestAxes(t *testing.T) {
	base, w := small(), everything(1)
	apply := func(a whatif.Axis) (overlay.ClusterConfig, whatif.Workload, string) {
		c, v := base, w
		last := a[len(a)-1]
		last.Change(&c, &v)
		return c, v, last.Name
	}
	c, _, name := apply(whatif.OutboundIPs(1, 3))
	assert.Equal(t, []any{3, "ips=3"}, []any{c.LoadBalancerProfile.ManagedOutboundIPCount, name})
	c, _, name = apply(whatif.OutboundPorts(8, 0))
	assert.Equal(t, []any{0, "ports=auto"}, []any{c.LoadBalancerProfile.AllocatedOutboundPorts, name})
	c, _, name = apply(whatif.IdleTimeouts(2 * time.Hour))
	assert.Equal(t, []any{2 * time.Hour, time.Duration(0), "idle=2h"}, []any{c.LoadBalancerProfile.IdleTimeout, c.NATGatewayProfile.IdleTimeout, name})
	c, _, name = apply(whatif.OutboundTypes(overlay.OutboundManagedNATGateway))
	assert.Equal(t, []any{overlay.OutboundManagedNATGateway, "outbound=managedNATGateway"}, []any{c.OutboundType, name})
	assert.Equal(t, []any{1, 4 * time.Minute}, []any{c.NATGatewayProfile.ManagedOutboundIPCount, c.NATGatewayProfile.IdleTimeout})
	for _, a := range []whatif.Axis{whatif.OutboundIPs(5), whatif.OutboundPorts(64), whatif.IdleTimeouts(time.Hour)} {
		a[0].Change(&c, &w)
	}
	c.IPFamilies = "ipv4"
	require.NoError(t, c.Validate())
	assert.Equal(t, []any{5, time.Hour}, []any{c.NATGatewayProfile.ManagedOutboundIPCount, c.NATGatewayProfile.IdleTimeout})
	for _, back := range whatif.OutboundTypes(overlay.OutboundNone, overlay.OutboundManagedNATGatewayV2, overlay.OutboundLoadBalancer) {
		back.Change(&c, &w)
		require.NoError(t, c.Validate())
	}
	assert.Zero(t, c.LoadBalancerProfile.IdleTimeout, "given up on the way")
	c, _, name = apply(whatif.Nodes("", 80))
	assert.Equal(t, []any{80, "nodes=80"}, []any{c.NodePools[0].Count, name})
	c, _, name = apply(whatif.Nodes("other", 80))
	assert.Equal(t, []any{2, "nodes(other)=80"}, []any{c.NodePools[0].Count, name})
	c, _, name = apply(whatif.Surge("", "33%"))
	assert.Equal(t, []any{"33%", "surge=33%"}, []any{c.NodePools[0].MaxSurge, name})
	c, _, name = apply(whatif.TCPReset(true, false))
	assert.Equal(t, []any{true, "reset=off"}, []any{c.LoadBalancerProfile.DisableTCPReset, name})
	_, v, name := apply(whatif.KeepAlives(30 * time.Second))
	assert.Equal(t, []any{30 * time.Second, time.Duration(0), "keepalive=30s"}, []any{v.Traffic[0].KeepAlive, v.Traffic[5].KeepAlive, name})
	_, v, _ = apply(whatif.ConnectionReuse(true))
	assert.Equal(t, []whatif.Kind{whatif.PerRequest, whatif.Pool, whatif.PerRequest}, []whatif.Kind{v.Traffic[0].Kind, v.Traffic[1].Kind, v.Traffic[2].Kind})
	assert.Equal(t, small(), base)
	assert.Equal(t, everything(1), w)
	require.NoError(t, v.Validate())
}

// What is recommended refuses nothing, and a step less does, for workloads of all kinds.
func TestRecommend(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range pkttest.Operations(2, 4, 20) {
		w := everything(uint64(i))
		rng.Shuffle(len(w.Traffic), func(a, b int) { w.Traffic[a], w.Traffic[b] = w.Traffic[b], w.Traffic[a] })
		w.Traffic = w.Traffic[:1+rng.IntN(5)]
		for j := range w.Traffic {
			w.Traffic[j].Rate.PerHost *= 1 + 4*rng.Float64()
		}
		c := small()
		c.NodePools[0].Count = 1 + rng.IntN(4)
		headroom := []float64{0, 0.25}[i%2]
		p := whatif.Plan{Cluster: c, Workload: w, Until: 10 * time.Minute, Start: start(10), Together: parallel}
		r, err := whatif.Recommend(context.Background(), p, whatif.Wish{Headroom: headroom})
		require.NoError(t, err)
		assert.Zero(t, r.Result.Total.Refused)
		if r.Least > 8 {
			assert.NotZero(t, r.Refusing.Total.Refused, "%+v", w.Traffic)
		}
		peak := 0
		for _, n := range r.Result.Nodes {
			peak = max(peak, n.Peak)
			assert.Equal(t, r.Ports, n.Allocated)
		}
		assert.LessOrEqual(t, float64(peak), (1-headroom)*float64(r.Ports)+1e-9)
		assert.LessOrEqual(t, r.Least-8, peak)
		assert.Equal(t, []any{r.IPs, r.Ports, r.IdleTimeout}, []any{r.Cluster.LoadBalancerProfile.ManagedOutboundIPCount, r.Cluster.LoadBalancerProfile.AllocatedOutboundPorts, r.Cluster.LoadBalancerProfile.IdleTimeout})
		require.NoError(t, r.Cluster.Validate())
		p.Together = nil
		again, err := whatif.Recommend(context.Background(), p, whatif.Wish{Headroom: headroom})
		require.NoError(t, err)
		assert.Equal(t, r.Result, again.Result)
	}
}

// Idle timeouts matter where connections are abandoned, and do not where they are closed; then the longest is taken.
func TestRecommendIdle(t *testing.T) {
	if pkttest.Short() {
		t.Skip("simulates many hours; TestRecommend runs the same goroutines")
	}
	w := whatif.Workload{Traffic: []whatif.Traffic{{Name: "x", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 2, Even: true}}}}
	p := whatif.Plan{Cluster: small(), Workload: w, Until: time.Hour, Start: start(4)}
	r, err := whatif.Recommend(context.Background(), p, whatif.Wish{})
	require.NoError(t, err)
	assert.Equal(t, time.Hour, r.IdleTimeout, "the longest that the plan can show")
	assert.Equal(t, 248, r.Ports) // 240 s at 1 a second of each node
	w.Traffic[0].End = whatif.Abandoned
	p.Workload = w
	r, err = whatif.Recommend(context.Background(), p, whatif.Wish{IdleTimeouts: []time.Duration{30 * time.Minute, 10 * time.Minute}})
	require.NoError(t, err)
	assert.Equal(t, []any{10 * time.Minute, 608, 1}, []any{r.IdleTimeout, r.Ports, r.IPs})

	// 40,000 ports of 3 nodes, one of them for upgrades, need two IPs.
	w.Traffic[0].End = whatif.ClientCloses
	w.Traffic[0].Rate.Total = 200
	p.Workload, p.Until = w, 10*time.Minute
	r, err = whatif.Recommend(context.Background(), p, whatif.Wish{IdleTimeouts: []time.Duration{4 * time.Minute}})
	require.NoError(t, err)
	assert.InDelta(t, 24_000, r.Ports, 100)
	assert.Equal(t, 2, r.IPs)
	_, err = whatif.Recommend(context.Background(), p, whatif.Wish{MaxIPs: 1})
	assert.ErrorIs(t, err, whatif.ErrNoSetting)

	p.Cluster.OutboundType = overlay.OutboundManagedNATGateway
	_, err = whatif.Recommend(context.Background(), p, whatif.Wish{Headroom: 1, MaxIPs: 101, IdleTimeouts: []time.Duration{time.Minute}})
	for _, want := range []string{"Plan.Cluster.OutboundType managedNATGateway: conflict", "Wish.Headroom 1: out of range", "Wish.MaxIPs 101", "Wish.IdleTimeouts[0] 1m0s"} {
		assert.ErrorContains(t, err, want)
	}
}

// With NoCuts the idle timeout is at least as long as connections rest, whatever that costs. Without it
// a shorter one may cut them.
func TestRecommendNoCuts(t *testing.T) {
	pkttest.OneGoroutine(t)
	for pause, want := range map[time.Duration]time.Duration{
		3 * time.Minute:  4 * time.Minute,
		8 * time.Minute:  10 * time.Minute,
		44 * time.Minute: 45 * time.Minute,
		61 * time.Minute: 0,
	} {
		for _, silent := range []bool{false, true} {
			p := whatif.Plan{Cluster: small(), Until: 80 * time.Minute, Step: time.Second, SampleInterval: time.Hour, Start: start(4), Workload: whatif.Workload{Traffic: []whatif.Traffic{
				{Name: "leaks", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 0.2, Even: true}, Class: whatif.Class{End: whatif.Abandoned}},
				{Name: "rests", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 0.01, Even: true}, Class: whatif.Class{Requests: 2, Pause: pause}},
			}}}
			p.Cluster.LoadBalancerProfile.DisableTCPReset = silent
			r, err := whatif.Recommend(context.Background(), p, whatif.Wish{MaxIPs: 1})
			require.NoError(t, err)
			assert.Equal(t, 4*time.Minute, r.IdleTimeout)
			cuts := r.Result.Total.Cut
			if silent {
				cuts = r.Result.Total.Broken
			}
			assert.Equal(t, pause > 4*time.Minute, cuts > 0)

			r, err = whatif.Recommend(context.Background(), p, whatif.Wish{NoCuts: true, MaxIPs: 1})
			if want == 0 {
				assert.ErrorIs(t, err, whatif.ErrNoSetting)
				assert.ErrorContains(t, err, "with the longest idle timeout, 1h, conversations are cut")
				continue
			}
			require.NoError(t, err)
			assert.Equal(t, want, r.IdleTimeout, "%v", pause)
			assert.Zero(t, r.Result.Total.Cut+r.Result.Total.Broken+r.Result.Total.Refused)
			assert.NotZero(t, r.Refusing.Total.Refused)
		}
	}
}

// Where cut clients connect anew a longer timeout may need fewer ports; it is found in as few simulations.
func TestRecommendFewerWithLonger(t *testing.T) {
	pkttest.OneGoroutine(t)
	starts := 0
	begin := start(4)
	p := whatif.Plan{Cluster: small(), Until: time.Hour, Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "rests", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 0.5, Even: true},
		Class: whatif.Class{Requests: 4, Pause: 5 * time.Minute, Retry: whatif.Retry{Attempts: 5}},
	}}}, Start: func(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) { starts++; return begin(c) }}
	r, err := whatif.Recommend(context.Background(), p, whatif.Wish{IdleTimeouts: []time.Duration{4 * time.Minute, 30 * time.Minute}})
	require.NoError(t, err)
	assert.Equal(t, 30*time.Minute, r.IdleTimeout)
	assert.Equal(t, 4, starts)
}
