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
	"github.com/seed-a61be3fe/natplane/lb/monitor"
	"github.com/seed-a61be3fe/natplane/snat"
)

// basicCluster is the load balancer of a cluster with SKU Basic, n nodes and a
// Service for each name, in the order of creation: Service A has 20.50.1.65, and so
// on.
func basicCluster(n int, services ...string) EgressConfig {
	c := publicPool(n, 0, 0)
	c.SKU, c.OutboundRules = Basic, nil
	for _, name := range services {
		c.FrontendIPConfigurations = append(c.FrontendIPConfigurations,
			FrontendIPConfiguration{Name: name, PublicIPAddress: netip.AddrFrom4([4]byte{20, 50, 1, name[0]})})
		c.LoadBalancingRules = append(c.LoadBalancingRules, LoadBalancingRule{
			Name: name, FrontendIPConfiguration: name, BackendAddressPool: "aksOutboundBackendPool",
			Protocol: snat.TCP, FrontendPort: 80, BackendPort: 80, EnableFloatingIP: true,
		})
	}
	return EgressConfig{LoadBalancer: c}
}

func newEgress(t *testing.T, c EgressConfig) *Egress {
	t.Helper()
	e, err := NewEgress(c)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	return e
}

func update(t *testing.T, e *Egress, now time.Duration, c EgressConfig) snat.Change {
	t.Helper()
	change, err := e.Reconfigure(flow.At(now), c)
	require.NoError(t, err)
	return change
}

// leaves sends a datagram and returns the address it leaves with, or the zero Addr
// if it is dropped.
func leaves(t *testing.T, e *Egress, now time.Duration, src string) netip.Addr {
	t.Helper()
	p := pkttest.UDP(src, "203.0.113.53:53", "query")
	if e.Outbound(flow.At(now), p).Action == flow.Drop {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(p[12:16]))
}

func decide(t *testing.T, e *Egress, backend string) EgressDecision {
	t.Helper()
	d, ok := e.Decide(backend, snat.UDP, false)
	require.True(t, ok)
	return d
}

func TestAzure_42_basic_life_cycle_at_run_time(t *testing.T) {
	a, b := netip.MustParseAddr("20.50.1.65"), netip.MustParseAddr("20.50.1.66")
	e := newEgress(t, basicCluster(3))
	first := leaves(t, e, 0, "10.224.0.4:5000")
	require.True(t, DefaultOutboundRange.Contains(first), "no Service: a random address, not %v", first)
	assert.Equal(t, first, leaves(t, e, 0, "10.224.0.6:5000"))
	assert.Equal(t, EgressDecision{
		Decision{Option: DefaultOutboundAccess, Reason: "No explicit option applies and nothing excludes default outbound access."},
		[]netip.Addr{first},
	}, decide(t, e, "node0"))

	change := update(t, e, time.Second, basicCluster(3, "A"))
	total := change.Total()
	assert.Equal(t, 2, total.Cut[snat.CutReclaimed], "the random address has been given back")
	assert.Equal(t, a, leaves(t, e, time.Second, "10.224.0.4:5000"))
	assert.Equal(t, LoadBalancingRuleSNAT, decide(t, e, "node2").Option)
	assert.Equal(t, []netip.Addr{a}, decide(t, e, "node2").Addrs)

	change = update(t, e, 2*time.Second, basicCluster(3, "A", "B"))
	assert.Zero(t, change.Total(), "nothing happens to flows")
	assert.Equal(t, a, leaves(t, e, 2*time.Second, "10.224.0.5:5000"), "the first Service stays")
	for s := range e.Sessions() {
		assert.Equal(t, a, s.Outside.Addr())
	}

	update(t, e, 3*time.Second, basicCluster(3, "B"))
	assert.Equal(t, b, leaves(t, e, 3*time.Second, "10.224.0.5:5000"), "the oldest that remains")

	update(t, e, 4*time.Second, basicCluster(3))
	second := leaves(t, e, 4*time.Second, "10.224.0.5:5000")
	assert.True(t, DefaultOutboundRange.Contains(second))
	assert.NotEqual(t, first, second, "another draw")
	assert.Equal(t, 1, e.Stats().SessionsActive)
}

