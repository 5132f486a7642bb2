package kubeproxy

import (
	"fmt"
	"math/bits"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// host returns the i-th address of a node.
func host(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 224, byte(i >> 8), byte(i)}) }

// newPlain returns a proxy of n nodes.
func newPlain(t *testing.T, n int) *Proxy {
	p, err := New(Config{Shards: 2, Seed: 1, HashKey: 1})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	nodes := make([][]netip.Addr, n)
	for i := range nodes {
		nodes[i] = []netip.Addr{host(i)}
	}
	p.SetNodes(nodes)
	return p
}

// open opens a host port of a node, with an endpoint.
func (p *Proxy) open(t *testing.T, name string, node int, port uint16) {
	require.NoError(t, p.SetService(Service{
		Name: name, LoadBalancerIPs: []netip.Addr{host(node)}, OfNode: true, ExternalLocal: true,
		Ports: []Port{{Protocol: UDP, Port: port}},
	}))
	require.NoError(t, p.SetEndpoints(name, []Endpoint{{Addr: netip.AddrFrom4([4]byte{10, 244, byte(node), byte(port)}), Node: node, Ports: []uint16{8080}}}))
}

// Frontends that come and go one by one cost what they are: everything is made anew only
// each time that there are twice as many, or half as many.
func TestEverythingIsMadeAnewSeldom(t *testing.T) {
	const n = 10_000
	p := newPlain(t, 100)
	made, last := 0, p.tables.Load()
	count := func() {
		if is := p.tables.Load(); is != last {
			made, last = made+1, is
		}
	}
	for i := range n {
		p.open(t, fmt.Sprint("pod", i), i%100, uint16(40_000+i))
		count()
	}
	assert.Less(t, made, 40, "for %d frontends", n)
	assert.Equal(t, n, p.frontends.count())
	made = 0
	for i := range n {
		require.True(t, p.RemoveService(fmt.Sprint("pod", i)))
		count()
	}
	assert.Less(t, made, 40)
	assert.Zero(t, p.frontends.count())
	assert.Empty(t, p.frontends.services)
	assert.Empty(t, p.lingering)
	assert.True(t, p.Idle())
	assert.Less(t, len(p.retired), n)
}

// A node more, or less, keeps the filters.
func TestANodeMoreKeepsTheFilters(t *testing.T) {
	p := newPlain(t, 100)
	require.NoError(t, p.SetService(Service{
		Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []Port{{Protocol: UDP, Port: 53, NodePort: 30_053}},
	}))
	require.NoError(t, p.SetEndpoints("web", []Endpoint{{Addr: netip.MustParseAddr("10.244.0.2"), Node: 0, Ports: []uint16{53}}}))
	was := p.tables.Load()
	nodes := make([][]netip.Addr, 101)
	for i := range nodes {
		nodes[i] = []netip.Addr{host(i)}
	}
	p.SetNodes(nodes)
	require.Same(t, was.ports, p.tables.Load().ports)
	b := pkttest.UDP("20.0.0.1:5000", host(100).String()+":30053", "query")
	require.Equal(t, ToFrontend, p.Concerns(b))
	var pkt wire.Packet
	require.Equal(t, wire.OK, wire.Parse(b, &pkt))
	assert.Equal(t, Forward, p.Translate(0, 100, FromWire, &pkt).Action)
}

// full returns the share of a filter's bits that are set: of others as many pass.
func (f *filter) full() float64 {
	n := 0
	for i := range f.words {
		n += bits.OnesCount64(f.words[i].Load())
	}
	return float64(n) / float64(64*len(f.words))
}

// The filter of addresses has room for those of all nodes, whether the nodes come first or
// the first node port does, and does not fill up where nodes change.
func TestFiltersHaveRoomForNodesThatCome(t *testing.T) {
	const n = 5_000
	for _, nodesFirst := range []bool{true, false} {
		p := newPlain(t, 4)
		scale := func(n int, generation byte) {
			nodes := make([][]netip.Addr, n)
			for i := range nodes {
				nodes[i] = []netip.Addr{host(i), netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)})}
				if i < 100 {
					nodes[i][0] = netip.AddrFrom4([4]byte{10, 225, generation, byte(i)})
				}
			}
			p.SetNodes(nodes)
		}
		require.NoError(t, p.SetService(Service{Name: "dns", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.10")}, Ports: []Port{{Protocol: UDP, Port: 53}}}))
		if nodesFirst {
			scale(n, 0)
		}
		require.NoError(t, p.SetService(Service{
			Name: "web", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []Port{{Protocol: UDP, Port: 53, NodePort: 30_053}},
		}))
		for generation := range byte(60) {
			tables := p.tables.Load()
			require.LessOrEqual(t, tables.addrs.full(), 1.0/16, "%d nodes, first %v", len(p.nodes), nodesFirst)
			for i, node := range p.nodes {
				if !tables.toFrontend(node[0][0], 0, 30_053) {
					t.Fatalf("the filter does not know node %d", i)
				}
			}
			scale(min(n, 4+500*int(generation)), generation)
		}
	}
}

// Packets go on while all of it changes, one by one and in batches.
func TestPacketsGoOnWhileServicesChange(t *testing.T) {
	p := newPlain(t, 4)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range 2 {
		wg.Go(func() {
			b := new(Batch)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				b.Begin(p)
				for k := range 8 {
					node := (i + k) % 4
					pkt := pkttest.UDP(fmt.Sprintf("20.0.%d.1:%d", g, 5000+i%50), fmt.Sprintf("%v:%d", host(node), 40_000+k), "query")
					if k%2 == 0 {
						b.Arrive(0, [][]byte{pkt}, []flow.Verdict{{Action: flow.Forward, To: flow.Inside, Instance: uint32(node)}})
						continue
					}
					it := b.Next()
					*it = Item{Node: int32(node), Then: -1, From: FromWire, Concern: p.Concerns(pkt)}
					wire.Parse(pkt, &it.Packet)
					b.Add()
				}
				b.Run(0)
			}
		})
	}
	for i := range pkttest.Operations(200, 1_000, 10_000) {
		name := fmt.Sprint("pod", i%8)
		p.open(t, name, i%4, uint16(40_000+i%8))
		if i%3 == 0 {
			p.RemoveService(name)
		}
		if i%50 == 0 {
			nodes := make([][]netip.Addr, 4+i/50%2)
			for i := range nodes {
				nodes[i] = []netip.Addr{host(i)}
			}
			p.SetNodes(nodes)
		}
	}
	close(stop)
	wg.Wait()
}
