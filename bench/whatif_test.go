package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// BenchmarkWorkload simulates connections of a workload, from SYN to the last ACK and, in the
// world, the end of their holds, through a cluster of 100 nodes and 800 pods: 1,400 a second to 20
// destinations. Figures are per connection; packets/conn are those that hosts and destinations
// send.
func BenchmarkWorkload(b *testing.B) {
	const rate = 1400
	c, _ := newCluster(b, 100*portsPerInstance, false)
	defer c.Close()
	s, err := whatif.New(whatif.Config{World: c, Hosts: whatif.Pods(c), Workload: whatif.Workload{Traffic: []whatif.Traffic{{
		Name: "requests", Rate: whatif.Rate{Total: rate, Even: true},
		To: []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.113.1:443"), Addresses: 20}},
	}}}})
	if err != nil {
		b.Fatal(err)
	}
	const warm = 5 * time.Minute // until as many holds end as begin
	s.Advance(warm)
	before := s.Result()
	b.ReportAllocs()
	b.ResetTimer()
	s.Advance(warm + time.Duration(b.N)*time.Second/rate)
	b.StopTimer()
	r := s.Result()
	if r.Total.Refused > 0 || r.Total.Broken > 0 {
		b.Fatalf("%+v", r.Total)
	}
	n := float64(r.Total.Conversations - before.Total.Conversations)
	b.ReportMetric(float64(r.Outbound+r.Inbound-before.Outbound-before.Inbound)/max(n, 1), "packets/conn")
}

// BenchmarkRecommend is how long it takes to find the cheapest setting for 100 nodes with 30 pods
// each, an hour and five million connections of five classes, with a goroutine for each task. It is
// for NATPLANE_BENCH_LARGE. sims are the simulations that were begun.
func BenchmarkRecommend(b *testing.B) {
	if os.Getenv("NATPLANE_BENCH_LARGE") == "" {
		b.Skip("takes minutes: set NATPLANE_BENCH_LARGE")
	}
	to := []whatif.Destination{
		{Addr: netip.MustParseAddrPort("203.0.113.1:443"), Addresses: 4, Weight: 3},
		{Addr: netip.MustParseAddrPort("198.51.100.1:443"), Addresses: 16},
	}
	var sims atomic.Int64
	plan := whatif.Plan{
		Cluster: overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 100, MaxPods: 50}}},
		Until:   time.Hour,
		Workload: whatif.Workload{Seed: 1, Traffic: []whatif.Traffic{
			{Name: "requests", To: to, Rate: whatif.Rate{Total: 1000}},
			{Name: "server", To: to, Rate: whatif.Rate{Total: 250}, Class: whatif.Class{End: whatif.ServerCloses, Requests: 3, Pause: 2 * time.Second}},
			{Name: "dns", To: to[:1], Rate: whatif.Rate{Total: 150}, Class: whatif.Class{Kind: whatif.Lookup}},
			{Name: "pool", To: to, Rate: whatif.Rate{Total: 100}, Class: whatif.Class{Kind: whatif.Pool}},
			{Name: "leak", To: to, Rate: whatif.Rate{Total: 20}, Class: whatif.Class{End: whatif.Abandoned}},
		}},
		Start: func(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
			sims.Add(1)
			cluster, err := overlay.New(c)
			if err != nil {
				return nil, nil, err
			}
			for _, n := range cluster.Nodes() {
				for i := range 30 {
					if _, err := cluster.AddPod(n.Name, fmt.Sprintf("%s-%d", n.Name, i)); err != nil {
						cluster.Close()
						return nil, nil, err
					}
				}
			}
			return cluster, whatif.Pods(cluster), nil
		},
		Together: func(tasks []func()) {
			var all sync.WaitGroup
			for _, t := range tasks {
				all.Go(t)
			}
			all.Wait()
		},
	}
	for b.Loop() {
		r, err := whatif.Recommend(context.Background(), plan, whatif.Wish{})
		if err != nil {
			b.Fatal(err)
		}
		if r.Result.Total.Refused > 0 || r.Refusing.Total.Refused == 0 {
			b.Fatalf("%d ports: %+v, %+v", r.Ports, r.Result.Total, r.Refusing.Total)
		}
		b.ReportMetric(float64(r.Result.Total.Conversations), "conns")
		b.ReportMetric(float64(r.Ports), "ports")
		b.ReportMetric(r.IdleTimeout.Minutes(), "idle-min")
		b.ReportMetric(float64(sims.Swap(0)), "sims")
	}
}
