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

// The rows of the register of Azure (internal/conformance) about traffic policies and
// annotations of Services.

// seen lets a client of the cluster begin a connection, and returns what the endpoint sees of it.
func (s *serving) seen(client, to string) string {
	s.Helper()
	require.Contains(s, s.outbound(pkttest.TCP(client, to, pkttest.SYN)), ":8080")
	x := s.session()
	assert.Equal(s, to+" > "+client, s.answers(), "the answer is the Service's")
	return x.Seen.Addr().String()
}

func TestAzureRow_4_5_clusterIPFromPod(t *testing.T) {
	for _, pod := range []string{"a", "b"} { // on the node of the client, and on another
		s := newServing(t, overlay.Service{}, pod)
		assert.Equal(t, s.addr("client"), s.seen(s.addr("client")+":5000", s.web.ClusterIPs[0].String()+":80"))
	}
}

func TestAzureRow_4_5_podToBalancerCluster(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	assert.Equal(t, s.node(0), s.seen(s.addr("client")+":5000", s.public()))
	assert.Zero(t, s.Stats().ConnectionsSuccessful, "it never leaves by the load balancer")
}

func TestAzureRow_4_5_podToBalancerLocal(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "b") // not on the client's node
	assert.Equal(t, s.addr("client"), s.seen(s.addr("client")+":5000", s.public()))
}

func TestAzureRow_4_5_nodeToBalancer(t *testing.T) {
	for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
		s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: policy}, "b")
		assert.Equal(t, s.node(0), s.seen(s.node(0)+":5000", s.public()))
	}
}

func TestAzureRow_4_5_hairpin(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "a")
	assert.Equal(t, s.node(0), s.seen(s.addr("a")+":5000", s.web.ClusterIPs[0].String()+":80"))
}

