package apiserver_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/apiserver"
)

// The ports that nodes use before any workload runs: one for the kubelet, one for each system pod.
func ExampleTraffic() {
	cluster, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 3}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	nodes := cluster.Nodes()
	for pod, node := range []int{0, 0, 1} {
		if _, err := cluster.AddPod(nodes[node].Name, fmt.Sprint("kube-system/coredns-", pod)); err != nil {
			fmt.Println(err)
			return
		}
	}
	traffic, err := apiserver.New(apiserver.Config{Cluster: cluster, Server: netip.MustParseAddrPort("203.0.113.80:443")})
	if err != nil {
		fmt.Println(err)
		return
	}
	end := flow.At(5 * time.Minute)
	for {
		at, ok := traffic.NextDeadline()
		if !ok || at > end {
			break
		}
		cluster.Advance(at, nil)
		traffic.Advance(at)
	}
	for i, s := range cluster.Instances() {
		fmt.Println(nodes[i].Name, s.Pools[0].Protocol, "ports used:", s.Pools[0].Used)
	}
	s := traffic.Stats()
	fmt.Println(s.Open, "connections,", s.KeepAlives, "keep-alives,", s.Cut, "cut")
	traffic.Close(end)
	fmt.Println(traffic.Stats().Closed, "closed")
	// Output:
	// aks-nodepool1-vmss000000 TCP ports used: 3
	// aks-nodepool1-vmss000001 TCP ports used: 2
	// aks-nodepool1-vmss000002 TCP ports used: 1
	// 6 connections, 60 keep-alives, 0 cut
	// 6 closed
}
