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
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Pods go after Close, too, and those that serve are no exception.
func TestRemovePod_ofAServiceAfterClose(t *testing.T) {
	s := newServing(t, overlay.Service{}, "a", "b")
	s.Close()
	assert.NotPanics(t, func() { assert.NoError(t, s.RemovePod("a")) })
	assert.NotPanics(t, func() { _, err := s.Drain(s.Nodes()[1].Name); assert.NoError(t, err) })
}

// What delivers to the host ports of a pod has a name in the nodes' proxy, which no Service
// may have.
func TestAddService_nameOfHostPorts(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	_, err := s.AddService(0, overlay.Service{Name: "hostPort:a", Ports: []overlay.ServicePort{{Port: 81}}})
	if err != nil {
		assert.ErrorContains(t, err, "Name")
		return
	}
	require.NoError(t, s.SetEndpoints("hostPort:a", overlay.Endpoint{Pod: "b"}))
	_, err = s.OpenHostPorts("a", "", []overlay.ContainerPort{{Protocol: snat.TCP, Port: 8080, HostPort: 8080}}, "")
	require.NoError(t, err)
	require.NoError(t, s.RemovePod("a"))
	assert.NotPanics(t, func() { _ = s.RemovePod("b") })
}

// A node has each port once, whether it is a node port or for health checks.
func TestAddService_healthCheckNodePortIsANodePort(t *testing.T) {
	s := newServing(t, overlay.Service{})
	local := overlay.Service{
		Name: "x", Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal, HealthCheckNodePort: 30000,
		Ports: []overlay.ServicePort{{Port: 81}},
	}
	x, err := s.AddService(0, local)
	require.NoError(t, err)
	assert.NotEqual(t, uint16(30000), x.Ports[0].NodePort)

	local.Name, local.Ports[0].NodePort = "y", 0
	_, err = s.AddService(0, local)
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.ErrorContains(t, err, "HealthCheckNodePort")

	_, err = s.AddService(0, overlay.Service{Name: "z", Type: overlay.NodePort, Ports: []overlay.ServicePort{{Port: 82, NodePort: 30000}}})
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.ErrorContains(t, err, "Ports[0].NodePort")

	local.Name, local.HealthCheckNodePort, local.Ports[0].NodePort = "v", 30500, 30500
	_, err = s.AddService(0, local)
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.Len(t, s.Services(), 2)
}

// The address of the cluster's DNS is given to the Service that asks for it.
func TestAddService_dnsServiceIPIsNotChosen(t *testing.T) {
	dns := netip.MustParseAddr("10.0.128.0")
	c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "p", Count: 1}}, DNSServiceIP: dns})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	svc, err := c.AddService(0, overlay.Service{Name: "x", Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	assert.NotEqual(t, dns, svc.ClusterIPs[0])
	_, err = c.AddService(0, overlay.Service{Name: "kube-dns", ClusterIPs: []netip.Addr{dns}, Ports: []overlay.ServicePort{{Port: 53}}})
	assert.NoError(t, err)
}

// One long step of time does what many short ones do: probes begin with the Service.
func TestAddService_probesInOneStep(t *testing.T) {
	for _, step := range []time.Duration{30 * time.Second, 5 * time.Second} {
		c, err := overlay.New(overlay.ClusterConfig{NodePools: []overlay.NodePool{{Name: "p", Count: 2}}})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		_, err = c.AddPod(c.Nodes()[0].Name, "a")
		require.NoError(t, err)
		svc, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
		require.NoError(t, err)
		require.NoError(t, c.SetEndpoints("web", overlay.Endpoint{Pod: "a"}))
		at, ok := c.NextDeadline()
		assert.True(t, ok && at > 0 && at < flow.Time(6*time.Second), at)
		end := flow.Time(30 * time.Second)
		for now := flow.Time(step); now <= end; now += flow.Time(step) {
			c.Advance(now, nil)
		}
		v := c.Inbound(end, pkttest.TCP("203.0.113.9:1000", netip.AddrPortFrom(svc.LoadBalancerIPs[0], 80).String(), pkttest.SYN))
		assert.Equal(t, flow.Forward, v.Action, v.Reason)
	}
}

// Addresses at the load balancer are none of the network's, which a node or another
// Service might get, and the network does not grow over them.
func TestAddService_addressInsideTheNetwork(t *testing.T) {
	s := newServing(t, overlay.Service{})
	add := func(name, annotation, a string) error {
		_, err := s.AddService(0, overlay.Service{
			Name: name, Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 81}},
			Annotations: map[string]string{"service.beta.kubernetes.io/" + annotation: a},
		})
		return err
	}
	for _, a := range []string{"10.224.0.4", "10.224.0.100", "10.244.0.2", "10.0.0.1", s.web.ClusterIPs[0].String()} {
		for _, annotation := range []string{"azure-load-balancer-ipv4", "azure-additional-public-ips"} {
			err := add("x", annotation, a)
			assert.ErrorIs(t, err, flow.ErrOverlap)
			assert.ErrorContains(t, err, "Annotations "+a)
		}
	}
	assert.ErrorIs(t, add("x", "azure-load-balancer-ipv4", "168.63.129.16"), overlay.ErrReserved)
	require.NoError(t, add("x", "azure-load-balancer-ipv4", "198.51.100.77"))
	cfg := s.Config()
	cfg.VNet.PeeredPrefixes = append(cfg.VNet.PeeredPrefixes, netip.MustParsePrefix("198.51.100.0/24"))
	_, err := s.Reconfigure(0, cfg)
	assert.ErrorIs(t, err, flow.ErrOverlap)
	assert.ErrorContains(t, err, `Service "x"`)
}

