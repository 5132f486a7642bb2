package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/snat"
)

// network drives a cluster as its nodes, pods and the hosts around it do.
type network struct {
	*testing.T
	*Cluster
	now flow.Time
}

func newNetwork(t *testing.T, edit func(*ClusterConfig)) *network {
	return &network{T: t, Cluster: vnetCluster(t, edit)}
}

// hosts are the ends that a packet can have, one of each kind, by family.
type hosts struct {
	family, pod, pod2, other, node, node2, vm, peer, remote, frontend string
}

var eachFamily = []hosts{
	{"v4", "10.244.0.2", "10.244.0.9", "10.244.1.2", "10.1.0.4", "10.1.0.5", "10.1.77.1", "192.168.3.4", "198.51.100.9", "20.50.1.1"},
	{"v6", "fd12:3456:789a::2", "fd12:3456:789a::9", "fd12:3456:789a:0:1::2", "fd00:1::4", "fd00:1::5", "fd00:1::99", "fd00:2::9", "2001:db8:ffff::9", "2001:db8:50:1::1"},
}

// inNodeSubnet is the same where nodes and pods share a subnet.
var inNodeSubnet = hosts{"nodeSubnet", "10.1.0.5", "10.1.0.6", "10.1.0.36", "10.1.0.4", "10.1.0.35", "10.1.77.1", "192.168.3.4", "198.51.100.9", "20.50.1.1"}

// sends passes a packet through the door of its sender, wants it to come out with a source,
// and hands it back.
func (n *network) sends(pkt []byte, source string) []byte {
	n.Helper()
	before := slices.Clone(pkt)
	v := n.Outbound(n.now, pkt)
	require.Contains(n, []flow.Action{flow.Forward, flow.Bypass}, v.Action, "%s: %v", pkttest.String(before), v.Reason)
	pkttest.Check(n, pkt, pkttest.Src(source), pkttest.ChecksumsOK())
	return pkt
}

// takes passes a packet through the door of its receiver and wants it to come out for an
// address.
func (n *network) takes(pkt []byte, destination string) []byte {
	n.Helper()
	before := slices.Clone(pkt)
	v := n.Inbound(n.now, pkt)
	require.Contains(n, []flow.Action{flow.Forward, flow.Bypass}, v.Action, "%s: %v", pkttest.String(before), v.Reason)
	pkttest.Check(n, pkt, pkttest.Dst(destination), pkttest.ChecksumsOK())
	return pkt
}

// drops wants a door to drop a packet for a reason.
func (n *network) drops(v flow.Verdict, r flow.Reason) {
	n.Helper()
	require.Equal(n, flow.Drop.String()+" "+r.String(), v.Action.String()+" "+v.Reason.String())
}

// exchange is one connection or query between two hosts, one packet there and one back.
type exchange struct {
	protocol    string
	there, back func(src, dst string) []byte
}

// exchanges returns what two hosts can say to each other.
func exchanges() []exchange {
	return []exchange{
		{"tcp", func(s, d string) []byte {
			return pkttest.TCP(endpoint(s, 41000), endpoint(d, 8080), pkttest.SYN, pkttest.Seq(1))
		},
			func(s, d string) []byte {
				return pkttest.TCP(endpoint(s, 8080), endpoint(d, 41000), pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2))
			}},
		{"udp", func(s, d string) []byte { return pkttest.UDP(endpoint(s, 41000), endpoint(d, 53), "q") },
			func(s, d string) []byte { return pkttest.UDP(endpoint(s, 53), endpoint(d, 41000), "a") }},
		{"echo", func(s, d string) []byte { return pkttest.ICMPEcho(s, d, 77, 1) }, func(s, d string) []byte { return pkttest.ICMPEchoReply(s, d, 77, 1) }},
	}
}

// dialogue is a connection inside the network: who begins, with whom, and how that one sees it. The
// names are fields of hosts.
type dialogue struct {
	name             string
	from, to, seenAs func(hosts) string
}

