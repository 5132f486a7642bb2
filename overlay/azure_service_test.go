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
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/internal/annotations"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The rows of the fact sheet's tables on traffic policies and on annotations of Services,
// one test each, but those that have one elsewhere: TestAzure_59, TestAzure_61,
// TestAzureService_..., TestAzureAnnotation_sharedAddress, TestInternalService....

// seen lets a client of the cluster begin a connection, and returns what the endpoint sees of it.
func (s *serving) seen(client, to string) string {
	s.Helper()
	require.Contains(s, s.outbound(pkttest.TCP(client, to, pkttest.SYN)), ":8080")
	x := s.session()
	assert.Equal(s, to+" > "+client, s.answers(), "the answer is the Service's")
	return x.Seen.Addr().String()
}

func TestAzureService_clusterIPFromAPodIsNeverMasqueraded(t *testing.T) {
	for _, pod := range []string{"a", "b"} { // on the node of the client, and on another
		s := newServing(t, overlay.Service{}, pod)
		assert.Equal(t, s.addr("client"), s.seen(s.addr("client")+":5000", s.web.ClusterIPs[0].String()+":80"))
	}
}

func TestAzureService_podToLoadBalancerClusterSeesTheNode(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	assert.Equal(t, s.node(0), s.seen(s.addr("client")+":5000", s.public()))
	assert.Zero(t, s.Stats().ConnectionsSuccessful, "it never leaves by the load balancer")
}

func TestAzureService_podToLoadBalancerLocalKeepsThePod(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "b") // not on the client's node
	assert.Equal(t, s.addr("client"), s.seen(s.addr("client")+":5000", s.public()))
}

func TestAzureService_nodeToLoadBalancerIsMasqueraded(t *testing.T) {
	for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
		s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy}, "b")
		assert.Equal(t, s.node(0), s.seen(s.node(0)+":5000", s.public()))
	}
}

func TestAzureService_hairpinSeesTheNode(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "a")
	assert.Equal(t, s.node(0), s.seen(s.addr("a")+":5000", s.web.ClusterIPs[0].String()+":80"))
}

func TestAzureService_backendsAreChosenAtRandomPerConnection(t *testing.T) {
	s := newServing(t, overlay.Service{}, "a", "b")
	n := map[netip.Addr]int{}
	for i := range 200 {
		s.outbound(pkttest.TCP(fmt.Sprintf("%s:%d", s.addr("client"), 5000+i), s.web.ClusterIPs[0].String()+":80", pkttest.SYN))
	}
	for x := range s.ServiceSessions() {
		n[x.Endpoint.Addr()]++
	}
	require.Len(t, n, 2)
	for _, k := range n {
		assert.InDelta(t, 100, k, 45) // more than six standard deviations
	}
}

func TestAzureService_floatingIPByDefault(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	r := s.EgressConfig().LoadBalancer.LoadBalancingRules[0]
	assert.True(t, r.EnableFloatingIP)
	assert.EqualValues(t, 80, r.BackendPort, "the Service's port")
	p := s.EgressConfig().LoadBalancer.Probes[0]
	assert.Equal(t, s.web.Ports[0].NodePort, p.Port, "the node port is for the probe only")
}

// balanced creates a Service of type LoadBalancer with annotations, and returns what the load
// balancer has of it.
func balanced(t *testing.T, svc overlay.Service, namesAndValues ...string) (*serving, lb.Config) {
	svc.Type, svc.Annotations = overlay.LoadBalancer, annotated(namesAndValues...)
	s := newServing(t, svc, "a", "b")
	return s, s.EgressConfig().LoadBalancer
}

func TestAzureAnnotation_internal(t *testing.T) {
	s, l := balanced(t, overlay.Service{}, "azure-load-balancer-internal", "true")
	assert.Empty(t, l.LoadBalancingRules)
	require.Len(t, s.EgressConfig().InternalLoadBalancers, 1)
	s, l = balanced(t, overlay.Service{}, "azure-load-balancer-internal", "false")
	assert.Len(t, l.LoadBalancingRules, 1)
	assert.Empty(t, s.EgressConfig().InternalLoadBalancers)
}