func TestAzureRow_4_5_backendChoice(t *testing.T) {
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

// With floating IP the node gets frontend and Service port, and its node port is for the probe
// only; without it, and from an internal load balancer of IPv6, node and node port.
func TestAzureRow_4_5_floatingIP(t *testing.T) {
	s, l := balanced(t, overlay.Service{})
	assert.True(t, l.LoadBalancingRules[0].EnableFloatingIP)
	assert.EqualValues(t, 80, l.LoadBalancingRules[0].BackendPort)
	assert.Equal(t, s.web.Ports[0].NodePort, l.Probes[0].Port)
	s.from(outsider)
	assert.Equal(t, s.public(), s.session().Frontend.String())

	s, l = balanced(t, overlay.Service{}, "azure-disable-load-balancer-floating-ip", "true")
	assert.False(t, l.LoadBalancingRules[0].EnableFloatingIP)
	s.from(outsider)
	x := s.session()
	assert.Equal(t, netip.AddrPortFrom(s.Nodes()[x.Node].Addrs[0], s.web.Ports[0].NodePort), x.Frontend)

	s, _ = balanced(t, overlay.Service{IPFamilies: "ipv4,ipv6"}, "azure-load-balancer-internal", "true")
	s.inbound(pkttest.TCP("[fd12:3456:789b:7::9]:5000", netip.AddrPortFrom(s.web.LoadBalancerIPs[1], 80).String(), pkttest.SYN))
	x = s.session()
	assert.Equal(t, netip.AddrPortFrom(s.Nodes()[x.Node].Addrs[1], s.web.Ports[0].NodePort), x.Frontend)
}

// Any healthy node takes the packet and masquerades it, also for a pod of its own.
func TestAzureRow_4_5_policyCluster(t *testing.T) {
	for _, proto := range []snat.Protocol{snat.TCP, snat.UDP} {
		s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6", Ports: []overlay.ServicePort{{Port: 80, Protocol: proto, TargetPort: 8080}}}, "a")
		for i := range 60 {
			for f, client := range []string{fmt.Sprint("198.51.100.9:", 5000+i), fmt.Sprint("[2001:db8:9::9]:", 5000+i)} {
				to := netip.AddrPortFrom(s.web.LoadBalancerIPs[f], 80).String()
				pkt := pkttest.UDP(client, to, "q")
				if proto == snat.TCP {
					pkt = pkttest.TCP(client, to, pkttest.SYN)
				}
				require.Contains(t, s.inbound(pkt), ":8080")
			}
		}
		took := map[int]int{}
		for x := range s.ServiceSessions() {
			took[x.Node]++
			family := 0
			if x.Client.Addr().Is6() {
				family = 1
			}
			require.Equal(t, s.Nodes()[x.Node].Addrs[family], x.Seen.Addr())
			require.Equal(t, 0, x.EndpointNode, "forwarded to the pod's node")
		}
		assert.Len(t, took, 3)
	}
}

// Only nodes with a ready pod take packets, by their health check, and the pod sees the client; a
// node without one drops what reaches it all the same.
func TestAzureRow_4_5_policyLocal(t *testing.T) {
	s := newServing(t, overlay.Service{
		Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6", ExternalTrafficPolicy: overlay.PolicyLocal, Ports: []overlay.ServicePort{{Port: 53, Protocol: snat.UDP, TargetPort: 8080}},
	}, "b")
	for i, want := range []int{503, 200, 503} {
		status, ok := s.HealthCheck("web", s.Nodes()[i].Name)
		require.True(t, ok)
		assert.Equal(t, want, status)
	}
	for i := range 40 {
		for f, client := range []string{fmt.Sprint("198.51.100.9:", 5000+i), fmt.Sprint("[2001:db8:9::9]:", 5000+i)} {
			to := netip.AddrPortFrom(s.web.LoadBalancerIPs[f], 53).String()
			require.Regexp(t, "^\\Q"+client+" > \\E.*:8080$", s.inbound(pkttest.UDP(client, to, "q")))
		}
	}
	for x := range s.ServiceSessions() {
		require.Equal(t, []any{1, x.Client}, []any{x.Node, x.Seen})
	}
	for f, client := range []string{"10.224.9.9:5000", "[fd12:3456:789b::9:9]:5000"} {
		at := netip.AddrPortFrom(s.Nodes()[2].Addrs[f], s.web.Ports[0].NodePort).String()
		assert.Equal(t, "no_local_target", s.inbound(pkttest.UDP(client, at, "q")))
	}
	s.endpoints("a")
	assert.Contains(t, s.inbound(pkttest.UDP("198.51.100.9:7000", netip.AddrPortFrom(s.web.LoadBalancerIPs[0], 53).String(), "q")), s.addr("a"), "the other node is the healthy one now")
}

// A client keeps its endpoint until it has begun nothing for 10,800 s, and its node, for the rule
// distributes by source.
func TestAzureRow_4_5_affinity(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, SessionAffinity: true}, "a", "b")
	assert.Equal(t, lb.SourceIP, s.EgressConfig().LoadBalancer.LoadBalancingRules[0].LoadDistribution)
	served, port := map[string]string{}, 5000
	moved := func() (n int) { // of 40 clients
		port++
		for i := range 40 {
			pod := fmt.Sprintf("10.244.0.%d", 100+i)
			to := s.outbound(pkttest.TCP(fmt.Sprint(pod, ":", port), s.web.ClusterIPs[0].String()+":80", pkttest.SYN))[len(fmt.Sprint(pod, ":", port, " > ")):]
			if was, ok := served[pod]; ok && was != to {
				n++
			}
			served[pod] = to
		}
		return n
	}
	moved()
	for range 3 {
		s.now = s.now.Add(10_799 * time.Second)
		s.Advance(s.now, nil)
		assert.Zero(t, moved(), "every connection begins its time anew")
	}
	s.now = s.now.Add(10_801 * time.Second)
	s.Advance(s.now, nil)
	assert.InDelta(t, 20, moved(), 18, "half of them go elsewhere")
	for i := range 20 {
		s.from(fmt.Sprint("198.51.100.77:", 6000+i))
	}
	nodes, pods := map[int]bool{}, map[string]bool{}
	for x := range s.ServiceSessions() {
		if x.Client.Addr().String() == "198.51.100.77" {
			nodes[x.Node], pods[x.Pod] = true, true
		}
	}
	assert.Equal(t, []int{1, 1}, []int{len(nodes), len(pods)})
}