func aPod(h hosts) string      { return h.pod }
func itsMate(h hosts) string   { return h.pod2 } // a pod of the same node
func otherPod(h hosts) string  { return h.other }
func itsNode(h hosts) string   { return h.node }
func otherNode(h hosts) string { return h.node2 }
func aMachine(h hosts) string  { return h.vm }
func aPeer(h hosts) string     { return h.peer }

// goes wants connections to go a way and their answers to take it back, untranslated where
// they begin, in every protocol that can be followed and both families.
func goes(t *testing.T, ways ...dialogue) {
	for _, h := range eachFamily {
		for _, w := range ways {
			for _, x := range exchanges() {
				t.Run(fmt.Sprint(h.family, "/", w.name, "/", x.protocol), func(t *testing.T) {
					n := newNetwork(t, nil)
					from, to, seenAs := w.from(h), w.to(h), w.seenAs(h)
					inside := func(a string) bool { _, ok := n.NodeByAddr(netip.MustParseAddr(a)); return ok }
					pkt := x.there(from, to)
					if inside(from) {
						n.sends(pkt, seenAs)
					}
					require.Equal(t, seenAs, source(pkt))
					if inside(to) {
						n.takes(pkt, to)
					}
					pkt = x.back(to, seenAs)
					if inside(to) {
						n.sends(pkt, to) // the answer, untranslated
					}
					if inside(from) {
						n.takes(pkt, from)
					}
					s := n.Stats()
					require.Zero(t, s.Ports.Total())
					require.Zero(t, s.ConnectionsSuccessful)
					require.Zero(t, s.Outbound.Dropped+s.Inbound.Dropped)
				})
			}
		}
	}
}

func TestAzureRow_5_podToPod(t *testing.T) {
	goes(t, dialogue{"of another node", aPod, otherPod, aPod}, dialogue{"of its node", aPod, itsMate, aPod})
}

func TestAzureRow_5_podToVNet(t *testing.T) {
	goes(t, dialogue{"VNet", aPod, aMachine, itsNode}, dialogue{"peered network", aPod, aPeer, itsNode})
}

func TestAzureRow_5_nodeToPod(t *testing.T) {
	goes(t, dialogue{"of another node", otherNode, aPod, otherNode}, dialogue{"its own", itsNode, aPod, itsNode})
}

func TestAzureRow_11_1_podToOwnNode(t *testing.T) {
	goes(t, dialogue{"its own node", aPod, itsNode, aPod})
}

func TestAzureRow_11_1_podToOtherNode(t *testing.T) {
	goes(t, dialogue{"another node", aPod, otherNode, itsNode})
}

func TestAzureRow_11_1_firstPacket(t *testing.T) {
	goes(t, dialogue{"VNet to pod", aMachine, aPod, aMachine}, dialogue{"node to node", itsNode, otherNode, itsNode}, dialogue{"node to VNet", itsNode, aMachine, itsNode},
		dialogue{"node to peered network", itsNode, aPeer, itsNode})
}

func TestAzureRow_11_1_nodeUnasked(t *testing.T) {
	goes(t, dialogue{"VNet", aMachine, itsNode, aMachine}, dialogue{"peered network", aPeer, itsNode, aPeer})
}