func TestAzureAnnotation_addressesByFamily(t *testing.T) {
	s, _ := balanced(t, overlay.Service{IPFamilies: "ipv4,ipv6"}, "azure-load-balancer-ipv4", "20.77.0.1", "azure-load-balancer-ipv6", "2001:db8:77::1")
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("20.77.0.1"), netip.MustParseAddr("2001:db8:77::1")}, s.web.LoadBalancerIPs)
	assert.Contains(t, s.from(outsider), ":8080")
}

func TestAzureAnnotation_additionalPublicIPs(t *testing.T) {
	s, _ := balanced(t, overlay.Service{}, "azure-additional-public-ips", "20.77.0.1,20.77.0.2")
	require.Len(t, s.web.LoadBalancerIPs, 3)
	for i, a := range s.web.LoadBalancerIPs {
		assert.Contains(t, s.inbound(pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 6000+i), netip.AddrPortFrom(a, 80).String(), pkttest.SYN)), ":8080")
	}
}

// Names of DNS, tags and where addresses live change no packet.
func TestAzureAnnotation_labels(t *testing.T) {
	_, plain := balanced(t, overlay.Service{})
	for _, l := range [][2]string{{"azure-dns-label-name", "shop"}, {"azure-dns-label-name", ""}, {"azure-pip-ip-tags", "RoutingPreference=Internet"}, {"azure-load-balancer-resource-group", "rg"}, {"azure-shared-securityrule", "true"}, {"azure-load-balancer-mode", "default"}} {
		s, with := balanced(t, overlay.Service{}, l[0], l[1])
		assert.Equal(t, plain.LoadBalancingRules, with.LoadBalancingRules, l[0])
		assert.Equal(t, plain.FrontendIPConfigurations, with.FrontendIPConfigurations, l[0])
		assert.Contains(t, s.Services()[0].Annotations, annotations.Prefix+l[0], "it is kept")
	}
}

func TestAzureAnnotation_tcpIdleTimeoutAndReset(t *testing.T) {
	_, l := balanced(t, overlay.Service{}, "azure-load-balancer-tcp-idle-timeout", "30")
	assert.Equal(t, 30*time.Minute, l.LoadBalancingRules[0].IdleTimeout)
	assert.True(t, l.LoadBalancingRules[0].EnableTCPReset, "on by default")
	_, l = balanced(t, overlay.Service{}, "azure-load-balancer-disable-tcp-reset", "true")
	assert.False(t, l.LoadBalancingRules[0].EnableTCPReset)
	_, l = balanced(t, overlay.Service{Ports: []overlay.ServicePort{{Port: 53, Protocol: snat.UDP}}})
	assert.False(t, l.LoadBalancingRules[0].EnableTCPReset, "of TCP only")
}

func TestAzureAnnotation_disableFloatingIP(t *testing.T) {
	s, l := balanced(t, overlay.Service{}, "azure-disable-load-balancer-floating-ip", "true")
	assert.False(t, l.LoadBalancingRules[0].EnableFloatingIP)
	assert.Equal(t, s.web.Ports[0].NodePort, l.LoadBalancingRules[0].BackendPort)
	assert.Contains(t, s.from(outsider), ":8080")
	for x := range s.ServiceSessions() {
		assert.Equal(t, s.web.Ports[0].NodePort, x.Frontend.Port(), "the node gets its own address and the node port")
	}
}

func TestAzureAnnotation_healthProbe(t *testing.T) {
	_, l := balanced(t, overlay.Service{}, "azure-load-balancer-health-probe-protocol", "http", "azure-load-balancer-health-probe-interval", "7",
		"azure-load-balancer-health-probe-num-of-probe", "3", "azure-load-balancer-health-probe-request-path", "/ok")
	p := l.Probes[0]
	assert.Equal(t, []any{probe.HTTP, 7 * time.Second, 3, "/ok"}, []any{p.Protocol, p.Interval, p.NumberOfProbes, p.RequestPath})
}

