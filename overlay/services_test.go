package overlay_test

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
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// serving is a cluster of three nodes with a Service "web", port 80 to 8080, and what a test
// does with it.
type serving struct {
	*testing.T
	*overlay.Cluster
	now flow.Time
	web overlay.ServiceStatus
}

// newServing starts the cluster: pods a on node 0, b on node 1 and client on node 0.
// Endpoints are those pods that are named.
func newServing(t *testing.T, svc overlay.Service, endpoints ...string) *serving {
	c, err := overlay.New(overlay.ClusterConfig{
		IPFamilies: "ipv4,ipv6", NodePools: []overlay.NodePool{{Name: "p", Count: 3}},
		Dataplane: snat.Dataplane{Seed: 1, HashKey: 1},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	s := &serving{T: t, Cluster: c}
	for pod, node := range map[string]int{"a": 0, "b": 1} {
		_, err := c.AddPod(c.Nodes()[node].Name, pod)
		require.NoError(t, err)
	}
	_, err = c.AddPod(c.Nodes()[0].Name, "client")
	require.NoError(t, err)
	if svc.Name == "" {
		svc.Name = "web"
	}
	if svc.Ports == nil {
		svc.Ports = []overlay.ServicePort{{Name: "http", Port: 80, TargetPort: 8080}}
	}
	s.web, err = c.AddService(0, svc)
	require.NoError(t, err)
	s.endpoints(endpoints...)
	return s
}

func (s *serving) endpoints(pods ...string) {
	s.Helper()
	var all []overlay.Endpoint
	for _, p := range pods {
		all = append(all, overlay.Endpoint{Pod: p})
	}
	require.NoError(s, s.SetEndpoints(s.web.Name, all...))
	s.probes()
}

// probes lets the load balancer's probes find out.
func (s *serving) probes() {
	for range 6 {
		s.now += flow.Time(5 * time.Second)
		s.Advance(s.now, nil)
	}
}

func (s *serving) addr(pod string) string {
	p, ok := s.Pod(pod)
	require.True(s, ok)
	return p.Addrs[0].String()
}

func (s *serving) node(i int) string { return s.Nodes()[i].Addrs[0].String() }

// outbound and inbound pass a packet through a door and say where it is then: "src > dst", or
// the reason for its end.
func (s *serving) outbound(pkt []byte) string { return s.pass(s.Outbound, pkt) }
func (s *serving) inbound(pkt []byte) string  { return s.pass(s.Inbound, pkt) }

func (s *serving) pass(door func(flow.Time, []byte) flow.Verdict, pkt []byte) string {
	v := door(s.now, pkt)
	if v.Action == flow.Drop {
		return v.Reason.String()
	}
	pkttest.Check(s, pkt, pkttest.ChecksumsOK())
	src, dst := sockets(pkt)
	return src.String() + " > " + dst.String()
}

// sockets reads the ends of a TCP or UDP packet without options and extension headers.
func sockets(b []byte) (src, dst netip.AddrPort) {
	if b[0]>>4 == 4 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), uint16(b[20])<<8|uint16(b[21])),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), uint16(b[22])<<8|uint16(b[23]))
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), uint16(b[40])<<8|uint16(b[41])),
		netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), uint16(b[42])<<8|uint16(b[43]))
}

// session returns the only one there is.
func (s *serving) session() overlay.ServiceSession {
	all := slices.Collect(s.ServiceSessions())
	require.Len(s, all, 1)
	return all[0]
}

// answers lets the endpoint of the only session answer, and returns how that looks to the client.
func (s *serving) answers() string {
	x := s.session()
	return s.outbound(pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1)))
}

const outsider = "198.51.100.9:5000"

func TestAzureRow_5_podToClusterIP(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	client := s.addr("client") + ":5000"
	assert.Equal(t, client+" > "+s.addr("b")+":8080", s.outbound(pkttest.TCP(client, s.web.ClusterIPs[0].String()+":80", pkttest.SYN)))
	assert.Equal(t, s.web.ClusterIPs[0].String()+":80 > "+client, s.answers())
	x := s.session()
	assert.Equal(t, []string{client, s.web.ClusterIPs[0].String() + ":80", client, s.addr("b") + ":8080"},
		[]string{x.Client.String(), x.Frontend.String(), x.Seen.String(), x.Endpoint.String()})
	assert.Equal(t, []int{0, 1}, []int{x.Node, x.EndpointNode})
	assert.Equal(t, "route", s.outbound(pkttest.TCP(client, s.web.ClusterIPs[0].String()+":81", pkttest.SYN)), "no such port")
}