// A packet is counted once, where its way ends.
func TestStats_serviceRefusesWhatTheLoadBalancerForwards(t *testing.T) {
	s := newServing(t, overlay.Service{
		Type: overlay.LoadBalancer, LoadBalancerSourceRanges: []netip.Prefix{netip.MustParsePrefix("1.0.0.0/8")},
		Annotations: annotated("azure-allowed-service-tags", "Internet"), // the group lets all in
	}, "a", "b")
	before := s.Stats().Inbound
	frontend := netip.AddrPortFrom(s.web.LoadBalancerIPs[0], 80).String()
	assert.Equal(t, "source_range", s.inbound(pkttest.TCP("203.0.113.9:1000", frontend, pkttest.SYN)))
	after := s.Stats().Inbound
	assert.Equal(t, []uint64{0, 1}, []uint64{after.Forwarded - before.Forwarded, after.Dropped - before.Dropped})
	s.inbound(pkttest.TCP("1.0.113.9:1000", frontend, pkttest.SYN))
	assert.Equal(t, []uint64{1, 1}, []uint64{s.Stats().Inbound.Forwarded - before.Forwarded, s.Stats().Inbound.Dropped - before.Dropped})
}

// What answers a Service leaves by the user's route, as all for the Internet does.
func TestService_answersGoToTheNextHop(t *testing.T) {
	var hops []string
	c, err := overlay.New(overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "p", Count: 2}}, OutboundType: overlay.OutboundUserDefinedRouting,
		NextHop: func(_ flow.Time, pkt []byte) flow.Verdict {
			src, dst := sockets(pkt)
			hops = append(hops, src.String()+" > "+dst.String())
			return flow.Verdict{Action: flow.Forward, To: flow.Outside}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.AddPod(c.Nodes()[0].Name, "a")
	require.NoError(t, err)
	svc, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", overlay.Endpoint{Pod: "a"}))
	now := flow.Time(30 * time.Second)
	c.Advance(now, nil)
	frontend := netip.AddrPortFrom(svc.LoadBalancerIPs[0], 80).String()
	require.Equal(t, flow.Forward, c.Inbound(now, pkttest.TCP(outsider, frontend, pkttest.SYN)).Action)
	for x := range c.ServiceSessions() {
		v := c.Outbound(now, pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1)))
		assert.Equal(t, flow.Forward, v.Action, v.Reason)
		assert.Equal(t, flow.Outside, v.To)
	}
	assert.Equal(t, []string{frontend + " > " + outsider}, hops)
}