func TestEgressRedeployChangesTheAddress(t *testing.T) {
	e := newEgress(t, basicCluster(1))
	before := leaves(t, e, 0, "10.224.0.4:5000")
	change, err := e.Redeploy(flow.At(time.Second))
	require.NoError(t, err)
	total := change.Total()
	assert.Equal(t, 1, total.Cut[snat.CutReclaimed])
	after := leaves(t, e, time.Second, "10.224.0.4:5000")
	assert.NotEqual(t, before, after)
	assert.True(t, DefaultOutboundRange.Contains(after))

	update(t, e, 2*time.Second, basicCluster(2))
	assert.Equal(t, after, leaves(t, e, 2*time.Second, "10.224.0.5:5000"), "growing is no redeployment")

	e = newEgress(t, basicCluster(1, "A"))
	leaves(t, e, 0, "10.224.0.4:5000")
	change, err = e.Redeploy(0)
	require.NoError(t, err)
	assert.Empty(t, change.Instances)
	assert.Equal(t, 1, e.Stats().SessionsActive)
}

func TestEgressIsDecidedByTheSeed(t *testing.T) {
	addrs := func(seed uint64) (all []netip.Addr) {
		c := basicCluster(1)
		c.LoadBalancer.Seed = seed
		e := newEgress(t, c)
		for i := range 5 {
			all = append(all, leaves(t, e, 0, fmt.Sprintf("10.224.0.4:%d", 5000+i)))
			_, err := e.Redeploy(0)
			require.NoError(t, err)
		}
		return all
	}
	assert.Equal(t, addrs(1), addrs(1))
	assert.NotEqual(t, addrs(1), addrs(2))
	assert.Len(t, slices.Compact(addrs(1)), 5)
}

func TestDefaultOutboundPortsAndTimers(t *testing.T) {
	for nodes, ports := range map[int]int{1: 1024, 50: 1024, 51: 512} {
		e := newEgress(t, basicCluster(nodes))
		n := 0
		for leaves(t, e, 0, fmt.Sprintf("10.224.0.4:%d", 5000+n)).IsValid() {
			n++
		}
		assert.Equal(t, ports, n, "%d nodes", nodes)
		e.Advance(flow.At(4*time.Minute-flow.Tick), nil)
		assert.Equal(t, ports, e.Stats().SessionsActive)
		e.Advance(flow.At(4*time.Minute), func(flow.Emission) { t.Error("a reset") })
		assert.Zero(t, e.Stats().SessionsActive)
	}
	c := basicCluster(2001)
	c.LoadBalancer.BackendAddressPools = nil
	e := newEgress(t, c)
	assert.Equal(t, 24, e.state.inForce.plan[2000].Total(snat.UDP, false), "the largest multiple of 8 that fits")
	c = basicCluster(8001)
	c.LoadBalancer.BackendAddressPools = nil
	_, err := NewEgress(c)
	assert.ErrorContains(t, err, "8 allocated ports for a total node count of 8001 require 64008 ports")
}

func TestEgressDrawsAFrontendThatStays(t *testing.T) {
	var seen []netip.Addr
	for seed := range uint64(20) {
		seeded := func(services ...string) EgressConfig {
			c := basicCluster(1, services...)
			c.LoadBalancer.BasicFrontend, c.LoadBalancer.Seed = SeededRule, seed
			return c
		}
		e := newEgress(t, seeded("A", "B", "C"))
		drawn := leaves(t, e, 0, "10.224.0.4:5000")
		name := string(rune(drawn.As4()[3]))
		seen = append(seen, drawn)

		update(t, e, 0, seeded("A", "B", "C", "D"))
		assert.Equal(t, drawn, leaves(t, e, 0, "10.224.0.4:5001"))
		update(t, e, 0, seeded(name))
		assert.Equal(t, drawn, leaves(t, e, 0, "10.224.0.4:5002"))
		update(t, e, 0, seeded("D", name, "F"))
		assert.Equal(t, drawn, leaves(t, e, 0, "10.224.0.4:5003"))
		update(t, e, 0, seeded("E"))
		assert.Equal(t, netip.MustParseAddr("20.50.1.69"), leaves(t, e, 0, "10.224.0.4:5004"))
	}
	slices.SortFunc(seen, netip.Addr.Compare)
	assert.Len(t, slices.Compact(seen), 3, "each is drawn by some seed")
}