func TestAPodThatReachesItselfSeesItsNode(t *testing.T) {
	s := newServing(t, overlay.Service{}, "a")
	s.outbound(pkttest.TCP(s.addr("a")+":5000", s.web.ClusterIPs[0].String()+":80", pkttest.SYN))
	x := s.session()
	assert.Equal(t, s.node(0), x.Seen.Addr().String())
	assert.Equal(t, s.addr("a")+":8080", x.Endpoint.String())
	assert.Equal(t, s.web.ClusterIPs[0].String()+":80 > "+s.addr("a")+":5000", s.answers())
}

// public returns the socket of the Service at the load balancer.
func (s *serving) public() string { return netip.AddrPortFrom(s.web.LoadBalancerIPs[0], 80).String() }

func TestAzure_59_PolicyClusterMasqueradesWithTheNode(t *testing.T) {
	for _, floating := range []bool{true, false} {
		svc := overlay.Service{Type: overlay.LoadBalancer}
		if !floating {
			svc.Annotations = map[string]string{"service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip": "true"}
		}
		s := newServing(t, svc, "b")
		s.inbound(pkttest.TCP(outsider, s.public(), pkttest.SYN))
		x := s.session()
		assert.Equal(t, outsider, x.Client.String())
		assert.Equal(t, s.addr("b")+":8080", x.Endpoint.String())
		assert.Equal(t, s.node(x.Node), x.Seen.Addr().String(), "any node, masqueraded also where the pod is local")
		frontend := s.public()
		if !floating {
			frontend = fmt.Sprintf("%s:%d", s.node(x.Node), s.web.Ports[0].NodePort)
		}
		assert.Equal(t, frontend, x.Frontend.String())
		assert.Equal(t, s.public()+" > "+outsider, s.answers())
		nodes := map[int]bool{}
		for port := range 64 {
			s.inbound(pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 6000+port), s.public(), pkttest.SYN))
		}
		for x := range s.ServiceSessions() {
			nodes[x.Node] = true
		}
		assert.Len(t, nodes, 3, "all nodes get connections")
	}
}

func TestAzure_59_PolicyLocalKeepsTheClient(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "b")
	for port := range 32 {
		client := fmt.Sprintf("198.51.100.9:%d", 5000+port)
		require.Equal(t, client+" > "+s.addr("b")+":8080", s.inbound(pkttest.TCP(client, s.public(), pkttest.SYN)), "only node 1 is healthy")
		require.Equal(t, s.public()+" > "+client, s.outbound(pkttest.TCP(s.addr("b")+":8080", client, pkttest.TCPFlags("SA"), pkttest.Ack(1))))
	}
	for i, want := range []int{503, 200, 503} {
		status, ok := s.HealthCheck("web", s.Nodes()[i].Name)
		assert.True(t, ok)
		assert.Equal(t, want, status)
	}
	// A node without endpoint drops: here by its node port, to which no probe leads.
	local := fmt.Sprintf("%s:%d", s.node(2), s.web.Ports[0].NodePort)
	assert.Equal(t, "no_local_target", s.inbound(pkttest.TCP("10.224.9.9:5000", local, pkttest.SYN)))
	assert.NotZero(t, s.Stats().Inbound.Drops[flow.ReasonNoLocalTarget])
}

func TestNodePortFromTheVNet(t *testing.T) {
	for _, policy := range []overlay.TrafficPolicy{overlay.PolicyCluster, overlay.PolicyLocal} {
		s := newServing(t, overlay.Service{Type: overlay.NodePort, ExternalTrafficPolicy: policy}, "b")
		vm, at := "10.224.9.9:5000", fmt.Sprintf("%s:%d", s.node(1), s.web.Ports[0].NodePort)
		s.inbound(pkttest.TCP(vm, at, pkttest.SYN))
		x := s.session()
		seen := s.node(1)
		if policy == overlay.PolicyLocal {
			seen = "10.224.9.9"
		}
		assert.Equal(t, seen, x.Seen.Addr().String())
		assert.Equal(t, at+" > "+vm, s.answers())
	}
}

