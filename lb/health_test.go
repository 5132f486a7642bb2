package lb

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// drive calls Advance whenever NextDeadline says so, until a time.
func drive(x carrier, until flow.Time) {
	for {
		at, ok := x.NextDeadline()
		if !ok || at > until {
			return
		}
		x.Advance(at, nil)
	}
}

// An event-driven program makes all probes at their times.
func TestProbesByDeadline(t *testing.T) {
	var times []flow.Time
	c := web(Standard, 2, nil)
	c.Prober = probe.ProberFunc(func(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
		times = append(times, at)
		return probe.Success
	})
	l := newLoadBalancer(t, c)
	drive(l, flow.At(20*time.Second))
	assert.Len(t, times, 8, "two backends, every 5 s, for two rules with one probe")
	at, ok := l.NextDeadline()
	assert.True(t, ok)
	assert.Greater(t, at, flow.At(20*time.Second))

	c.Prober = nil
	_, err := l.Reconfigure(flow.At(20*time.Second), c)
	require.NoError(t, err)
	_, ok = l.NextDeadline()
	assert.False(t, ok, "nobody is asked any more")
}

// What is known of a backend survives changes of everything else; without prober, and
// with AssumeHealthy before the first answer, all are healthy.
func TestHealthSurvivesReconfigure(t *testing.T) {
	down := machines{"node0": true}
	c := web(Standard, 3, down)
	s := newSite(t, c)
	l := s.carrier.(*LoadBalancer)
	asked := 0
	reached := func() map[string]bool {
		seen := map[string]bool{}
		for range 48 {
			asked++
			seen[s.in(dgram(client(asked), "20.50.1.1:53"))] = true
		}
		return seen
	}
	change := func(do func()) {
		s.now = s.now.Add(time.Millisecond)
		do()
		_, err := l.Reconfigure(s.now, c)
		require.NoError(t, err)
	}
	assert.Equal(t, map[string]bool{"1": true, "2": true}, reached())
	change(func() { c.LoadBalancingRules[1].LoadDistribution = SourceIP })
	assert.Equal(t, map[string]bool{"1": true, "2": true}, reached())
	change(func() { c.BackendAddressPools[0].Backends = []string{"node0", "node1"} })
	assert.Equal(t, map[string]bool{"1": true}, reached())
	change(func() { c.BackendAddressPools[0].Backends = []string{"node2", "node0", "node1"} })
	assert.Equal(t, map[string]bool{"1": true}, reached(), "who was not probed begins anew")
	change(func() { c.Prober = machines{} })
	s.pass(15 * time.Second)
	assert.Len(t, reached(), 3, "the new prober finds all healthy")
	change(func() { c.Prober = nil })
	assert.Len(t, reached(), 3)

	c.Prober, c.AssumeHealthy = machines{"node0": true}, true
	fresh := &site{T: t, carrier: newLoadBalancer(t, c)}
	assert.NotEqual(t, flow.ReasonNoTarget.String(), fresh.in(syn(client(1), "20.50.1.1:80")))
}

// A wrong change leaves probes and targets as they were.
func TestHealthAfterRefusedChange(t *testing.T) {
	c := web(Standard, 2, machines{"node0": true})
	s := newSite(t, c)
	l := s.carrier.(*LoadBalancer)
	bad := c
	bad.Prober, bad.Seed = machines{}, 9
	_, err := l.Reconfigure(s.now, bad)
	require.ErrorIs(t, err, snat.ErrFixed)
	s.pass(time.Minute)
	for i := range 16 {
		assert.Equal(t, "1", s.in(syn(client(i), "20.50.1.1:80")))
	}
}

// Probes, traffic and changes may come from several goroutines.
func TestHealthByManyGoroutines(t *testing.T) {
	var mu sync.Mutex
	n := 0
	c := web(Basic, 3, nil)
	c.Prober = probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result {
		mu.Lock()
		defer mu.Unlock()
		n++
		return probe.Result(n / 4 % 2)
	})
	l := newLoadBalancer(t, c)
	var all sync.WaitGroup
	for g := range 3 {
		all.Go(func() {
			for i := range 200 {
				now := flow.At(time.Duration(i) * time.Second)
				switch g {
				case 0:
					l.Advance(now, nil)
					l.NextDeadline()
				case 1:
					l.Inbound(now, dgram(client(i), "20.50.1.1:53"))
					l.Metrics()
				case 2:
					next := c
					next.BackendAddressPools = []BackendAddressPool{{Name: c.BackendAddressPools[0].Name, Backends: []string{"node0", "node1", "node2"}[:1+i%3]}}
					if i%10 == 0 {
						_, err := l.Reconfigure(now, next)
						assert.NoError(t, err)
					}
				}
			}
		})
	}
	all.Wait()
}