func TestAzure_41_internal_load_balancer_only_at_run_time(t *testing.T) {
	none := EgressConfig{LoadBalancer: publicPool(2, 0, 0)}
	none.LoadBalancer.OutboundRules, none.LoadBalancer.BackendAddressPools = nil, nil

	c := none
	c.InternalLoadBalancers = internals(Standard)
	e := newEgress(t, c)
	assert.False(t, leaves(t, e, 0, "10.224.0.4:5000").IsValid(), "Standard: no egress")
	assert.Equal(t, NoOutbound, decide(t, e, "node0").Option)

	c.InternalLoadBalancers = internals(Basic)
	c.InternalLoadBalancers[0].Name = "another"
	update(t, e, 0, c)
	assert.True(t, DefaultOutboundRange.Contains(leaves(t, e, 0, "10.224.0.4:5000")), "Basic: default outbound access")
}

// Everything that excludes default outbound access, at run time.
func TestDefaultOutboundEligibility(t *testing.T) {
	base := EgressConfig{LoadBalancer: publicPool(2, 1, 8)}
	base.LoadBalancer.OutboundRules, base.LoadBalancer.BackendAddressPools = nil, nil
	e := newEgress(t, base)
	require.True(t, leaves(t, e, 0, "10.224.0.5:5000").IsValid())
	for name, exclude := range map[string]func(*EgressConfig){
		"private subnet":     func(c *EgressConfig) { c.PrivateSubnet = true },
		"flexible scale set": func(c *EgressConfig) { c.FlexibleScaleSet = true },
		"group":              func(c *EgressConfig) { c.GroupHasStandardSKU = true },
		"another member of a Standard pool": func(c *EgressConfig) {
			c.LoadBalancer.BackendAddressPools = []BackendAddressPool{{Name: "one", Backends: []string{"node0"}}}
		},
	} {
		c := base
		exclude(&c)
		update(t, e, 0, c)
		assert.False(t, leaves(t, e, 0, "10.224.0.5:5000").IsValid(), name)
		assert.Equal(t, NoOutbound, decide(t, e, "node1").Option, name)
		assert.Empty(t, decide(t, e, "node1").Addrs, name)
		update(t, e, 0, base)
		require.True(t, leaves(t, e, 0, "10.224.0.5:5000").IsValid(), name)
	}
	base.LoadBalancer = publicPool(2, 1, 8)
	update(t, e, 0, base)
	assert.Equal(t, netip.MustParseAddr("20.50.1.1"), leaves(t, e, 0, "10.224.0.5:5000"))
	assert.Equal(t, OutboundRuleSNAT, decide(t, e, "node1").Option)
	d, ok := e.Decide("node1", snat.TCP, true)
	require.True(t, ok)
	assert.Equal(t, NoOutbound, d.Option, "IPv6")
	_, ok = e.Decide("node9", snat.TCP, false)
	assert.False(t, ok)
}

func TestEgressRefusesBadResources(t *testing.T) {
	c := basicCluster(1)
	e := newEgress(t, c)
	before := leaves(t, e, 0, "10.224.0.4:5000")

	c.InternalLoadBalancers = internals(7)
	c.DefaultOutboundRange = netip.MustParsePrefix("198.18.0.1/15")
	c.LoadBalancer.Layout = 9
	_, err := e.Reconfigure(0, c)
	assert.ErrorContains(t, err, "Layout 9")
	assert.ErrorContains(t, err, "InternalLoadBalancers[0].SKU 7: out of range")
	assert.ErrorContains(t, err, "DefaultOutboundRange 198.18.0.1/15: prefix is not valid")

	c = basicCluster(1)
	c.LoadBalancer.Seed = 9
	_, err = e.Reconfigure(0, c)
	assert.ErrorIs(t, err, snat.ErrFixed)

	c = basicCluster(1, "A")
	c.LoadBalancer.LoadBalancingRules[0].BackendAddressPool = "other"
	_, err = e.Reconfigure(0, c)
	assert.ErrorIs(t, err, flow.ErrUnknownName)
	assert.Equal(t, before, leaves(t, e, 0, "10.224.0.4:5000"), "nothing has changed")

	c = basicCluster(1)
	c.DefaultOutboundRange = netip.MustParsePrefix("20.50.1.65/32")
	e = newEgress(t, c)
	assert.Equal(t, netip.MustParseAddr("20.50.1.65"), leaves(t, e, 0, "10.224.0.4:5000"))
	full := c
	full.LoadBalancer.FrontendIPConfigurations = []FrontendIPConfiguration{{Name: "A", PublicIPAddress: netip.MustParseAddr("20.50.1.65")}}
	_, err = e.Reconfigure(0, full)
	assert.ErrorIs(t, err, flow.ErrConflict)
}

