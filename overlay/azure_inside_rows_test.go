package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The rows of the register of Azure (internal/conformance) about ways inside the network and out
// of it that are in no other file.

// A pod's packets have the node's address before that of the outbound type, whichever it is.
func TestAzureRow_5_podToInternet(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*ClusterConfig)
		want string
	}{
		"outbound rule":  {func(*ClusterConfig) {}, "20.50.1.1"},
		"NAT gateway":    {func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGatewayV2 }, "20.50.1.1"},
		"node public IP": {publicPool(2, "", public4, public6), "203.0.113.16"},
		"user's route":   {func(c *ClusterConfig) { c.OutboundType = OutboundUserDefinedRouting }, "10.1.0.4"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t, tt.edit)
			pod := endpoint("10.244.0.2", 5000)
			pkt := n.sends(syn(pod, "203.0.113.200:443"), tt.want)
			back := netip.AddrPortFrom(netip.MustParseAddr(tt.want), uint16(pkt[20])<<8|uint16(pkt[21])).String()
			n.takes(pkttest.TCP("203.0.113.200:443", back, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), pod)
			found := 0
			for s := range n.Sessions() {
				require.Equal(t, pod, s.Inside.String())
				found++
			}
			require.Equal(t, 1, found)
			x := n.Explain(n.now, syn("10.244.0.2:5001", "203.0.113.200:443"))
			require.Contains(t, x.String(), "10.1.0.4")
			require.Contains(t, x.String(), tt.want)
		})
	}
}

// Platform addresses see the node, of whatever family of services they are.
func TestAzureRow_5_podToPlatform(t *testing.T) {
	n := newNetwork(t, nil)
	for _, to := range []string{"169.254.169.254:80", "168.63.129.16:53", "169.254.7.7:443"} {
		n.sends(syn("10.244.0.2:5000", to), "10.1.0.4")
		n.takes(pkttest.TCP(to, "10.1.0.4:5000", pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), "10.244.0.2:5000")
	}
	require.Zero(t, n.Stats().ConnectionsSuccessful, "no port of the load balancer")
}

// rule is one about all ports and protocols between two ranges.
func rule(name string, priority int, d nsg.Direction, a nsg.Access, source, destination string) nsg.SecurityRule {
	return nsg.SecurityRule{
		Name: name, Priority: priority, Direction: d, Access: a,
		SourceAddressPrefixes: []string{source}, SourcePortRanges: []string{"*"}, DestinationAddressPrefixes: []string{destination}, DestinationPortRanges: []string{"*"},
	}
}

// A group of the subnet sees pods by their own addresses, and where it denies, node to node, node
// to pod and pod to pod each need a rule.
func TestAzureRow_5_securityRules(t *testing.T) {
	ways := map[string][2]string{"node to node": {"10.1.0.4", "10.1.0.5"}, "node to pod": {"10.1.0.4", "10.244.1.2"}, "pod to pod": {"10.244.0.2", "10.244.1.2"}}
	ranges := map[string][2]string{"node to node": {"10.1.0.0/24", "10.1.0.0/24"}, "node to pod": {"10.1.0.0/24", "10.244.0.0/16"}, "pod to pod": {"10.244.0.0/16", "10.244.0.0/16"}}
	for allowed, of := range ranges {
		var rules []nsg.SecurityRule
		for i, d := range []nsg.Direction{nsg.Inbound, nsg.Outbound} {
			rules = append(rules, rule(fmt.Sprint("allow", i), 100, d, nsg.Allow, of[0], of[1]), rule(fmt.Sprint("deny", i), 4000, d, nsg.Deny, "*", "*"))
		}
		for name, w := range ways {
			n := newNetwork(t, func(c *ClusterConfig) {
				c.SecurityGroups = &nsg.Config{
					NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "g", SecurityRules: rules}},
					Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: pfx("10.1.0.0/24"), NetworkSecurityGroup: "g"}},
				}
			})
			pkt := syn(endpoint(w[0], 5000), endpoint(w[1], 8080))
			v := n.Outbound(0, pkt)
			if v.Action == flow.Bypass || v.Action == flow.Forward {
				v = n.Inbound(0, pkt)
			}
			require.Equal(t, name == allowed, v.Action != flow.Drop, "%s, while %s is allowed: %v", name, allowed, v.Reason)
			if name != allowed {
				require.Contains(t, []flow.Reason{flow.ReasonNSGOutbound, flow.ReasonNSGInbound}, v.Reason)
			}
		}
	}
}

