package upgrade_test

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
)

// An upgrade in virtual time. A pod that moves serves no Service any more until it is made an
// endpoint again, as Kubernetes does once it is ready.
func Example() {
	cluster, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "apps", Count: 2}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	for i, node := range cluster.Nodes() {
		if _, err := cluster.AddPod(node.Name, fmt.Sprintf("web-%d", i)); err != nil {
			fmt.Println(err)
			return
		}
	}
	web := overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}}
	if _, err := cluster.AddService(flow.At(0), web); err != nil {
		fmt.Println(err)
		return
	}
	u, err := upgrade.Start(cluster, flow.At(0), "apps", upgrade.Settings{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for at := flow.At(0); ; {
		steps, err := u.Advance(at)
		if err != nil {
			fmt.Println(err)
			return
		}
		var endpoints []overlay.Endpoint
		for pod := range cluster.Pods() { // all that run; others are in u.Waiting
			endpoints = append(endpoints, overlay.Endpoint{Pod: pod.Name})
		}
		if err := cluster.SetEndpoints("web", endpoints...); err != nil {
			fmt.Println(err)
			return
		}
		for _, s := range steps {
			fmt.Println(s.At, s.Action, s.Nodes)
		}
		next, ok := u.NextDeadline()
		if !ok {
			break
		}
		at = next
		cluster.Advance(at, nil) // what is due before the next step
	}
	for pod := range cluster.Pods() {
		fmt.Println(pod.Name, "runs on", pod.Node)
	}
	fmt.Println(len(cluster.Services()[0].Endpoints), "endpoints")
	// Output:
	// 0s surge [aks-apps-vmss000002]
	// 0s cordon [aks-apps-vmss000000]
	// 1m0s drain [aks-apps-vmss000000]
	// 1m0s reimage [aks-apps-vmss000000]
	// 6m0s ready [aks-apps-vmss000000]
	// 6m0s cordon [aks-apps-vmss000001]
	// 7m0s drain [aks-apps-vmss000001]
	// 7m0s reimage [aks-apps-vmss000001]
	// 12m0s ready [aks-apps-vmss000001]
	// 12m0s cordon [aks-apps-vmss000002]
	// 13m0s drain [aks-apps-vmss000002]
	// 13m0s remove [aks-apps-vmss000002]
	// web-1 runs on aks-apps-vmss000000
	// web-0 runs on aks-apps-vmss000001
	// 2 endpoints
}
