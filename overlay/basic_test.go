package overlay_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// basic starts a cluster with load balancers of SKU Basic, and pod client on node 0.
func basic(t *testing.T) *serving {
	c, err := overlay.New(overlay.ClusterConfig{
		LoadBalancerSKU: lb.Basic, NodePools: []overlay.NodePool{{Name: "p", Count: 2}}, Dataplane: snat.Dataplane{Seed: 1, HashKey: 1},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.AddPod(c.Nodes()[0].Name, "client")
	require.NoError(t, err)
	return &serving{T: t, Cluster: c}
}

// leaves sends a packet of the pod to the Internet and returns the address that it leaves with.
func (s *serving) leaves(pkt []byte) netip.Addr {
	s.Helper()
	require.NotEqual(s, flow.Drop, s.Explain(s.now, pkt).Action)
	v := s.Outbound(s.now, pkt)
	require.Equal(s, flow.Forward, v.Action, v.Reason)
	src, _ := sockets(pkt)
	return src.Addr()
}

// The outbound address of a Basic cluster over the life of its Services: a random one without any,
// then the first one's, and when that goes the next one's; internal ones have none to lend.
func TestAzure_42_basicOverTheLifeOfServices(t *testing.T) {
	s := basic(t)
	port := 5000
	both := func() netip.Addr {
		port++
		client := netip.AddrPortFrom(netip.MustParseAddr(s.addr("client")), uint16(port)).String()
		a := s.leaves(pkttest.TCP(client, "198.51.100.9:443", pkttest.SYN))
		require.Equal(t, a, s.leaves(pkttest.UDP(client, "198.51.100.9:53", "q")), "a rule for one protocol serves both")
		return a
	}
	add := func(svc overlay.Service) netip.Addr {
		t.Helper()
		svc.Type, svc.Ports = overlay.LoadBalancer, []overlay.ServicePort{{Port: 80, TargetPort: 8080}}
		got, err := s.AddService(s.now, svc)
		require.NoError(t, err)
		return got.LoadBalancerIPs[0]
	}
	first := both()
	assert.True(t, lb.DefaultOutboundRange.Contains(first))
	assert.Equal(t, first, both(), "it stays")
	inner := internal()
	inner.Name = "inner"
	add(inner)
	assert.Equal(t, first, both(), "an internal one does not matter")

	a := add(overlay.Service{Name: "a"})
	assert.Equal(t, a, both())
	b := add(overlay.Service{Name: "b", ExternalTrafficPolicy: overlay.PolicyLocal})
	assert.Equal(t, a, both(), "later ones do not change it")
	l := s.EgressConfig().LoadBalancer
	assert.Equal(t, lb.Basic, l.SKU)
	assert.False(t, l.LoadBalancingRules[0].EnableTCPReset || l.LoadBalancingRules[0].DisableOutboundSNAT)
	assert.Empty(t, l.OutboundRules)
	require.NoError(t, s.RemoveService(s.now, "a"))
	assert.Equal(t, b, both(), "the oldest that is left")
	require.NoError(t, s.RemoveService(s.now, "b"))
	assert.True(t, lb.DefaultOutboundRange.Contains(both()))
}

// Every node has 1,024 ports of the address, in both states; flows idle out after 4 minutes, silently.
func TestAzureBasic_portsAndTimers(t *testing.T) {
	for _, service := range []bool{false, true} {
		s := basic(t)
		if service {
			_, err := s.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
			require.NoError(t, err)
		}
		for port := range 1024 {
			s.leaves(pkttest.TCP(netip.AddrPortFrom(netip.MustParseAddr(s.addr("client")), uint16(5000+port)).String(), "198.51.100.9:443", pkttest.SYN))
		}
		assert.Equal(t, "ports", s.outbound(pkttest.TCP(s.addr("client")+":7000", "198.51.100.9:443", pkttest.SYN)), "service %v", service)
		var sent int
		s.now = flow.At(4*time.Minute + time.Second)
		s.Advance(s.now, func(flow.Emission) { sent++ })
		assert.Zero(t, sent)
		assert.Contains(t, s.outbound(pkttest.TCP(s.addr("client")+":7000", "198.51.100.9:443", pkttest.SYN)), "198.51.100.9:443")
	}
}

func TestBasic_refused(t *testing.T) {
	for _, tt := range []struct {
		edit func(*overlay.ClusterConfig)
		want string
	}{
		{func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundNone }, "OutboundType none: conflict"},
		{func(c *overlay.ClusterConfig) { c.OutboundType = overlay.OutboundManagedNATGateway }, "OutboundType managedNATGateway: conflict"},
		{func(c *overlay.ClusterConfig) { c.NodePools = append(c.NodePools, overlay.NodePool{Name: "b"}) }, "NodePools has 2 elements: conflict"},
		{func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.ManagedOutboundIPCount = 2 }, "LoadBalancerProfile: conflict"},
		{func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.OutboundIPs = addrsOf("20.1.1.1") }, "LoadBalancerProfile: conflict"},
		{func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.IdleTimeout = 4 * time.Minute }, "LoadBalancerProfile: conflict"},
		{func(c *overlay.ClusterConfig) { c.LoadBalancerProfile.AllocatedOutboundPorts = 1024 }, "LoadBalancerProfile: conflict"},
	} {
		c := overlay.ClusterConfig{LoadBalancerSKU: lb.Basic, NodePools: []overlay.NodePool{{Name: "a", Count: 1}}}
		require.NoError(t, c.Validate())
		tt.edit(&c)
		err := c.Validate()
		require.ErrorIs(t, err, flow.ErrConflict, tt.want)
		assert.ErrorContains(t, err, tt.want)
	}
	s := basic(t)
	require.ErrorIs(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.LoadBalancerSKU = lb.Standard }), snat.ErrFixed)
	for mode, is := range map[string]error{"__auto__": nil, "default": nil, "aks-p-vmss": nil, "aks-other-vmss": flow.ErrUnknownName} {
		_, err := s.AddService(0, overlay.Service{Name: mode, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("azure-load-balancer-mode", mode)})
		require.ErrorIs(t, err, is)
	}
	svc := internal("azure-load-balancer-enable-high-availability-ports", "true")
	svc.Name, svc.Ports = "ha", []overlay.ServicePort{{Port: 80}}
	_, err := s.AddService(0, svc)
	require.ErrorIs(t, err, lb.ErrUnsupported)
}
