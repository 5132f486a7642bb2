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

// Rows of the register of Azure (internal/conformance) about load balancers, beside those whose
// tests have names of their own.

// ssh is an inbound NAT rule for node0 on a frontend.
func ssh(frontend string, port uint16) InboundNATRule {
	return InboundNATRule{Name: "ssh", FrontendIPConfiguration: frontend, Protocol: snat.TCP, Backend: "node0", FrontendPort: port, BackendPort: 22}
}

func TestAzureRow_1_6_block_ofInboundNATRules(t *testing.T) {
	c := withRule(publicPool(1, 1, 63_984), true)
	c.InboundNATRules = []InboundNATRule{ssh("ip0", 5000)}
	planned(t, c, 63_984)
	c.OutboundRules[0].AllocatedOutboundPorts = 63_992
	assert.ErrorIs(t, c.Validate(), ErrInsufficientOutboundPorts)
	c.InboundNATRules[0].FrontendPort = 447 // the block of 443
	planned(t, c, 63_992)
}

func TestAzureRow_1_6_outboundOnly(t *testing.T) {
	c := publicPool(1, 2, 64_000)
	c.OutboundRules[0].FrontendIPConfigurations = []string{"ip1"}
	c = withRule(c, true)
	c.InboundNATRules = []InboundNATRule{ssh("ip0", 5000)}
	planned(t, c, 64_000)
	c.LoadBalancingRules[0].FrontendIPConfiguration = "ip1"
	assert.ErrorIs(t, c.Validate(), ErrInsufficientOutboundPorts)
}

func TestAzureRow_2_rule(t *testing.T) {
	c := withRule(publicPool(1, 1, 1024), true)
	c.InboundNATRules = []InboundNATRule{ssh("ip0", 5000)}
	for minutes, limit := range map[time.Duration]time.Duration{3: 0, 4: 30, 30: 30, 31: 100, 100: 100, 101: 0} {
		for _, longest := range []time.Duration{30, 100} {
			c.MaxRuleIdleTimeout = longest * time.Minute
			for field, at := range map[string]*time.Duration{
				"LoadBalancingRules[0].IdleTimeout": &c.LoadBalancingRules[0].IdleTimeout, "InboundNATRules[0].IdleTimeout": &c.InboundNATRules[0].IdleTimeout,
			} {
				*at = minutes * time.Minute
				if err := c.Validate(); limit > 0 && limit <= longest {
					assert.NoError(t, err, "%s %d of %d", field, minutes, longest)
				} else {
					assert.ErrorIs(t, err, flow.ErrOutOfRange)
					assert.ErrorContains(t, err, field)
				}
				*at = 0
			}
		}
	}
	s := newSite(t, withProbeless(web(Standard, 2, nil)))
	s.connect(client(1))
	s.pass(4*time.Minute - flow.Tick)
	assert.Equal(t, 1, s.Stats().SessionsActive)
	s.pass(flow.Tick)
	assert.Zero(t, s.Stats().SessionsActive, "4 minutes by default")
}

// withProbeless takes the probes away.
func withProbeless(c Config) Config {
	for i := range c.LoadBalancingRules {
		c.LoadBalancingRules[i].Probe = ""
	}
	c.Probes, c.Prober = nil, nil
	return c
}

func TestAzureRow_2_basic(t *testing.T) {
	c := withProbeless(web(Basic, 2, nil))
	c.LoadBalancingRules[0].IdleTimeout = 20 * time.Minute
	s := newSite(t, c)
	s.connect(client(1))
	s.out(syn("10.224.0.4:7000", "203.0.113.9:443"))
	s.in(synAck("203.0.113.9:443", "20.50.1.1:1024"))
	s.out(ack("10.224.0.4:7000", "203.0.113.9:443"))
	require.Equal(t, 2, s.Stats().SessionsActive)
	assert.Empty(t, s.pass(4*time.Minute))
	assert.Equal(t, 1, s.Stats().SessionsActive, "outbound has 4 minutes, whatever the rule says")
	assert.Empty(t, s.pass(16*time.Minute))
	assert.Zero(t, s.Stats().SessionsActive, "inbound has those of the rule, and no reset comes")
	c.LoadBalancingRules[0].EnableTCPReset = true
	assert.ErrorIs(t, c.Validate(), ErrUnsupported)
	c.LoadBalancingRules[0].EnableTCPReset, c.LoadBalancingRules[0].IdleTimeout = false, 31*time.Minute
	assert.ErrorIs(t, c.Validate(), flow.ErrOutOfRange)
}

