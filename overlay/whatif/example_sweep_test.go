package whatif_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// plan is an hour of a Deployment of six pods on two nodes, half of whose requests are never closed.
func plan() whatif.Plan {
	to := []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.113.9:443")}}
	return whatif.Plan{
		Cluster: overlay.ClusterConfig{
			NodePools:           []overlay.NodePool{{Count: 2}},
			LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1},
		},
		Until: time.Hour,
		Workload: whatif.Workload{Seed: 1, Traffic: []whatif.Traffic{
			{Name: "orders", To: to, Rate: whatif.Rate{PerHost: 0.5}},
			{Name: "leaks", To: to, Rate: whatif.Rate{PerHost: 0.5}, Class: whatif.Class{End: whatif.Abandoned}},
		}},
		Start: start(6), // makes the cluster and its pods
		Together: func(tasks []func()) {
			var all sync.WaitGroup
			for _, t := range tasks {
				all.Go(t)
			}
			all.Wait()
		},
	}
}

func ExampleSweep() {
	rows, err := whatif.Sweep(context.Background(), plan(), whatif.Grid(
		whatif.OutboundPorts(1024, 2048), whatif.IdleTimeouts(4*time.Minute, 30*time.Minute), whatif.ConnectionReuse(false, true),
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rows {
		if r.Err != nil {
			fmt.Println(r.Setting, r.Err)
			continue
		}
		fmt.Printf("%-32s %5.1f %% refused, peak %d\n", r.Setting, 100*r.Result.Total.RefusedShare(), r.Result.Nodes[0].Peak)
	}
	// Output:
	// ports=1024 idle=4m reuse=off       0.0 % refused, peak 827
	// ports=1024 idle=4m reuse=on        0.0 % refused, peak 404
	// ports=1024 idle=30m reuse=off     81.3 % refused, peak 1024
	// ports=1024 idle=30m reuse=on      66.8 % refused, peak 1024
	// ports=2048 idle=4m reuse=off       0.0 % refused, peak 827
	// ports=2048 idle=4m reuse=on        0.0 % refused, peak 404
	// ports=2048 idle=30m reuse=off     51.8 % refused, peak 2048
	// ports=2048 idle=30m reuse=on      30.6 % refused, peak 2048
}

// What an operator can still do when the first half hour has gone wrong, which all settings have in
// common and is simulated once.
func ExampleSweep_warmUp() {
	p := plan()
	p.Cluster.LoadBalancerProfile.AllocatedOutboundPorts = 512
	p.Cluster.LoadBalancerProfile.IdleTimeout = 30 * time.Minute
	p.WarmUp = 30 * time.Minute
	rows, err := whatif.Sweep(context.Background(), p, whatif.Grid(
		whatif.OutboundPorts(512, 2048), whatif.IdleTimeouts(30*time.Minute, 4*time.Minute),
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range rows {
		if r.Err != nil {
			fmt.Println(r.Setting, r.Err)
			continue
		}
		fmt.Printf("%-20s %4.1f %% refused\n", r.Setting, 100*r.Result.Total.RefusedShare())
	}
	// Output:
	// ports=512 idle=30m   92.2 % refused
	// ports=512 idle=4m    71.5 % refused
	// ports=2048 idle=30m  62.3 % refused
	// ports=2048 idle=4m   44.3 % refused
}

func ExampleRecommend() {
	r, err := whatif.Recommend(context.Background(), plan(), whatif.Wish{Headroom: 0.2})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d IP, %d ports for each node, idle timeout %v: %d refused\n", r.IPs, r.Ports, r.IdleTimeout, r.Result.Total.Refused)
	fmt.Printf("%d would just do; with %d the first is refused after %v\n", r.Least, r.Least-8, r.Refusing.Total.FirstRefused.Round(time.Minute))
	// Output:
	// 1 IP, 1040 ports for each node, idle timeout 4m0s: 0 refused
	// 832 would just do; with 824 the first is refused after 36m0s
}

// What a flow log has recorded, in a cluster with fewer ports.
func Example_trace() {
	recorded, err := trace.Read("flows.csv", []byte(`start,src,dst,port,proto,duration,end
0,shop/web-0,203.0.113.9,443,tcp,90s,fin
0.5,shop/web-1,203.0.113.9,443,tcp,5m,open
1,shop/web-0,203.0.113.53,53,udp,20ms,
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	cluster, hosts, err := start(2)(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}, LoadBalancerProfile: overlay.LoadBalancerProfile{AllocatedOutboundPorts: 8, ManagedOutboundIPCount: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	sim, err := whatif.New(whatif.Config{World: cluster, Hosts: hosts, Workload: whatif.Workload{Trace: recorded.Flows}})
	if err != nil {
		fmt.Println(err)
		return
	}
	sim.Advance(10 * time.Minute)
	c := sim.Result().Total
	fmt.Println(c.Conversations, "conversations,", c.Completed, "completed,", c.Abandoned, "left open,", c.Refused, "refused")
	// Output:
	// 3 conversations, 2 completed, 1 left open, 0 refused
}