// Doors and metrics belong to what is in force.
func TestEgressDoors(t *testing.T) {
	c := basicCluster(2, "A")
	c.LoadBalancer.CountTraffic = true
	e := newEgress(t, c)
	pkts := [][]byte{pkttest.UDP("10.224.0.4:5000", "203.0.113.53:53", "query"), pkttest.UDP("10.224.0.5:5000", "203.0.113.53:53", "query")}
	verdicts := make([]flow.Verdict, 2)
	e.OutboundBatch(0, pkts, verdicts)
	pkttest.Check(t, pkts[0], pkttest.Src("20.50.1.65:1024"), pkttest.ChecksumsOK())
	answers := [][]byte{pkttest.UDP("203.0.113.53:53", "20.50.1.65:1024", "answer")}
	e.InboundBatch(0, answers, verdicts)
	pkttest.Check(t, answers[0], pkttest.Dst("10.224.0.4:5000"), pkttest.ChecksumsOK())
	answer := pkttest.UDP("203.0.113.53:53", "20.50.1.65:2048", "answer")
	assert.Equal(t, flow.Forward, e.Inbound(0, answer).Action)
	assert.Equal(t, float64(2), total(e.Metrics(), monitor.PacketCount, func(d monitor.Dimensions) bool { return d.Direction == monitor.InboundPackets }))
	assert.Contains(t, lines(e.Metrics()), "UsedSnatPorts FrontendIPAddress=20.50.1.65 BackendIPAddress=10.224.0.5 Protocol=UDP 1")
	_, waiting := e.NextDeadline()
	assert.True(t, waiting)

	// A machine that goes takes its series with it; the others keep theirs.
	c.LoadBalancer.BackendAddressPools[0].Backends = []string{"node1"}
	c.LoadBalancer.Backends = c.LoadBalancer.Backends[1:]
	change := update(t, e, 0, c)
	all := change.Total()
	assert.Equal(t, 1, all.Cut[snat.CutRemoved])
	for _, s := range e.Metrics() {
		assert.NotEqual(t, netip.MustParseAddr("10.224.0.4"), s.BackendIPAddress, "%v", s)
	}
}

// Resources change while packets flow: nothing is lost but the flows of addresses
// that have been given back.
func TestEgressUpdatesWhileTrafficRuns(t *testing.T) {
	e := newEgress(t, basicCluster(4))
	done := make(chan struct{})
	for g := range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range 3000 {
				p := pkttest.UDP(fmt.Sprintf("10.224.0.%d:%d", 4+2*g+i%2, 5000+i%50), "203.0.113.53:53", "query")
				if v := e.Outbound(flow.At(time.Minute), p); v.Action != flow.Forward {
					t.Errorf("packet %d: %v", i, v)
					return
				}
			}
		}()
	}
	steps := [][]string{{"A"}, {"A", "B"}, {"B"}, {}}
	for running, i := 2, 0; running > 0; i++ {
		select {
		case <-done:
			running--
		default:
		}
		update(t, e, time.Minute, basicCluster(4, steps[i%4]...))
		e.Metrics()
		decide(t, e, "node3")
	}
	s := e.Stats()
	assert.Equal(t, uint64(6000), s.Outbound.Forwarded)
	assert.Equal(t, s.SessionsCreated, s.SessionsEnded+uint64(s.SessionsActive))
}

