package whatif_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
)

// drawn returns a plan and a wish by chance: any classes, rates, sources and destinations, one or two node
// pools, one or both families, from next to nothing to tens of thousands of conversations.
func drawn(rng *rand.Rand) (whatif.Plan, whatif.Wish) {
	v6 := rng.IntN(3) == 0
	scale := []float64{0.003, 0.3, 1, 1, 3}[rng.IntN(5)] // of all rates
	c := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "one", Count: 1 + rng.IntN(2+int(3*scale))}}}
	if v6 {
		c.IPFamilies = "ipv4,ipv6"
	}
	if rng.IntN(3) == 0 {
		c.NodePools = append(c.NodePools, overlay.NodePool{Name: "two", Count: 1 + rng.IntN(3), Mode: overlay.ModeUser})
	}
	c.LoadBalancerProfile.DisableTCPReset = rng.IntN(4) == 0
	pods := 1 + rng.IntN(2+int(15*scale))
	w := whatif.Workload{Seed: rng.Uint64()}
	for i := range 1 + rng.IntN(4) {
		w.Traffic = append(w.Traffic, drawnTraffic(rng, fmt.Sprint(i), pods, scale, v6))
	}
	wish := whatif.Wish{Headroom: []float64{0, 0, 0.2, 0.6}[rng.IntN(4)], NoCuts: rng.IntN(4) == 0}
	if rng.IntN(4) == 0 {
		wish.IdleTimeouts = []time.Duration{time.Duration(5+rng.IntN(20)) * time.Minute, 4 * time.Minute, 30 * time.Minute}
	}
	return whatif.Plan{
		Cluster: c, Workload: w, Until: 5*time.Minute + some(rng, 40*time.Minute), Start: start(pods), Together: parallel,
		Step: []time.Duration{0, 0, 100 * time.Millisecond}[rng.IntN(3)],
	}, wish
}

// drawnLarge returns a plan of 100 nodes with 30 pods each for an hour, of five million conversations and more.
func drawnLarge(rng *rand.Rand) whatif.Plan {
	const pods = 3000
	w := whatif.Workload{Seed: rng.Uint64()}
	for i := range 2 + rng.IntN(3) {
		w.Traffic = append(w.Traffic, drawnTraffic(rng, fmt.Sprint(i), pods, 20, false))
		w.Traffic[i].From.Pods = "web" // not all of them from one pod
	}
	bulk := whatif.Traffic{Name: "bulk", Rate: whatif.Rate{Total: 1450}, To: []whatif.Destination{
		{Addr: netip.MustParseAddrPort("198.51.100.1:443"), Addresses: 1 + rng.IntN(40)}, {Addr: netip.MustParseAddrPort("203.0.113.1:443"), Weight: 1 + rng.IntN(3)},
	}}
	if rng.IntN(3) == 0 {
		bulk.Kind = whatif.Lookup
	} else {
		bulk.End, bulk.Think = whatif.End(rng.IntN(3)), some(rng, time.Second)
	}
	w.Traffic = append(w.Traffic, bulk)
	return whatif.Plan{
		Cluster: overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "one", Count: 100, MaxPods: 50}}}, Workload: w,
		Until: time.Hour, Start: start(pods), Together: parallel,
	}
}

// Large workloads of all sorts have answers, too. It takes an hour and more, so it is for NATPLANE_BENCH_LARGE.
func TestRecommendLarge(t *testing.T) {
	if os.Getenv("NATPLANE_BENCH_LARGE") == "" {
		t.Skip("takes an hour: set NATPLANE_BENCH_LARGE")
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := drawnLarge(rand.New(rand.NewPCG(seed, 11)))
			began := time.Now()
			r, err := whatif.Recommend(t.Context(), p, whatif.Wish{})
			require.NoError(t, err, "%+v", p.Workload)
			t.Logf("%v: %d IPs, %d ports, %v, %d conversations", time.Since(began).Round(time.Second), r.IPs, r.Ports, r.IdleTimeout, r.Result.Total.Conversations)
			assert.Zero(t, r.Result.Total.Refused)
			assert.Greater(t, r.Result.Total.Conversations, uint64(5_000_000))
			if r.Least > snat.BlockSize {
				assert.NotZero(t, r.Refusing.Total.Refused)
			}
		})
	}
}

