package overlay_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// emitted returns what Advance emits now.
func (s *serving) emitted() (all []flow.Emission) {
	s.Advance(s.now, func(e flow.Emission) {
		e.Packet = append([]byte(nil), e.Packet...)
		all = append(all, e)
	})
	return all
}

// A node rejects what is for a Service without endpoints: its pods, processes and neighbours
// are told at once, and what the load balancer has brought is dropped.
func TestAzureService_withoutEndpointsIsRejected(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, IPFamilies: "ipv4,ipv6"})
	s.emitted()
	before := s.Stats()
	for i, tt := range []struct {
		door     func([]byte) string
		src, dst netip.AddrPort
		side     flow.Side
	}{
		{s.outbound, netip.MustParseAddrPort(s.addr("client") + ":5000"), netip.AddrPortFrom(s.web.ClusterIPs[0], 80), flow.Inside},
		{s.outbound, netip.MustParseAddrPort(s.node(0) + ":5000"), netip.AddrPortFrom(s.web.LoadBalancerIPs[0], 80), flow.Inside},
		{s.inbound, netip.MustParseAddrPort("10.224.9.9:5000"), netip.AddrPortFrom(s.Nodes()[0].Addrs[0], s.web.Ports[0].NodePort), flow.Outside},
		{s.outbound, netip.AddrPortFrom(s.Nodes()[0].Addrs[1], 5000), netip.AddrPortFrom(s.web.ClusterIPs[1], 80), flow.Inside},
	} {
		pkt := pkttest.TCP(tt.src.String(), tt.dst.String(), pkttest.SYN)
		require.Equal(t, "no_target", tt.door(pkt), tt.dst)
		at, ok := s.NextDeadline()
		require.True(t, ok)
		assert.Equal(t, s.now, at)
		all := s.emitted()
		require.Len(t, all, 1, "%d", i)
		assert.Equal(t, tt.side, all[0].To)
		node := s.Nodes()[0].Addrs[0]
		kind := []byte{3, 3}
		if tt.src.Addr().Is6() {
			node, kind = s.Nodes()[0].Addrs[1], []byte{1, 4}
		}
		pkttest.Check(t, all[0].Packet, pkttest.Src(node.String()), pkttest.Dst(tt.src.Addr().String()), pkttest.ChecksumsOK())
		assert.Equal(t, kind, all[0].Packet[len(all[0].Packet)-len(pkt)-8:][:2])
		assert.Equal(t, pkt, all[0].Packet[len(all[0].Packet)-len(pkt):], "it quotes the packet")
	}
	assert.Equal(t, before.ICMPErrors+4, s.Stats().ICMPErrors)
	assert.Contains(t, s.Explain(s.now, pkttest.TCP(s.addr("client")+":5000", s.web.ClusterIPs[0].String()+":80", pkttest.SYN)).String(), "port is unreachable")

	// The load balancer's probe has found no node healthy, so nothing gets that far.
	assert.Equal(t, "no_target", s.from(outsider))
	assert.Empty(t, s.emitted())
	// Policy Local without endpoints on the node drops, for others have some.
	local := newServing(t, overlay.Service{InternalTrafficPolicy: overlay.PolicyLocal}, "b")
	assert.Equal(t, "no_local_target", local.outbound(pkttest.TCP(local.addr("client")+":5000", local.web.ClusterIPs[0].String()+":80", pkttest.SYN)))
	assert.Empty(t, local.emitted())
}

