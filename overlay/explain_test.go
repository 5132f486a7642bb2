package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// An explanation is what an operator reads.
func TestExplain_words(t *testing.T) {
	c := vnetCluster(t, nil)
	_, err := c.AddPod("aks-nodepool1-vmss000001", "web")
	require.NoError(t, err)
	for _, tt := range []struct {
		pkt  []byte
		want string
	}{
		{pkttest.TCP("10.244.1.2:41000", "198.51.100.9:443", pkttest.SYN), `node aks-nodepool1-vmss000001: 10.244.1.2 is pod web.
node aks-nodepool1-vmss000001: 198.51.100.9 is not in the network: the source becomes 10.1.0.5.
loadBalancer: Outbound rule "aksOutboundRule" serves the pool.
loadBalancer: The source becomes 20.50.1.1, with a port of it that is free for 198.51.100.9:443.
forward`},
		{pkttest.UDP("10.244.1.2:41000", "192.168.3.4:53", "q"), `node aks-nodepool1-vmss000001: 10.244.1.2 is pod web.
node aks-nodepool1-vmss000001: 192.168.3.4 is masqueraded: the source becomes 10.1.0.5, with the same port if no other flow to 192.168.3.4:53 has it.
forward`},
		{pkttest.TCP("10.244.1.2:41000", "168.63.129.16:80", pkttest.SYN), `node aks-nodepool1-vmss000001: 10.244.1.2 is pod web.
the node: A pod addressed a port of the platform that only nodes may use.
drop: A pod addressed a port of the platform that only nodes may use.`},
		{pkttest.UDP("10.1.77.1:9", "10.1.0.4:10250", "q"), `node aks-nodepool1-vmss000000: 10.1.0.4 is here: the packet is delivered as it is, and so is what answers it.
forward`},
		{pkttest.TCP("198.51.100.9:443", "10.244.1.2:80", pkttest.SYN), `loadBalancer: 10.244.1.2 is inside of the network: there is no way to it from the Internet.
loadBalancer: The outside destination is none of our addresses.
drop: The outside destination is none of our addresses.`},
		{pkttest.TCP("198.51.100.9:443", "20.50.1.1:99", pkttest.SYN), `loadBalancer: No rule of the load balancer has 20.50.1.1:99.
loadBalancer: The packet belongs to no flow and may not begin one.
drop: The packet belongs to no flow and may not begin one.`},
		{[]byte{1}, "packet: The buffer is shorter than the smallest IP header.\ndrop: The buffer is shorter than the smallest IP header."},
	} {
		require.Equal(t, tt.want, c.Explain(0, tt.pkt).String())
	}
}

// Packets to Services and their answers are told apart from others.
func TestExplain_services(t *testing.T) {
	c := vnetCluster(t, nil)
	_, err := c.AddPod("aks-nodepool1-vmss000001", "server")
	require.NoError(t, err)
	web, err := c.AddService(0, Service{Name: "web", Type: NodePort, Ports: []ServicePort{{Port: 80, TargetPort: 8080}}})
	require.NoError(t, err)
	frontend := endpoint(web.ClusterIPs[0].String(), 80)
	syn := func() []byte { return pkttest.TCP("10.244.0.2:5000", frontend, pkttest.SYN, pkttest.Seq(1)) }
	x := c.Explain(0, syn())
	require.Equal(t, flow.ReasonNoTarget, x.Reason)
	require.Contains(t, x.String(), "10.0.128.0:80 is Service web.")
	v := c.Outbound(0, syn())
	require.Equal(t, flow.ReasonNoTarget, v.Reason)

	require.NoError(t, c.SetEndpoints("web", Endpoint{Pod: "server"}))
	for _, pkt := range [][]byte{syn(), pkttest.TCP("10.1.77.1:5000", endpoint("10.1.0.4", int(web.Ports[0].NodePort)), pkttest.SYN, pkttest.Seq(1))} {
		x = c.Explain(0, pkt)
		require.Equal(t, flow.Forward, x.Action)
		require.Contains(t, x.String(), "Its only endpoint that may be chosen gets the packet: 10.244.1.2:8080.")
	}
	require.Contains(t, x.String(), "It sees 10.1.0.4 as the client.", "policy Cluster masquerades what comes from outside")
	pkt := syn()
	require.Equal(t, flow.Forward, c.Outbound(0, pkt).Action)
	require.Contains(t, c.Explain(0, syn()).String(), "belongs to a connection through Service web with 10.244.1.2:8080")
	answer := pkttest.TCP("10.244.1.2:8080", "10.244.0.2:5000", pkttest.TCPFlags("SA"), pkttest.Seq(9), pkttest.Ack(2))
	require.Contains(t, c.Explain(0, answer).String(), "it leaves as "+frontend+" for 10.244.0.2:5000")
}