// some returns a duration below d.
func some(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// drawnTraffic returns a Traffic of one of eight sorts.
func drawnTraffic(rng *rand.Rand, name string, pods int, scale float64, v6 bool) whatif.Traffic {
	t := whatif.Traffic{Name: name}
	switch rng.IntN(5) {
	case 0:
		t.From.Count = 1 + rng.IntN(pods)
	case 1:
		t.From.Pods = fmt.Sprint("web-", rng.IntN(pods))
	case 2:
		t.From.Pods = "web"
	}
	for range 1 + rng.IntN(3) {
		a := netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + rng.IntN(100))})
		if v6 && rng.IntN(2) == 0 {
			a = netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", 1+rng.IntN(100)))
		}
		t.To = append(t.To, whatif.Destination{
			Addr: netip.AddrPortFrom(a, uint16(443+rng.IntN(2))), Addresses: []int{0, 1 + rng.IntN(3), 150}[rng.IntN(3)], Weight: 1 + rng.IntN(5),
		})
	}
	rate := func(most float64) {
		most *= scale * math.Pow(10, -2*rng.Float64())
		if t.Rate.Total = most; rng.IntN(2) == 0 {
			t.Rate = whatif.Rate{PerHost: most / float64(pods)}
		}
		t.Rate.Even = rng.IntN(4) == 0
		if rng.IntN(3) == 0 {
			for range 24 {
				t.Rate.Daily = append(t.Rate.Daily, 2*rng.Float64())
			}
		}
		for range max(0, rng.IntN(6)-3) {
			t.Rate.Bursts = append(t.Rate.Bursts, whatif.Burst{
				At: some(rng, 20*time.Minute), Length: time.Second + some(rng, time.Minute),
				Every: []time.Duration{0, 2*time.Minute + some(rng, 10*time.Minute)}[rng.IntN(2)], Factor: 10 * rng.Float64(),
			})
		}
	}
	retry := func() whatif.Retry {
		return whatif.Retry{Attempts: rng.IntN(6), Backoff: some(rng, 5*time.Second), Factor: 1 + 2*rng.Float64()}
	}
	maybe := func(d time.Duration) time.Duration { return []time.Duration{0, some(rng, d)}[rng.IntN(2)] }
	switch rng.IntN(8) {
	case 0: // requests, however they end
		rate(20)
		t.Class = whatif.Class{End: whatif.End(rng.IntN(3)), Requests: 1 + rng.IntN(3), Pause: some(rng, 5*time.Second), RTT: maybe(time.Second), Think: maybe(10 * time.Second)}
	case 1:
		rate(20)
		t.Class = whatif.Class{Kind: whatif.Pool, PoolSize: 1 + rng.IntN(8), Think: maybe(time.Second), PoolIdle: maybe(10 * time.Minute), KeepAlive: maybe(4 * time.Minute), End: whatif.End(rng.IntN(4))}
	case 2:
		rate(20)
		t.Class = whatif.Class{Kind: whatif.Lookup, CacheTTL: maybe(time.Minute), Names: rng.IntN(30), Unanswered: 0.1 * rng.Float64(), Retry: retry()}
	case 3:
		rate(0.2)
		t.Class = whatif.Class{Kind: whatif.Media, Interval: 100*time.Millisecond + some(rng, time.Second), Duration: some(rng, 2*time.Minute)}
	case 4:
		rate(2)
		t.Class = whatif.Class{End: whatif.Abandoned, KeepAlive: maybe(time.Minute)}
	case 5: // long idle, with or without keep-alive
		rate(1)
		t.Class = whatif.Class{Requests: 2 + rng.IntN(3), Pause: some(rng, 20*time.Minute), KeepAlive: maybe(10 * time.Minute), End: whatif.End(rng.IntN(4)), Retry: retry()}
	case 6: // a retry storm
		rate(2)
		t.Class = whatif.Class{Unanswered: rng.Float64(), ConnectTimeout: maybe(40 * time.Second), Retry: retry(), End: whatif.End(rng.IntN(4))}
	case 7: // a server that is down
		rate(1)
		t.Class = whatif.Class{Kind: []whatif.Kind{whatif.PerRequest, whatif.Pool, whatif.Lookup}[rng.IntN(3)], Unanswered: 1, Retry: retry()}
	}
	return t
}

// The answer holds for workloads that nobody has chosen: replays refuse nothing with it and leave the headroom, do
// not with fewer ports whatever the idle timeout, cannot be had with fewer IPs, and do not with the next longer timeout.
// Where there is none the most ports refuse, or, if there may be no cuts, the longest timeout cuts.
func TestRecommendHolds(t *testing.T) {
	n := pkttest.Operations(1, 3, 100)
	none := 0
	for seed := range uint64(n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if p, wish := drawn(rand.New(rand.NewPCG(seed, 7))); !holds(t, p, wish) {
				none++
			}
		})
	}
	assert.Less(t, none, 1+n/4)
}