// balanced creates a Service of type LoadBalancer with annotations, and returns what the load
// balancer has of it.
func balanced(t *testing.T, svc overlay.Service, namesAndValues ...string) (*serving, lb.Config) {
	svc.Type, svc.Annotations = overlay.LoadBalancer, annotated(namesAndValues...)
	s := newServing(t, svc, "a", "b")
	return s, s.EgressConfig().LoadBalancer
}

func TestAzureRow_4_6_internal(t *testing.T) {
	s, l := balanced(t, overlay.Service{}, "azure-load-balancer-internal", "true")
	assert.Empty(t, l.LoadBalancingRules)
	require.Len(t, s.EgressConfig().InternalLoadBalancers, 1)
	s, l = balanced(t, overlay.Service{}, "azure-load-balancer-internal", "false")
	assert.Len(t, l.LoadBalancingRules, 1)
	assert.Empty(t, s.EgressConfig().InternalLoadBalancers)
}

func TestAzureRow_4_6_addresses(t *testing.T) {
	s, _ := balanced(t, overlay.Service{IPFamilies: "ipv4,ipv6"}, "azure-load-balancer-ipv4", "20.77.0.1", "azure-load-balancer-ipv6", "2001:db8:77::1")
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("20.77.0.1"), netip.MustParseAddr("2001:db8:77::1")}, s.web.LoadBalancerIPs)
	assert.Contains(t, s.from(outsider), ":8080")
}

func TestAzureRow_4_6_additionalPublicIPs(t *testing.T) {
	s, _ := balanced(t, overlay.Service{}, "azure-additional-public-ips", "20.77.0.1,20.77.0.2")
	require.Len(t, s.web.LoadBalancerIPs, 3)
	for i, a := range s.web.LoadBalancerIPs {
		assert.Contains(t, s.inbound(pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 6000+i), netip.AddrPortFrom(a, 80).String(), pkttest.SYN)), ":8080")
	}
}

// changesNothing wants values of an annotation to change no rule and no frontend, and to be kept.
func changesNothing(t *testing.T, name string, values ...string) {
	_, plain := balanced(t, overlay.Service{})
	for _, value := range values {
		s, with := balanced(t, overlay.Service{}, name, value)
		assert.Equal(t, plain.LoadBalancingRules, with.LoadBalancingRules, value)
		assert.Equal(t, plain.FrontendIPConfigurations, with.FrontendIPConfigurations, value)
		assert.Contains(t, s.from(outsider), ":8080", value)
		assert.Equal(t, value, s.Services()[0].Annotations[annotations.Prefix+name], "it is kept")
	}
}

func TestAzureRow_4_6_dnsLabel(t *testing.T) { changesNothing(t, "azure-dns-label-name", "shop", "") }

func TestAzureRow_4_6_ipTags(t *testing.T) {
	changesNothing(t, "azure-pip-ip-tags", "RoutingPreference=Internet", "a=b,c=d")
}

func TestAzureRow_4_6_resourceGroup(t *testing.T) {
	changesNothing(t, "azure-load-balancer-resource-group", "rg")
}

func TestAzureRow_4_6_sharedRule(t *testing.T) {
	changesNothing(t, "azure-shared-securityrule", "true", "false")
}

// idle opens a connection from the Internet to a Service, lets it idle, and returns when the load
// balancer resets which sides.
func idle(s *serving, most time.Duration) (after time.Duration, sides []flow.Side) {
	s.from(outsider)
	x := s.session()
	s.answers()
	require.Contains(s, s.inbound(pkttest.TCP(outsider, s.public(), pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(2))), x.Endpoint.String())
	began := s.now
	for s.now < began.Add(most) {
		s.now = s.now.Add(time.Second)
		s.Advance(s.now, func(e flow.Emission) {
			after, sides = s.now.Sub(began), append(sides, e.To)
			pkttest.Check(s, e.Packet, pkttest.RST, pkttest.ChecksumsOK())
		})
	}
	return after, sides
}