func TestAzureAnnotation_portRules(t *testing.T) {
	ports := []overlay.ServicePort{{Name: "a", Port: 80, TargetPort: 8080}, {Name: "b", Port: 81, TargetPort: 8080}, {Name: "c", Port: 82, TargetPort: 8080}}
	s, l := balanced(t, overlay.Service{Ports: ports}, "port_80_no_lb_rule", "true", "port_81_no_probe_rule", "true",
		"azure-load-balancer-health-probe-interval", "9", "port_82_health-probe_protocol", "https", "port_82_health-probe_port", "8443",
		"port_82_health-probe_interval", "6", "port_82_health-probe_num-of-probe", "4", "port_82_health-probe_request-path", "/up")
	require.Len(t, l.LoadBalancingRules, 2)
	require.Len(t, l.Probes, 1)
	assert.Empty(t, l.LoadBalancingRules[0].Probe, "always eligible")
	p := l.Probes[0]
	assert.Equal(t, []any{probe.HTTPS, uint16(8443), 6 * time.Second, 4, "/up"}, []any{p.Protocol, p.Port, p.Interval, p.NumberOfProbes, p.RequestPath}, "the port's own win")
	assert.Equal(t, "no_flow", s.from(outsider), "no rule, no way in")
}

// The default probes: by policy, protocol and appProtocol.
func TestAzureAnnotation_defaultProbes(t *testing.T) {
	for _, tt := range []struct {
		policy overlay.TrafficPolicy
		port   overlay.ServicePort
		want   probe.Protocol
		path   string
		none   bool
	}{
		{overlay.PolicyLocal, overlay.ServicePort{Port: 80}, probe.HTTP, "/healthz", false},
		{overlay.PolicyLocal, overlay.ServicePort{Port: 53, Protocol: snat.UDP}, probe.HTTP, "/healthz", false},
		{overlay.PolicyCluster, overlay.ServicePort{Port: 80}, probe.TCP, "", false},
		{overlay.PolicyCluster, overlay.ServicePort{Port: 80, AppProtocol: "http"}, probe.HTTP, "/", false},
		{overlay.PolicyCluster, overlay.ServicePort{Port: 80, AppProtocol: "https"}, probe.HTTPS, "/", false},
		{overlay.PolicyCluster, overlay.ServicePort{Port: 53, Protocol: snat.UDP}, 0, "", true},
	} {
		s, l := balanced(t, overlay.Service{ExternalTrafficPolicy: tt.policy, Ports: []overlay.ServicePort{tt.port}})
		if tt.none {
			assert.Empty(t, l.Probes)
			continue
		}
		require.Len(t, l.Probes, 1)
		assert.Equal(t, []any{tt.want, tt.path, 5 * time.Second, 2}, []any{l.Probes[0].Protocol, l.Probes[0].RequestPath, l.Probes[0].Interval, l.Probes[0].NumberOfProbes})
		if tt.policy == overlay.PolicyLocal {
			assert.Equal(t, s.web.HealthCheckNodePort, l.Probes[0].Port)
		}
	}
}

// What is not modelled is refused, with the annotation and its value.
func TestAzureAnnotation_refused(t *testing.T) {
	s := newServing(t, overlay.Service{})
	for name, value := range map[string]string{
		"azure-pip-name": "ip", "azure-pip-name-ipv6": "ip", "azure-pip-prefix-id": "id", "azure-pip-prefix-id-ipv6": "id", // which there are not
		"azure-load-balancer-enable-high-availability-ports": "true", // for internal load balancers
		"azure-load-balancer-mode":                           "__auto__", "azure-load-balancer-colour": "blue", "azure-pls-create": "true",
	} {
		_, err := s.AddService(s.now, overlay.Service{Name: "x", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated(name, value)})
		assert.Error(t, err)
		assert.ErrorContains(t, err, annotations.Prefix+name)
		assert.ErrorContains(t, err, value)
	}
	for value, kind := range map[string]error{"3": flow.ErrOutOfRange, "31": flow.ErrOutOfRange, "4m": flow.ErrSyntax} {
		_, err := s.AddService(s.now, overlay.Service{
			Name: "x", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("azure-load-balancer-tcp-idle-timeout", value),
		})
		assert.ErrorIs(t, err, kind)
	}
}
