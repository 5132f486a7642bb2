package overlay

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

// Pools come, go and are scaled at random. A naive list of nodes says who is there; no node
// that stays loses its addresses, its pod or a flow.
func TestReconfigure_randomLife(t *testing.T) {
	const seed = 11
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := newNetwork(t, func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Name: "system", Count: 2}}
		c.LoadBalancerProfile.ManagedOutboundIPCount, c.LoadBalancerProfile.ManagedOutboundIPCountIPv6 = 1, 1
		c.LoadBalancerProfile.AllocatedOutboundPorts = 1024
	})
	known := make(map[string]Node)
	for range pkttest.Operations(40, 150, 20_000) {
		gone := ""
		switch cfg := n.Config(); rng.IntN(4) {
		case 0:
			pool := cfg.NodePools[rng.IntN(len(cfg.NodePools))].Name
			_, _, err := n.AddNodes(0, pool, 1+rng.IntN(3))
			require.NoError(t, err)
		case 1:
			nodes := n.Nodes()
			if node := nodes[rng.IntN(len(nodes))]; node.Pool != "system" {
				gone = node.Name
				_, err := n.RemoveNodes(0, gone)
				require.NoError(t, err)
			}
		default:
			cfg.NodePools = cfg.NodePools[:1]
			for i := range rng.IntN(4) {
				cfg.NodePools = append(cfg.NodePools, NodePool{Name: fmt.Sprint("user", i), Count: rng.IntN(5)})
			}
			_, err := n.Reconfigure(0, cfg)
			require.NoError(t, err)
		}
		n.consistent()
		there := make(map[string]bool)
		for _, node := range n.Nodes() {
			there[node.Name] = true
			if was, ok := known[node.Name]; ok {
				require.Equal(t, was, node)
			}
		}
		require.False(t, there[gone])
		require.Equal(t, 2*len(there)-2*newcomers(known, there), n.Stats().SessionsActive, "two flows of each that stays")
		for name := range known {
			_, ok := n.Pod("pod of " + name)
			require.Equal(t, there[name], ok)
			if !there[name] {
				delete(known, name) // a pool that comes again counts from the beginning
			}
		}
		for _, node := range n.Nodes() {
			if _, ok := known[node.Name]; !ok {
				_, err := n.AddPod(node.Name, "pod of "+node.Name)
				require.NoError(t, err)
				known[node.Name] = node
			}
			for _, to := range []string{"198.51.100.9", "10.1.77.1"} {
				v := n.Outbound(0, pkttest.UDP(endpoint(addressing.At(node.PodBlocks[ipv4], addressing.FirstPodOffset).String(), 5000), endpoint(to, 53), "q"))
				require.Equal(t, flow.Forward, v.Action, "%s: %v", node.Name, v.Reason)
				require.EqualValues(t, node.Index, v.Instance)
			}
		}
	}
}

// newcomers returns how many of the nodes that are there are not known yet.
func newcomers(known map[string]Node, there map[string]bool) (n int) {
	for name := range there {
		if _, ok := known[name]; !ok {
			n++
		}
	}
	return n
}
