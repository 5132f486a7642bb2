// The built-in cluster and workload: a shop whose pods do what operators see most.

package planner

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// perNode are the pods that each node of the built-in cluster runs, by the name of their
// Deployment.
var perNode = []struct {
	name string
	pods int
}{{"orders", 6}, {"worker", 3}, {"web", 6}}

// builtIn returns the built-in cluster: three nodes, one outbound IP and else the defaults of AKS.
// More nodes run more pods.
func builtIn() *Site {
	return &Site{
		Config: overlay.ClusterConfig{
			NodePools:           []overlay.NodePool{{Name: "nodepool1", Count: 3}},
			LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1},
		},
		Start: func(c overlay.ClusterConfig) (*Running, error) {
			cluster, err := overlay.New(c)
			if err != nil {
				return nil, err
			}
			for i, n := range cluster.Nodes() {
				for _, d := range perNode {
					for j := range d.pods {
						if _, err := cluster.AddPod(n.Name, fmt.Sprintf("%s-%d", d.name, i*d.pods+j)); err != nil {
							cluster.Close()
							return nil, err
						}
					}
				}
			}
			return &Running{Cluster: cluster, Hosts: whatif.Pods(cluster)}, nil
		},
	}
}

// builtInWorkload returns the traffic of the built-in cluster. Rates are such that the defaults of
// AKS last on a quiet day, and not in a rush.
func builtInWorkload() whatif.Workload {
	to := func(addr string) []whatif.Destination {
		return []whatif.Destination{{Addr: netip.MustParseAddrPort(addr)}}
	}
	return whatif.Workload{Traffic: []whatif.Traffic{
		{ // a connection for each request, and a rush
			Name: "payments", From: whatif.Selector{Pods: "orders"}, To: to("203.0.113.9:443"),
			Rate: whatif.Rate{PerHost: 0.35, Bursts: []whatif.Burst{{At: 40 * time.Minute, Length: 6 * time.Minute, Factor: 3.5}}},
		},
		{ // connections that nobody closes
			Name: "telemetry", From: whatif.Selector{Pods: "worker"}, To: to("203.0.113.9:443"),
			Rate:  whatif.Rate{PerHost: 0.08},
			Class: whatif.Class{End: whatif.Abandoned},
		},
		{ // kept and used again
			Name: "search", From: whatif.Selector{Pods: "web"}, To: to("198.51.100.30:443"),
			Rate:  whatif.Rate{PerHost: 0.5},
			Class: whatif.Class{Kind: whatif.Pool},
		},
		{ // silent for longer than a short idle timeout, and then used again
			Name: "events", From: whatif.Selector{Pods: "web"}, To: to("198.51.100.40:5671"),
			Rate:  whatif.Rate{PerHost: 0.001},
			Class: whatif.Class{Requests: 3, Pause: 8 * time.Minute},
		},
		{ // a name server on the Internet, without a cache
			Name: "names", From: whatif.Selector{Pods: "orders"}, To: to("198.51.100.53:53"),
			Rate:  whatif.Rate{PerHost: 0.05},
			Class: whatif.Class{Kind: whatif.Lookup},
		},
	}}
}