// holds requires that what is recommended is as it is said to be, and returns false if nothing is.
func holds(t *testing.T, p whatif.Plan, wish whatif.Wish) bool {
	t.Helper()
	r, err := whatif.Recommend(context.Background(), p, wish)
	replay := func(change func(*overlay.LoadBalancerProfile)) (*whatif.Result, error) {
		rows, err := whatif.Sweep(context.Background(), p, []whatif.Setting{{Change: func(c *overlay.ClusterConfig, _ *whatif.Workload) {
			if r != nil {
				*c = r.Cluster
			}
			change(&c.LoadBalancerProfile)
		}}})
		require.NoError(t, err)
		return rows[0].Result, rows[0].Err
	}
	ips := func(b *overlay.LoadBalancerProfile, n int) {
		b.ManagedOutboundIPCount = n
		if b.ManagedOutboundIPCountIPv6 > 0 {
			b.ManagedOutboundIPCountIPv6 = n
		}
	}
	timeouts := slices.Clone(wish.IdleTimeouts)
	if len(timeouts) == 0 {
		for _, m := range []time.Duration{4, 5, 10, 15, 20, 30, 45} {
			if m == 4 || m*time.Minute <= p.Until {
				timeouts = append(timeouts, m*time.Minute)
			}
		}
	}
	slices.Sort(timeouts)
	cuts := func(r *whatif.Result) bool { return r.Total.Cut+r.Total.Broken > 0 }
	if wish.NoCuts && err != nil {
		require.ErrorIs(t, err, whatif.ErrNoSetting)
		got, err := replay(func(b *overlay.LoadBalancerProfile) {
			b.IdleTimeout, b.AllocatedOutboundPorts = timeouts[len(timeouts)-1], 2000
			ips(b, 100)
		})
		require.NoError(t, err)
		require.True(t, cuts(got), "%v: %+v", err, p.Workload)
		return false
	}
	require.NoError(t, err, "%+v", p.Workload)
	got, err := replay(func(*overlay.LoadBalancerProfile) {})
	require.NoError(t, err)
	require.Equal(t, r.Result, got)
	require.Zero(t, got.Total.Refused, "%+v", p.Workload)
	require.False(t, wish.NoCuts && cuts(got))
	// peak is what a node needs, and fits whether a number of ports has room for that.
	peak := func(r *whatif.Result) (most int) {
		for _, n := range r.Nodes {
			most = max(most, n.Peak)
		}
		return most
	}
	fits := func(peak, ports int) bool { return float64(peak) <= float64(ports)*(1-wish.Headroom)+1e-6 }
	require.True(t, fits(peak(got), r.Ports), "%d of %d ports", peak(got), r.Ports)
	require.False(t, r.Ports > snat.BlockSize && fits(peak(got), r.Ports-snat.BlockSize), "%d of %d ports", peak(got), r.Ports)
	got, err = replay(func(b *overlay.LoadBalancerProfile) { b.AllocatedOutboundPorts = r.Least })
	require.NoError(t, err)
	require.Zero(t, got.Total.Refused)
	for _, idle := range timeouts {
		if r.Least == snat.BlockSize {
			break
		}
		got, err = replay(func(b *overlay.LoadBalancerProfile) {
			b.AllocatedOutboundPorts, b.IdleTimeout = r.Least-snat.BlockSize, idle
		})
		require.NoError(t, err)
		if idle == r.IdleTimeout {
			require.NotZero(t, got.Total.Refused, "%d ports do, too: %+v", r.Least-8, p.Workload)
		}
		if got.Total.Refused == 0 && !(wish.NoCuts && cuts(got)) && fits(peak(got), r.Ports-snat.BlockSize) {
			t.Errorf("%d ports do with %v, %d are recommended with %v: %+v", r.Least-8, idle, r.Least, r.IdleTimeout, p.Workload)
		}
	}
	if r.IPs > 1 {
		var few *lb.InsufficientPortsError
		_, err = replay(func(b *overlay.LoadBalancerProfile) { ips(b, r.IPs-1) })
		require.ErrorAs(t, err, &few)
	}
	for _, idle := range timeouts { // those that are said to do
		if idle < r.ShortestIdle || idle >= r.IdleTimeout {
			continue
		}
		got, err = replay(func(b *overlay.LoadBalancerProfile) { b.IdleTimeout = idle })
		require.NoError(t, err)
		require.True(t, got.Total.Refused == 0 && fits(peak(got), r.Ports) && !(wish.NoCuts && cuts(got)), "%v does not: %+v", idle, p.Workload)
	}
	if i := slices.Index(timeouts, r.IdleTimeout); i+1 < len(timeouts) {
		require.Equal(t, timeouts[i+1], r.TooLong)
		got, err = replay(func(b *overlay.LoadBalancerProfile) { b.IdleTimeout = timeouts[i+1] })
		require.NoError(t, err)
		require.True(t, got.Total.Refused > 0 || !fits(peak(got), r.Ports), "%v does, too", timeouts[i+1])
	}
	return true
}