// What came in by a public IP is known for 4 minutes after the last packet, and what goes out by it
// needs no timer: it is the same socket whenever it comes.
func TestAzureRow_2_publicIP(t *testing.T) {
	e := newEgress(t, withGateway(ownIP()))
	const remote, own = "203.0.113.9:4000", "10.224.0.4:53"
	require.Equal(t, flow.Forward, e.Inbound(0, dgram(remote, "20.99.0.1:53")).Action)
	at := flow.At(4*time.Minute - flow.Tick)
	assert.Equal(t, byPublicIP, goesOut(e, at, dgram(own, remote)))
	at = at.Add(4*time.Minute - flow.Tick)
	assert.Equal(t, byPublicIP, goesOut(e, at, dgram(own, remote)))
	assert.Equal(t, byGateway, goesOut(e, at.Add(4*time.Minute), dgram(own, remote)))

	alone := newEgress(t, ownIP())
	for _, at := range []time.Duration{0, time.Hour} {
		p := dgram(own, remote)
		assert.Equal(t, byPublicIP, goesOut(alone, flow.At(at), p))
		pkttest.Check(t, p, pkttest.Src("20.99.0.1:53"))
	}
}

func TestAzureRow_2_wholeMinutes(t *testing.T) {
	for name, set := range map[string]func(*Config, time.Duration){
		"OutboundRules[0].IdleTimeout":      func(c *Config, d time.Duration) { c.OutboundRules[0].IdleTimeout = d },
		"LoadBalancingRules[0].IdleTimeout": func(c *Config, d time.Duration) { c.LoadBalancingRules[0].IdleTimeout = d },
		"InboundNATRules[0].IdleTimeout":    func(c *Config, d time.Duration) { c.InboundNATRules[0].IdleTimeout = d },
	} {
		c := withRule(publicPool(1, 1, 1024), true)
		c.InboundNATRules = []InboundNATRule{ssh("ip0", 5000)}
		set(&c, 5*time.Minute)
		require.NoError(t, c.Validate())
		set(&c, 5*time.Minute+time.Second)
		assert.ErrorIs(t, c.Validate(), flow.ErrOutOfRange)
		assert.ErrorContains(t, c.Validate(), name+" 5m1s")
	}
	assert.NoError(t, CheckIdleTimeout(5*time.Minute, 120*time.Minute))
	assert.ErrorIs(t, CheckIdleTimeout(5*time.Minute+time.Second, 120*time.Minute), flow.ErrOutOfRange)
}

// A rule lends its frontend, and an outbound rule serves, whatever probes say.
func TestAzureRow_3_health(t *testing.T) {
	for _, lent := range []bool{true, false} {
		c := web(Standard, 2, machines{"node0": true, "node1": true})
		if !lent {
			outbound := publicPool(2, 2, 64)
			c.FrontendIPConfigurations, c.OutboundRules = outbound.FrontendIPConfigurations, outbound.OutboundRules
			c.OutboundRules[0].FrontendIPConfigurations = []string{"ip1"}
		}
		for i := range c.LoadBalancingRules {
			c.LoadBalancingRules[i].DisableOutboundSNAT = !lent
		}
		s := newSite(t, c)
		s.pass(5 * time.Second)
		s.pass(5 * time.Second)
		require.Equal(t, flow.ReasonNoTarget.String(), s.in(syn(client(1), "20.50.1.1:80")), "all are down")
		frontend := map[bool]string{true: "20.50.1.1:1024", false: "20.50.1.2:1024"}[lent]
		assert.Equal(t, frontend, s.out(syn("10.224.0.4:7000", "203.0.113.9:443")))
	}
}

// The protocol counts in it, and ports do not.
func TestAzureRow_4_1_sourceIPProtocol(t *testing.T) {
	c := withProbeless(web(Standard, 4, nil))
	for i := range c.LoadBalancingRules {
		c.LoadBalancingRules[i].LoadDistribution = SourceIPProtocol
	}
	s := newSite(t, c)
	differ := 0
	for k := range 64 {
		from := netip.AddrFrom4([4]byte{203, 0, 113, byte(k)})
		seen := map[string]string{}
		for i := range 8 {
			at := fmt.Sprintf("%v:%d", from, 40_000+i)
			for name, to := range map[string]string{"tcp": s.in(syn(at, "20.50.1.1:80")), "udp": s.in(dgram(at, "20.50.1.1:53"))} {
				if seen[name] == "" {
					seen[name] = to
				}
				assert.Equal(t, seen[name], to)
			}
		}
		if seen["tcp"] != seen["udp"] {
			differ++
		}
	}
	assert.InDelta(t, 48, differ, 21, "3 of 4, within 6 standard deviations")
}
