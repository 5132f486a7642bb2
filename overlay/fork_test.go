package overlay_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/digest"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/snat"
)

// forkedConfig is a cluster with static gateways, ceilings, and strict addresses.
func forkedConfig(c *overlay.ClusterConfig) {
	c.StrictPodAddresses = true
	c.Ceilings = ceilings.Limits{VMConnections: 40, DNSQueries: 1}
	c.CountTraffic = true
}

// clusterPlay drives a cluster at random.
type clusterPlay struct {
	*rand.Rand
	*digest.Digest
	t   *testing.T
	c   *overlay.Cluster
	now time.Duration
	n   int // pods made
}

func (p *clusterPlay) step() {
	pods := slices.Collect(p.c.Pods())
	switch n := p.IntN(100); {
	case n < 70 && len(pods) > 0:
		pod := pods[p.IntN(len(pods))]
		dst := []string{"198.51.100.7:443", "198.51.100.8:53", "203.0.113.9:80", "168.63.129.16:53"}[p.IntN(4)]
		src := netip.AddrPortFrom(pod.Addrs[0], uint16(5000+p.IntN(30))).String()
		pkt := pkttest.UDP(src, dst, "query")
		if p.IntN(2) == 0 {
			pkt = pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1000))
		}
		p.Note("%v %x", p.c.Outbound(flow.At(p.now), pkt), pkt)
	case n < 74:
		p.n++
		pod, err := p.c.AddPod(p.c.Nodes()[p.IntN(2)].Name, fmt.Sprintf("shop/more%d", p.n))
		require.NoError(p.t, err)
		p.Note("%v", pod)
		if p.IntN(2) == 0 {
			require.NoError(p.t, p.c.UseStaticGateway(pod.Name, []string{"shop/own", "shop/made"}[p.IntN(2)]))
		}
	case n < 77 && len(pods) > 4:
		require.NoError(p.t, p.c.RemovePod(pods[p.IntN(len(pods))].Name))
	case n < 97:
		p.now += time.Duration(p.IntN(9000)) * time.Millisecond
		p.c.Advance(flow.At(p.now), func(m flow.Emission) { p.Note("%v %v %d %x", m.At, m.To, m.Instance, m.Packet) })
	case n < 98:
		nodes, change, err := p.c.AddNodes(flow.At(p.now), "p", 1)
		require.NoError(p.t, err)
		p.Note("%v %+v", nodes, change)
	default:
		var names []string
		for _, n := range p.c.Nodes()[2:] {
			if n.Pool == "p" {
				names = append(names, n.Name)
			}
		}
		if len(names) > 0 {
			change, err := p.c.RemoveNodes(flow.At(p.now), names[0])
			require.NoError(p.t, err)
			p.Note("%+v", change)
		}
	}
}

// seenOf is all that can be seen of a cluster.
func seenOf(c *overlay.Cluster) (all []string) {
	at, ok := c.NextDeadline()
	stats := c.Stats()
	stats.Bytes = 0 // one that is restored takes as much memory as it needs
	for _, x := range []any{stats, slices.Collect(c.Pods()), c.Nodes(), c.StaticGateways(), c.Metrics(), c.Traffic(), c.Connections(), at, ok} {
		all = append(all, fmt.Sprintf("%+v", x))
	}
	for s := range c.Sessions() {
		all = append(all, fmt.Sprintf("%+v", s))
	}
	return all
}

func newClusterPlay(t *testing.T, seed uint64) *clusterPlay {
	s := gatewayCluster(t, forkedConfig)
	for i := range 4 {
		require.NoError(t, s.UseStaticGateway(fmt.Sprintf("shop/pod%d", i), "shop/own"))
	}
	return &clusterPlay{Rand: rand.New(rand.NewPCG(seed, 3)), Digest: digest.New(), t: t, c: s.Cluster}
}

func (p *clusterPlay) forked() *overlay.Cluster {
	copied, err := p.c.Fork(overlay.Ties{})
	require.NoError(p.t, err)
	p.t.Cleanup(copied.Close)
	return copied
}

// A cluster whose copy, or what is restored of it, goes on in its place, again and again, does what one does
// that goes on itself.
func TestCopiedClusterGoesOn(t *testing.T) {
	pkttest.OneGoroutine(t)
	for seed := range uint64(2) {
		for name, again := range map[string]func(*clusterPlay) *overlay.Cluster{"forked": (*clusterPlay).forked, "restored": (*clusterPlay).restored} {
			whole, copies := newClusterPlay(t, seed), newClusterPlay(t, seed)
			for i := range 2000 {
				whole.step()
				copies.step()
				if i%200 == 199 {
					copied := again(copies)
					before := seenOf(copies.c)
					require.Equal(t, before, seenOf(copied), "%s, seed %d", name, seed)
					copies.c.Close()
					require.Equal(t, before, seenOf(copied), "%s, seed %d", name, seed)
					copies.c = copied
				}
			}
			require.Equal(t, whole.String(), copies.String(), "%s, seed %d", name, seed)
			drops := whole.c.Stats().Outbound.Drops
			require.NotZero(t, drops[flow.ReasonVMConnections], "ceilings are reached")
			require.NotZero(t, drops[flow.ReasonDNSQueries])
		}
	}
}