// The next hop gets the packets of a batch in their order, answers of Services among others.
func TestTheNextHopGetsABatchInOrder(t *testing.T) {
	var hops []string
	c, err := overlay.New(overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "p", Count: 2}}, OutboundType: overlay.OutboundUserDefinedRouting,
		NextHop: func(_ flow.Time, pkt []byte) flow.Verdict {
			_, dst := sockets(pkt)
			hops = append(hops, dst.String())
			return flow.Verdict{Action: flow.Forward, To: flow.Outside}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	pod, err := c.AddPod(c.Nodes()[0].Name, "a")
	require.NoError(t, err)
	svc, err := c.AddService(0, overlay.Service{Name: "web", Type: overlay.LoadBalancer, Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", overlay.Endpoint{Pod: "a"}))
	now := flow.Time(30 * time.Second)
	c.Advance(now, nil)
	for i := range 40 {
		client := fmt.Sprintf("198.51.100.7:%d", 1000+i)
		require.Equal(t, flow.Forward, c.Inbound(now, pkttest.TCP(client, netip.AddrPortFrom(svc.LoadBalancerIPs[0], 80).String(), pkttest.SYN)).Action)
	}
	var pkts [][]byte
	var want []string
	for x := range c.ServiceSessions() {
		pkts = append(pkts,
			pkttest.TCP(x.Endpoint.String(), x.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1)),
			pkttest.UDP(pod.Addrs[0].String()+":53", fmt.Sprintf("203.0.113.9:%d", 1000+len(pkts)), "query"))
		want = append(want, x.Client.String(), fmt.Sprintf("203.0.113.9:%d", 1000+len(pkts)-2))
	}
	verdicts := make([]flow.Verdict, len(pkts))
	c.OutboundBatch(now, pkts, verdicts)
	require.Equal(t, want, hops)
	for i, v := range verdicts {
		require.Equal(t, flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: 0}, flow.Verdict{Action: v.Action, To: v.To, Reason: v.Reason}, i)
	}
}

// After Close nothing begins to serve.
func TestServices_afterClose(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	s.Close()
	_, err := s.OpenHostPorts("a", "", []overlay.ContainerPort{{Protocol: snat.TCP, Port: 8080, HostPort: 8080}}, "")
	assert.ErrorIs(t, err, flow.ErrClosed)
	assert.ErrorIs(t, s.SetEndpoints("web"), flow.ErrClosed)
}

// Explain asks the same rules as the packet does.
func TestExplain_policiesOfServices(t *testing.T) {
	s := newServing(t, overlay.Service{
		Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal, InternalTrafficPolicy: overlay.PolicyLocal,
		LoadBalancerSourceRanges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
	}, "b")
	cluster := s.web.ClusterIPs[0].String() + ":80"
	frontend := netip.AddrPortFrom(s.web.LoadBalancerIPs[0], 80).String()
	port := func(i int) string { return netip.AddrPortFrom(s.Nodes()[i].Addrs[0], s.web.Ports[0].NodePort).String() }
	for _, a := range []struct {
		door     func(flow.Time, []byte) flow.Verdict
		src, dst string
	}{
		{s.Outbound, s.addr("client") + ":1000", cluster},
		{s.Outbound, s.addr("b") + ":1000", cluster},
		{s.Outbound, s.addr("client") + ":1001", frontend},
		{s.Outbound, s.addr("client") + ":1002", port(0)},
		{s.Outbound, s.addr("client") + ":1003", port(2)},
		{s.Inbound, "10.225.0.9:1000", port(0)},
		{s.Inbound, "10.225.0.9:1000", port(1)},
		{s.Inbound, outsider, frontend},
		{s.Inbound, "203.0.113.9:1000", frontend},
	} {
		pkt := pkttest.TCP(a.src, a.dst, pkttest.SYN)
		x := s.Explain(s.now, pkt)
		v := a.door(s.now, pkt)
		assert.Equal(t, []any{v.Action, v.Reason}, []any{x.Action, x.Reason}, "%s > %s\n%v", a.src, a.dst, x)
	}
}

// A node that comes as another one goes, and gets its address, does not know its connections.
func TestService_sessionsOfANodeGoWithIt(t *testing.T) {
	s := newServing(t, overlay.Service{}, "b")
	last := s.Nodes()[2]
	client := last.Addrs[0].String() + ":5000"
	s.outbound(pkttest.TCP(client, s.web.ClusterIPs[0].String()+":80", pkttest.SYN))
	assert.Equal(t, last.Index, s.session().Node)
	cfg := s.Config()
	cfg.NodePools[0].Count = 2
	cfg.NodePools = append(cfg.NodePools, overlay.NodePool{Name: "q", Count: 1})
	_, err := s.Reconfigure(s.now, cfg)
	require.NoError(t, err)
	next, ok := s.NodeByAddr(last.Addrs[0])
	require.True(t, ok)
	require.Equal(t, []any{"q", last.Index}, []any{next.Pool, next.Index})
	assert.Empty(t, slices.Collect(s.ServiceSessions()))
}

// A node port is one of the families that the Service has; in another one it is the node's.
func TestService_nodePortOfOneFamily(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.NodePort}, "b")
	at := netip.AddrPortFrom(s.Nodes()[0].Addrs[1], s.web.Ports[0].NodePort).String()
	client := "[fd12:3456:789b::77]:5000"
	assert.Equal(t, client+" > "+at, s.inbound(pkttest.TCP(client, at, pkttest.SYN)))
}