// An endpoint that terminates keeps its connections and gets new ones where nobody else is.
func TestAzureService_terminatingEndpoints(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.LoadBalancer, ExternalTrafficPolicy: overlay.PolicyLocal}, "a", "b")
	to := s.web.ClusterIPs[0].String() + ":80"
	served := func(n int) map[string]bool {
		seen := map[string]bool{}
		for range 16 {
			n++
			client := fmt.Sprintf("%s:%d", s.addr("client"), n)
			seen[s.outbound(pkttest.TCP(client, to, pkttest.SYN))[len(client)+3:]] = true
		}
		return seen
	}
	a, b := s.addr("a")+":8080", s.addr("b")+":8080"
	assert.Equal(t, map[string]bool{a: true, b: true}, served(1000))
	set := func(endpoints ...overlay.Endpoint) { require.NoError(t, s.SetEndpoints("web", endpoints...)) }
	dying := func(pod string) overlay.Endpoint { return overlay.Endpoint{Pod: pod, Terminating: true} }

	set(dying("a"), overlay.Endpoint{Pod: "b"})
	assert.Equal(t, map[string]bool{b: true}, served(2000), "the one that is ready")
	for x := range s.ServiceSessions() {
		if x.Endpoint.String() == a {
			assert.Equal(t, x.Client.String()+" > "+a, s.outbound(pkttest.TCP(x.Client.String(), to, pkttest.TCPFlags("A"), pkttest.Seq(1))), "what it has goes on")
		}
	}
	status, _ := s.HealthCheck("web", s.Nodes()[0].Name)
	assert.Equal(t, 503, status, "it does not count for the load balancer")
	at := fmt.Sprintf("%s:%d", s.node(0), s.web.Ports[0].NodePort)
	assert.Equal(t, "10.224.9.9:5000 > "+a, s.inbound(pkttest.TCP("10.224.9.9:5000", at, pkttest.SYN)), "policy Local: nobody else is on the node")

	set(dying("a"), dying("b"))
	assert.Equal(t, map[string]bool{a: true, b: true}, served(3000), "nobody else is in the cluster")
	assert.ErrorIs(t, s.SetEndpoints("web", dying("a"), overlay.Endpoint{Pod: "a"}), flow.ErrDuplicateName)
	require.NoError(t, s.RemovePod("a"))
	assert.Equal(t, map[string]bool{b: true}, served(4000))
}

// Endpoints outside of the cluster: what is for them goes on as the client's own packets would,
// and answers come from the Service.
func TestService_endpointsOutside(t *testing.T) {
	s := newServing(t, overlay.Service{Type: overlay.NodePort})
	to := s.web.ClusterIPs[0].String() + ":80"
	for h, host := range []string{"198.51.100.80", "10.224.9.80"} {
		require.NoError(t, s.SetEndpoints("web", overlay.Endpoint{Addr: netip.MustParseAddr(host)}))
		for i, client := range []string{s.addr("client"), s.node(0)} {
			src := fmt.Sprintf("%s:%d", client, 6000+10*h+i)
			sent := s.outbound(pkttest.TCP(src, to, pkttest.SYN, pkttest.Seq(1)))
			from, dst, _ := strings.Cut(sent, " > ")
			require.Equal(t, host+":8080", dst, sent)
			seen := netip.MustParseAddrPort(from)
			if host == "10.224.9.80" {
				assert.Equal(t, s.node(0), seen.Addr().String(), "the node's")
			} else {
				assert.Equal(t, "20.50.1.1", seen.Addr().String(), "the outbound rule's")
			}
			back := s.inbound(pkttest.TCP(dst, from, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)))
			assert.Equal(t, to+" > "+src, back)
		}
	}
	// From a VM by a node port to another VM: the node is in between, both ways.
	vm, at := "10.224.9.9:5000", fmt.Sprintf("%s:%d", s.node(1), s.web.Ports[0].NodePort)
	from, dst, _ := strings.Cut(s.inbound(pkttest.TCP(vm, at, pkttest.SYN, pkttest.Seq(1))), " > ")
	assert.Equal(t, "10.224.9.80:8080", dst)
	assert.Equal(t, s.node(1), netip.MustParseAddrPort(from).Addr().String())
	assert.Equal(t, at+" > "+vm, s.inbound(pkttest.TCP(dst, from, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))))

	for addr, kind := range map[string]error{
		s.addr("a"): flow.ErrConflict, s.node(0): flow.ErrConflict, s.web.ClusterIPs[0].String(): flow.ErrConflict,
		"169.254.1.1": flow.ErrAddress, "127.0.0.1": flow.ErrAddress, "224.0.0.1": flow.ErrAddress, "2001:db8::1": overlay.ErrFamily,
	} {
		err := s.SetEndpoints("web", overlay.Endpoint{Addr: netip.MustParseAddr(addr)})
		assert.ErrorIs(t, err, kind, addr)
		assert.ErrorContains(t, err, "Endpoints[0].Addr")
		assert.ErrorContains(t, err, addr)
	}
}

