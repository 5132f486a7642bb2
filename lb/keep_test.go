package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

func reconfigure(t *testing.T, l *LoadBalancer, c Config) snat.InstanceChange {
	t.Helper()
	change, err := l.Reconfigure(flow.At(time.Second), c)
	require.NoError(t, err)
	return change.Total()
}

// fill opens as many UDP flows from each backend to one destination as it has ports.
func fill(t *testing.T, l *LoadBalancer, backends, ports int) {
	t.Helper()
	for b := range backends {
		for i := range ports {
			require.Equal(t, flow.Forward, open(t, l, 0, fmt.Sprintf("10.224.0.%d:%d", 4+b, 5000+i)))
		}
	}
}

func TestAzure_05_growing_across_a_tier_halves(t *testing.T) {
	l := newLoadBalancer(t, publicPool(48, 1, 0))
	fill(t, l, 3, 1024)
	before := l.Allocations()
	change := reconfigure(t, l, publicPool(52, 1, 0))
	assert.Equal(t, 3*512, change.Cut[snat.CutReclaimed])
	after := l.Allocations()
	for i := range before {
		want := before[i].Ports[0]
		want.Count = 512
		assert.Equal(t, []snat.PortRange{want}, after[i].Ports, "the lower half of what %s had", before[i].Instance)
	}
	assert.Equal(t, 3*512, l.Stats().SessionsActive)
	for s := range l.Sessions() {
		assert.Less(t, int(s.Outside.Port()-1024)%1024, 512)
	}
	// New flows work at once: the new backends have what was reclaimed.
	assert.Equal(t, 512, after[51].Total(snat.UDP, false))
	assert.Equal(t, flow.Forward, open(t, l, time.Second, "10.224.0.55:5000"))
}

func TestAzure_06_shrinking_across_a_tier_keeps_flows(t *testing.T) {
	l := newLoadBalancer(t, publicPool(52, 1, 0))
	fill(t, l, 3, 512)
	require.Equal(t, flow.Drop, open(t, l, 0, "10.224.0.4:9000"))
	change := reconfigure(t, l, publicPool(48, 1, 0))
	assert.Zero(t, change.Cut)
	assert.Equal(t, 3*512, l.Stats().SessionsActive)
	assert.Equal(t, flow.Forward, open(t, l, time.Second, "10.224.0.4:9000"), "the share has grown")
	for _, a := range l.Allocations() {
		assert.Equal(t, 1024, a.Total(snat.UDP, false))
	}
}

// A backend that leaves the middle of the pool disturbs nobody.
func TestRemovalInTheMiddleDisturbsNobody(t *testing.T) {
	l := newLoadBalancer(t, publicPool(10, 2, 0))
	fill(t, l, 10, 20)
	c := publicPool(10, 2, 0)
	c.Backends = slices.Delete(c.Backends, 4, 5)
	c.BackendAddressPools[0].Backends = slices.Delete(c.BackendAddressPools[0].Backends, 4, 5)
	change := reconfigure(t, l, c)
	assert.Equal(t, [snat.NumCutCauses]int{snat.CutRemoved: 20}, change.Cut)
	assert.Equal(t, 9*20, l.Stats().SessionsActive)
	change = reconfigure(t, l, publicPool(10, 2, 0))
	assert.Zero(t, change.Cut)
	assert.Equal(t, planned(t, publicPool(10, 2, 0), 1024), l.Allocations(), "the gap is filled")
}

func TestReconfigureRefusesAndChangesNothing(t *testing.T) {
	l := newLoadBalancer(t, publicPool(2, 1, 8))
	fill(t, l, 2, 8)
	before, stats := l.Allocations(), l.Stats()
	c := publicPool(2, 1, 12)
	_, err := l.Reconfigure(0, c)
	assert.EqualError(t, err, c.Validate().Error())
	c = publicPool(2, 1, 8)
	c.Seed = 7
	_, err = l.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)
	assert.ErrorContains(t, err, `load balancer "kubernetes": `)
	assert.Equal(t, before, l.Allocations())
	assert.Equal(t, stats, l.Stats())
}