// The rule's idle timeout ends a connection: both ends are told, unless an annotation says not to.
func TestAzureRow_4_6_tcpIdleTimeout(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 4 * time.Minute, "4": 4 * time.Minute, "30": 30 * time.Minute} {
		var of []string
		if value != "" {
			of = []string{"azure-load-balancer-tcp-idle-timeout", value}
		}
		s, _ := balanced(t, overlay.Service{}, of...)
		after, sides := idle(s, want+time.Minute)
		assert.Equal(t, want, after)
		assert.ElementsMatch(t, []flow.Side{flow.Inside, flow.Outside}, sides)
	}
	s := newServing(t, overlay.Service{})
	for value, kind := range map[string]error{"3": flow.ErrOutOfRange, "31": flow.ErrOutOfRange, "4m": flow.ErrSyntax} {
		_, err := s.AddService(s.now, overlay.Service{
			Name: "x", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("azure-load-balancer-tcp-idle-timeout", value),
		})
		assert.ErrorIs(t, err, kind)
	}
}

func TestAzureRow_4_6_disableTCPReset(t *testing.T) {
	s, l := balanced(t, overlay.Service{}, "azure-load-balancer-disable-tcp-reset", "true")
	assert.False(t, l.LoadBalancingRules[0].EnableTCPReset)
	_, sides := idle(s, 5*time.Minute)
	assert.Empty(t, sides)
	_, l = balanced(t, overlay.Service{Ports: []overlay.ServicePort{{Port: 53, Protocol: snat.UDP}}})
	assert.False(t, l.LoadBalancingRules[0].EnableTCPReset, "of TCP only")
}

func TestAzureRow_4_6_disableFloatingIP(t *testing.T) {
	s, l := balanced(t, overlay.Service{}, "azure-disable-load-balancer-floating-ip", "true")
	assert.False(t, l.LoadBalancingRules[0].EnableFloatingIP)
	assert.Equal(t, s.web.Ports[0].NodePort, l.LoadBalancingRules[0].BackendPort)
	assert.Contains(t, s.from(outsider), ":8080")
	for x := range s.ServiceSessions() {
		assert.Equal(t, s.web.Ports[0].NodePort, x.Frontend.Port(), "the node gets its own address and the node port")
	}
}

func TestAzureRow_4_6_healthProbe(t *testing.T) {
	_, l := balanced(t, overlay.Service{}, "azure-load-balancer-health-probe-protocol", "http", "azure-load-balancer-health-probe-interval", "7",
		"azure-load-balancer-health-probe-num-of-probe", "3", "azure-load-balancer-health-probe-request-path", "/ok")
	p := l.Probes[0]
	assert.Equal(t, []any{probe.HTTP, 7 * time.Second, 3, "/ok"}, []any{p.Protocol, p.Interval, p.NumberOfProbes, p.RequestPath})
}