// Between nodes, pods and the VNet there are no limits of a load balancer.
func TestAzureRow_11_1_everyProtocol(t *testing.T) {
	for _, h := range eachFamily {
		for name, ends := range map[string][2]string{
			"node to pod": {h.node2, h.pod}, "pod to pod": {h.pod, h.other}, "node to node": {h.node, h.node2}, "VNet to node": {h.vm, h.node}, "node to VNet": {h.node, h.vm},
		} {
			t.Run(h.family+"/"+name, func(t *testing.T) {
				n := newNetwork(t, nil)
				pass := func(pkt []byte, from, to string) {
					if from != h.vm {
						n.sends(pkt, from)
					}
					if to != h.vm {
						n.takes(pkt, to)
					}
				}
				ports := [2]int{5000, 53}
				for _, both := range [][2]string{ends, {ends[1], ends[0]}} {
					for _, proto := range []uint8{47, 50, 51, 132} { // GRE, ESP, AH, SCTP
						if proto == 51 && h.family == "v6" {
							continue // an extension header there
						}
						pass(pkttest.IP(both[0], both[1], proto, []byte("sixteen and more octets")), both[0], both[1])
					}
					for _, piece := range pkttest.Fragments(pkttest.UDP(endpoint(both[0], ports[0]), endpoint(both[1], ports[1]), string(make([]byte, 100))), 48, 7) {
						pass(piece, both[0], both[1])
					}
					ports[0], ports[1] = ports[1], ports[0] // the answer
				}
				require.Zero(t, n.Stats().Outbound.Dropped+n.Stats().Inbound.Dropped)
			})
		}
	}
}

// What pods have open in the VNet ends by the timers of the node's conntrack, silently.
func TestAzureRow_11_1_podToVNetTimers(t *testing.T) {
	for _, to := range []string{"10.1.77.1", "192.168.3.4", "169.254.7.7"} {
		for _, tt := range []struct {
			answered bool
			after    time.Duration
		}{{false, 30 * time.Second}, {true, 120 * time.Second}} {
			n := newNetwork(t, nil)
			n.sends(pkttest.UDP("10.244.0.2:5000", endpoint(to, 53), "q"), "10.1.0.4")
			if tt.answered {
				n.takes(pkttest.UDP(endpoint(to, 53), "10.1.0.4:5000", "a"), "10.244.0.2:5000")
			}
			emit := func(e flow.Emission) { t.Errorf("%v", pkttest.String(e.Packet)) }
			n.Advance(flow.At(tt.after-flow.Tick), emit)
			require.Equal(t, 1, n.Stats().SessionsActive, "%s %v", to, tt)
			n.Advance(flow.At(tt.after), emit)
			require.Zero(t, n.Stats().SessionsActive, "%s %v", to, tt)
			require.Zero(t, n.Stats().ConnectionsSuccessful)
			require.Zero(t, n.Stats().Ports.Total())
		}
	}
}

