package overlay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Services share an address of a load balancer by other ports or protocols, and what one of
// them has stays when the other goes.
func TestAzureRow_4_6_addresses_shared(t *testing.T) {
	for _, tt := range []struct{ name, addr, client string }{
		{"public", "20.77.0.1", outsider}, {"internal", "10.224.200.9", "10.225.0.9:5000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			internal := fmt.Sprint(tt.name == "internal")
			at := annotated("azure-load-balancer-ipv4", tt.addr, "azure-load-balancer-internal", internal)
			s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, Annotations: at}, "b")
			_, err := s.AddService(s.now, overlay.Service{
				Name: "other", Type: overlay.LoadBalancer, Annotations: at,
				Ports: []overlay.ServicePort{{Name: "a", Port: 443, TargetPort: 8443}, {Name: "b", Port: 80, Protocol: snat.UDP, TargetPort: 5353}},
			})
			require.NoError(t, err)
			require.NoError(t, s.SetEndpoints("other", overlay.Endpoint{Pod: "a"}))
			s.probes()
			web, other := tt.addr+":80", tt.addr+":443"
			assert.Contains(t, s.inbound(pkttest.TCP(tt.client, web, pkttest.SYN)), s.addr("b")+":8080")
			assert.Contains(t, s.inbound(pkttest.TCP(tt.client, other, pkttest.SYN)), s.addr("a")+":8443")
			assert.Contains(t, s.inbound(pkttest.UDP(tt.client, web, "q")), s.addr("a")+":5353")

			_, err = s.AddService(s.now, overlay.Service{Name: "clash", Type: overlay.LoadBalancer, Annotations: at, Ports: []overlay.ServicePort{{Port: 443}}})
			require.ErrorIs(t, err, flow.ErrOverlap)
			for _, text := range []string{"clash", tt.addr, "443", `Service "other" has it`} {
				assert.ErrorContains(t, err, text)
			}
			require.NoError(t, s.RemoveService(s.now, "web"))
			assert.Contains(t, s.inbound(pkttest.TCP(tt.client, other, pkttest.TCPFlags("A"), pkttest.Seq(1))), s.addr("a")+":8443", "its connection goes on")
			assert.NotContains(t, s.inbound(pkttest.TCP(tt.client, web, pkttest.SYN)), s.addr("b"))
			require.NoError(t, s.RemoveService(s.now, "other"))
			assert.Empty(t, s.EgressConfig().LoadBalancer.LoadBalancingRules)
			assert.Empty(t, s.EgressConfig().InternalLoadBalancers)
		})
	}
}

// Azure Linux routes no probe of IPv6 to a pod: policy Cluster fails, policy Local works, and other
// nodes and IPv4 are not concerned.
func TestAzureRow_4_5_ipv6NeedsLocal(t *testing.T) {
	for _, tt := range []struct {
		policy overlay.TrafficPolicy
		sku    overlay.OSSKU
		v6     bool
	}{{overlay.PolicyCluster, overlay.AzureLinux, false}, {overlay.PolicyLocal, overlay.AzureLinux, true}, {overlay.PolicyCluster, overlay.Ubuntu, true}} {
		s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6", ExternalTrafficPolicy: tt.policy}, "a", "b")
		require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.NodePools[0].OSSKU = tt.sku }))
		s.probes()
		assert.Contains(t, s.from(outsider), ":8080", "IPv4")
		pkt := pkttest.TCP("[2001:db8:9::9]:5000", netip.AddrPortFrom(s.web.LoadBalancerIPs[1], 80).String(), pkttest.SYN)
		x := s.Explain(s.now, pkt)
		got := s.inbound(pkt)
		if tt.v6 {
			assert.Contains(t, got, ":8080", "%v %v", tt.policy, tt.sku)
		} else {
			assert.Equal(t, "no_target", got)
			assert.Contains(t, x.String(), "found 0 of 3 nodes healthy")
		}
	}
	c := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1, OSSKU: 9}}}
	err := c.Validate()
	assert.ErrorIs(t, err, flow.ErrOutOfRange)
	assert.ErrorContains(t, err, "NodePools[0].OSSKU")
}

// Ports are counted by the Services that their pods serve.
func TestTopServices(t *testing.T) {
	s := newServing(t, overlay.Service{}, "a", "b")
	_, err := s.AddService(s.now, overlay.Service{Name: "also", Headless: true})
	require.NoError(t, err)
	require.NoError(t, s.SetEndpoints("also", overlay.Endpoint{Pod: "b"}, overlay.Endpoint{Node: s.Nodes()[0].Name}))
	for pod, n := range map[string]int{"a": 3, "b": 5, "client": 9} {
		for i := range n {
			s.outbound(pkttest.TCP(fmt.Sprintf("%s:%d", s.addr(pod), 5000+i), "198.51.100.9:443", pkttest.SYN))
		}
	}
	assert.Equal(t, []snat.PortUser{{Name: "web", Ports: 8}, {Name: "also", Ports: 5}}, s.TopServices(10))
	assert.Equal(t, []snat.PortUser{{Name: "web", Ports: 8}}, s.TopServices(1))
	assert.Empty(t, s.TopServices(0))
	assert.Equal(t, []snat.PortUser{{Name: "198.51.100.9:443", Ports: 17}}, s.TopPorts(1, snat.ByDestination))
	s.now += flow.Time(time.Hour)
	s.Advance(s.now, nil)
	assert.Empty(t, s.TopServices(10))
}