func TestAzureRow_4_6_portNoRules(t *testing.T) {
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
func TestAzureRow_4_6_defaultProbe(t *testing.T) {
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
}

// The internal frontend is in the subnet of that name, else in the first one.
func TestAzureRow_4_6_internalSubnet(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		prefixes := func(v4, v6 string) []netip.Prefix {
			return []netip.Prefix{netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)}
		}
		c.VNet = overlay.VNet{AddressSpaces: prefixes("10.224.0.0/12", "fd12:3456:789b::/48"), Subnets: []overlay.Subnet{
			{Name: "aks-subnet", AddressPrefixes: prefixes("10.224.0.0/16", "fd12:3456:789b::/64")}, {Name: "lb", AddressPrefixes: prefixes("10.230.0.0/24", "fd12:3456:789b:7::/64")},
		}}
	}))
	add := func(name string, more ...string) (overlay.ServiceStatus, error) {
		return s.AddService(s.now, overlay.Service{Name: name, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80, TargetPort: 8080}}, Annotations: annotated(more...)})
	}
	for subnet, want := range map[string]string{"": "10.224.255.254", "lb": "10.230.0.254"} {
		of := []string{"azure-load-balancer-internal", "true"}
		if subnet != "" {
			of = append(of, "azure-load-balancer-internal-subnet", subnet)
		}
		status, err := add("in-"+subnet, of...)
		require.NoError(t, err)
		require.Equal(t, want, status.LoadBalancerIPs[0].String())
		require.NoError(t, s.SetEndpoints("in-"+subnet, overlay.Endpoint{Pod: "b"}))
		s.probes()
		assert.Contains(t, s.inbound(pkttest.TCP("10.225.1.9:5000", want+":80", pkttest.SYN)), s.addr("b")+":8080")
	}
	_, err := add("x", "azure-load-balancer-internal", "true", "azure-load-balancer-internal-subnet", "other")
	assert.ErrorContains(t, err, "no such subnet")
	_, err = add("x", "azure-load-balancer-internal-subnet", "lb")
	assert.ErrorIs(t, err, flow.ErrConflict, "of internal ones only")
}

// What is said of a port's probe precedes what is said of all, field by field.
func TestAzureRow_4_6_portHealthProbe(t *testing.T) {
	ports := []overlay.ServicePort{{Name: "a", Port: 80, TargetPort: 8080}, {Name: "b", Port: 81, TargetPort: 8080}}
	_, l := balanced(t, overlay.Service{Ports: ports}, "azure-load-balancer-health-probe-protocol", "http", "azure-load-balancer-health-probe-interval", "9",
		"azure-load-balancer-health-probe-request-path", "/all", "port_81_health-probe_request-path", "/own", "port_81_health-probe_num-of-probe", "5")
	var got []any
	for _, p := range l.Probes {
		got = append(got, p.Protocol, p.Interval, p.NumberOfProbes, p.RequestPath)
	}
	assert.Equal(t, []any{probe.HTTP, 9 * time.Second, 2, "/all", probe.HTTP, 9 * time.Second, 5, "/own"}, got)
	for value, name := range map[string]string{"4": "interval", "0": "num-of-probe", "gopher": "protocol", "70000": "port"} {
		s := newServing(t, overlay.Service{})
		_, err := s.AddService(s.now, overlay.Service{Name: "x", Type: overlay.LoadBalancer, Ports: ports, Annotations: annotated("port_80_health-probe_"+name, value)})
		assert.ErrorContains(t, err, "port_80_health-probe_"+name)
	}
}

// Each family of a Service has a public address of its own, and both take connections.
func TestAzureRow_5_dualStackServices(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6"}, "a", "b")
	require.Len(t, s.web.LoadBalancerIPs, 2)
	for f, client := range []string{outsider, "[2001:db8:9::9]:5000"} {
		assert.Contains(t, s.inbound(pkttest.TCP(client, netip.AddrPortFrom(s.web.LoadBalancerIPs[f], 80).String(), pkttest.SYN)), ":8080")
	}
	_, err := s.AddService(s.now, overlay.Service{Name: "x", IPFamilies: "ipv6,ipv4", Ports: s.web.Ports})
	assert.Error(t, err)
}

// Of a cluster with nodes of both kinds those of Azure Linux are not healthy to IPv6 and policy
// Cluster, and the others take all that comes.
func TestAzureRow_5_ipv6Services(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6"}, "a", "b")
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.NodePools = append(c.NodePools, overlay.NodePool{Name: "azl", Count: 2, OSSKU: overlay.AzureLinux})
	}))
	s.probes()
	for i := range 64 {
		for f, client := range []string{fmt.Sprint("198.51.100.9:", 5000+i), fmt.Sprint("[2001:db8:9::9]:", 5000+i)} {
			require.Contains(t, s.inbound(pkttest.TCP(client, netip.AddrPortFrom(s.web.LoadBalancerIPs[f], 80).String(), pkttest.SYN)), ":8080")
		}
	}
	nodes := [2]map[int]bool{{}, {}}
	for x := range s.ServiceSessions() {
		f := 0
		if x.Client.Addr().Is6() {
			f = 1
		}
		nodes[f][x.Node] = true
	}
	assert.Len(t, nodes[0], 5)
	assert.Equal(t, map[int]bool{0: true, 1: true, 2: true}, nodes[1])
}