func TestShortCircuits(t *testing.T) {
	for _, tt := range []struct {
		policy        overlay.TrafficPolicy
		from          string
		masqueraded   bool
		whatItIsAbout string
	}{
		{overlay.PolicyCluster, "pod", true, "policy Cluster: the pod's node"},
		{overlay.PolicyLocal, "pod", false, "policy Local is treated as Cluster, with the pod's address"},
		{overlay.PolicyCluster, "node", true, "the node itself"},
		{overlay.PolicyLocal, "node", true, "the node itself"},
	} {
		s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: tt.policy}, "b")
		client := s.addr("client") + ":5000"
		if tt.from == "node" {
			client = s.node(0) + ":5000"
		}
		s.outbound(pkttest.TCP(client, s.public(), pkttest.SYN))
		x := s.session()
		want := s.node(0)
		if !tt.masqueraded {
			want = s.addr("client")
		}
		assert.Equal(t, want, x.Seen.Addr().String(), tt.whatItIsAbout)
		assert.Equal(t, s.addr("b")+":8080", x.Endpoint.String(), "it never leaves the cluster")
		assert.Equal(t, s.public()+" > "+client, s.answers())
		assert.Zero(t, s.Stats().ConnectionsSuccessful, "no SNAT port")
	}
}

func TestInternalTrafficPolicyLocal(t *testing.T) {
	s := newServing(t, overlay.Service{InternalTrafficPolicy: overlay.PolicyLocal}, "b")
	to := s.web.ClusterIPs[0].String() + ":80"
	assert.Equal(t, "no_local_target", s.outbound(pkttest.TCP(s.addr("client")+":5000", to, pkttest.SYN)))
	s.endpoints("a", "b")
	for port := range 16 {
		client := fmt.Sprintf("%s:%d", s.addr("client"), 6000+port)
		assert.Equal(t, client+" > "+s.addr("a")+":8080", s.outbound(pkttest.TCP(client, to, pkttest.SYN)))
	}
}

func TestAzure_61_ClientIPAffinity(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, SessionAffinity: true}, "a", "b")
	assert.Equal(t, 10_800*time.Second, s.web.AffinityTimeout)
	rules := s.EgressConfig().LoadBalancer.LoadBalancingRules
	require.Len(t, rules, 1)
	assert.Equal(t, lb.SourceIP, rules[0].LoadDistribution)
	nodes, pods := map[int]bool{}, map[string]bool{}
	for port := range 32 {
		s.inbound(pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 5000+port), s.public(), pkttest.SYN))
	}
	for x := range s.ServiceSessions() {
		nodes[x.Node], pods[x.Endpoint.String()] = true, true
	}
	assert.Len(t, nodes, 1)
	assert.Len(t, pods, 1)
}

func TestEndpointsAreChosenAtRandomAndRepeatably(t *testing.T) {
	run := func() (all []string) {
		s := newServing(t, overlay.Service{}, "a", "b")
		for port := range 64 {
			all = append(all, s.outbound(pkttest.TCP(fmt.Sprintf("%s:%d", s.addr("client"), 5000+port), s.web.ClusterIPs[0].String()+":80", pkttest.SYN)))
		}
		count := map[string]int{}
		for x := range s.ServiceSessions() {
			count[x.Endpoint.String()]++
		}
		assert.Len(t, count, 2)
		for _, n := range count {
			assert.Greater(t, n, 16)
		}
		return all
	}
	assert.Equal(t, run(), run())
}

func TestEndpointsComeAndGo(t *testing.T) {
	s := newServing(t, overlay.Service{Ports: []overlay.ServicePort{
		{Name: "t", Port: 80, TargetPort: 8080}, {Name: "u", Protocol: snat.UDP, Port: 53},
	}}, "b")
	client, vip := s.addr("client"), s.web.ClusterIPs[0].String()
	tcp := func(port int) []byte {
		return pkttest.TCP(fmt.Sprintf("%s:%d", client, port), vip+":80", pkttest.SYN, pkttest.Seq(9))
	}
	udp := func() []byte { return pkttest.UDP(client+":5000", vip+":53", "query") }
	b := s.addr("b")
	assert.Equal(t, client+":5000 > "+b+":8080", s.outbound(tcp(5000)))
	assert.Equal(t, client+":5000 > "+b+":53", s.outbound(udp()))
	require.NoError(t, s.RemovePod("b"))
	assert.Equal(t, "no_target", s.outbound(tcp(5001)), "a pod that is gone is no endpoint")
	assert.Equal(t, "no_target", s.outbound(udp()), "the UDP session is gone")
	assert.Equal(t, client+":5000 > "+b+":8080", s.outbound(tcp(5000)), "TCP goes on")
	s.endpoints("a")
	assert.Equal(t, client+":5001 > "+s.addr("a")+":8080", s.outbound(tcp(5001)))
	assert.Equal(t, client+":5000 > "+s.addr("a")+":53", s.outbound(udp()), "UDP moves to another endpoint")
	require.NoError(t, s.RemoveService(s.now, "web"))
	assert.Equal(t, "route", s.outbound(tcp(5002)))
	assert.Equal(t, client+":5001 > "+s.addr("a")+":8080", s.outbound(tcp(5001)))
}

