package upgrade

import (
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// network is a cluster in a test.
type network struct {
	*testing.T
	*overlay.Cluster
}

// newNetwork starts a cluster of one family for the duration of a test.
func newNetwork(t *testing.T, edit func(*overlay.ClusterConfig)) *network {
	var c overlay.ClusterConfig
	edit(&c)
	n, err := overlay.New(c)
	require.NoError(t, err)
	t.Cleanup(n.Close)
	return &network{t, n}
}

func (n *network) pod(node, name string) {
	n.Helper()
	_, err := n.AddPod(node, name)
	require.NoError(n, err)
}

// change reconfigures a cluster by an edit of what is in force.
func (n *network) change(edit func(*overlay.ClusterConfig)) {
	n.Helper()
	cfg := n.Config()
	edit(&cfg)
	_, err := n.Reconfigure(0, cfg)
	require.NoError(n, err)
}

// A pool of 100 nodes with a surge of a third at 80 % port use: the nodes of another pool
// keep every flow, the ports add up at every step, and all pods run in the end.
func TestUpgrade_hundredNodesUnderTraffic(t *testing.T) {
	const ports = 448 // of 139 nodes with all surge: 62,272 of 64,000
	n := newNetwork(t, func(c *overlay.ClusterConfig) {
		c.LoadBalancerProfile = overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: ports}
		c.NodePools = []overlay.NodePool{{Name: "up", Count: 100, MaxSurge: "33%"}, {Name: "stay", Count: 5}}
	})
	for i, node := range n.Nodes() {
		n.pod(node.Name, fmt.Sprint("pod", i))
		pod := addressing.At(node.PodBlocks[0], 2).String()
		for k := range ports * 8 / 10 {
			v := n.Outbound(0, pkttest.UDP(fmt.Sprint(pod, ":", 1000+k), "198.51.100.9:53", "q"))
			require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		}
	}
	u, err := Start(n.Cluster, 0, "up", Settings{})
	require.NoError(t, err)
	most, steps, touched := 0, 0, map[string]bool{}
	for at, more := u.NextDeadline(); more; at, more = u.NextDeadline() {
		done, err := u.Advance(at)
		require.NoError(t, err)
		steps += len(done)
		for _, s := range done {
			for _, name := range s.Nodes {
				touched[name] = true
			}
		}
		nodes := n.Nodes()
		most = max(most, len(nodes))
		owner := map[string]string{}
		for _, a := range n.Allocations() {
			require.Equal(t, ports, a.Total(snat.UDP, false), a.Instance)
			require.Equal(t, ports, a.Total(snat.TCP, false), a.Instance)
			for _, r := range a.Ports {
				for first := int(r.First); first < int(r.First)+r.Count; first += snat.BlockSize {
					block := fmt.Sprint(r.Frontend, r.Protocol, first)
					require.Empty(t, owner[block], "%s is also of %s", block, a.Instance)
					owner[block] = a.Instance
				}
			}
		}
		require.Len(t, n.Allocations(), len(nodes))
		for _, node := range nodes {
			if touched[node.Name] {
				continue // its pods have gone elsewhere
			}
			pod := addressing.At(node.PodBlocks[0], 2).String()
			for k := range ports * 8 / 10 {
				v := n.Outbound(at, pkttest.UDP(fmt.Sprint(pod, ":", 1000+k), "198.51.100.9:53", "q"))
				require.True(t, v.Action == flow.Forward && !v.New, "%v: its flow goes on", at)
			}
		}
		require.Empty(t, u.Waiting())
	}
	require.Equal(t, 138, most, "33 surge nodes")
	require.Equal(t, 1+4*4+3, steps)
	require.Len(t, n.Nodes(), 105)
	for i := range 105 {
		pod, ok := n.Pod(fmt.Sprint("pod", i))
		require.True(t, ok)
		require.False(t, n.Cordoned(pod.Node))
	}
}

func TestStart(t *testing.T) {
	n := newNetwork(t, func(c *overlay.ClusterConfig) {
		c.NodePools = []overlay.NodePool{{Name: "a", Count: 2}, {Name: "none", Count: 0}, {Name: "still", Count: 3, MaxSurge: "0", MaxPods: 10}}
	})
	for name, tt := range map[string]struct {
		pool string
		s    Settings
		is   error
	}{
		"no such pool":         {"x", Settings{}, flow.ErrUnknownName},
		"a long soak":          {"a", Settings{SoakTime: time.Hour}, flow.ErrOutOfRange},
		"a negative drain":     {"a", Settings{DrainTime: -1}, flow.ErrOutOfRange},
		"negative unavailable": {"a", Settings{MaxUnavailable: -1}, flow.ErrOutOfRange},
		"neither":              {"still", Settings{}, flow.ErrOutOfRange},
	} {
		_, err := Start(n.Cluster, 0, tt.pool, tt.s)
		require.ErrorIs(t, err, tt.is, name)
	}
	u, err := Start(n.Cluster, 0, "none", Settings{})
	require.NoError(t, err)
	_, more := u.NextDeadline()
	require.False(t, more, "a pool of 0 nodes surges 0")

	u, err = Start(n.Cluster, 0, "a", Settings{})
	require.NoError(t, err)
	_, err = u.Advance(0)
	require.NoError(t, err)
	require.Len(t, n.Nodes(), 6)
	n.change(func(*overlay.ClusterConfig) {}) // which counts nodes anew
	require.Len(t, n.Nodes(), 5)
	_, err = u.Advance(flow.At(time.Hour))
	require.NoError(t, err)
	require.Len(t, n.Nodes(), 5)

	u, err = Start(n.Cluster, flow.At(time.Hour), "still", Settings{MaxUnavailable: 2, SoakTime: time.Minute})
	require.NoError(t, err)
	done, err := u.Advance(flow.At(time.Hour))
	require.NoError(t, err)
	require.Equal(t, []Step{{flow.At(time.Hour), Cordon, []string{"aks-still-vmss000000", "aks-still-vmss000001"}}}, done)
	done, err = u.Advance(flow.At(2 * time.Hour))
	require.NoError(t, err)
	require.Len(t, done, 7)
	require.Equal(t, flow.At(time.Hour+14*time.Minute), done[6].At)
	require.Equal(t, "ready", done[6].Action.String())
}

