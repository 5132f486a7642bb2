package attribution_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/attribution"
	"github.com/seed-a61be3fe/natplane/snat"
)

// shop returns a cluster with pods web-0 and web-1 on one node and batch-0 on another, each node with 8 ports, and
// a Service of the first two.
func shop() (*overlay.Cluster, error) {
	c, err := overlay.New(overlay.ClusterConfig{
		NodePools:           []overlay.NodePool{{Name: "pool", Count: 2}},
		LoadBalancerProfile: overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 8},
		Dataplane:           snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	if err != nil {
		return nil, err
	}
	nodes := c.Nodes()
	for i, name := range []string{"web-0", "web-1", "batch-0"} {
		if _, err := c.AddPod(nodes[i/2].Name, name); err != nil {
			return nil, err
		}
	}
	if _, err := c.AddService(0, overlay.Service{Name: "web", Ports: []overlay.ServicePort{{Port: 80}}}); err != nil {
		return nil, err
	}
	return c, c.SetEndpoints("web", overlay.Endpoint{Pod: "web-0"}, overlay.Endpoint{Pod: "web-1"})
}

func workload(pod string) string { return pod[:len(pod)-2] }

// dial sends so many SYNs of a pod to one destination.
func dial(c *overlay.Cluster, pod string, n int) {
	for p := range c.Pods() {
		for i := range n {
			if p.Name == pod {
				c.Outbound(0, pkttest.TCP(netip.AddrPortFrom(p.Addrs[0], uint16(40000+i)).String(), "198.51.100.9:443", pkttest.SYN))
			}
		}
	}
}

// What pods hold counts for their node, workload and Services, and so do refusals and the blame.
func TestOf(t *testing.T) {
	c, err := shop()
	require.NoError(t, err)
	defer c.Close()
	dial(c, "web-0", 6)
	dial(c, "web-1", 5)
	dial(c, "batch-0", 3)
	r := attribution.Of(c, 0, workload)
	holdings := func(all []attribution.Holding) (text []string) {
		for _, s := range all {
			assert.Equal(t, s.Ports, s.Active)
			text = append(text, fmt.Sprintf("%s %d of %d, %d suffered, %d blamed", s.Name, s.Ports, s.Created, s.Suffered, s.Blamed))
		}
		return text
	}
	assert.Equal(t, []string{"web-0 6 of 6, 0 suffered, 3 blamed", "batch-0 3 of 3, 0 suffered, 0 blamed", "web-1 2 of 2, 3 suffered, 0 blamed"}, holdings(r.Pods))
	assert.Equal(t, []string{"web 8 of 8, 3 suffered, 3 blamed"}, holdings(r.Services))
	assert.Equal(t, []string{"web 8 of 8, 3 suffered, 3 blamed", "batch 3 of 3, 0 suffered, 0 blamed"}, holdings(r.Workloads))
	assert.Equal(t, []string{"198.51.100.9:443 11 of 11, 3 suffered, 0 blamed"}, holdings(r.Destinations))
	assert.Equal(t, snat.TCP, r.Destinations[0].Protocol)
	require.Len(t, r.Nodes, 2)
	assert.Equal(t, c.Nodes()[0].Name, r.Nodes[0].Name)
	assert.Equal(t, []int{8, 3}, []int{r.Nodes[0].Ports, r.Nodes[1].Ports})
	require.NotEmpty(t, r.Stranded)
	assert.Equal(t, uint64(3), r.Stranded[0].Failed)
	assert.Equal(t, "web-1", attribution.Top(r.Pods, 1, attribution.MostSuffered)[0].Name)
	assert.Empty(t, attribution.Top(r.Pods, -1, attribution.MostNew))
	assert.Panics(t, func() { attribution.Top(nil, 1, 99) })
}

// The Deployment that is to blame for what others are refused, and the pod that it is.
func ExampleOf() {
	c, err := shop()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	dial(c, "web-0", 6)
	dial(c, "web-1", 5)
	r := attribution.Of(c, 0, workload)
	for _, s := range attribution.Top(r.Workloads, 1, attribution.MostBlamed) {
		fmt.Printf("%s: %d ports, to blame for %d refusals\n", s.Name, s.Ports, s.Blamed)
	}
	for _, s := range attribution.Top(r.Pods, 1, attribution.MostBlamed) {
		fmt.Printf("%s: %d ports\n", s.Name, s.Ports)
	}
	// Output:
	// web: 8 ports, to blame for 3 refusals
	// web-0: 6 ports
}
