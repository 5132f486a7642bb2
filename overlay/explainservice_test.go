package overlay

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// fullHouse is a cluster with public addresses of nodes, host ports, and Services of all kinds.
func fullHouse(t testing.TB, edit func(*ClusterConfig)) *Cluster {
	c := vnetCluster(t, func(c *ClusterConfig) {
		publicPool(2, "8000-8010/tcp", public4, public6)(c)
		c.NodePools = append(c.NodePools, NodePool{Name: "plain", Count: 1})
		if edit != nil {
			edit(c)
		}
	})
	for i, n := range c.Nodes() {
		pod := fmt.Sprint("pod", i)
		_, err := c.AddPod(n.Name, pod)
		require.NoError(t, err)
		_, err = c.OpenHostPorts(pod, "d", []ContainerPort{{snat.TCP, 80, 8000}, {snat.UDP, 53, 8001}}, "")
		require.NoError(t, err)
	}
	for name, s := range map[string]Service{
		"outside": {Ports: []ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 53, Protocol: snat.UDP}}},
		"aside":   {Ports: []ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 53, Protocol: snat.UDP}}},
		"cluster": {Ports: []ServicePort{{Name: "a", Port: 80}, {Name: "b", Port: 53, Protocol: snat.UDP}}},
		"local":   {InternalTrafficPolicy: PolicyLocal, ExternalTrafficPolicy: PolicyLocal, Type: LoadBalancer, Ports: []ServicePort{{Port: 80, NodePort: 30080}}},
		"public":  {Type: LoadBalancer, Ports: []ServicePort{{Name: "a", Port: 80, NodePort: 30081}, {Name: "b", Protocol: snat.UDP, Port: 53, NodePort: 30053}}},
		"ranges": {Type: LoadBalancer, Ports: []ServicePort{{Port: 80, NodePort: 30082}}, LoadBalancerSourceRanges: pfx("198.51.100.0/24"),
			Annotations: map[string]string{"service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip": "true"}},
		"empty": {Type: LoadBalancer, Ports: []ServicePort{{Port: 80, NodePort: 30083}}},
		"inner": {Type: LoadBalancer, Ports: []ServicePort{{Name: "a", Port: 80, NodePort: 30084}, {Name: "b", Protocol: snat.UDP, Port: 53, NodePort: 30054}},
			Annotations: map[string]string{"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}},
	} {
		s.Name = name
		if s.Type == LoadBalancer {
			s.IPFamilies = "ipv4,ipv6"
		}
		_, err := c.AddService(0, s)
		require.NoError(t, err)
	}
	for _, name := range []string{"cluster", "local", "public", "ranges", "inner"} {
		require.NoError(t, c.SetEndpoints(name, Endpoint{Pod: "pod0"}, Endpoint{Pod: "pod2"}))
	}
	require.NoError(t, c.SetEndpoints("outside", Endpoint{Addr: netip.MustParseAddr("203.0.113.77")}))
	require.NoError(t, c.SetEndpoints("aside", Endpoint{Addr: netip.MustParseAddr("10.1.77.9")}))
	return c
}