// What Explain says is what the doors then do, with and without flows, and asking changes
// nothing.
func TestExplain_isTrue(t *testing.T) {
	pkttest.OneGoroutine(t)
	for name, edit := range map[string]func(*ClusterConfig){
		"loadBalancer": nil,
		"restricted": func(c *ClusterConfig) {
			c.RestrictIMDS = true
			c.NetworkPolicy = func(f snat.NewFlow) bool { return f.Inside.Port() != 1003 && f.Remote.Port() != 1003 }
			c.Masquerade.NonMasqueradeCIDRs = pfx("192.168.3.4/32")
			c.StrictPodAddresses = true
		},
		"ICMP and fragments": func(c *ClusterConfig) {
			c.ICMP.Queries, c.Fragments.Mode = true, snat.FragmentsVirtual
		},
		"userDefinedRouting": func(c *ClusterConfig) { c.OutboundType = OutboundUserDefinedRouting },
		"none":               func(c *ClusterConfig) { c.OutboundType = OutboundNone },
		"kubenet":            func(c *ClusterConfig) { c.NetworkPlugin = cni.Kubenet },
		"nodeSubnet": func(c *ClusterConfig) {
			c.NetworkPlugin, c.IPFamilies, c.StrictPodAddresses = cni.NodeSubnet, "ipv4", true
		},
		"nodeSubnet and userDefinedRouting": func(c *ClusterConfig) {
			c.NetworkPlugin, c.IPFamilies, c.OutboundType = cni.NodeSubnet, "ipv4", OutboundUserDefinedRouting
		},
		"managedNATGatewayV2": func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGatewayV2 },
		"static gateway":      viaStaticGateway,
		"node public IPs":     publicPool(3, "53/udp", public4, public6),
	} {
		t.Run(name, func(t *testing.T) {
			const seed = 5
			t.Log("seed", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			c, ends := vnetCluster(t, edit), eachFamily
			config := &c.state.Load().config
			if !config.NetworkPlugin.HasPodCIDRs() {
				ends = []hosts{inNodeSubnet}
			} else if len(config.families()) == 1 {
				ends = ends[:1]
			}
			for i := range 3 {
				_, err := c.AddPod(c.Nodes()[i].Name, fmt.Sprint("pod", i))
				require.NoError(t, err)
			}
			if len(config.StaticGatewayConfigurations) > 0 {
				require.NoError(t, c.UseStaticGateway("pod0", "gw"))
			}
			var answers [][]byte
			for i := range pkttest.Operations(1000, 4000, 100_000) {
				var pkt []byte
				if len(answers) > 0 && rng.IntN(3) == 0 {
					pkt, answers = answers[0], answers[1:]
				} else {
					pkt = anyPacket(rng, ends[rng.IntN(len(ends))])
				}
				before := slices.Clone(pkt)
				stats := c.Stats()
				x := c.Explain(0, pkt)
				require.Equal(t, before, pkt)
				require.Equal(t, stats, c.Stats())
				src, _ := addressing.Ends(pkt)
				var v flow.Verdict
				if _, inside := c.NodeByAddr(src); inside {
					v = c.Outbound(0, pkt)
				} else {
					v = c.Inbound(0, pkt)
				}
				if v.Reason == flow.ReasonMappingConflict || v.Reason == flow.ReasonPorts {
					continue // whether a port is free it does not say
				}
				got := fmt.Sprint(x.Action, " ", x.Reason)
				require.Equal(t, fmt.Sprint(v.Action, " ", v.Reason), got, "%d: %s\n%v", i, pkttest.String(before), x)
				if v.Action == flow.Forward && pkt[0]>>4 == 4 && pkt[9] == 17 && pkt[6]&0x3f == 0 && pkt[7] == 0 {
					answers = append(answers, reversed(pkt))
				}
			}
		})
	}
}

