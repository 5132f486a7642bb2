package overlay_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// A cluster is written and restored, and the answer to a query from before still finds its pod. What belongs
// to a snapshot is the configuration that was in force; with another one it is refused.
func ExampleRestore() {
	cluster, err := overlay.New(overlay.ClusterConfig{Name: "aks", NodePools: []overlay.NodePool{{Count: 2}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	pod, err := cluster.AddPod(cluster.Nodes()[1].Name, "resolver")
	if err != nil {
		fmt.Println(err)
		return
	}
	query := pkttest.UDP(fmt.Sprint(pod.Addrs[0], ":41000"), "198.51.100.53:53", "A example.com?")
	fmt.Println(cluster.Outbound(0, query).Action, pkttest.String(query))
	var file bytes.Buffer
	if err := cluster.Snapshot(&file); err != nil {
		fmt.Println(err)
		return
	}
	config := cluster.Config()
	cluster.Close()

	restored, err := overlay.Restore(config, bytes.NewReader(file.Bytes()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer restored.Close()
	answer := pkttest.UDP("198.51.100.53:53", "20.50.1.1:2048", "203.0.113.1")
	fmt.Println(restored.Inbound(flow.At(20_000_000), answer).Action, pkttest.String(answer))

	config.NodePools[0].Count = 3
	_, err = overlay.Restore(config, bytes.NewReader(file.Bytes()))
	fmt.Println(errors.Is(err, flow.ErrOtherConfig), err)
	// Output:
	// forward UDP 20.50.1.1:2048 > 198.51.100.53:53 len=14
	// forward UDP 198.51.100.53:53 > 10.244.1.2:41000 len=11
	// true cluster aks: the snapshot is of another configuration: NodePools[0] is another one
}
