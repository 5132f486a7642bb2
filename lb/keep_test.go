package lb

import (
	"fmt"
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
	first := l.Allocations()[0].Ports
	assert.Equal(t, []snat.PortRange{{Frontend: netip.MustParseAddr("20.50.1.1"), Protocol: snat.TCP, First: 1024, Count: 16}}, first[:1])
	var udp []uint16
	for _, r := range first[1:] {
		assert.Equal(t, snat.UDP, r.Protocol)
		udp = append(udp, r.First)
	}
	assert.Equal(t, []uint16{1024, 1056}, udp, "a block beyond that of the other backend takes the place of 1032")
}

// A frontend that comes ends no flow and moves nothing, one that goes ends those on
// it, whatever the layout and the mode of allocation.
func TestAzure_69_a_further_frontend_ends_no_flow(t *testing.T) {
	for _, tt := range []struct {
		name        string
		ports       int
		nodes, each int // before
		layout      Layout
		after       int
	}{
		{"manual", 1024, 1, 1024, Spread, 1024},
		{"manual, packed", 1024, 3, 1024, Pack, 1024},
		{"manual, nearly full", 32_000, 2, 600, Spread, 32_000},
		{"automatic", 0, 1, 1024, Spread, 1024},
		{"automatic, with a share that grows", 0, 100, 40, Spread, 1024},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := func(ips int) Config {
				c := publicPool(tt.nodes, ips, tt.ports)
				c.Layout = tt.layout
				return c
			}
			l := newLoadBalancer(t, config(1))
			flows := 3
			fill(t, l, min(flows, tt.nodes), tt.each)
			before, active := l.Allocations(), l.Stats().SessionsActive
			change := reconfigure(t, l, config(2))
			assert.Zero(t, change.Cut)
			assert.Equal(t, active, l.Stats().SessionsActive)
			after := l.Allocations()
			for i := range before {
				assert.Equal(t, before[i].Ports[0], after[i].Ports[0], "what %s had comes first", before[i].Instance)
				assert.Equal(t, tt.after, after[i].Total(snat.UDP, false))
			}
			reconfigure(t, l, config(3))
			assert.Zero(t, reconfigure(t, l, config(1)).Cut, "the flows are on the first")
			assert.Equal(t, before, l.Allocations())
		})
	}
}

// What is added is spread over the frontends where a backend has less than its share.
func TestWhatIsAddedIsSpread(t *testing.T) {
	l := newLoadBalancer(t, publicPool(2, 1, 64))
	reconfigure(t, l, publicPool(2, 2, 128))
	assert.Equal(t, []snat.PortRange{
		portRange("20.50.1.1", snat.All, 1024, 64), portRange("20.50.1.2", snat.All, 1024, 64),
	}, l.Allocations()[0].Ports)
	assert.Equal(t, []snat.PortRange{
		portRange("20.50.1.1", snat.All, 1024, 64), portRange("20.50.1.1", snat.All, 1152, 16),
		portRange("20.50.1.2", snat.All, 1024, 64), portRange("20.50.1.2", snat.All, 1152, 16),
	}, func() []snat.PortRange { reconfigure(t, l, publicPool(2, 2, 160)); return l.Allocations()[0].Ports }())
}

// Where others have kept all of the only frontend that a rule can use, they go
// elsewhere.
func TestKeptPortsMakeRoom(t *testing.T) {
	l := newLoadBalancer(t, publicPool(10, 1, 6400))
	c := publicPool(15, 2, 6400)
	c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: "second", Backends: c.BackendAddressPools[0].Backends[10:]})
	c.BackendAddressPools[0].Backends = c.BackendAddressPools[0].Backends[:10]
	second := c.OutboundRules[0]
	second.Name, second.BackendAddressPool, second.FrontendIPConfigurations = "second", "second", []string{"ip0"}
	c.OutboundRules = append(c.OutboundRules, second)
	reconfigure(t, l, c)
	for i, a := range l.Allocations() {
		assert.Equal(t, 6400, a.Total(snat.TCP, false))
		if i < 10 {
			assert.Equal(t, portRange("20.50.1.1", snat.All, uint16(1024+6400*i), 3200), a.Ports[0])
		}
	}
}

// New grants leave alone what has just been reclaimed, as long as there is anything
// else; then they take what has been reclaimed first.
func TestReclaimedPortsAreGivenAwayLast(t *testing.T) {
	config := func(nodes, ports int) Config {
		c := publicPool(nodes, 1, ports)
		c.ReclaimGrace = time.Minute
		return c
	}
	l := newLoadBalancer(t, config(50, 0))
	fill(t, l, 2, 1024)
	change := reconfigure(t, l, config(51, 0)) // at one second
	assert.Zero(t, change.Cut)
	assert.Equal(t, 2*512, change.AwaitingRemoval)
	assert.Equal(t, 2*1024, l.Stats().SessionsActive)
	assert.Equal(t, []snat.PortRange{portRange("20.50.1.1", snat.All, 1024+50*1024, 512)}, l.Allocations()[50].Ports)

	// It gets back what is its own, and its flows stay.
	change = reconfigure(t, l, config(50, 0))
	assert.Zero(t, change.Cut)
	assert.Equal(t, planned(t, config(50, 0), 1024), l.Allocations())
	reconfigure(t, l, config(51, 0))

	// All the rest is needed: only then do flows end.
	at := func(now time.Duration, c Config) snat.InstanceChange {
		change, err := l.Reconfigure(flow.At(now), c)
		require.NoError(t, err)
		return change.Total()
	}
	assert.Zero(t, at(31*time.Second, config(75, 512)).Cut)
	assert.Equal(t, 2*1024, l.Stats().SessionsActive)
	assert.Equal(t, 512, at(32*time.Second, config(76, 512)).Cut[snat.CutReclaimed], "node0 lost its block first")

	// The grace of the others has begun at the last second and not again.
	l.Advance(flow.At(61*time.Second-flow.Tick), nil)
	assert.Equal(t, 2*1024-512, l.Stats().SessionsActive)
	l.Advance(flow.At(61*time.Second), nil)
	assert.Equal(t, 2*512, l.Stats().SessionsActive)
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