// Whatever a copy does, the original goes on as another copy that is driven like it.
func TestForkedClusterIsIndependent(t *testing.T) {
	p := newClusterPlay(t, 5)
	for range 500 {
		p.step()
	}
	drive := func(c *overlay.Cluster, by uint64) string {
		q := *p
		q.c, q.Rand, q.Digest = c, rand.New(rand.NewPCG(by, 4)), digest.New()
		for range 500 {
			q.step()
		}
		return q.String()
	}
	same, other := p.forked(), p.forked()
	before := seenOf(p.c)
	strange := drive(other, 1)
	require.Equal(t, before, seenOf(p.c))
	alike := drive(same, 2)
	require.Equal(t, before, seenOf(p.c))
	left := seenOf(other)
	require.Equal(t, alike, drive(p.c, 2))
	require.Equal(t, seenOf(p.c), seenOf(same))
	require.Equal(t, left, seenOf(other))
	require.NotEqual(t, alike, strange)
}

// Copies are made while others send and pods come and go.
func TestForkedClusterWhileOthersSend(t *testing.T) {
	p := newClusterPlay(t, 1)
	pods := slices.Collect(p.c.Pods())
	var stop atomic.Bool
	var senders, begun sync.WaitGroup
	begun.Add(2)
	for g := range 2 {
		senders.Go(func() {
			for i := 0; !stop.Load(); i++ {
				if i == 1 {
					begun.Done()
				}
				src := netip.AddrPortFrom(pods[(2*i+g)%len(pods)].Addrs[0], uint16(5000+i%20)).String()
				p.c.Outbound(flow.At(time.Minute), pkttest.UDP(src, "198.51.100.7:443", "query"))
			}
		})
	}
	senders.Go(func() {
		for i := 0; !stop.Load(); i++ {
			name := fmt.Sprint("shop/brief", i)
			if _, err := p.c.AddPod(p.c.Nodes()[0].Name, name); err != nil {
				t.Error(err)
				return
			}
			if err := p.c.RemovePod(name); err != nil {
				t.Error(err)
				return
			}
		}
	})
	begun.Wait()
	for range 20 {
		copied, err := p.c.Fork(overlay.Ties{})
		require.NoError(t, err)
		copied.Advance(flow.At(240*time.Hour), nil)
		require.Zero(t, copied.Stats().SessionsActive)
		copied.Close()
	}
	stop.Store(true)
	senders.Wait()
}

// A copy is tied to what it is given.
func TestForkedClusterTies(t *testing.T) {
	asked := map[string]int{}
	policy := func(of string) func(snat.NewFlow) bool {
		return func(snat.NewFlow) bool { asked["policy "+of]++; return true }
	}
	admit := func(of string) func(snat.NewFlow) flow.Reason {
		return func(snat.NewFlow) flow.Reason { asked["admit "+of]++; return flow.ReasonNone }
	}
	hooks := func(of string) snat.Hooks {
		return snat.Hooks{SessionCreated: func(flow.Time, uint32, flow.Info) { asked["told "+of]++ }}
	}
	s := gatewayCluster(t, func(c *overlay.ClusterConfig) {
		forkedConfig(c)
		c.NetworkPolicy, c.Admit, c.Hooks = policy("original"), admit("original"), hooks("original")
	})
	sends := func(c *overlay.Cluster) {
		pkt := pkttest.UDP(s.addr("shop/pod0")+":5000", "198.51.100.7:443", "query")
		require.Equal(t, flow.Forward, c.Outbound(0, pkt).Action)
	}
	own, err := s.Fork(overlay.Ties{Ties: snat.Ties{Admit: admit("copy"), Hooks: hooks("copy")}, NetworkPolicy: policy("copy")})
	require.NoError(t, err)
	defer own.Close()
	sends(own)
	require.Equal(t, map[string]int{"policy copy": 1, "admit copy": 1, "told copy": 1}, asked)
	clear(asked)
	_, _, err = own.AddNodes(0, "p", 1) // the configuration asks the same
	require.NoError(t, err)
	own.Advance(flow.At(time.Hour), nil)
	sends(own)
	require.Equal(t, map[string]int{"policy copy": 1, "admit copy": 1, "told copy": 1}, asked)
	clear(asked)
	silent, err := s.Fork(overlay.Ties{})
	require.NoError(t, err)
	sends(silent)
	require.Equal(t, map[string]int{"policy original": 1, "admit original": 1}, asked)
	silent.Close()
	_, err = silent.Fork(overlay.Ties{})
	require.ErrorIs(t, err, flow.ErrClosed)
	sends(s.Cluster)
}