// agrees explains a packet, passes it through its door, and wants both to say the same.
func agrees(t *testing.T, c *Cluster, now flow.Time, pkt []byte, want string) string {
	t.Helper()
	before, stats := pkttest.String(pkt), c.Stats()
	x := c.Explain(now, pkt)
	require.Equal(t, stats, c.Stats(), before)
	src, _ := addressing.Ends(pkt)
	door := c.Inbound
	if _, inside := c.NodeByAddr(src); inside {
		door = c.Outbound
	}
	v := door(now, pkt)
	require.Equal(t, want, fmt.Sprint(v.Action, " ", v.Reason), before)
	require.Equal(t, want, fmt.Sprint(x.Action, " ", x.Reason), "%s\n%v", before, x)
	return x.String()
}

// What chance does not meet: strangers at a port in use, a gateway beside a load balancer, and a client of
// a Service that is in the network by a service endpoint.
func TestExplain_rareWays(t *testing.T) {
	for _, sku := range []lb.SKU{lb.Standard, lb.Basic} {
		c := newCluster(t, ClusterConfig{NodePools: []NodePool{{Count: 2}}, LoadBalancerSKU: sku, VNet: VNet{ServiceEndpoints: pfx("13.70.0.0/16")}})
		_, err := c.AddPod(c.Nodes()[0].Name, "web")
		require.NoError(t, err)
		_, err = c.AddService(0, Service{Name: "web", Type: LoadBalancer, Ports: []ServicePort{{Port: 80}}})
		require.NoError(t, err)
		require.NoError(t, c.SetEndpoints("web", Endpoint{Pod: "web"}))
		now := flow.At(30 * time.Second)
		c.Advance(now, nil)
		sent := pkttest.UDP("10.244.0.2:5000", "203.0.113.9:53", "query")
		agrees(t, c, now, sent, "forward none")
		outside := endpoint(source(sent), int(sent[20])<<8|int(sent[21]))
		agrees(t, c, now, pkttest.UDP("203.0.113.8:53", outside, "not the answer"), "drop filtered")
		agrees(t, c, now, pkttest.TCP("203.0.113.8:53", outside, pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(1)), "drop no_flow")
		agrees(t, c, now, pkttest.UDP("203.0.113.9:53", outside, "answer"), "forward none")

		agrees(t, c, now, syn("13.70.1.1:1000", endpoint(c.Services()[0].LoadBalancerIPs[0].String(), 80)), "forward none")
		s := slices.Collect(c.ServiceSessions())[0]
		agrees(t, c, now, pkttest.TCP(s.Endpoint.String(), s.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)), "forward none")

		now = flow.At(time.Hour) // all is over, and peaks rise
		for i := range 3 {
			c.Outbound(now, pkttest.UDP("10.244.1.2:1000", endpoint("203.0.113.66", 80+i), "query"))
		}
		agrees(t, c, now, pkttest.UDP("203.0.113.66:5", "203.0.113.67:5", "nobody's"), "drop not_ours")
	}
	c := newCluster(t, ClusterConfig{NodePools: []NodePool{{Count: 1}}, OutboundType: OutboundManagedNATGatewayV2})
	web, err := c.AddService(0, Service{Name: "web", Type: LoadBalancer, Ports: []ServicePort{{Port: 80}}})
	require.NoError(t, err)
	sent := pkttest.UDP("10.244.0.2:5000", "203.0.113.9:53", "query")
	agrees(t, c, 0, sent, "forward none")
	outside := endpoint(source(sent), int(sent[20])<<8|int(sent[21]))
	agrees(t, c, 0, pkttest.UDP("203.0.113.8:53", outside, "not the answer"), "drop no_flow")
	agrees(t, c, 0, pkttest.UDP("203.0.113.9:53", outside, "answer"), "forward none")
	now := flow.At(4*time.Minute + 30*time.Second) // the flow is over, and keeps its port for a minute
	c.Advance(now, nil)
	agrees(t, c, now, pkttest.UDP("203.0.113.9:53", outside, "late answer"), "drop no_flow")
	agrees(t, c, now, pkttest.UDP("10.244.0.2:5000", "203.0.113.9:53", "query"), "forward none")
	agrees(t, c, now, pkttest.ICMPEcho("203.0.113.9", web.LoadBalancerIPs[0].String(), 7, 1), "drop unsupported_proto")
	agrees(t, c, now, pkttest.ICMPEcho("203.0.113.9", c.Frontends()[0].Frontend.String(), 7, 1), "drop no_flow")
}