// Where the ports do not suffice for all surge nodes there is one, else what may be
// unavailable is, else the upgrade waits until they suffice.
func TestAzureRow_11_4_surge_fallback(t *testing.T) {
	start := func(more int, s Settings) (*network, *Upgrade) {
		n := newNetwork(t, func(c *overlay.ClusterConfig) {
			c.LoadBalancerProfile = overlay.LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 9136} // of 7 nodes
			c.NodePools = []overlay.NodePool{{Name: "a", Count: 4, MaxSurge: "3"}}
		})
		_, _, err := n.AddNodes(0, "a", more)
		require.NoError(t, err)
		u, err := Start(n.Cluster, 0, "a", s)
		require.NoError(t, err)
		return n, u
	}
	n, u := start(2, Settings{})
	steps, err := u.Advance(0)
	require.NoError(t, err)
	require.Equal(t, []Action{Surge, Cordon}, []Action{steps[0].Action, steps[1].Action})
	require.Len(t, steps[0].Nodes, 1)
	require.Len(t, n.Nodes(), 7)
	steps, err = u.Advance(flow.At(2 * time.Hour))
	require.NoError(t, err)
	require.Equal(t, Remove, steps[len(steps)-1].Action)
	require.Len(t, n.Nodes(), 6)

	n, u = start(3, Settings{MaxUnavailable: 2})
	steps, err = u.Advance(0)
	require.NoError(t, err)
	require.Len(t, steps, 1)
	require.Equal(t, Cordon, steps[0].Action)
	require.Len(t, steps[0].Nodes, 2)
	require.Len(t, n.Nodes(), 7)

	n, u = start(3, Settings{})
	for range 2 {
		_, err = u.Advance(0)
		require.ErrorIs(t, err, lb.ErrInsufficientOutboundPorts)
		require.ErrorContains(t, err, `upgrade of node pool "a": surge`)
		at, more := u.NextDeadline()
		require.True(t, more && at == 0, "it is next again")
	}
	n.change(func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.ManagedOutboundIPCount = 2 })
	steps, err = u.Advance(0)
	require.NoError(t, err)
	require.Equal(t, Surge, steps[0].Action)
}

// Two surge nodes for a pool of five: nodes are cordoned, drained, soak and are made anew two by
// two, pods move to the buffers, and the surge nodes go last.
func TestAzureRow_11_4_upgradeOrder(t *testing.T) {
	n := newNetwork(t, func(c *overlay.ClusterConfig) { c.NodePools = []overlay.NodePool{{Name: "a", Count: 5, MaxSurge: "2"}} })
	for i, node := range n.Nodes() {
		n.pod(node.Name, fmt.Sprint("p", i))
	}
	u, err := Start(n.Cluster, 0, "a", Settings{DrainTime: 2 * time.Minute, SoakTime: time.Minute, ReimageTime: 4 * time.Minute})
	require.NoError(t, err)
	var got []string
	for at, more := u.NextDeadline(); more; at, more = u.NextDeadline() {
		steps, err := u.Advance(at)
		require.NoError(t, err)
		for _, s := range steps {
			got = append(got, fmt.Sprint(time.Duration(s.At), " ", s.Action, " ", len(s.Nodes)))
			for _, node := range s.Nodes {
				if _, stays := n.Node(node); !stays {
					continue // removed at the same time
				}
				require.Equal(t, s.Action != Surge && s.Action != Ready && s.Action != Remove, n.Cordoned(node), "%v %s", s, node)
				require.True(t, s.Action != Drain || len(slices.Collect(podsOf(n, node))) == 0, "%v", s)
			}
		}
		require.Empty(t, u.Waiting())
		require.Equal(t, 5, len(slices.Collect(n.Pods())))
	}
	require.Equal(t, []string{
		"0s surge 2", "0s cordon 2", "2m0s drain 2", "3m0s reimage 2", "7m0s ready 2", "7m0s cordon 2", "9m0s drain 2", "10m0s reimage 2", "14m0s ready 2",
		"14m0s cordon 1", "16m0s drain 1", "17m0s reimage 1", "21m0s ready 1", "21m0s cordon 2", "23m0s drain 2", "23m0s remove 2",
	}, got)
	require.Len(t, n.Nodes(), 5)
}

// podsOf yields the pods of a node.
func podsOf(n *network, node string) iter.Seq[overlay.Pod] {
	return func(yield func(overlay.Pod) bool) {
		for p := range n.Pods() {
			if p.Node == node && !yield(p) {
				return
			}
		}
	}
}