func TestSourceRanges(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, LoadBalancerSourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, "b")
	assert.Equal(t, "nsg_inbound", s.inbound(pkttest.TCP("203.0.113.1:5000", s.public(), pkttest.SYN)), "the cluster's group has the ranges, too")
	assert.Equal(t, "source_range", s.outbound(pkttest.TCP(s.addr("client")+":5000", s.public(), pkttest.SYN)), "clients inside are no exception")
	assert.Contains(t, s.inbound(pkttest.TCP(outsider, s.public(), pkttest.SYN)), s.addr("b"))
}

func TestDualStackServiceWithAllDoors(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6", ExternalTrafficPolicy: overlay.PolicyLocal}, "a", "b")
	require.Len(t, s.web.LoadBalancerIPs, 2)
	client := "[2001:db8:9::9]:5000"
	pkts := [][]byte{pkttest.TCP(client, netip.AddrPortFrom(s.web.LoadBalancerIPs[1], 80).String(), pkttest.SYN)}
	verdicts := make([]flow.Verdict, 1)
	s.InboundBatch(s.now, pkts, verdicts)
	require.Equal(t, flow.Forward, verdicts[0].Action)
	x := s.session()
	assert.Equal(t, client, x.Seen.String())
	assert.True(t, x.Endpoint.Addr().Is6())
	pkts[0] = pkttest.TCP(x.Endpoint.String(), client, pkttest.TCPFlags("SA"), pkttest.Ack(1))
	s.OutboundBatch(s.now, pkts, verdicts)
	pkttest.Check(t, pkts[0], pkttest.Src(x.Frontend.String()), pkttest.Dst(client), pkttest.ChecksumsOK())
}

func TestICMPErrorsFindTheirSender(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	client := s.addr("client")
	syn := pkttest.TCP(client+":5000", s.public(), pkttest.SYN)
	sent := slices.Clone(syn)
	s.outbound(syn)
	x := s.session()
	unreachable := pkttest.ICMP(x.Endpoint.Addr().String(), x.Seen.Addr().String(), 3, 3, 0, syn)
	v := s.Outbound(s.now, unreachable)
	require.Equal(t, flow.Forward, v.Action)
	pkttest.Check(t, unreachable, pkttest.Src(s.web.LoadBalancerIPs[0].String()), pkttest.Dst(client), pkttest.ChecksumsOK())
	assert.Equal(t, sent, unreachable[28:], "the client is told about its own packet")
}

func TestFragmentsFollowTheFirst(t *testing.T) {
	s := newServing(t, overlay.Service{Ports: []overlay.ServicePort{{Protocol: snat.UDP, Port: 53}}}, "b")
	whole := pkttest.UDP(s.addr("client")+":5000", s.web.ClusterIPs[0].String()+":53", string(make([]byte, 3000)))
	pieces := pkttest.Fragments(whole, 1400, 7)
	assert.Equal(t, flow.ReasonFragment, s.Outbound(s.now, slices.Clone(pieces[1])).Reason, "before the first one")
	for _, p := range pieces {
		require.Equal(t, flow.Forward, s.Outbound(s.now, p).Action)
		pkttest.Check(t, p, pkttest.Src(s.addr("client")), pkttest.Dst(s.addr("b")))
	}
}

