package lb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// poolsOfOne is a load balancer with n backends, each in a pool of its own that a
// rule of its own serves through a frontend of its own.
func poolsOfOne(n int) Config {
	c := publicPool(n, n, 8)
	rule := c.OutboundRules[0]
	c.OutboundRules, c.BackendAddressPools = nil, nil
	for i := range n {
		rule.Name, rule.BackendAddressPool = fmt.Sprintf("rule%d", i), fmt.Sprintf("pool%d", i)
		rule.FrontendIPConfigurations = []string{fmt.Sprintf("ip%d", i)}
		c.OutboundRules = append(c.OutboundRules, rule)
		c.BackendAddressPools = append(c.BackendAddressPools, BackendAddressPool{Name: rule.BackendAddressPool, Backends: []string{fmt.Sprintf("node%d", i)}})
	}
	return c
}

// expiry opens a flow from src, established if TCP, and returns how long it lives
// without packets, to the minute, and how many resets it ends with.
func expiry(t *testing.T, l *LoadBalancer, tcp bool, src string) (idle time.Duration, resets int) {
	t.Helper()
	const remote = "203.0.113.80:443"
	p := pkttest.UDP(src, remote, "query")
	if tcp {
		p = pkttest.TCP(src, remote, pkttest.TCPFlags("S"), pkttest.Seq(100))
	}
	require.Equal(t, flow.Forward, l.Outbound(flow.At(0), p).Action)
	if tcp {
		var outside netip.AddrPort
		for s := range l.Sessions() {
			if s.Inside.String() == src {
				outside = s.Outside
			}
		}
		answer := pkttest.TCP(remote, outside.String(), pkttest.TCPFlags("SA"), pkttest.Seq(500), pkttest.Ack(101))
		require.Equal(t, flow.Forward, l.Inbound(flow.At(0), answer).Action)
		ack := pkttest.TCP(src, remote, pkttest.TCPFlags("A"), pkttest.Seq(101), pkttest.Ack(501))
		require.Equal(t, flow.Forward, l.Outbound(flow.At(0), ack).Action)
	}
	for idle < 3*time.Hour && l.Stats().SessionsActive > 0 {
		idle += time.Minute
		l.Advance(flow.At(idle), func(flow.Emission) { resets++ })
	}
	return idle, resets
}