// kubelet, ssh and what else listens on a node is there for the network, unless a group denies it.
func TestAzureRow_11_1_nodeUnasked_groups(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		ssh := rule("no-ssh", 100, nsg.Inbound, nsg.Deny, "*", "*")
		ssh.DestinationPortRanges = []string{"22"}
		c.SecurityGroups = &nsg.Config{
			NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "g", SecurityRules: []nsg.SecurityRule{ssh}}},
			Subnets:               []nsg.Subnet{{Name: "nodes", AddressPrefixes: pfx("10.1.0.0/24", "fd00:1::/64"), NetworkSecurityGroup: "g"}},
		}
	})
	for _, h := range eachFamily {
		for _, from := range []string{h.vm, h.peer} {
			for _, port := range []int{10250, 9100, 31234} {
				n.takes(syn(endpoint(from, 5000), endpoint(h.node, port)), endpoint(h.node, port))
				n.sends(pkttest.TCP(endpoint(h.node, port), endpoint(from, 5000), pkttest.TCPFlags("SA"), pkttest.Seq(3), pkttest.Ack(2)), endpoint(h.node, port))
			}
			n.drops(n.Inbound(0, syn(endpoint(from, 5000), endpoint(h.node, 22))), flow.ReasonNSGInbound)
		}
		pkt := n.sends(syn(endpoint(h.node2, 5000), endpoint(h.node, 10250)), h.node2)
		n.takes(pkt, endpoint(h.node, 10250))
	}
}

// The wire server is for the node: pods reach it by DNS only.
func TestAzureRow_11_1_platform(t *testing.T) {
	n := newNetwork(t, nil)
	for _, tt := range []struct {
		proto string
		port  int
		pod   bool // passes
	}{{"tcp", 80, false}, {"tcp", 32526, false}, {"tcp", 53, true}, {"udp", 53, true}, {"udp", 80, true}, {"tcp", 443, true}} {
		for from, passes := range map[string]bool{"10.244.0.2": tt.pod, "10.1.0.4": true} {
			pkts := [][]byte{pkttest.UDP(endpoint(from, 6000), endpoint("168.63.129.16", tt.port), "q")}
			if tt.proto == "tcp" {
				pkts[0] = syn(endpoint(from, 6000), endpoint("168.63.129.16", tt.port))
			}
			x := n.Explain(0, pkts[0])
			verdicts := make([]flow.Verdict, 1)
			n.OutboundBatch(0, pkts, verdicts)
			require.Equal(t, passes, verdicts[0].Action == flow.Forward, "%s %v %v", from, tt, verdicts[0].Reason)
			require.Equal(t, verdicts[0].Action, x.Action)
			if !passes {
				n.drops(verdicts[0], flow.ReasonPlatform)
			}
		}
	}
}

func TestAzureRow_11_1_restrictIMDS(t *testing.T) {
	for _, restricted := range []bool{true, false} {
		n := newNetwork(t, func(c *ClusterConfig) { c.RestrictIMDS = restricted })
		for i, pkt := range [][]byte{syn("10.244.0.2:5000", "169.254.169.254:80"), pkttest.UDP("10.244.0.2:5000", "169.254.169.254:80", "q")} {
			if v := n.Outbound(0, pkt); restricted {
				n.drops(v, flow.ReasonIMDS)
			} else {
				require.Equal(t, flow.Forward, v.Action, i)
			}
		}
		n.sends(syn("10.1.0.4:6000", "169.254.169.254:80"), "10.1.0.4")
		n.takes(pkttest.TCP("169.254.169.254:80", "10.1.0.4:6000", pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), "10.1.0.4:6000")
	}
}

// Prefixes of the documented sizes are taken, larger ones only with OwnRanges.
func TestAzureRow_11_2_prefixSizes(t *testing.T) {
	for p, ok := range map[string]bool{
		"20.70.0.0/27": false, "20.70.0.0/28": true, "20.70.0.0/31": true, "20.70.0.0/32": false,
		"2001:db8:7::/123": false, "2001:db8:7::/124": true, "2001:db8:7::/127": true, "2001:db8:7::/128": false,
	} {
		for _, own := range []bool{false, true} {
			err := dual(func(c *ClusterConfig) {
				prefixes := pfx("20.71.0.0/28", "2001:db8:8::/124")
				prefixes[familyOf(netip.MustParsePrefix(p).Addr())] = netip.MustParsePrefix(p)
				c.LoadBalancerProfile = LoadBalancerProfile{OutboundIPPrefixes: prefixes, OwnRanges: own}
			}).Validate()
			larger := p == "20.70.0.0/27" || p == "2001:db8:7::/123"
			if ok || larger && own {
				require.NoError(t, err, "%s %v", p, own)
				continue
			}
			require.ErrorIs(t, err, flow.ErrOutOfRange, "%s %v", p, own)
			require.ErrorContains(t, err, p)
		}
	}
}