func TestServicesAreRefusedWithAllProblems(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer})
	_, err := s.AddService(0, overlay.Service{
		Name: "bad", IPFamilies: "ipv6,ipv4", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.9.0.1")},
		Ports:       []overlay.ServicePort{{Protocol: 9, NodePort: 80}},
		ExternalIPs: []netip.Addr{netip.MustParseAddr("203.0.113.9")}, AffinityTimeout: time.Second,
		Annotations: map[string]string{
			"service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout": "31",
			"service.beta.kubernetes.io/azure-load-balancer-internal":         "maybe",
			"service.beta.kubernetes.io/azure-load-balancer-colour":           "blue",
		},
	})
	for _, want := range []string{"IPFamilies", "ClusterIPs[0]", "Ports[0].Protocol", "Ports[0].Port", "Ports[0].NodePort", "ExternalIPs", "AffinityTimeout", "tcp-idle-timeout", "internal", "colour"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = s.AddService(0, overlay.Service{Name: "web", Ports: s.web.Ports, Type: overlay.NodePort})
	assert.ErrorIs(t, err, flow.ErrDuplicateName)
	_, err = s.AddService(0, overlay.Service{Name: "web2", Ports: s.web.Ports, Type: overlay.NodePort})
	assert.ErrorIs(t, err, flow.ErrOverlap, "the node port is another's")
	assert.ErrorIs(t, s.SetEndpoints("web", overlay.Endpoint{Pod: "nobody"}), flow.ErrUnknownName)
	err = s.SetEndpoints("web", overlay.Endpoint{Pod: "gone"}, overlay.Endpoint{Node: "none"}, overlay.Endpoint{Pod: "a", Node: "b"})
	for _, want := range []string{`Endpoints[0].Pod "gone": unknown name`, `Endpoints[1].Node "none": unknown name`, `Endpoints[2]: missing: exactly one of Pod "a", Node "b" and Addr invalid IP must be given`} {
		assert.ErrorContains(t, err, want)
	}
	for _, annotations := range []map[string]string{nil, annotated("azure-load-balancer-internal", "true")} {
		_, err = s.AddService(0, overlay.Service{Name: "web3", Ports: []overlay.ServicePort{{Port: 80}}, Type: overlay.LoadBalancer, LoadBalancerIP: netip.MustParseAddr("10.244.0.9"), Annotations: annotations})
		assert.ErrorContains(t, err, "LoadBalancerIP 10.244.0.9: ")
		assert.NotContains(t, err.Error(), "Annotations 10.244.0.9")
	}
	_, err = s.RemoveNodes(0, "none", s.Nodes()[0].Name, "nothing", "none")
	assert.EqualError(t, err, "node \"none\": unknown name\nnode \"nothing\": unknown name")
	_, err = s.AddPod("none", "p")
	assert.EqualError(t, err, `pod "p": unknown name: node "none" is not in the cluster`)
	assert.ErrorIs(t, s.RemoveService(0, "nobody"), flow.ErrUnknownName)
	assert.Len(t, s.Services(), 1)
}

func TestTheRulesOfAServiceFollowItsAnnotations(t *testing.T) {
	s := newServing(t, overlay.Service{
		Type: overlay.LoadBalancer,
		Ports: []overlay.ServicePort{
			{Name: "a", Port: 80, TargetPort: 8080}, {Name: "b", Port: 443, AppProtocol: "https"}, {Name: "c", Port: 81}, {Name: "d", Protocol: snat.UDP, Port: 53},
		},
		Annotations: map[string]string{
			"service.beta.kubernetes.io/azure-load-balancer-ipv4":                  "20.77.0.1",
			"service.beta.kubernetes.io/azure-additional-public-ips":               "20.77.0.2",
			"service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout":      "10",
			"service.beta.kubernetes.io/azure-load-balancer-disable-tcp-reset":     "true",
			"service.beta.kubernetes.io/azure-load-balancer-health-probe-interval": "7",
			"service.beta.kubernetes.io/port_80_health-probe_protocol":             "http",
			"service.beta.kubernetes.io/port_80_health-probe_request-path":         "/ready",
			"service.beta.kubernetes.io/port_81_no_lb_rule":                        "true",
			"service.beta.kubernetes.io/azure-dns-label-name":                      "shop",
		},
	}, "b")
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("20.77.0.1"), netip.MustParseAddr("20.77.0.2")}, s.web.LoadBalancerIPs)
	l := s.EgressConfig().LoadBalancer
	require.Len(t, l.LoadBalancingRules, 6, "three ports at two addresses")
	for _, r := range l.LoadBalancingRules {
		assert.Equal(t, []any{10 * time.Minute, false, true}, []any{r.IdleTimeout, r.EnableTCPReset, r.EnableFloatingIP})
	}
	require.Len(t, l.Probes, 2, "none for UDP")
	assert.Equal(t, []any{"Http", "/ready", 7 * time.Second}, []any{l.Probes[0].Protocol.String(), l.Probes[0].RequestPath, l.Probes[0].Interval})
	assert.Equal(t, []any{"Https", "/", s.web.Ports[1].NodePort}, []any{l.Probes[1].Protocol.String(), l.Probes[1].RequestPath, l.Probes[1].Port})
}