// Headless Services and ExternalName are names only: packets meet no frontend.
func TestService_namesOnly(t *testing.T) {
	s := newServing(t, overlay.Service{Name: "first"})
	headless, err := s.AddService(s.now, overlay.Service{Name: "db", Headless: true, IPFamilies: "ipv4,ipv6"})
	require.NoError(t, err)
	assert.Empty(t, headless.ClusterIPs)
	require.NoError(t, s.SetEndpoints("db", overlay.Endpoint{Pod: "b"}, overlay.Endpoint{Pod: "a", Terminating: true}))
	addrs, name, ok := s.Resolve("db")
	assert.True(t, ok)
	assert.Empty(t, name)
	b, _ := s.Pod("b")
	assert.Equal(t, b.Addrs, addrs, "both families, without the one that terminates")
	client := s.addr("client") + ":5000"
	assert.Equal(t, client+" > "+s.addr("b")+":5432", s.outbound(pkttest.TCP(client, s.addr("b")+":5432", pkttest.SYN)), "from pod to pod")
	assert.Len(t, s.Services()[1].Endpoints, 2)
	require.NoError(t, s.RemovePod("b"))
	addrs, _, _ = s.Resolve("db")
	assert.Empty(t, addrs)

	_, err = s.AddService(s.now, overlay.Service{Name: "out", Type: overlay.ExternalName, ExternalName: "db.example.com"})
	require.NoError(t, err)
	addrs, name, _ = s.Resolve("out")
	assert.Empty(t, addrs)
	assert.Equal(t, "db.example.com", name)
	addrs, _, _ = s.Resolve("first")
	assert.Equal(t, s.web.ClusterIPs, addrs)
	_, _, ok = s.Resolve("nobody")
	assert.False(t, ok)
	require.NoError(t, s.RemoveService(s.now, "db"))
	require.NoError(t, s.RemoveService(s.now, "out"))

	port := []overlay.ServicePort{{Port: 80}}
	for _, tt := range []struct {
		field string
		svc   overlay.Service
		kind  error
	}{
		{"Headless", overlay.Service{Headless: true, Type: overlay.NodePort, Ports: port}, flow.ErrConflict},
		{"ClusterIPs", overlay.Service{Headless: true, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.99")}}, flow.ErrConflict},
		{"ExternalName", overlay.Service{ExternalName: "a.example", Ports: port}, flow.ErrConflict},
		{"ExternalName", overlay.Service{Type: overlay.ExternalName}, flow.ErrMissing},
		{"ExternalName", overlay.Service{Type: overlay.ExternalName, ExternalName: "no_name"}, flow.ErrSyntax},
		{"SessionAffinity", overlay.Service{Type: overlay.ExternalName, ExternalName: "a", SessionAffinity: true}, flow.ErrConflict},
		{"NodePort", overlay.Service{Headless: true, Ports: []overlay.ServicePort{{Port: 80, NodePort: 30000}}}, flow.ErrConflict},
	} {
		tt.svc.Name = "bad"
		_, err := s.AddService(s.now, tt.svc)
		assert.ErrorIs(t, err, tt.kind, tt.field)
		assert.ErrorContains(t, err, tt.field)
	}
}