// By a node's public address fragments pass once their first one has; inside the network they
// pass in any order.
func TestAzureRow_11_3_fragments(t *testing.T) {
	n := newNetwork(t, publicPool(1, "53/udp", public4, public6))
	for _, h := range []struct{ node, pod, public, remote, vm string }{
		{"10.1.0.4", "10.244.0.2", "203.0.113.16", "198.51.100.9", "10.1.77.1"},
		{"fd00:1::4", "fd12:3456:789a::2", "2001:db8:60::", "2001:db8:ffff::9", "fd00:1::99"},
	} {
		pieces := func(from, to string, id uint32) [][]byte {
			return pkttest.Fragments(pkttest.UDP(endpoint(from, 5000), endpoint(to, 53), string(make([]byte, 100))), 48, id)
		}
		for _, piece := range pieces(h.node, h.remote, 1) {
			n.sends(piece, h.public)
		}
		for _, piece := range pieces(h.pod, h.vm, 2) {
			n.sends(piece, h.node)
		}
		n.drops(n.Outbound(0, pieces(h.pod, h.remote, 3)[1]), flow.ReasonFragment)
	}
}

// A private endpoint has an address of the VNet, and takes no outbound port.
func TestAzureRow_11_4_privateEndpoint(t *testing.T) {
	n := newNetwork(t, nil)
	for i := range 100 {
		n.sends(syn(endpoint("10.244.0.2", 5000+i), "10.1.200.7:1433"), "10.1.0.4")
		n.takes(pkttest.TCP("10.1.200.7:1433", endpoint("10.1.0.4", 5000+i), pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), "10.244.0.2")
	}
	s := n.Stats()
	require.Equal(t, 100, s.SessionsActive)
	require.Zero(t, s.Ports.Total())
	require.Zero(t, s.ConnectionsSuccessful)
}

// A gateway V2 has 1 to 16 addresses of each family, and carries both, and echo.
func TestAzureRow_11_4_gatewayV2(t *testing.T) {
	for count, ok := range map[int]bool{-1: false, 1: true, 16: true, 17: false} {
		for f := range 2 {
			err := dual(func(c *ClusterConfig) {
				c.OutboundType, c.LoadBalancerProfile = OutboundManagedNATGatewayV2, LoadBalancerProfile{}
				if c.NATGatewayProfile.ManagedOutboundIPCount = count; f == 1 {
					c.NATGatewayProfile.ManagedOutboundIPCount, c.NATGatewayProfile.ManagedOutboundIPCountIPv6 = 0, count
				}
			}).Validate()
			require.Equal(t, ok, err == nil, "%d: %v", count, err)
		}
	}
	n := newNetwork(t, func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGatewayV2 })
	for _, h := range eachFamily {
		for _, x := range exchanges() {
			v := n.Outbound(0, x.there(h.pod, h.remote))
			require.Equal(t, flow.Forward, v.Action, "%s %s: %v", h.family, x.protocol, v.Reason)
		}
	}
}