// Services have their addresses in the default ranges, and the rest of these is nobody's.
func TestAzureRow_5_serviceCIDRDefault(t *testing.T) {
	s := newServing(t, overlay.Service{IPFamilies: "ipv4,ipv6"}, "b")
	require.Len(t, s.web.ClusterIPs, 2)
	for f, cidr := range []string{"10.0.0.0/16", "fd12:3456:789a:1::/108"} {
		assert.True(t, netip.MustParsePrefix(cidr).Contains(s.web.ClusterIPs[f]))
	}
	for _, tt := range [][2]string{{s.addr("client"), "10.0.255.254"}, {s.node(0), "10.0.0.10"}, {s.Nodes()[0].Addrs[1].String(), "fd12:3456:789a:1::f:ffff"}} {
		pkt := pkttest.TCP(netip.AddrPortFrom(netip.MustParseAddr(tt[0]), 5000).String(), netip.AddrPortFrom(netip.MustParseAddr(tt[1]), 80).String(), pkttest.SYN)
		assert.Equal(t, "route", s.outbound(pkt), tt)
	}
}

// Which Basic load balancer a Service is on: there is one, that of the only pool. Standard clusters have
// no such choice.
func TestAzureRow_4_6_mode(t *testing.T) {
	s := basic(t)
	for mode, is := range map[string]error{"__auto__": nil, "default": nil, "aks-p-vmss": nil, "aks-other-vmss": flow.ErrUnknownName} {
		svc := overlay.Service{Name: mode, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80, TargetPort: 8080}}, Annotations: annotated("azure-load-balancer-mode", mode)}
		status, err := s.AddService(s.now, svc)
		require.ErrorIs(t, err, is, mode)
		if err != nil {
			continue
		}
		s.web = status
		require.NoError(t, s.SetEndpoints(mode, overlay.Endpoint{Pod: "client"}))
		s.probes()
		assert.Contains(t, s.from(outsider), ":8080", mode)
	}
	standard := newServing(t, overlay.Service{})
	for mode, ok := range map[string]bool{"default": true, "__auto__": false} {
		_, err := standard.AddService(standard.now, overlay.Service{Name: "x" + mode, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}, Annotations: annotated("azure-load-balancer-mode", mode)})
		assert.Equal(t, ok, err == nil, "%s: %v", mode, err)
	}
}

// A Basic load balancer takes 300 nodes, and neither outbound rules nor resets.
func TestAzureRow_11_2_basic(t *testing.T) {
	for count, ok := range map[int]bool{300: true, 301: false} {
		c, err := overlay.New(overlay.ClusterConfig{
			LoadBalancerSKU: lb.Basic, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.240.0.0/13")}, NodePools: []overlay.NodePool{{Name: "p", Count: count}},
		})
		if err == nil {
			t.Cleanup(c.Close)
			_, err = c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
		}
		require.Equal(t, ok, err == nil, "%d nodes: %v", count, err)
		if ok {
			l := c.EgressConfig().LoadBalancer
			assert.Empty(t, l.OutboundRules)
			assert.False(t, l.LoadBalancingRules[0].EnableTCPReset)
		}
	}
}

// Rules of Services on Standard are for what comes in only; egress has the outbound rule.
func TestAzureRow_3_serviceRules_standard(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	rules := s.EgressConfig().LoadBalancer.LoadBalancingRules
	require.NotEmpty(t, rules)
	for _, r := range rules {
		assert.True(t, r.DisableOutboundSNAT, "%+v", r)
	}
}