// aimed returns a packet to anything that the cluster has, or an answer. sent are packets that came through.
func aimed(rng *rand.Rand, c *Cluster, sessions []ServiceSession, sent [][]byte) []byte {
	f := rng.IntN(2)
	if len(sent) > 0 && rng.IntN(4) == 0 {
		return answers(rng, sent[rng.IntN(len(sent))])
	}
	if len(sessions) > 0 && rng.IntN(3) == 0 {
		s := sessions[rng.IntN(len(sessions))]
		from, to := s.Endpoint, s.Seen
		if rng.IntN(3) == 0 {
			from, to = s.Client, s.Frontend
		}
		if s.Proto == 17 {
			return pkttest.UDP(from.String(), to.String(), "more")
		}
		return pkttest.TCP(from.String(), to.String(), pkttest.TCPFlags([]string{"A", "SA"}[rng.IntN(2)]), pkttest.Seq(2), pkttest.Ack(2))
	}
	h, nodes := eachFamily[f], c.Nodes()
	node := nodes[rng.IntN(len(nodes))]
	pod, _ := c.Pod(fmt.Sprint("pod", rng.IntN(3)))
	src := []string{h.vm, h.peer, h.remote, []string{"203.0.113.200", "2001:db8:eeee::1"}[f], pod.Addrs[f].String(), node.Addrs[f].String()}[rng.IntN(6)]
	to := []netip.Addr{nodes[rng.IntN(len(nodes))].Addrs[f]}
	for _, n := range nodes {
		if len(n.PublicAddrs) > f {
			to = append(to, n.PublicAddrs[f])
		}
	}
	for _, s := range c.Services() {
		for _, a := range slices.Concat(s.ClusterIPs, s.LoadBalancerIPs) {
			if a.Is6() == (f == 1) {
				to = append(to, a, a)
			}
		}
	}
	dst := to[rng.IntN(len(to))].String()
	if rng.IntN(6) == 0 {
		dst = []string{h.vm, h.remote, h.peer, h.pod, h.other}[rng.IntN(5)]
	}
	port := []int{80, 53, 8000, 8001, 22, 30080, 30081, 30082, 30083, 30053, 30084, 30054}[rng.IntN(12)]
	a, b := endpoint(src, 1000+rng.IntN(40)), endpoint(dst, port)
	switch rng.IntN(10) {
	case 9:
		if rng.IntN(2) == 0 {
			return pkttest.ICMPEchoReply(src, dst, uint16(7+rng.IntN(3)), 1)
		}
		return pkttest.ICMPEcho(src, dst, uint16(7+rng.IntN(3)), 1)
	case 0, 5:
		return pkttest.TCP(a, b, pkttest.TCPFlags([]string{"A", "A", "SA", "FA"}[rng.IntN(4)]), pkttest.Seq(1), pkttest.Ack(1))
	case 1, 2, 3:
		return pkttest.UDP(a, b, "query")
	case 4:
		return pkttest.TCP(a, b, pkttest.TCPFlags("R"), pkttest.Seq(1))
	}
	return pkttest.TCP(a, b, pkttest.SYN, pkttest.Seq(1))
}

// answers returns what whoever got a packet sends back.
func answers(rng *rand.Rand, pkt []byte) []byte {
	var p wire.Packet
	if wire.Parse(pkt, &p) != wire.OK {
		return pkt
	}
	src, dst := addressing.Ends(pkt)
	if wire.IsICMP(p.Proto) {
		return pkttest.ICMPEchoReply(dst.String(), src.String(), binary.BigEndian.Uint16(p.B[p.L4+4:]), 1)
	}
	a, b := endpoint(dst.String(), int(uint16(p.Ports()))), endpoint(src.String(), int(p.Ports()>>16))
	if p.Proto == wire.ProtoUDP {
		return pkttest.UDP(a, b, "answer")
	}
	if flags := p.TCP().Flags(); flags&(flow.SYN|flow.ACK) == flow.SYN && rng.IntN(4) > 0 {
		return pkttest.TCP(a, b, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))
	}
	return pkttest.TCP(a, b, pkttest.TCPFlags("A"), pkttest.Seq(6), pkttest.Ack(2))
}