// Automatic ports follow the size of the cluster as it grows, without another configuration.
func TestAzureRow_11_4_automaticPorts(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.IPFamilies, c.VNet = "ipv4", VNet{}
		c.NodePools = []NodePool{{Name: "a", Count: 48}}
	})
	ports := func() (each int) {
		for i, a := range n.Allocations() {
			if i > 0 {
				require.Equal(t, each, a.Total(snat.TCP, false))
			}
			each = a.Total(snat.TCP, false)
		}
		return each
	}
	require.Equal(t, 1024, ports())
	n.talk()
	for _, step := range []struct{ more, want int }{{2, 1024}, {1, 512}, {49, 512}, {1, 256}, {100, 128}} {
		_, _, err := n.AddNodes(0, "a", step.more)
		require.NoError(t, err)
		require.Equal(t, step.want, ports(), "%d nodes", len(n.Nodes()))
		v := n.Outbound(0, pkttest.UDP("10.244.0.7:5000", "198.51.100.9:53", "q"))
		require.True(t, v.Action == flow.Forward && !v.New, "on the lowest port a flow goes on")
	}
	big := newCluster(t, single(func(c *ClusterConfig) {
		c.PodCIDRs = pfx("10.32.0.0/11")
		c.NodePools = []NodePool{{Count: 1000}, {Count: 500}}
		c.LoadBalancerProfile.ManagedOutboundIPCount = 3
	}))
	for _, a := range big.Allocations() {
		require.Equal(t, 32, a.Total(snat.TCP, false), "in total, however many frontends there are")
	}
	err := single(func(c *ClusterConfig) {
		c.PodCIDRs = pfx("10.32.0.0/11")
		c.NodePools = []NodePool{{Count: 1000}, {Count: 1000}}
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, AllocatedOutboundPorts: 40}
	}).Validate()
	require.ErrorIs(t, err, lb.ErrInsufficientOutboundPorts, "what is given by hand has to fit")
}

// Frontends of both families come one after the other, and no flow ends.
func TestAzureRow_11_4_addFrontend(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, ManagedOutboundIPCountIPv6: 1, AllocatedOutboundPorts: 1024}
	})
	talk := func(new bool) {
		t.Helper()
		for i := range 900 {
			for _, h := range eachFamily {
				v := n.Outbound(n.now, pkttest.UDP(endpoint(h.pod, 1024+i), endpoint(h.remote, 53), "q"))
				require.True(t, v.Action == flow.Forward && v.New == new, "%v", v)
			}
		}
	}
	talk(true)
	for count := 2; count <= 5; count++ {
		change := n.change(func(c *ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPCount, c.LoadBalancerProfile.ManagedOutboundIPCountIPv6 = count, count-1
		})
		require.Zero(t, change.Total().Cut)
		talk(false)
		for _, a := range n.Allocations() {
			require.Equal(t, 1024, a.Total(snat.UDP, false))
		}
	}
}

// Once there is a service endpoint a connection takes no other way: the service sees another
// address, and what the load balancer remembers of it idles out.
func TestAzureRow_11_4_serviceEndpoints_switch(t *testing.T) {
	n := newNetwork(t, nil)
	const pod, storage = "10.244.0.2:5000", "52.239.3.4:443"
	pkt := n.sends(syn(pod, storage), "20.50.1.1")
	back := endpoint("20.50.1.1", int(pkt[20])<<8|int(pkt[21]))
	n.takes(pkttest.TCP(storage, back, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), pod)
	n.sends(pkttest.TCP(pod, storage, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(6)), "20.50.1.1")
	require.Equal(t, 1, n.Stats().Ports.Total())
	n.change(func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("52.239.0.0/17") })
	var told []flow.Side
	n.Advance(n.now, func(e flow.Emission) { told = append(told, e.To) })
	require.ElementsMatch(t, []flow.Side{flow.Inside, flow.Outside}, told, "both ends are reset")
	n.sends(syn("10.244.0.2:5001", storage), "10.1.0.4")
	require.Zero(t, n.Stats().Ports.Total(), "its port is free")
}