// What does not go through the load balancer is not bound by its limits.
func TestAzure_66_otherProtocolsAndFragments(t *testing.T) {
	for _, h := range eachFamily {
		t.Run(h.family, func(t *testing.T) {
			n := newNetwork(t, nil)
			pieces := func(src, dst string) [][]byte {
				return pkttest.Fragments(pkttest.UDP(endpoint(src, 5000), endpoint(dst, 53), string(make([]byte, 100))), 48, 7)
			}
			for _, to := range []string{h.other, h.pod2} {
				for _, proto := range []uint8{47, 50, 132} {
					n.sends(pkttest.IP(h.pod, to, proto, []byte("pod to pod")), h.pod)
					n.takes(pkttest.IP(h.pod, to, proto, []byte("pod to pod")), to)
				}
				for _, piece := range pieces(h.pod, to) {
					n.sends(piece, h.pod)
				}
			}
			for _, to := range []string{h.vm, h.node2, h.peer} {
				for _, proto := range []uint8{47, 50, 132} {
					n.sends(pkttest.IP(h.node, to, proto, []byte("from the node")), h.node)
					n.takes(pkttest.IP(to, h.node, proto, []byte("to the node")), h.node)
				}
				for _, piece := range pieces(h.node, to) {
					n.sends(piece, h.node)
				}
				for _, piece := range pieces(to, h.node) {
					n.takes(piece, h.node)
				}
			}
			for _, piece := range pieces(h.pod, h.vm) {
				n.sends(piece, h.node)
			}
			// The same to the Internet, through the outbound rule.
			n.drops(n.Outbound(0, exchanges()[2].there(h.pod, h.remote)), flow.ReasonUnsupportedProto)
			n.drops(n.Outbound(0, pkttest.IP(h.pod, h.remote, 132, []byte("sctp"))), flow.ReasonUnsupportedProto)
			n.drops(n.Outbound(0, pkttest.IP(h.node, h.remote, 50, []byte("esp"))), flow.ReasonUnsupportedProto)
			n.drops(n.Outbound(0, pieces(h.pod, h.remote)[0]), flow.ReasonFragment)
		})
	}
}

// The platform's addresses.
func TestAzure_71_platform(t *testing.T) {
	syn := func(src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1)) }
	n := newNetwork(t, nil)
	const pod, node = "10.244.0.2", "10.1.0.4"
	for _, port := range []int{80, 32526} {
		to := endpoint("168.63.129.16", port)
		n.drops(n.Outbound(0, syn(pod+":5000", to)), flow.ReasonPlatform)
		n.sends(syn(node+":5000", to), node)
		n.takes(pkttest.TCP(to, node+":5000", pkttest.TCPFlags("SA"), pkttest.Seq(9), pkttest.Ack(2)), node)
	}
	n.sends(pkttest.UDP(pod+":5000", "168.63.129.16:53", "q"), node)
	n.takes(pkttest.UDP("168.63.129.16:53", node+":5000", "a"), pod)
	n.sends(syn(pod+":5000", "168.63.129.16:53"), node)
	n.sends(syn(pod+":5000", "169.254.169.254:80"), node)
	n.takes(syn("168.63.129.16:60000", node+":10256"), node) // a probe
	require.EqualValues(t, 2, n.Stats().Outbound.Drops[flow.ReasonPlatform])

	n = newNetwork(t, func(c *ClusterConfig) { c.RestrictIMDS, c.Masquerade.KeepLinkLocal = true, true })
	n.drops(n.Outbound(0, syn(pod+":5000", "169.254.169.254:80")), flow.ReasonIMDS)
	n.sends(syn(node+":5000", "169.254.169.254:80"), node)
	n.sends(syn(pod+":5000", "169.254.7.7:80"), pod)
}

// Node's DNS cache: what goes there stays on the node.
func TestAzureRow_11_1_localDNS(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Count: 1, LocalDNS: true}, {Count: 1}}
	})
	for _, cache := range []string{"169.254.10.10:53", "169.254.10.11:53"} {
		require.Equal(t, flow.Bypass, n.Outbound(0, pkttest.UDP("10.244.0.2:5000", cache, "q")).Action)
		n.sends(pkttest.UDP("10.244.1.2:5000", cache, "q"), "10.1.0.5")
	}
	require.EqualValues(t, 2, n.Stats().Outbound.Bypassed)
}

// Which destinations a node masquerades is its agent's configuration.
func TestAzureRow_5_masquerade(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.Masquerade.NonMasqueradeCIDRs = pfx("192.168.0.0/17", "10.1.80.0/24") })
	for to, as := range map[string]string{"192.168.3.4:53": "10.244.0.2", "192.168.200.1:53": "10.1.0.4", "10.1.80.1:53": "10.244.0.2", "10.1.77.1:53": "10.1.0.4"} {
		n.sends(pkttest.UDP("10.244.0.2:5000", to, "q"), as)
		n.takes(pkttest.UDP(to, endpoint(as, 5000), "a"), "10.244.0.2")
	}
}