// The load balancer remembers what has come by HA ports to a port of no Service, and passes its reset.
func TestExplain_resetByHAPorts(t *testing.T) {
	c := newCluster(t, ClusterConfig{NodePools: []NodePool{{Count: 1}}})
	web, err := c.AddService(0, Service{Name: "web", Type: LoadBalancer, Ports: []ServicePort{{Port: 80}}, Annotations: map[string]string{
		"service.beta.kubernetes.io/azure-load-balancer-internal": "true", "service.beta.kubernetes.io/azure-load-balancer-enable-high-availability-ports": "true",
	}})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", Endpoint{Addr: netip.MustParseAddr("10.224.9.9")}))
	now := flow.At(30 * time.Second)
	c.Advance(now, nil)
	const client = "10.225.0.9:5000"
	to := endpoint(web.LoadBalancerIPs[0].String(), 81)
	reset := func() []byte { return pkttest.TCP(client, to, pkttest.TCPFlags("R"), pkttest.Seq(2)) }
	agrees(t, c, now, reset(), "drop no_flow")
	agrees(t, c, now, syn(client, to), "drop not_ours")
	agrees(t, c, now, reset(), "drop not_ours")
}

// Fragments to frontends: rules of one port carry none, HA ports carry all, and what nodes and pods send
// goes by the proxy where the first one has gone.
func TestExplain_fragmentsToFrontends(t *testing.T) {
	const internal = "service.beta.kubernetes.io/azure-load-balancer-internal"
	for name, annotations := range map[string]map[string]string{
		"HA ports":            {internal: "true", "service.beta.kubernetes.io/azure-load-balancer-enable-high-availability-ports": "true"},
		"internal":            {internal: "true"},
		"without floating IP": {internal: "true", "service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip": "true"},
		"public":              {},
	} {
		for _, mode := range []snat.FragmentMode{snat.FragmentsDropped, snat.FragmentsVirtual} {
			for _, policy := range []TrafficPolicy{PolicyCluster, PolicyLocal} {
				config := ClusterConfig{NodePools: []NodePool{{Count: 2}}}
				config.Fragments.Mode = mode
				c := newCluster(t, config)
				_, err := c.AddPod(c.Nodes()[0].Name, "web")
				require.NoError(t, err)
				web, err := c.AddService(0, Service{
					Name: "web", Type: LoadBalancer, ExternalTrafficPolicy: policy, Ports: []ServicePort{{Port: 80, Protocol: snat.UDP}}, Annotations: annotations,
				})
				require.NoError(t, err)
				require.NoError(t, c.SetEndpoints("web", Endpoint{Pod: "web"}))
				now := flow.At(30 * time.Second)
				c.Advance(now, nil)
				seen, id := map[string]int{}, uint32(0)
				for _, port := range []int{80, 81} {
					for _, client := range []string{"10.225.0.9", c.Nodes()[0].Addrs[0].String(), c.Nodes()[1].Addrs[0].String(), "10.244.0.2", "10.244.1.7", "198.51.100.9"} {
						_, inside := c.NodeByAddr(netip.MustParseAddr(client))
						for _, order := range [][]int{{0, 1, 2}, {1, 0, 2}, {2}} {
							id++
							pieces := pkttest.Fragments(pkttest.UDP(endpoint(client, 5000), endpoint(web.LoadBalancerIPs[0].String(), port), string(make([]byte, 100))), 48, id)
							for i, k := range order {
								pkt, door := pieces[k], c.Inbound
								if inside {
									door = c.Outbound
								}
								x := c.Explain(now, pkt)
								v := door(now, pkt)
								asIfFirst := !inside && k > 0 && (mode == snat.FragmentsVirtual || name == "HA ports")
								if asIfFirst && (name != "HA ports" || port != 80 || order[0] != 0 || client == "198.51.100.9") {
									continue // whether the first one has come it does not say
								}
								require.Equal(t, fmt.Sprint(v.Action, " ", v.Reason), fmt.Sprint(x.Action, " ", x.Reason), "%s, %v, %v: %s to port %d, %d of %v\n%v", name, mode, policy, client, port, i, order, x)
								seen[fmt.Sprint(x.Action, " ", x.Reason)]++
							}
						}
					}
				}
				require.NotZero(t, seen["forward none"])
				require.NotZero(t, seen["drop fragment"])
			}
		}
	}
}