func TestServicesStayWhenNodesComeAndGo(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "a", "b")
	for port := range 48 {
		s.inbound(pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 5000+port), s.public(), pkttest.SYN))
	}
	_, _, err := s.AddNodes(s.now, "p", 2)
	require.NoError(t, err)
	assert.Len(t, slices.Collect(s.ServiceSessions()), 48, "adding nodes ends nothing")
	gone := s.Nodes()[1]
	_, err = s.RemoveNodes(s.now, gone.Name)
	require.NoError(t, err)
	for x := range s.ServiceSessions() {
		assert.NotEqual(t, gone.Index, x.Node)
	}
	assert.Equal(t, []overlay.Endpoint{{Pod: "a"}}, s.Services()[0].Endpoints, "the pod went with its node")
	s.probes()
	assert.Contains(t, s.inbound(pkttest.TCP("198.51.100.9:7000", s.public(), pkttest.SYN)), s.addr("a"))
}

func TestServicesDoNotAllocatePerPacket(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "b")
	in := pkttest.TCP(outsider, s.public(), pkttest.SYN)
	syn := slices.Clone(in)
	s.inbound(in)
	x := s.session()
	s.answers()
	data := pkttest.TCP(outsider, s.public(), pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(2))
	answer := pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(2))
	buf := make([]byte, len(syn)+100)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		b := buf[:copy(buf, data)]
		s.Inbound(s.now, b)
		b = buf[:copy(buf, answer)]
		s.Outbound(s.now, b)
	}))
}

func TestAzureRow_5_dnsServiceIP(t *testing.T) {
	s := newServing(t, overlay.Service{
		Name: "kube-system/kube-dns", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.10")},
		Ports: []overlay.ServicePort{{Name: "dns", Protocol: snat.UDP, Port: 53}, {Name: "dns-tcp", Port: 53}},
	}, "b")
	client := s.addr("client") + ":5000"
	assert.Equal(t, client+" > "+s.addr("b")+":53", s.outbound(pkttest.UDP(client, "10.0.0.10:53", "query")))
	assert.Equal(t, "10.0.0.10:53 > "+client, s.outbound(pkttest.UDP(s.addr("b")+":53", client, "answer")))
}

func TestAProcessOfANodeServes(t *testing.T) {
	s := newServing(t, overlay.Service{})
	require.NoError(t, s.SetEndpoints("web", overlay.Endpoint{Node: s.Nodes()[1].Name}))
	client := s.addr("client") + ":5000"
	s.outbound(pkttest.TCP(client, s.web.ClusterIPs[0].String()+":80", pkttest.SYN))
	x := s.session()
	assert.Equal(t, s.node(0), x.Seen.Addr().String(), "nobody outside of the pod network knows where pods are")
	assert.Equal(t, s.node(1)+":8080", x.Endpoint.String())
	assert.Equal(t, s.web.ClusterIPs[0].String()+":80 > "+client, s.answers())
}

func TestServicesComeAndGoUnderTraffic(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer}, "a", "b")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			for _, b := range [][]byte{
				pkttest.TCP(fmt.Sprintf("198.51.100.9:%d", 5000+i%50), s.public(), pkttest.SYN),
				pkttest.TCP(fmt.Sprintf("%s:%d", "10.244.0.9", 5000+i%50), "10.0.128.1:80", pkttest.SYN),
			} {
				s.Inbound(s.now, slices.Clone(b))
				s.Outbound(s.now, b)
			}
		}
	}()
	for i := range 10 {
		name := fmt.Sprint("more", i%2)
		_, err := s.AddService(s.now, overlay.Service{Name: name, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
		require.NoError(t, err)
		require.NoError(t, s.SetEndpoints(name, overlay.Endpoint{Pod: "a"}))
		require.NoError(t, s.SetEndpoints("web", overlay.Endpoint{Pod: []string{"a", "b"}[i%2]}))
		s.Advance(s.now, nil)
		require.NoError(t, s.RemoveService(s.now, name))
	}
	<-done
	assert.Len(t, s.Services(), 1)
	for x := range s.ServiceSessions() {
		assert.NotEmpty(t, x.Endpoint)
	}
}