// A service endpoint takes traffic to a public range out of SNAT.
func TestAzureRow_11_4_serviceEndpoints(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.VNet.ServiceEndpoints = pfx("52.239.0.0/17") })
	n.sends(pkttest.UDP("10.244.0.2:5000", "52.239.3.4:443", "q"), "10.1.0.4")
	n.takes(pkttest.UDP("52.239.3.4:443", "10.1.0.4:5000", "a"), "10.244.0.2")
	n.sends(pkttest.UDP("10.244.0.2:5000", "52.239.200.4:443", "q"), "20.50.1.1")
	require.EqualValues(t, 1, n.Stats().ConnectionsSuccessful)
}

// A pod's connection to a database in the VNet has the timers of the node's conntrack.
func TestAzure_72_databaseInVNet(t *testing.T) {
	for _, h := range eachFamily {
		n := newNetwork(t, nil)
		client, server := endpoint(h.pod, 41000), endpoint(h.vm, 5432)
		n.sends(pkttest.TCP(client, server, pkttest.SYN, pkttest.Seq(1)), h.node)
		n.takes(pkttest.TCP(server, endpoint(h.node, 41000), pkttest.TCPFlags("SA"), pkttest.Seq(7), pkttest.Ack(2)), h.pod)
		n.sends(pkttest.TCP(client, server, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(8)), h.node)
		emit := func(e flow.Emission) { t.Errorf("%v at %v", pkttest.String(e.Packet), e.At) }
		n.now = flow.At(30 * time.Minute)
		n.Advance(n.now, emit)
		s := n.Stats()
		require.Equal(t, 1, s.SessionsActive)
		require.Zero(t, s.Ports.Total())
		require.Zero(t, s.ConnectionsSuccessful)
		n.takes(pkttest.TCP(server, endpoint(h.node, 41000), pkttest.TCPFlags("PA"), pkttest.Seq(8), pkttest.Ack(2), pkttest.Payload("row")), h.pod)
		n.sends(pkttest.TCP(client, server, pkttest.TCPFlags("A"), pkttest.Seq(2), pkttest.Ack(11)), h.node)
		n.Advance(flow.At(30*time.Minute+432_000*time.Second-flow.Tick), emit)
		require.Equal(t, 1, n.Stats().SessionsActive)
		n.Advance(flow.At(30*time.Minute+432_000*time.Second), emit)
		require.Zero(t, n.Stats().SessionsActive)
	}
}

// Two pods that use one port towards one host of the VNet have different ones at the node,
// until all are taken.
func TestAzureRow_5_nodePorts(t *testing.T) {
	n := newNetwork(t, nil)
	first := n.sends(pkttest.UDP("10.244.0.2:5000", "10.1.77.1:53", "q"), "10.1.0.4")
	pkttest.Check(t, first, pkttest.Src("10.1.0.4:5000"))
	second := n.sends(pkttest.UDP("10.244.0.3:5000", "10.1.77.1:53", "q"), "10.1.0.4")
	require.NotEqual(t, first[20:22], second[20:22])
	elsewhere := n.sends(pkttest.UDP("10.244.0.3:5000", "10.1.77.2:53", "q"), "10.1.0.4")
	pkttest.Check(t, elsewhere, pkttest.Src("10.1.0.4:5000"))
	const ports = 1<<16 - 1024
	for i := 2; i < ports; i++ {
		v := n.Outbound(0, pkttest.UDP(endpoint(fmt.Sprintf("10.244.0.%d", 4+i%200), 1024+i), "10.1.77.1:53", "q"))
		require.Equal(t, flow.Forward, v.Action, "%d: %v", i, v.Reason)
	}
	n.drops(n.Outbound(0, pkttest.UDP("10.244.0.250:6000", "10.1.77.1:53", "q")), flow.ReasonPorts)
	require.Zero(t, n.Connections()[1].Failed, "no outbound port was asked for")
}

