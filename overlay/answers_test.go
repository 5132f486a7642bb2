package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/snat"
)

// What answers goes back by where it was asked, whatever the cluster's own flows leave by: to a
// host port and to a process of a node with a public address, to Services of both policies, to an
// internal one; and what the same node begins leaves by the outbound type all the time. Only a route
// of the user's takes the answers of nodes' own addresses elsewhere, as it does on Azure ("Integrate Azure
// Firewall with Azure Standard Load Balancer": asymmetric routing).
func TestAnswersGoBackAsTheyWereAsked(t *testing.T) {
	for _, kind := range []OutboundType{
		OutboundLoadBalancer, OutboundManagedNATGateway, OutboundManagedNATGatewayV2, OutboundUserDefinedRouting, OutboundNone, OutboundBlock,
	} {
		t.Run(kind.String(), func(t *testing.T) {
			n := newNetwork(t, func(c *ClusterConfig) {
				c.IPFamilies, c.VNet = "ipv4", VNet{}
				publicPool(2, "1-65535/tcp,1-65535/udp", public4)(c)
				c.OutboundType = kind
			})
			node, pod := n.Nodes()[0], n.pod(n.Nodes()[0].Name, "echo")
			n.pod(n.Nodes()[1].Name, "far")
			_, err := n.OpenHostPorts("echo", "", []ContainerPort{{snat.TCP, 8080, 8000}, {snat.UDP, 8080, 8000}}, "")
			require.NoError(t, err)
			addrs := make(map[string]netip.Addr)
			for _, s := range []Service{
				{Name: "cluster"}, {Name: "local", ExternalTrafficPolicy: PolicyLocal},
				{Name: "inner", Annotations: map[string]string{"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}},
				{Name: "ports", Annotations: map[string]string{"service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip": "true"}},
			} {
				s.Type, s.Ports = LoadBalancer, []ServicePort{{Name: "t", Port: 80, TargetPort: 8080}, {Name: "u", Port: 80, TargetPort: 8080, Protocol: snat.UDP}}
				st, err := n.AddService(0, s)
				require.NoError(t, err)
				addrs[s.Name] = st.LoadBalancerIPs[0]
				require.NoError(t, n.SetEndpoints(s.Name, Endpoint{Pod: "echo"}, Endpoint{Pod: "far"}))
			}
			for range 3 {
				n.now += flow.Time(5 * time.Second)
				n.Advance(n.now, nil)
			}
			port := 5000
			for _, x := range []struct {
				name, client string
				to           netip.Addr
				port         int
				public       bool // of the node
			}{
				{"host port", "198.51.100.9", node.PublicAddrs[0], 8000, true},
				{"process of the node", "198.51.100.9", node.PublicAddrs[0], 22, true},
				{"policy Cluster", "198.51.100.9", addrs["cluster"], 80, false},
				{"policy Local", "198.51.100.9", addrs["local"], 80, false},
				{"without floating IP", "198.51.100.9", addrs["ports"], 80, false},
				{"internal", "10.225.0.9", addrs["inner"], 80, false},
				{"host port in the network", "10.225.0.9", node.Addrs[0], 8000, false},
			} {
				for _, tcp := range []bool{true, false} {
					port++
					client, to := endpoint(x.client, port), endpoint(x.to.String(), x.port)
					build := func(from, to string, answer bool) []byte {
						switch {
						case !tcp:
							return pkttest.UDP(from, to, "data")
						case answer:
							return pkttest.TCP(from, to, pkttest.TCPFlags("SA"), pkttest.Seq(7), pkttest.Ack(2))
						}
						return pkttest.TCP(from, to, pkttest.SYN, pkttest.Seq(1))
					}
					what := fmt.Sprintf("%s, TCP %v", x.name, tcp)
					request := build(client, to, false)
					require.Equal(t, flow.Forward, n.Inbound(n.now, request).Action, what)
					seen, at := ends(request)
					answer := build(at.String(), seen.String(), true)
					says := n.Explain(n.now, answer)
					v := n.Outbound(n.now, answer)
					require.Contains(t, []flow.Action{flow.Forward, flow.Bypass}, v.Action, "%s: %v", what, v.Reason)
					require.NotEqual(t, flow.Drop, says.Action, "%s: %v", what, says)
					pkttest.Check(t, answer, pkttest.Dst(client), pkttest.ChecksumsOK())
					if kind == OutboundUserDefinedRouting && (x.public || x.name == "without floating IP") {
						require.Contains(t, source(answer), "10.224.0.", "the node's own address, to the user's next hop")
						continue
					}
					pkttest.Check(t, answer, pkttest.Src(to))
					require.Equal(t, v.Action, says.Action, "%s: %v", what, says)
				}
			}
			fresh := syn(endpoint(pod.Addrs[0].String(), 9000), "198.51.100.77:443")
			leaves := map[OutboundType]string{
				OutboundManagedNATGateway: "20.50.1.1", OutboundManagedNATGatewayV2: "20.50.1.1", OutboundUserDefinedRouting: node.Addrs[0].String(),
			}[kind]
			if leaves == "" {
				leaves = node.PublicAddrs[0].String()
			}
			n.sends(fresh, leaves)
			own := syn(endpoint(node.Addrs[0].String(), 9001), "198.51.100.77:443")
			n.sends(own, leaves)
		})
	}
}

// ends reads the ends of a TCP or UDP packet of IPv4 without options.
func ends(b []byte) (src, dst netip.AddrPort) {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), uint16(b[20])<<8|uint16(b[21])),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), uint16(b[22])<<8|uint16(b[23]))
}