// What Decide and DecideTo say is what happens to packets, whatever the option.
func TestEgressDecidesByRoutes(t *testing.T) {
	everywhere := func(r snat.Route) snat.Route {
		r.Prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		return r
	}
	partly := netip.MustParsePrefix("203.0.113.0/24")
	for _, tt := range []struct {
		name   string
		routes []snat.Route
		tcp    bool // Decide says user-defined route
		udp    bool
		to     map[string]bool // UDP, DecideTo says so
	}{
		{"none", nil, false, false, map[string]bool{"203.0.113.53:53": false}},
		{"to an appliance", []snat.Route{everywhere(snat.Route{Action: snat.PassThrough})}, true, true, map[string]bool{"203.0.113.53:53": true}},
		{"to nowhere", []snat.Route{everywhere(snat.Route{Action: snat.Blackhole})}, true, true, map[string]bool{"203.0.113.53:53": true}},
		{"of one protocol", []snat.Route{everywhere(snat.Route{Action: snat.PassThrough, Protocol: snat.TCP})}, true, false, map[string]bool{"203.0.113.53:53": false}},
		{"of some ports", []snat.Route{everywhere(snat.Route{Action: snat.PassThrough, FirstPort: 53, LastPort: 99})}, false, false,
			map[string]bool{"203.0.113.53:53": true, "203.0.113.53:100": false}},
		{"of some destinations", []snat.Route{{Prefix: partly, Action: snat.PassThrough}}, false, false,
			map[string]bool{"203.0.113.53:53": true, "198.51.100.7:53": false}},
		{"with an exception", []snat.Route{everywhere(snat.Route{Action: snat.PassThrough}), {Prefix: partly}}, true, true,
			map[string]bool{"203.0.113.53:53": false, "198.51.100.7:53": true}},
		{"of the other family", []snat.Route{{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Action: snat.PassThrough}}, false, false,
			map[string]bool{"203.0.113.53:53": false}},
	} {
		rule := EgressConfig{LoadBalancer: publicPool(1, 1, 8)}
		own := EgressConfig{LoadBalancer: publicPool(1, 1, 8)}
		own.LoadBalancer.Backends[0].PublicIPAddresses = []netip.Addr{netip.MustParseAddr("20.99.0.1")}
		for option, c := range map[SNATOption]EgressConfig{
			OutboundRuleSNAT: rule, InstancePublicIP: own, NATGatewaySNAT: withGateway(rule), DefaultOutboundAccess: basicCluster(1),
		} {
			t.Run(fmt.Sprintf("%v, route %s", option, tt.name), func(t *testing.T) {
				c.LoadBalancer.Routes = tt.routes
				e := newEgress(t, c)
				want := func(routed bool) SNATOption {
					if routed {
						return UserDefinedRoute
					}
					return option
				}
				for p, routed := range map[snat.Protocol]bool{snat.TCP: tt.tcp, snat.UDP: tt.udp} {
					d, ok := e.Decide("node0", p, false)
					require.True(t, ok)
					assert.Equal(t, want(routed), d.Option, "%v", p)
					assert.Equal(t, routed, len(d.Addrs) == 0)
				}
				for to, routed := range tt.to {
					d, ok := e.DecideTo("node0", snat.UDP, netip.MustParseAddrPort(to))
					require.True(t, ok)
					assert.Equal(t, want(routed), d.Option, to)
					p := pkttest.UDP("10.224.0.4:5000", to, "query")
					left := e.Outbound(0, p).Action == flow.Forward
					assert.Equal(t, !routed, left)
					if left {
						assert.Contains(t, d.Addrs, netip.AddrFrom4([4]byte(p[12:16])))
					}
				}
			})
		}
	}
	e := newEgress(t, basicCluster(1))
	_, ok := e.DecideTo("node9", snat.TCP, netip.AddrPort{})
	assert.False(t, ok)
	d, _ := e.DecideTo("node0", snat.TCP, netip.AddrPort{})
	assert.Equal(t, DefaultOutboundAccess, d.Option)
}

// A rule that was drawn stays when the machines are deployed again.
func TestRedeployKeepsDrawnRules(t *testing.T) {
	for seed := range uint64(8) {
		c := basicCluster(2, "A", "B", "C")
		c.LoadBalancer.BasicFrontend, c.LoadBalancer.Seed = SeededRule, seed
		c.LoadBalancer.BackendAddressPools[0].Backends = c.LoadBalancer.BackendAddressPools[0].Backends[:1]
		e := newEgress(t, c)
		was := e.state.rules
		require.Len(t, was, 1)
		_, err := e.Redeploy(0)
		require.NoError(t, err)
		update(t, e, 0, c)
		assert.Equal(t, was, e.state.rules)
	}
}
