package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

func TestAddPod(t *testing.T) {
	c := newCluster(t, dual(func(c *ClusterConfig) { c.NodePools[0].MaxPods = 10 }))
	node := c.Nodes()[1].Name
	p, err := c.AddPod(node, "web-1")
	require.NoError(t, err)
	require.Equal(t, Pod{Name: "web-1", Node: node, Addrs: addrs("10.244.1.2", "fd12:3456:789a:0:1::2")}, p)
	for _, a := range p.Addrs {
		got, ok := c.PodByAddr(a)
		require.True(t, ok)
		require.Equal(t, p, got)
	}
	got, ok := c.Pod("web-1")
	require.True(t, ok)
	require.Equal(t, p, got)

	_, err = c.AddPod(node, "web-1")
	require.ErrorIs(t, err, flow.ErrDuplicateName)
	_, err = c.AddPod(c.Nodes()[0].Name, "web-1")
	require.ErrorIs(t, err, flow.ErrDuplicateName)
	_, err = c.AddPod(node, "")
	require.ErrorIs(t, err, flow.ErrMissing)
	_, err = c.AddPod("aks-other", "web-2")
	require.ErrorIs(t, err, flow.ErrUnknownName)
	require.ErrorContains(t, err, `node "aks-other"`)

	for i := 2; i <= 10; i++ {
		_, err := c.AddPod(node, fmt.Sprint("web-", i))
		require.NoError(t, err)
	}
	_, err = c.AddPod(node, "web-11")
	require.ErrorIs(t, err, ErrTooManyPods)
	require.ErrorContains(t, err, "MaxPods of 10")
	require.Len(t, slices.Collect(c.Pods()), 10)

	require.NoError(t, c.RemovePod("web-1"))
	require.ErrorIs(t, c.RemovePod("web-1"), flow.ErrUnknownName)
	_, ok = c.PodByAddr(p.Addrs[0])
	require.False(t, ok)
	_, ok = c.Pod("web-1")
	require.False(t, ok)
	p, err = c.AddPod(node, "web-11")
	require.NoError(t, err)
	require.Equal(t, "10.244.1.12", p.Addrs[0].String(), "a freed address rests")
}

// The 250 pods of a full node have distinct addresses from .2 on, and every
// further pod takes the one that has rested longest.
func TestAddPod_fullNode(t *testing.T) {
	c := newCluster(t, single(nil))
	node := c.Nodes()[0].Name
	for i := range 250 {
		p, err := c.AddPod(node, fmt.Sprint(i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("10.244.0.", i+2), p.Addrs[0].String())
	}
	_, err := c.AddPod(node, "250")
	require.ErrorIs(t, err, ErrTooManyPods)
	for i := range 5 {
		require.NoError(t, c.RemovePod(fmt.Sprint(i)))
		p, err := c.AddPod(node, fmt.Sprint(250+i))
		require.NoError(t, err)
		require.Equal(t, []string{"10.244.0.252", "10.244.0.253", "10.244.0.254", "10.244.0.2", "10.244.0.3"}[i], p.Addrs[0].String())
	}
}

func TestAzureRow_11_2_pods(t *testing.T) {
	c := newCluster(t, single(func(c *ClusterConfig) {
		c.PodCIDRs = pfx("10.32.0.0/11")
		c.NodePools = []NodePool{{Count: 801}}
	}))
	nodes := c.Nodes()
	for i := range MaxPodsPerCluster {
		_, err := c.AddPod(nodes[i/250].Name, fmt.Sprint(i))
		require.NoError(t, err)
	}
	_, err := c.AddPod(nodes[800].Name, "one too many")
	require.ErrorIs(t, err, ErrTooManyPods)
	require.ErrorContains(t, err, "200000")
}

// The dull twin of the pods is a map from name to pod.
func TestPods_model(t *testing.T) {
	const seed = 7
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t, dual(func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Count: 2, MaxPods: 10}, {Count: 1, MaxPods: 250}}
		c.StrictPodAddresses = true
	}))
	nodes := c.Nodes()
	model := make(map[string]Pod)
	perNode := make(map[string]int)
	for range 5000 {
		name := fmt.Sprint("pod-", rng.IntN(300))
		if rng.IntN(5) < 2 {
			old, known := model[name]
			require.Equal(t, known, c.RemovePod(name) == nil)
			if known {
				delete(model, name)
				perNode[old.Node]--
			}
			continue
		}
		n := nodes[rng.IntN(len(nodes))]
		p, err := c.AddPod(n.Name, name)
		_, known := model[name]
		require.Equal(t, !known && perNode[n.Name] < n.MaxPods, err == nil, "%v", err)
		if err != nil {
			continue
		}
		for f, a := range p.Addrs {
			require.True(t, n.PodBlocks[f].Contains(a))
			for _, other := range model {
				require.NotEqual(t, other.Addrs[f], a)
			}
		}
		model[name] = p
		perNode[n.Name]++
	}
	byName := make(map[string]Pod)
	var last netip.Addr
	for p := range c.Pods() {
		byName[p.Name] = p
		require.True(t, last.Less(p.Addrs[0]), "ascending")
		last = p.Addrs[0]
	}
	require.Equal(t, model, byName)
	for i, n := range nodes {
		for f, block := range n.PodBlocks {
			for offset := range uint64(256) {
				a := addressing.At(block, offset)
				p, ok := c.PodByAddr(a)
				require.Equal(t, ok, c.state.Load().live[i][offset/64].Load()>>(offset%64)&1 == 1)
				if ok {
					require.Equal(t, a, p.Addrs[f])
					require.Equal(t, model[p.Name], p)
				}
			}
		}
	}
}

func TestPods_concurrently(t *testing.T) {
	c := newCluster(t, single(func(c *ClusterConfig) { c.StrictPodAddresses = true }))
	var wg sync.WaitGroup
	for _, n := range c.Nodes() {
		wg.Go(func() {
			for i := range 300 {
				p, err := c.AddPod(n.Name, fmt.Sprint(n.Name, i))
				if err != nil {
					t.Error(err)
					return
				}
				if got, ok := c.PodByAddr(p.Addrs[0]); !ok || got.Name != p.Name {
					t.Errorf("%v belongs to %q, want %q", p.Addrs[0], got.Name, p.Name)
				}
				for range c.Pods() {
					break
				}
				pkt := pkttest.UDP(fmt.Sprint(p.Addrs[0], ":5000"), "198.51.100.9:53", "x")
				if v := c.Outbound(0, pkt); v.Action != flow.Forward || int(v.Instance) != n.Index {
					t.Errorf("%s: %+v", pkttest.String(pkt), v)
				}
				if err := c.RemovePod(p.Name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, slices.Collect(c.Pods()))
}
