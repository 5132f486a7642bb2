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
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

func addrsOf(texts ...string) (all []netip.Addr) {
	for _, a := range texts {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// named is a configuration's public IPs and prefixes.
func named(c *overlay.ClusterConfig) {
	c.PublicIPs = []overlay.PublicIP{{Name: "web4", Address: netip.MustParseAddr("20.77.0.9")}, {Name: "web6", Address: netip.MustParseAddr("2001:db8:77::9")}}
	c.PublicIPPrefixes = []overlay.PublicIPPrefix{{ID: "/p4", Prefix: netip.MustParsePrefix("20.77.1.0/31")}, {ID: "/p6", Prefix: netip.MustParsePrefix("2001:db8:77:1::/127")}}
}

// Public IPs by name, and the next address of a prefix, by family; one that a Service shares or
// gives back is found again.
func TestAzureRow_4_6_publicIPNames(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	require.NoError(t, s.reconfigure(named))
	add := func(name string, svc overlay.Service, annotations ...string) (overlay.ServiceStatus, error) {
		svc.Name, svc.Type, svc.Annotations = name, overlay.LoadBalancer, annotated(annotations...)
		if svc.Ports == nil {
			svc.Ports = []overlay.ServicePort{{Port: 80, TargetPort: 8080}}
		}
		return s.AddService(s.now, svc)
	}
	for _, tt := range []struct {
		name string
		svc  overlay.Service
		say  []string
		want []string
	}{
		{"one family", overlay.Service{}, []string{"azure-pip-name", "web4"}, []string{"20.77.0.9"}},
		{"shared, another port", overlay.Service{Ports: []overlay.ServicePort{{Port: 81}}}, []string{"azure-pip-name", "web4"}, []string{"20.77.0.9"}},
		{"IPv6 alone has no suffix", overlay.Service{IPFamilies: "ipv6", Ports: []overlay.ServicePort{{Port: 82}}}, []string{"azure-pip-name", "web6"}, []string{"2001:db8:77::9"}},
		{"both", overlay.Service{IPFamilies: "ipv4,ipv6", Ports: []overlay.ServicePort{{Port: 83}}}, []string{"azure-pip-name", "web4", "azure-pip-name-ipv6", "web6"}, []string{"20.77.0.9", "2001:db8:77::9"}},
		{"prefixes", overlay.Service{IPFamilies: "ipv4,ipv6"}, []string{"azure-pip-prefix-id", "/p4", "azure-pip-prefix-id-ipv6", "/p6"}, []string{"20.77.1.0", "2001:db8:77:1::"}},
		{"the next of a prefix", overlay.Service{}, []string{"azure-pip-prefix-id", "/p4"}, []string{"20.77.1.1"}},
		{"one of a prefix", overlay.Service{Ports: []overlay.ServicePort{{Port: 84}}}, []string{"azure-pip-prefix-id", "/p4", "azure-load-balancer-ipv4", "20.77.1.0"}, []string{"20.77.1.0"}},
		{"spec", overlay.Service{LoadBalancerIP: netip.MustParseAddr("20.77.3.3")}, nil, []string{"20.77.3.3"}},
		{"annotation before spec", overlay.Service{LoadBalancerIP: netip.MustParseAddr("20.77.3.4")}, []string{"azure-load-balancer-ipv4", "20.77.3.5"}, []string{"20.77.3.5"}},
	} {
		got, err := add(tt.name, tt.svc, tt.say...)
		require.NoError(t, err, tt.name)
		assert.Equal(t, addrsOf(tt.want...), got.LoadBalancerIPs, tt.name)
	}
	require.NoError(t, s.SetEndpoints("one family", overlay.Endpoint{Pod: "b"}))
	s.probes()
	assert.Contains(t, s.inbound(pkttest.TCP(outsider, "20.77.0.9:80", pkttest.SYN)), s.addr("b")+":8080")

	for _, tt := range []struct {
		svc  overlay.Service
		say  []string
		is   error
		want string
	}{
		{overlay.Service{}, []string{"azure-pip-name", "none"}, flow.ErrUnknownName, `azure-pip-name] "none": unknown name: no such name in PublicIPs`},
		{overlay.Service{}, []string{"azure-pip-prefix-id", "none"}, flow.ErrUnknownName, "no such ID in PublicIPPrefixes"},
		{overlay.Service{}, []string{"azure-pip-prefix-id", "/p4"}, flow.ErrTooMany, "no free address in 20.77.1.0/31"},
		{overlay.Service{}, []string{"azure-pip-name", "web6"}, overlay.ErrFamily, "it is 2001:db8:77::9"},
		{overlay.Service{}, []string{"azure-pip-prefix-id", "/p6"}, overlay.ErrFamily, "it is 2001:db8:77:1::/127"},
		{overlay.Service{}, []string{"azure-pip-name-ipv6", "web6"}, overlay.ErrFamily, "azure-pip-name-ipv6] \"web6\""},
		{overlay.Service{}, []string{"azure-pip-name", "web4", "azure-load-balancer-ipv4", "20.77.0.8"}, flow.ErrConflict, `public IP "web4" is 20.77.0.9`},
		{overlay.Service{}, []string{"azure-pip-prefix-id", "/p4", "azure-load-balancer-ipv4", "20.77.0.8"}, flow.ErrConflict, `public IP prefix "/p4" is 20.77.1.0/31`},
		{overlay.Service{LoadBalancerIP: netip.MustParseAddr("2001:db8::1")}, nil, overlay.ErrFamily, "LoadBalancerIP 2001:db8::1"},
	} {
		_, err := add("bad", tt.svc, tt.say...)
		require.ErrorIs(t, err, tt.is, "%v", tt.say)
		assert.ErrorContains(t, err, tt.want)
	}
	_, err := s.AddService(s.now, overlay.Service{Name: "bad", Ports: []overlay.ServicePort{{Port: 80}}, LoadBalancerIP: netip.MustParseAddr("20.77.3.9")})
	require.ErrorIs(t, err, flow.ErrConflict)
	require.NoError(t, s.RemoveService(s.now, "the next of a prefix"))
	got, err := add("again", overlay.Service{}, "azure-pip-prefix-id", "/p4")
	require.NoError(t, err)
	assert.Equal(t, addrsOf("20.77.1.1"), got.LoadBalancerIPs)
}

func TestPublicIPs_refused(t *testing.T) {
	c := overlay.ClusterConfig{NodePools: []overlay.NodePool{{Count: 1}}, IPFamilies: "ipv4"}
	named(&c)
	c.PublicIPs = append(c.PublicIPs, overlay.PublicIP{Address: netip.MustParseAddr("10.224.0.1")}, overlay.PublicIP{Name: "web4", Address: netip.MustParseAddr("20.77.1.1")}, overlay.PublicIP{Name: "x"})
	c.PublicIPPrefixes = append(c.PublicIPPrefixes, overlay.PublicIPPrefix{ID: "/p4", Prefix: netip.MustParsePrefix("20.77.4.0/27")})
	err := c.Validate()
	for _, want := range []string{
		`PublicIPs[1].Address 2001:db8:77::9: wrong address family`, `PublicIPs[2].Name "": missing`, `PublicIPs[2].Address 10.224.0.1: overlap`,
		`PublicIPs[3].Name "web4": duplicate name`, `overlap: with PublicIPs[3].Address`, `PublicIPs[4].Address invalid IP`,
		`PublicIPPrefixes[2].ID "/p4": duplicate name`, `PublicIPPrefixes[2].Prefix`,
	} {
		assert.ErrorContains(t, err, want)
	}
}

// HA ports: one rule takes all ports to the nodes, whose proxies have use for those of the Service only.
func TestAzureRow_4_6_haPorts(t *testing.T) {
	svc := internal("azure-load-balancer-enable-high-availability-ports", "true")
	svc.Ports = []overlay.ServicePort{{Name: "dns", Port: 53, Protocol: snat.UDP, TargetPort: 8080}, {Name: "http", Port: 80, TargetPort: 8080}}
	s := newServing(t, svc, "b")
	inner := s.EgressConfig().InternalLoadBalancers[0]
	require.Len(t, inner.LoadBalancingRules, 1)
	r := inner.LoadBalancingRules[0]
	assert.Equal(t, []any{snat.All, uint16(0), uint16(0), true, true, "web-TCP-80"}, []any{r.Protocol, r.FrontendPort, r.BackendPort, r.EnableFloatingIP, r.EnableTCPReset, r.Probe})
	for _, pkt := range [][]byte{pkttest.TCP(vm, address+":80", pkttest.SYN), pkttest.UDP(vm, address+":53", "q")} {
		assert.Contains(t, s.inbound(pkt), s.addr("b")+":8080")
	}
	assert.Contains(t, s.answers2(vm), address)
	before := s.Stats().Inbound.Forwarded
	stray := func() []byte { return pkttest.TCP(vm, address+":81", pkttest.SYN) }
	assert.Equal(t, "not_ours", s.Explain(s.now, stray()).Reason.String())
	assert.Equal(t, "not_ours", s.inbound(stray()), "no Service's port")
	verdicts := make([]flow.Verdict, 2)
	s.InboundBatch(s.now, [][]byte{stray(), pkttest.TCP("10.225.1.9:5001", address+":80", pkttest.SYN)}, verdicts)
	assert.Equal(t, []flow.Reason{flow.ReasonNotOurs, flow.ReasonNone}, []flow.Reason{verdicts[0].Reason, verdicts[1].Reason})
	assert.EqualValues(t, 2, s.Stats().Inbound.Drops[flow.ReasonNotOurs])
	assert.Equal(t, before+1, s.Stats().Inbound.Forwarded)
	_, err := s.AddService(s.now, overlay.Service{
		Name: "six", Type: overlay.LoadBalancer, IPFamilies: "ipv6", Ports: svc.Ports, Annotations: svc.Annotations,
	})
	require.ErrorIs(t, err, lb.ErrUnsupported)
}

// answers2 lets the endpoint of a client's TCP connection answer.
func (s *serving) answers2(client string) string {
	for x := range s.ServiceSessions() {
		if x.Client.String() == client && x.Proto == 6 {
			return s.outbound(pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1)))
		}
	}
	return ""
}