// Behind a gateway an answer by a public address is counted as what it is, in batches, too, and once
// the flow is forgotten, or the gateway has gone, nothing of it is left.
func TestAnswersByPublicAddressesBehindAGateway(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.IPFamilies, c.VNet = "ipv4", VNet{}
		publicPool(1, "22/tcp", public4)(c)
		c.OutboundType = OutboundManagedNATGateway
	})
	answer := func() []byte {
		return pkttest.TCP("10.224.0.4:22", client4, pkttest.TCPFlags("SA"), pkttest.Seq(7), pkttest.Ack(2))
	}
	n.drops(n.Outbound(0, answer()), flow.ReasonNoFlow)
	verdicts := make([]flow.Verdict, 2)
	in := [][]byte{syn(client4, "203.0.113.16:22"), syn("198.51.100.9:4999", "203.0.113.16:23")}
	n.InboundBatch(0, in, verdicts)
	require.Equal(t, []flow.Reason{flow.ReasonNone, flow.ReasonNSGInbound}, []flow.Reason{verdicts[0].Reason, verdicts[1].Reason})
	out := [][]byte{answer(), syn("10.244.0.2:5000", "198.51.100.9:443")}
	n.OutboundBatch(0, out, verdicts)
	require.Equal(t, flow.Forward, verdicts[0].Action)
	pkttest.Check(t, out[0], pkttest.Src("203.0.113.16:22"), pkttest.ChecksumsOK())
	require.Equal(t, flow.Forward, verdicts[1].Action)
	require.Equal(t, "20.50.1.1", source(out[1]))
	s := n.Stats().Outbound
	require.EqualValues(t, []uint64{2, 0, 1, 1}, []uint64{s.Forwarded, s.Bypassed, s.OneToOne, s.Dropped})

	// What the node itself begins is the gateway's, also when answers come in batches.
	own := syn("10.224.0.4:7000", "198.51.100.9:443")
	n.sends(own, "20.50.1.1")
	from, _ := ends(own)
	back := [][]byte{pkttest.TCP("198.51.100.9:443", from.String(), pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(1))}
	n.InboundBatch(0, back, verdicts)
	pkttest.Check(t, back[0], pkttest.Dst("10.224.0.4:7000"))
	n.sends(pkttest.TCP("10.224.0.4:7000", "198.51.100.9:443", pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(6)), "20.50.1.1")

	n.drops(n.Outbound(flow.At(4*time.Minute), answer()), flow.ReasonNoFlow)
}

// What comes to the gateway's address, in a batch too, is none of the public address's: the node goes on
// by the gateway.
func TestAnswers_ofTheGatewayInABatch(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		publicPool(1, "", public4, public6)(c)
		c.OutboundType = OutboundManagedNATGatewayV2
	})
	const node, remote = "10.1.0.4:5000", "198.51.100.9:443"
	out := n.sends(syn(node, remote), "20.50.1.1")
	pkts, verdicts := [][]byte{pkttest.TCP(remote, endpoint("20.50.1.1", int(out[20])<<8|int(out[21])), pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))}, make([]flow.Verdict, 1)
	n.InboundBatch(0, pkts, verdicts)
	pkttest.Check(t, pkts[0], pkttest.Dst(node))
	n.sends(pkttest.TCP(node, remote, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(6)), "20.50.1.1")
}