// A rule that takes a block away moves only the flows on it.
func TestNewRuleTakesItsBlockAway(t *testing.T) {
	l := newLoadBalancer(t, publicPool(2, 1, 16))
	fill(t, l, 2, 16)
	c := publicPool(2, 1, 16)
	c.LoadBalancingRules = []LoadBalancingRule{{
		Name: "web", FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool", Protocol: snat.UDP,
		FrontendPort: 1033, BackendPort: 1033, DisableOutboundSNAT: true,
	}}
	change := reconfigure(t, l, c)
	assert.Equal(t, 8, change.Cut[snat.CutReclaimed])
	first := l.Allocations()[0]
	assert.Equal(t, []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), Protocol: snat.TCP, First: 1024, Count: 16}}, first.of(snat.TCP, false))
	var udp []uint16
	for _, r := range first.of(snat.UDP, false) {
		udp = append(udp, r.First)
	}
	assert.Equal(t, []uint16{1024, 1056}, udp, "a block beyond that of the other backend takes the place of 1032")
}

// Whatever comes and goes: every backend has as many ports of each frontend as in a
// plan from scratch, no port belongs to two, and what it keeps is the most possible.
func TestKeepingPortsAtRandom(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var former []Allocation
	for step := range 300 {
		all, ips := 40+r.IntN(80), 1+r.IntN(3)
		c := publicPool(all, ips, []int{0, 0, 8, 64, 256}[r.IntN(5)])
		c.Layout, c.FrontendMode = Layout(r.IntN(2)), FrontendMode(r.IntN(2))
		for range r.IntN(10) {
			i := r.IntN(len(c.Backends))
			c.Backends = slices.Delete(c.Backends, i, i+1)
			c.BackendAddressPools[0].Backends = slices.Delete(c.BackendAddressPools[0].Backends, i, i+1)
		}
		if r.IntN(2) == 0 {
			c.LoadBalancingRules = []LoadBalancingRule{{
				Name: "web", FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool", Protocol: snat.TCP,
				FrontendPort: uint16(1024 + r.IntN(4000)), BackendPort: 80, DisableOutboundSNAT: true,
			}}
		}
		fresh, err := c.Plan()
		require.NoError(t, err)
		got, translator, err := c.compile(former)
		require.NoError(t, err)
		require.NoError(t, translator.Validate(), "no port belongs to two")
		had := map[string]Allocation{}
		for _, a := range former {
			had[a.Instance] = a
		}
		for i := range got {
			for _, p := range []snat.Protocol{snat.TCP, snat.UDP} {
				before := blocksByFrontend(had[got[i].Instance].of(p, false))
				now, scratch := blocksByFrontend(got[i].of(p, false)), blocksByFrontend(fresh[i].of(p, false))
				require.Len(t, now, len(scratch))
				for k := range now {
					require.Equal(t, scratch[k].frontend, now[k].frontend)
					require.Len(t, now[k].blocks, len(scratch[k].blocks), "step %d", step)
					for _, b := range before {
						if b.frontend == now[k].frontend {
							still := slices.DeleteFunc(slices.Clone(b.blocks), func(x int) bool { return !slices.Contains(now[k].blocks, x) })
							lost := len(b.blocks) - len(still)
							require.LessOrEqual(t, lost, max(1, len(b.blocks)-len(now[k].blocks)+1), "at most the block of the rule is lost besides")
						}
					}
				}
			}
		}
		former = got
	}
}

func TestReconfigureWhileTrafficRuns(t *testing.T) {
	l := newLoadBalancer(t, publicPool(49, 1, 0))
	done := make(chan struct{})
	for g := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 3000 {
				p := pkttest.UDP(fmt.Sprintf("10.224.0.%d:%d", 4+2*g+i%2, 5000+i%100), "203.0.113.53:53", "query")
				if v := l.Outbound(flow.At(time.Second), p); v.Action != flow.Forward {
					t.Errorf("packet %d: %v", i, v)
					return
				}
			}
		}()
	}
	for running, i := 2, 0; running > 0; i++ {
		select {
		case <-done:
			running--
		default:
		}
		change := reconfigure(t, l, publicPool(49+i%5, 1, 0))
		assert.Zero(t, change.Cut, "flows on the lower halves go on")
		l.Metrics()
		l.Allocations()
		l.Stranded()
	}
}
