package whatif_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// A Deployment opens a connection for each request to one API. How many ports does its node
// need, and from when on are there too few?
func Example() {
	workload := whatif.Workload{Seed: 1, Traffic: []whatif.Traffic{{
		Name: "orders", From: whatif.Selector{Pods: "orders"},
		To:   []whatif.Destination{{Addr: netip.MustParseAddrPort("203.0.113.9:443")}},
		Rate: whatif.Rate{PerHost: 2},
	}}}
	for _, ports := range []int{1024, 2048} {
		cluster, err := overlay.New(overlay.ClusterConfig{
			NodePools:           []overlay.NodePool{{Count: 1}},
			LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: ports},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		for i := range 3 {
			if _, err := cluster.AddPod(cluster.Nodes()[0].Name, fmt.Sprintf("orders-%d", i)); err != nil {
				fmt.Println(err)
			}
		}
		sim, err := whatif.New(whatif.Config{World: cluster, Hosts: whatif.Pods(cluster), Workload: workload})
		if err != nil {
			fmt.Println(err)
			return
		}
		sim.Advance(time.Hour)
		r := sim.Result()
		fmt.Printf("%d ports: %d of %d connections refused, peak %d\n", ports, r.Total.Refused, r.Total.Conversations, r.Nodes[0].Peak)
		if r.Total.Refused > 0 {
			fmt.Println("first after", r.Total.FirstRefused.Round(time.Second), "with", r.Peak.HeldFIN, "ports held after FIN")
		}
		cluster.Close()
	}
	after, _ := whatif.Exhaustion(1024, 6, 0, 240*time.Second)
	fmt.Println("by the closed form after", after.Round(time.Second))
	// Output:
	// 1024 ports: 13083 of 21722 connections refused, peak 1024
	// first after 2m56s with 994 ports held after FIN
	// 2048 ports: 0 of 21722 connections refused, peak 1526
	// by the closed form after 2m51s
}

func ExampleSustained() {
	fmt.Printf("NAT gateway: %.1f new flows per second to one destination\n", whatif.Sustained(1024, 0, 65*time.Second))
	fmt.Printf("leaked to an idle timeout of 30 min: %.2f\n", whatif.Sustained(1024, 0, 30*time.Minute))
	// Output:
	// NAT gateway: 15.8 new flows per second to one destination
	// leaked to an idle timeout of 30 min: 0.57
}