// A process of the node whose port a pod's connection has towards the same remote gets another one,
// and its answers come back to it; so does echo.
func TestAzureRow_5_nodePorts_ofTheNodeItself(t *testing.T) {
	for _, h := range eachFamily {
		for _, x := range exchanges() {
			n := newNetwork(t, nil)
			n.sends(x.there(h.pod, h.vm), h.node)
			pkt := n.sends(x.there(h.node, h.vm), h.node)
			require.NotEqual(t, x.there(h.node, h.vm), pkt, "%s %s: another port", h.family, x.protocol)
			require.Equal(t, 2, n.Stats().SessionsActive)
			var back []byte
			for s := range n.Sessions() {
				if s.Inside.Addr().String() != h.node {
					continue
				}
				require.NotEqual(t, s.Inside.Port(), s.Outside.Port())
				switch x.protocol {
				case "tcp":
					back = pkttest.TCP(s.Remote.String(), s.Outside.String(), pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))
				case "udp":
					back = pkttest.UDP(s.Remote.String(), s.Outside.String(), "a")
				default:
					back = pkttest.ICMPEchoReply(h.vm, h.node, s.Outside.Port(), 1)
				}
			}
			want := x.back(h.vm, h.node)
			require.Equal(t, want, n.takes(back, h.node), "%s %s", h.family, x.protocol)
			n.takes(x.back(h.vm, h.node), h.pod)
			again := n.sends(x.there(h.node, h.vm), h.node)
			require.Equal(t, pkt, again, "it goes on as it began")
		}
	}
}

// What the network begins by UDP has the short timer until the node or pod answers, however much
// is sent, and so has what they begin.
func TestAzureRow_11_1_firstPacket_udpTimers(t *testing.T) {
	for _, h := range eachFamily {
		for _, to := range []string{h.node, h.pod} {
			for _, answered := range []bool{false, true} {
				n := newNetwork(t, nil)
				n.takes(pkttest.UDP(endpoint(h.vm, 5000), endpoint(to, 53), "q"), to)
				n.takes(pkttest.UDP(endpoint(h.vm, 5000), endpoint(to, 53), "again"), to)
				after := 30 * time.Second
				if answered {
					n.sends(pkttest.UDP(endpoint(to, 53), endpoint(h.vm, 5000), "a"), to)
					after = 120 * time.Second
				}
				n.Advance(flow.At(after-flow.Tick), nil)
				require.Equal(t, 1, n.Stats().SessionsActive, "%s %v", to, answered)
				n.Advance(flow.At(after), nil)
				require.Zero(t, n.Stats().SessionsActive, "%s %v", to, answered)
			}
		}
	}
}

// What leaves by a node's public address idles for four minutes, whatever the outbound rule says, and
// ends silently; what leaves by the rule has the rule's time and resets.
func TestAzureRow_6_enable_timers(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		publicPool(1, "", public4, public6)(c)
		c.NodePools = append(c.NodePools, NodePool{Name: "plain", Count: 1})
	})
	resets := 0
	emit := func(flow.Emission) { resets++ }
	for f, remote := range []string{"198.51.100.9:443", "[2001:db8:ffff::9]:443"} {
		for _, node := range n.Nodes() {
			pod := netip.AddrPortFrom(node.PodBlocks[f].Addr().Next().Next(), 5000).String()
			out := pkttest.TCP(pod, remote, pkttest.SYN, pkttest.Seq(0))
			n.Outbound(0, out)
			require.Equal(t, flow.Forward, n.Inbound(0, reply(out)).Action)
			require.Equal(t, flow.Forward, n.Outbound(0, pkttest.TCP(pod, remote, pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(1))).Action)
		}
	}
	for _, step := range []struct {
		at            time.Duration
		flows, resets int
	}{{4*time.Minute - flow.Tick, 4, 0}, {4 * time.Minute, 2, 0}, {30 * time.Minute, 0, 4}} {
		n.Advance(flow.At(step.at), emit)
		require.Equal(t, step.flows, n.Stats().SessionsActive, "at %v", step.at)
		require.Equal(t, step.resets, resets, "at %v", step.at)
	}
}