// A connection that a node's proxy remembers for longer than the load balancer does is not reset by its client.
func TestExplain_resetAfterTheBalancersTimeout(t *testing.T) {
	c := newCluster(t, ClusterConfig{NodePools: []NodePool{{Count: 1}}})
	_, err := c.AddPod(c.Nodes()[0].Name, "web")
	require.NoError(t, err)
	web, err := c.AddService(0, Service{Name: "web", Type: LoadBalancer, Ports: []ServicePort{{Port: 80}}})
	require.NoError(t, err)
	require.NoError(t, c.SetEndpoints("web", Endpoint{Pod: "web"}))
	now := flow.At(30 * time.Second)
	c.Advance(now, nil)
	const client = "198.51.100.9:5000"
	to := endpoint(web.LoadBalancerIPs[0].String(), 80)
	agrees(t, c, now, syn(client, to), "forward none")
	s := slices.Collect(c.ServiceSessions())[0]
	agrees(t, c, now, pkttest.TCP(s.Endpoint.String(), s.Seen.String(), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2)), "forward none")
	agrees(t, c, now, pkttest.TCP(client, to, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(2)), "forward none")
	now = now.Add(5 * time.Minute)
	c.Advance(now, func(flow.Emission) {})
	require.Len(t, slices.Collect(c.ServiceSessions()), 1)
	agrees(t, c, now, pkttest.TCP(client, to, pkttest.TCPFlags("R"), pkttest.Seq(2)), "drop no_flow")
}

// A pod keeps its port where its node masquerades it, also that of a node port: what answers it is no packet to
// the Service.
func TestExplain_answersAtNodePorts(t *testing.T) {
	c := vnetCluster(t, nil)
	_, err := c.AddService(0, Service{Name: "web", Type: NodePort, IPFamilies: "ipv4,ipv6", Ports: []ServicePort{{Port: 80, NodePort: 30080}}})
	require.NoError(t, err)
	for _, h := range eachFamily {
		agrees(t, c, 0, syn(endpoint(h.pod, 30080), endpoint(h.vm, 443)), "forward none")
		answer := pkttest.TCP(endpoint(h.vm, 443), endpoint(h.node, 30080), pkttest.TCPFlags("SA"), pkttest.Seq(1), pkttest.Ack(2))
		require.Contains(t, agrees(t, c, 0, answer, "forward none"), "belongs to a flow of "+endpoint(h.pod, 30080))
		agrees(t, c, 0, syn(endpoint(h.peer, 443), endpoint(h.node, 30080)), "drop no_target")
	}
}

// An address of the service range says what it lacks.
func TestExplain_serviceRange(t *testing.T) {
	c := newCluster(t, ClusterConfig{NodePools: []NodePool{{Count: 1}}})
	web, err := c.AddService(0, Service{Name: "web", Ports: []ServicePort{{Port: 80}}})
	require.NoError(t, err)
	a := web.ClusterIPs[0].String()
	require.Contains(t, agrees(t, c, 0, syn("10.244.0.2:5000", endpoint(a, 81)), "drop route"), a+" is of Service web, which has no port 81 of this protocol.")
	require.Contains(t, agrees(t, c, 0, pkttest.ICMPEcho("10.244.0.2", a, 7, 1), "drop route"), a+" is of Service web, which is reached by its ports only.")
	require.Contains(t, agrees(t, c, 0, syn("10.244.0.2:5000", "10.0.99.9:80"), "drop route"), "10.0.99.9 is in the service range, and no Service has it.")
}

// reversed answers an IPv4 UDP packet.
func reversed(pkt []byte) []byte {
	src, dst := addressing.Ends(pkt)
	return pkttest.UDP(endpoint(dst.String(), int(pkt[22])<<8|int(pkt[23])), endpoint(src.String(), int(pkt[20])<<8|int(pkt[21])), "answer")
}