// Network policy and security groups refuse with reasons of their own.
func TestAzure_policyAndGroups(t *testing.T) {
	rule := func(name string, priority int, d nsg.Direction, a nsg.Access, source, destination string) nsg.SecurityRule {
		return nsg.SecurityRule{
			Name: name, Priority: priority, Direction: d, Access: a,
			SourceAddressPrefixes: []string{source}, SourcePortRanges: []string{"*"}, DestinationAddressPrefixes: []string{destination}, DestinationPortRanges: []string{"*"},
		}
	}
	n := newNetwork(t, func(c *ClusterConfig) {
		c.NetworkPolicy = func(f snat.NewFlow) bool { return f.Remote.Port() != 25 }
		c.SecurityGroups = &nsg.Config{
			NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "g", SecurityRules: []nsg.SecurityRule{
				rule("no-pods", 100, nsg.Outbound, nsg.Deny, "10.244.0.0/16", "10.1.0.0/16"),
				rule("no-node", 110, nsg.Outbound, nsg.Deny, "10.1.0.0/24", "192.168.3.4/32"),
				rule("no-peer", 100, nsg.Inbound, nsg.Deny, "192.168.0.0/16", "*"),
			}}},
			Subnets: []nsg.Subnet{{Name: "nodes", AddressPrefixes: pfx("10.1.0.0/24"), NetworkSecurityGroup: "g"}},
		}
	})
	syn := func(src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1)) }
	n.drops(n.Outbound(0, syn("10.244.0.2:5000", "198.51.100.9:25")), flow.ReasonNetworkPolicy)
	n.drops(n.Outbound(0, syn("10.244.0.2:5000", "10.244.1.2:25")), flow.ReasonNetworkPolicy)
	n.drops(n.Outbound(0, syn("10.244.0.2:5000", "10.244.0.3:25")), flow.ReasonNetworkPolicy)
	n.sends(syn("10.244.0.2:5000", "10.1.77.1:80"), "10.1.0.4") // the group sees the node
	n.drops(n.Outbound(0, syn("10.244.0.2:5000", "192.168.3.4:80")), flow.ReasonNSGOutbound)
	n.drops(n.Inbound(0, syn("192.168.3.4:5000", "10.1.0.4:22")), flow.ReasonNSGInbound)
	n.takes(syn("10.1.77.1:5000", "10.1.0.4:22"), "10.1.0.4")
	n.sends(syn("10.244.0.2:5000", "198.51.100.9:80"), "20.50.1.1")
}

// What comes from the Internet reaches neither node nor pod unasked.
func TestAzureRow_5_outsideToPod(t *testing.T) {
	for _, h := range eachFamily {
		n := newNetwork(t, nil)
		for to, reason := range map[string]flow.Reason{h.node: flow.ReasonNoFlow, h.pod: flow.ReasonNotOurs} {
			n.drops(n.Inbound(0, exchanges()[0].there(h.remote, to)), reason)
			n.drops(n.Inbound(0, exchanges()[1].there(h.remote, to)), reason)
		}
		n.drops(n.Inbound(0, exchanges()[0].there(h.remote, h.frontend)), flow.ReasonNoFlow)
	}
}

// Inside the network nothing allocates either.
func TestWayDoesNotAllocate(t *testing.T) {
	c := vnetCluster(t, nil)
	var templates, pkts [][]byte
	for _, h := range eachFamily {
		for _, ends := range [][2]string{{h.pod, h.vm}, {h.pod, h.other}, {h.pod, h.node}, {h.node, h.vm}, {h.pod, h.remote}} {
			templates = append(templates, pkttest.UDP(endpoint(ends[0], 5000), endpoint(ends[1], 53), "q"))
		}
	}
	for _, p := range templates {
		pkts = append(pkts, slices.Clone(p))
	}
	verdicts := make([]flow.Verdict, len(pkts))
	if n := testing.AllocsPerRun(1000, func() {
		for i := range templates {
			copy(pkts[i], templates[i])
			c.Outbound(0, pkts[i])
			copy(pkts[i], templates[i])
			c.Inbound(0, pkts[i])
			copy(pkts[i], templates[i])
		}
		if pkttest.Race {
			return // under the race detector a sync.Pool forgets on purpose
		}
		c.OutboundBatch(0, pkts, verdicts)
		c.InboundBatch(0, pkts, verdicts)
	}); n != 0 {
		t.Errorf("%v allocs, want 0", n)
	}
}