// Three hundred rules for a thousand backends: a change of health is cheap, and stops
// nothing.
func TestManyRulesAndBackends(t *testing.T) {
	rules := 300
	if pkttest.Short() {
		rules = 20
	}
	down := machines{}
	c := web(Standard, 1000, down)
	c.FrontendIPConfigurations, c.LoadBalancingRules = publicPool(0, 30, 0).FrontendIPConfigurations, nil
	for i := range rules { // ten on each frontend, which are 10,000 IP configurations
		c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
			Name: fmt.Sprint(i), FrontendIPConfiguration: fmt.Sprint("ip", i%30), BackendAddressPool: c.BackendAddressPools[0].Name,
			Protocol: snat.TCP, FrontendPort: uint16(1 + i), BackendPort: uint16(1 + i), Probe: "health", DisableOutboundSNAT: true,
		})
	}
	pkttest.Prompt(t, func() {
		s := newSite(t, c)
		down["node7"] = true
		s.pass(10 * time.Second)
		for i := range 100 {
			assert.NotEqual(t, "7", s.in(syn(client(i), fmt.Sprintf("20.50.1.%d:%d", 1+i%rules%30, 1+i%rules))))
		}
	})
}

// An egress carries what comes in too, also beside a NAT gateway, through which only
// flows leave that its machines begin.
func TestEgressInbound(t *testing.T) {
	c := withGateway(EgressConfig{LoadBalancer: web(Standard, 2, machines{"node0": true})})
	s := &site{T: t, carrier: newEgress(t, c)}
	s.pass(0)
	s.pass(5 * time.Second)
	assert.Equal(t, "1", s.connect(client(1)))
	batch := [][]byte{ack(client(1), "20.50.1.1:80"), syn(client(2), "20.50.1.1:80"), syn(client(2), "20.50.1.1:81")}
	verdicts := make([]flow.Verdict, len(batch))
	s.InboundBatch(s.now, batch, verdicts)
	assert.Equal(t, []flow.Action{flow.Forward, flow.Forward, flow.Drop}, []flow.Action{verdicts[0].Action, verdicts[1].Action, verdicts[2].Action})
	p := syn("10.224.0.5:5000", "203.0.113.80:443")
	require.Equal(t, flow.Forward, s.Outbound(s.now, p).Action)
	assert.NotEqual(t, netip.MustParseAddr("20.50.1.1"), netip.AddrFrom4([4]byte(p[12:16])), "by the gateway")

	e := s.carrier.(*Egress)
	c.LoadBalancer.InboundNATRules = []InboundNATRule{{Name: "ssh", FrontendIPConfiguration: "ip0", Backend: "node0", FrontendPort: 22, BackendPort: 22, Protocol: snat.TCP}}
	update(t, e, time.Duration(s.now), c)
	assert.Equal(t, []PortMapping{{"ssh", "node0", 22}}, e.PortMappings())
	assert.Equal(t, "0", s.in(syn(client(3), "20.50.1.1:22")))
	assert.Equal(t, "1", s.in(ack(client(1), "20.50.1.1:80")), "flows go on")
	assert.NotEmpty(t, e.Metrics())
}

// The users of SNAT ports are not those of rules, which are among the sessions.
func TestInboundFlowsTakeNoPorts(t *testing.T) {
	c := withRule(publicPool(2, 1, 64), true)
	s := newSite(t, c)
	s.in(syn(client(1), "20.50.1.1:443"))
	l := s.carrier.(*LoadBalancer)
	assert.Empty(t, l.TopPorts(5, snat.ByInstance))
	n := 0
	for x := range l.Sessions() {
		assert.Equal(t, flow.KindForwarded, x.Kind)
		n++
	}
	assert.Equal(t, 1, n)
	for _, f := range l.Frontends() {
		assert.Zero(t, f.Used)
		assert.Equal(t, 128, f.Allocated)
	}
}

// askedAt is when a prober has been asked.
type askedAt []flow.Time

func (a *askedAt) Probe(at flow.Time, _ probe.Backend, _ *probe.Probe) probe.Result {
	*a = append(*a, at)
	return probe.Success
}

// A change that is refused begins no probes.
func TestRefusedChangesBeginNoProbes(t *testing.T) {
	var at askedAt
	c := probedPool(2)
	c.Prober = &at
	l, e := newLoadBalancer(t, c), newEgress(t, EgressConfig{LoadBalancer: c})
	c.Layout = 9
	_, err := l.Reconfigure(flow.At(time.Second), c)
	assert.Error(t, err)
	_, err = e.Reconfigure(flow.At(time.Second), EgressConfig{LoadBalancer: c})
	assert.Error(t, err)
	for _, x := range []carrier{l, e} {
		at = nil
		x.Advance(flow.At(time.Minute), nil)
		assert.Empty(t, at, "they have not begun before")
		x.Advance(flow.At(70*time.Second), nil)
		require.Len(t, at, 4, "two intervals, two backends")
	}
}

// The last time there is comes like any other, whether it is the first or a later one.
func TestProbesAtTheEndOfTime(t *testing.T) {
	for _, begin := range []flow.Time{math.MaxInt64, math.MaxInt64 - flow.Time(12*time.Second)} {
		l := newLoadBalancer(t, web(Standard, 2, machines{}))
		pkttest.Prompt(t, func() {
			l.Advance(begin, nil)
			l.Advance(math.MaxInt64, nil)
		})
		_, ok := l.NextDeadline()
		assert.False(t, ok)
	}
}