const staticGateway = "20.62.0.0/31"

// viaStaticGateway adds a static gateway, gw.
func viaStaticGateway(c *ClusterConfig) {
	c.IPFamilies, c.ICMP.Queries = "ipv4", true
	c.NodePools = append(c.NodePools, NodePool{Name: "gateways", Count: 2, Mode: ModeGateway, GatewayPublicIPPrefixSize: 31})
	c.StaticGatewayConfigurations = []StaticGatewayConfiguration{{Name: "gw", GatewayNodepoolName: "gateways", PublicIPPrefix: pfx(staticGateway)[0]}}
}

// anyPacket returns a packet between any two kinds of hosts.
func anyPacket(rng *rand.Rand, h hosts) []byte {
	ends := []string{h.pod, h.pod2, h.other, h.node, h.node2, h.vm, h.peer, h.remote, h.frontend}
	if h.family != "v6" {
		ends = append(ends, "10.0.0.10", "169.254.169.254", "168.63.129.16", "169.254.10.10", "10.244.77.7", "8.8.8.8", "20.62.0.0", "20.62.0.1")
	}
	s := rng.IntN(len(ends))
	for ends[s] == h.frontend || s > 8 { // nobody's, or not one's that sends
		s = rng.IntN(len(ends))
	}
	d := (s + rng.IntN(len(ends))) % len(ends) // also to itself
	src, dst := ends[s], ends[d]
	a, b := endpoint(src, 1000+rng.IntN(5)), endpoint(dst, []int{53, 80, 1003, 41000}[rng.IntN(4)])
	switch id := uint16(7 + rng.IntN(3)); rng.IntN(8) {
	case 0:
		return pkttest.ICMPEcho(src, dst, id, 1)
	case 1:
		return pkttest.ICMPEchoReply(src, dst, id, 1)
	case 2:
		return pkttest.IP(src, dst, []byte{47, 50, 132}[rng.IntN(3)], []byte("secret"))
	case 3:
		return pkttest.TCP(a, b, pkttest.SYN, pkttest.Seq(1))
	case 7: // what is in pieces
		return pkttest.Fragments(pkttest.UDP(a, b, string(make([]byte, 100))), 48, rng.Uint32())[0]
	case 4: // what begins no connection, or only where one is picked up
		return pkttest.TCP(a, b, pkttest.TCPFlags([]string{"SA", "A", "R", "RA", "FA"}[rng.IntN(5)]), pkttest.Seq(1), pkttest.Ack(1))
	}
	return pkttest.UDP(a, b, "query")
}

// Any bytes have an explanation, and asking changes nothing.
func FuzzExplain(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 0))
	for i := range 40 {
		pkt := anyPacket(rng, eachFamily[i%2])
		f.Add(pkt)
	}
	more := pkttest.Payload(string(make([]byte, 100)))
	for _, pkt := range [][]byte{
		pkttest.UDP("10.244.0.2:5000", "10.1.77.1:53", string(make([]byte, 100))),
		pkttest.TCP("10.244.0.2:5000", "198.51.100.9:53", pkttest.SYN, more), pkttest.ICMPEcho("10.1.77.1", "10.1.0.4", 7, 1, more),
		pkttest.ICMPEcho("10.244.0.2", "198.51.100.9", 7, 1, pkttest.Payload(string(append(make([]byte, 40), 8)))),
	} {
		for _, piece := range pkttest.Fragments(pkt, 48, 7) {
			f.Add(piece)
		}
	}
	gateway := vnetCluster(f, viaStaticGateway)
	_, err := gateway.AddPod(gateway.Nodes()[0].Name, "pod0")
	require.NoError(f, err)
	require.NoError(f, gateway.UseStaticGateway("pod0", "gw"))
	clusters := []*Cluster{vnetCluster(f, nil), gateway}
	for i := range 40 {
		clusters[0].Outbound(0, anyPacket(rng, eachFamily[i%2]))
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		for _, c := range clusters {
			before, stats := slices.Clone(pkt), c.Stats()
			x := c.Explain(0, pkt)
			require.NotEmpty(t, x.Steps)
			require.Equal(t, x.Action == flow.Drop, x.Reason != flow.ReasonNone)
			require.Equal(t, before, pkt)
			require.Equal(t, stats, c.Stats())
		}
	})
}
