package servicelb

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/snat"
)

// A public and an internal Service are on load balancers of their own, which are valid
// together; IPv6 of the internal one is for the node port.
func TestBalance(t *testing.T) {
	egress := lb.EgressConfig{LoadBalancer: lb.Config{
		Name: "kubernetes", Backends: []lb.Backend{{Name: "n0", Addrs: []netip.Addr{netip.MustParseAddr("10.224.0.4"), netip.MustParseAddr("fd00::4")}}},
	}}
	service := func(name string, internal bool, nodePort uint16, addrs ...string) Service {
		s := Service{
			Name: name, Settings: &annotations.Settings{Internal: internal}, SessionAffinity: internal, Local: internal, HealthCheckNodePort: nodePort + 1,
			Ports: []Port{{Name: "http", Protocol: snat.TCP, Port: 80, NodePort: nodePort}},
		}
		for _, a := range addrs {
			addr := netip.MustParseAddr(a)
			prefix, err := addr.Prefix(addr.BitLen() - 16)
			require.NoError(t, err)
			s.Addrs, s.Subnets = append(s.Addrs, addr), append(s.Subnets, prefix)
		}
		return s
	}
	asked := Balance(&egress, []Service{service("web", false, 30080, "20.50.1.9"), service("inner", true, 30090, "10.224.9.9", "fd00::9")}, Options{Prober: probe.ProberFunc(nil)})
	require.NoError(t, egress.Validate())
	assert.Equal(t, map[string]Asked{
		"web-TCP-80": {Service: "web", Port: "http"}, "inner-TCP-80": {Service: "inner", Port: "http", Local: true},
		"inner-TCP-80-IPv6": {Service: "inner", Port: "http", Local: true, Is6: true},
	}, asked)
	require.Len(t, egress.LoadBalancer.LoadBalancingRules, 1)
	require.Len(t, egress.InternalLoadBalancers, 1)
	inner := egress.InternalLoadBalancers[0]
	assert.Equal(t, InternalName, inner.Name)
	want := probe.Probe{Name: "inner-TCP-80", Protocol: probe.HTTP, Port: 30091, RequestPath: "/healthz", Interval: probeInterval, NumberOfProbes: 2}
	over6 := want
	over6.Name += "-IPv6"
	assert.Equal(t, []probe.Probe{want, over6}, inner.Probes)
	rules := inner.LoadBalancingRules
	require.Len(t, rules, 2)
	assert.True(t, rules[0].EnableFloatingIP)
	assert.Equal(t, lb.SourceIP, rules[0].LoadDistribution)
	assert.Equal(t, [2]any{false, uint16(30090)}, [2]any{rules[1].EnableFloatingIP, rules[1].BackendPort})
}

// Without floating IP a node's answer may be one to a client of the frontend, but not in pieces: those
// the load balancer has not carried.
func TestAnswersByANodePort(t *testing.T) {
	fs := NewFrontends([]lb.InternalLoadBalancer{{
		FrontendIPConfigurations: []lb.FrontendIPConfiguration{{Name: "f", PrivateIPAddress: netip.MustParseAddr("fd00:1::ffff")}},
		LoadBalancingRules:       []lb.LoadBalancingRule{{FrontendIPConfiguration: "f", Protocol: snat.UDP, FrontendPort: 53, BackendPort: 30087}},
	}})
	answer := pkttest.UDP("[fd00:1::5]:30087", "[fd00:1::8]:59392", strings.Repeat("answer.. ", 20))
	assert.True(t, fs.Answers(answer))
	assert.False(t, fs.Answers(pkttest.UDP("[fd00:1::5]:30088", "[fd00:1::8]:59392", "")))
	for i, piece := range pkttest.Fragments(answer, 104, 7) {
		assert.False(t, fs.Answers(piece), "piece %d", i)
	}
}