// In mode Shared all Services with policy Cluster have one probe, which nodes answer whether
// there are endpoints or not; those with policy Local keep their own.
func TestAzureRow_4_6_defaultProbe_shared(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer})
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.LoadBalancerProfile.ClusterServiceLoadBalancerHealthProbeMode = overlay.HealthProbeShared
	}))
	_, err := s.AddService(s.now, overlay.Service{Name: "dns", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 53, Protocol: snat.UDP}}})
	require.NoError(t, err)
	_, err = s.AddService(s.now, overlay.Service{Name: "near", Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	inner := internal()
	inner.Name, inner.Ports = "inner", []overlay.ServicePort{{Port: 80}}
	_, err = s.AddService(s.now, inner)
	require.NoError(t, err)
	s.probes()
	want := probe.Probe{Name: "cluster-service-shared-health-probe", Protocol: probe.HTTP, Port: 10256, RequestPath: "/healthz", Interval: 5 * time.Second, NumberOfProbes: 2}
	l := s.EgressConfig().LoadBalancer
	require.Len(t, l.Probes, 2)
	assert.Equal(t, want, l.Probes[0])
	assert.Equal(t, "near-TCP-80", l.Probes[1].Name)
	assert.Equal(t, []string{want.Name, want.Name, "near-TCP-80"}, []string{l.LoadBalancingRules[0].Probe, l.LoadBalancingRules[1].Probe, l.LoadBalancingRules[2].Probe})
	assert.Equal(t, []probe.Probe{want}, s.EgressConfig().InternalLoadBalancers[0].Probes)
	assert.Equal(t, "no_target", s.from(outsider), "every node is healthy, and none has an endpoint")
	for _, x := range s.Services() {
		if x.Name == "web" {
			assert.Zero(t, len(x.Endpoints))
		}
	}
	s.endpoints("b")
	assert.Contains(t, s.from("198.51.100.9:5001"), ":8080")

	_, err = s.AddService(s.now, overlay.Service{
		Name: "own", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("azure-load-balancer-health-probe-interval", "7"),
	})
	require.ErrorIs(t, err, flow.ErrConflict)
	_, err = s.AddService(s.now, overlay.Service{
		Name: "own", Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("port_80_health-probe_interval", "7"),
	})
	require.NoError(t, err, "its probe is its own")
}