func TestTimersByPoolAndProtocol(t *testing.T) {
	type want struct {
		backend  string
		tcp, udp time.Duration
		resets   int
	}
	minutes := func(n int) time.Duration { return time.Duration(n) * time.Minute }
	for _, tt := range []struct {
		name   string
		config func() Config
		want   []want
	}{
		{"two pools", func() Config {
			c := poolsOfOne(2)
			c.OutboundRules[0].IdleTimeout, c.OutboundRules[0].EnableTCPReset = minutes(30), true
			return c
		}, []want{{"10.224.0.4", minutes(30), minutes(30), 2}, {"10.224.0.5", minutes(4), minutes(4), 0}}},
		{"TCP and UDP of one pool", func() Config {
			c := publicPool(1, 2, 8)
			udp := c.OutboundRules[0]
			c.OutboundRules[0].Protocol, c.OutboundRules[0].IdleTimeout, c.OutboundRules[0].EnableTCPReset = snat.TCP, minutes(60), true
			udp.Name, udp.Protocol = "udp", snat.UDP
			c.OutboundRules = append(c.OutboundRules, udp)
			return c
		}, []want{{"10.224.0.4", minutes(60), minutes(4), 2}}},
		{"frontends lent by a load-balancing rule beside a long outbound rule", func() Config {
			c := poolsOfOne(2)
			c.OutboundRules = c.OutboundRules[:1]
			c.OutboundRules[0].IdleTimeout, c.OutboundRules[0].EnableTCPReset = minutes(30), true
			c.LoadBalancingRules = []LoadBalancingRule{{
				Name: "web", FrontendIPConfiguration: "ip1", BackendAddressPool: "pool1",
				FrontendPort: 443, BackendPort: 443, IdleTimeout: minutes(20),
			}}
			return c
		}, []want{{"10.224.0.4", minutes(30), minutes(30), 2}, {"10.224.0.5", minutes(4), minutes(4), 0}}},
		{"UDP lent beside a rule for TCP", func() Config {
			c := publicPool(1, 2, 8)
			c.OutboundRules[0].Protocol, c.OutboundRules[0].IdleTimeout = snat.TCP, minutes(30)
			c.OutboundRules[0].FrontendIPConfigurations = []string{"ip0"}
			c.LoadBalancingRules = []LoadBalancingRule{{
				Name: "dns", FrontendIPConfiguration: "ip1", BackendAddressPool: "aksOutboundBackendPool",
				Protocol: snat.UDP, FrontendPort: 53, BackendPort: 53,
			}}
			return c
		}, []want{{"10.224.0.4", minutes(30), minutes(4), 0}}},
		{"timeouts of the configuration come first", func() Config {
			c := publicPool(1, 1, 8)
			c.OutboundRules[0].IdleTimeout, c.Timeouts.UDP = minutes(30), minutes(2)
			return c
		}, []want{{"10.224.0.4", minutes(30), minutes(2), 0}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, w := range tt.want {
				idle, resets := expiry(t, newLoadBalancer(t, tt.config()), true, w.backend+":41000")
				assert.Equal(t, w.tcp, idle, "TCP of %s", w.backend)
				assert.Equal(t, w.resets, resets, "resets of %s", w.backend)
				idle, _ = expiry(t, newLoadBalancer(t, tt.config()), false, w.backend+":41000")
				assert.Equal(t, w.udp, idle, "UDP of %s", w.backend)
			}
		})
	}
}

func TestDifferentTimersAreCounted(t *testing.T) {
	c := poolsOfOne(65)
	for i := range c.OutboundRules {
		c.OutboundRules[i].IdleTimeout = time.Duration(4+i) * time.Minute
	}
	assert.ErrorIs(t, c.Validate(), ErrUnsupported)
	assert.ErrorContains(t, c.Validate(), "OutboundRules: different idle timeouts and reset settings 65: not supported: a translator has at most 64")
	c.OutboundRules[64].IdleTimeout = 4 * time.Minute
	newLoadBalancer(t, c)
}

// A running load balancer has as many shards as it began with, and can have no more different
// timers. The error says so of what the user has written.
func TestTimersOfARunningLoadBalancerAreCounted(t *testing.T) {
	c := poolsOfOne(9)
	l := newLoadBalancer(t, c)
	for i := range c.OutboundRules {
		c.OutboundRules[i].IdleTimeout = time.Duration(4+i) * time.Minute
	}
	_, err := l.Reconfigure(0, c)
	assert.ErrorIs(t, err, ErrUnsupported)
	assert.EqualError(t, err, "OutboundRules: different idle timeouts and reset settings 9: not supported: this load balancer began with 8 shards, which is the most; a new one, or with more Shards, has more")
	c.OutboundRules[8].IdleTimeout = 4 * time.Minute
	_, err = l.Reconfigure(0, c)
	assert.NoError(t, err)

	c.OutboundRules[8].IdleTimeout = 12 * time.Minute
	l = newLoadBalancer(t, c)
	_, err = l.Reconfigure(0, c)
	assert.NoError(t, err, "it has begun with so many")
}

func TestTranslatorIsWhatNewUses(t *testing.T) {
	c := fullConfig()
	got, err := c.Translator()
	require.NoError(t, err)
	require.NoError(t, got.Validate())
	plan, err := c.Plan()
	require.NoError(t, err)
	require.Len(t, got.Instances, len(plan))
	for i := range plan {
		assert.Equal(t, plan[i].Ports, got.Instances[i].Ports)
	}
	c.OutboundRules[0].AllocatedOutboundPorts = 12
	_, err = c.Translator()
	assert.EqualError(t, err, c.Validate().Error())
}
