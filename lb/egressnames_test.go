package lb

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What cannot change is named as the configuration has it.
func TestEgressNamesWhatCannotChange(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"Shards":  func(c *Config) { c.Shards = 7 },
		"Seed":    func(c *Config) { c.Seed = 7 },
		"HashKey": func(c *Config) { c.HashKey = 7 },
	} {
		c := EgressConfig{LoadBalancer: publicPool(2, 1, 64)}
		e := newEgress(t, c)
		change(&c.LoadBalancer)
		_, err := e.Reconfigure(0, c)
		assert.ErrorIs(t, err, snat.ErrFixed)
		assert.ErrorContains(t, err, "egress: LoadBalancer."+field+" 7: ")
	}
	c := EgressConfig{LoadBalancer: publicPool(2, 1, 64)}
	c.LoadBalancer.Shards = 65
	_, err := NewEgress(c)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "LoadBalancer.Shards 65: ")
}

// Two rules whose fields agree are refused with the field that makes them differ.
func TestRefusedResetsNameTheirSwitch(t *testing.T) {
	c := withFrontend(EgressConfig{LoadBalancer: publicPool(2, 1, 64)})
	rule := &c.InternalLoadBalancers[0].LoadBalancingRules[0]
	rule.Protocol, rule.FrontendPort, rule.BackendPort, rule.EnableTCPReset = snat.All, 0, 0, true
	c.LoadBalancer.LoadBalancingRules = []LoadBalancingRule{{
		Name: "web", FrontendIPConfiguration: "ip0", BackendAddressPool: "aksOutboundBackendPool",
		Protocol: snat.TCP, FrontendPort: 80, BackendPort: 80, EnableTCPReset: true, DisableOutboundSNAT: true,
	}}
	c.LoadBalancer.OutboundRules = nil
	_, err := NewEgress(c)
	require.ErrorIs(t, err, ErrUnsupported)
	assert.ErrorContains(t, err, "HAPortsTCPReset")
}