// What Explain says of Services, host ports, public addresses and probes is what the doors
// then do, while time goes on, and asking changes nothing.
func TestExplain_isTrueOfServices(t *testing.T) {
	pkttest.OneGoroutine(t)
	for name, edit := range map[string]func(*ClusterConfig){
		"load balancer": nil,
		"NAT gateway":   func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGatewayV2 },
		"next hop":      func(c *ClusterConfig) { c.OutboundType = OutboundUserDefinedRouting },
		"none":          func(c *ClusterConfig) { c.OutboundType = OutboundNone },
		"ICMP":          func(c *ClusterConfig) { c.ICMP.Queries, c.VNet.ServiceEndpoints = true, pfx("203.0.113.200/32") },
		"network policy": func(c *ClusterConfig) {
			c.NetworkPolicy = func(f snat.NewFlow) bool { // no UDP to pod2
				to := f.Inside.Addr()
				if f.From == flow.Inside {
					to = f.Remote.Addr()
				}
				return !(to.String() == "10.244.2.2" || to.String() == "fd12:3456:789a:0:2::2") || f.Protocol != 17
			}
		},
		"groups": func(c *ClusterConfig) {
			deny := func(name string, priority int, d nsg.Direction, to []string, ports ...string) nsg.SecurityRule {
				return nsg.SecurityRule{
					Name: name, Priority: priority, Direction: d, Access: nsg.Deny, SourceAddressPrefixes: []string{"*"}, SourcePortRanges: []string{"*"},
					DestinationAddressPrefixes: to, DestinationPortRanges: ports,
				}
			}
			c.SecurityGroups = &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: ClusterSecurityGroupName, SecurityRules: []nsg.SecurityRule{
				deny("first-node", 100, nsg.Inbound, []string{"10.1.0.4/32"}, "30082", "30081"), deny("a-pod", 101, nsg.Inbound, []string{"10.244.2.2/32"}, "80"),
				deny("dns", 102, nsg.Outbound, []string{"10.244.0.0/16"}, "53"), deny("first-node6", 103, nsg.Inbound, []string{"fd00:1::4/128"}, "30082", "30084"),
				deny("pods6", 104, nsg.Outbound, []string{"fd12:3456:789a::/64"}, "53"), deny("clients", 105, nsg.Outbound, []string{"198.51.100.9/32", "10.1.77.1/32"}, "1000-1019"),
				deny("clients6", 106, nsg.Outbound, []string{"fd00:1::99/128"}, "1000-1019"),
			}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const seed = 7
			t.Log("seed", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			c, now := fullHouse(t, edit), flow.Time(0)
			reasons, sent := make(map[string]int), [][]byte(nil)
			for i := range pkttest.Operations(1000, 3000, 200_000) {
				if rng.IntN(20) == 0 {
					now += flow.Time(rng.IntN(8)) * flow.Time(time.Second)
				}
				if rng.IntN(200) == 0 {
					now += flow.Time(2 * time.Minute)
				}
				if rng.IntN(10) == 0 {
					c.Advance(now, nil)
				}
				if rng.IntN(100) == 0 {
					require.NoError(t, c.SetEndpoints("public", []Endpoint{{Pod: "pod0"}, {Pod: "pod1"}, {Pod: "pod2"}}[rng.IntN(3)]))
				}
				pkt := aimed(rng, c, slices.Collect(c.ServiceSessions()), sent)
				before, stats := slices.Clone(pkt), c.Stats()
				x := c.Explain(now, pkt)
				require.Equal(t, before, pkt)
				require.Equal(t, stats, c.Stats())
				src, _ := addressing.Ends(pkt)
				var v flow.Verdict
				if _, inside := c.NodeByAddr(src); inside {
					v = c.Outbound(now, pkt)
				} else {
					v = c.Inbound(now, pkt)
				}
				if v.Reason == flow.ReasonMappingConflict || v.Reason == flow.ReasonPorts || v.Reason == flow.ReasonFlowReset {
					continue // whether a port is free, or a connection is reset, it does not say
				}
				got := fmt.Sprint(x.Action, " ", x.Reason)
				if x.Action == flow.Forward && v.Action == flow.Drop && (strings.Contains(x.String(), "Not all of its endpoints") || strings.Contains(x.String(), "of these nodes it may not")) {
					reasons["by chance "+v.Reason.String()]++
					continue // one of several endpoints or nodes is refused
				}
				require.Equal(t, fmt.Sprint(v.Action, " ", v.Reason), got, "%d: %s\n%v", i, pkttest.String(before), x)
				reasons[got]++
				if v.Action != flow.Drop {
					sent = append(sent[max(0, len(sent)-40):], pkt)
				}
			}
			t.Log(reasons)
		})
	}
}
