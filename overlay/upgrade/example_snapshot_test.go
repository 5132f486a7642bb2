package upgrade_test

import (
	"bytes"
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
)

// A cluster is written in the middle of an upgrade, and the upgrade behind it; both go on together.
func ExampleRestore() {
	cluster, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "apps", Count: 1}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	u, err := upgrade.Start(cluster, flow.At(0), "apps", upgrade.Settings{})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := u.Advance(flow.At(0)); err != nil { // the surge node is there
		fmt.Println(err)
		return
	}
	var file bytes.Buffer
	if err := cluster.Snapshot(&file); err != nil {
		fmt.Println(err)
		return
	}
	if err := u.Snapshot(&file); err != nil {
		fmt.Println(err)
		return
	}
	config := cluster.Config()
	cluster.Close()

	if cluster, err = overlay.Restore(config, &file); err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	if u, err = upgrade.Restore(cluster, &file); err != nil {
		fmt.Println(err)
		return
	}
	for at, more := u.NextDeadline(); more; at, more = u.NextDeadline() {
		steps, err := u.Advance(at)
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, s := range steps {
			fmt.Println(s.At, s.Action, s.Nodes)
		}
	}
	// Output:
	// 1m0s drain [aks-apps-vmss000000]
	// 1m0s reimage [aks-apps-vmss000000]
	// 6m0s ready [aks-apps-vmss000000]
	// 6m0s cordon [aks-apps-vmss000001]
	// 7m0s drain [aks-apps-vmss000001]
	// 7m0s remove [aks-apps-vmss000001]
}
