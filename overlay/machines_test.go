package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/snat"
)

// bounded is a cluster of one family whose nodes have limits.
func bounded(t *testing.T, l ceilings.Limits, edit func(*ClusterConfig)) *network {
	return newNetwork(t, func(c *ClusterConfig) {
		c.IPFamilies, c.Ceilings = "ipv4", l
		if edit != nil {
			edit(c)
		}
	})
}

// A node refuses the connection that is one too many, to wherever it goes, for the reason of
// the limit, until one ends; other nodes go on.
func TestCeilings_connections(t *testing.T) {
	for reason, l := range map[flow.Reason]ceilings.Limits{
		flow.ReasonVMConnections: {VMConnections: 3, Conntrack: 9},
		flow.ReasonConntrack:     {VMConnections: 9, Conntrack: 3},
	} {
		n := bounded(t, l, nil)
		n.sends(pkttest.UDP("10.244.0.2:1", "198.51.100.9:53", "q"), "20.50.1.1")
		n.sends(pkttest.UDP("10.244.0.2:2", "192.168.3.4:53", "q"), "10.1.0.4")
		n.takes(pkttest.UDP("10.1.77.1:3", "10.1.0.4:30000", "q"), "10.1.0.4")
		for _, to := range []string{"198.51.100.9:53", "192.168.3.4:53"} {
			n.drops(n.Outbound(0, pkttest.UDP("10.244.0.2:4", to, "q")), reason)
			require.Contains(t, n.Explain(0, pkttest.UDP("10.244.0.2:4", to, "q")).String(), "the machine of the node: ")
			n.sends(pkttest.UDP("10.244.1.2:4", to, "q"), map[string]string{"198.51.100.9:53": "20.50.1.1", "192.168.3.4:53": "10.1.0.5"}[to])
		}
		n.drops(n.Inbound(0, pkttest.UDP("10.1.77.1:5", "10.1.0.4:30000", "q")), reason)
		require.EqualValues(t, 2, n.Stats().Outbound.Drops[reason])
		require.EqualValues(t, 1, n.Stats().Inbound.Drops[reason])
		n.sends(pkttest.UDP("10.244.0.2:1", "198.51.100.9:53", "q"), "20.50.1.1") // it goes on
		n.sends(pkttest.UDP("10.244.0.2:4", "10.244.1.2:53", "q"), "10.244.0.2")  // not counted
		n.now = flow.At(time.Hour)
		n.Advance(n.now, func(flow.Emission) {})
		n.sends(pkttest.UDP("10.244.0.2:4", "198.51.100.9:53", "q"), "20.50.1.1")
	}
}

// Limits that come later count what there is, and not what is over and keeps its port from others.
func TestCeilings_comeLater(t *testing.T) {
	n := bounded(t, ceilings.Limits{}, func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGateway })
	n.sends(pkttest.UDP("10.244.0.2:1", "198.51.100.9:53", "q"), "20.50.1.1")
	n.now = flow.At(4 * time.Minute)
	n.Advance(n.now, nil)
	n.sends(pkttest.UDP("10.244.0.2:2", "198.51.100.9:54", "q"), "20.50.1.1")
	var classes []flow.Class
	for s := range n.Sessions() {
		classes = append(classes, s.Class)
	}
	require.ElementsMatch(t, []flow.Class{flow.ClassUDPHeld, flow.ClassUDP}, classes)
	cfg := n.Config()
	cfg.Ceilings.VMConnections = 2
	_, err := n.Reconfigure(n.now, cfg)
	require.NoError(t, err)
	n.sends(pkttest.UDP("10.244.0.2:3", "198.51.100.9:53", "q"), "20.50.1.1")
	n.drops(n.Outbound(n.now, pkttest.UDP("10.244.0.2:4", "198.51.100.9:53", "q")), flow.ReasonVMConnections)
}

// A node's own sockets and the pods of a Windows node have so many ports for a destination.
func TestCeilings_portsOfDestination(t *testing.T) {
	n := bounded(t, ceilings.Limits{EphemeralPorts: 2}, func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Count: 1}, {Count: 1, OSType: Windows}}
	})
	for _, to := range []string{"198.51.100.9:53", "192.168.3.4:53"} {
		for i := range 3 {
			v := n.Outbound(0, pkttest.UDP(endpoint("10.1.0.4", 40000+i), to, "q"))
			require.Equal(t, i == 2, v.Reason == flow.ReasonEphemeralPorts, "%v", v.Reason)
		}
		for i := range 66 { // pods of Linux
			v := n.Outbound(0, pkttest.UDP(endpoint("10.244.0.2", 1000+i), to, "q"))
			require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		}
		for i := range 66 {
			v := n.Outbound(0, pkttest.UDP(endpoint(fmt.Sprintf("10.244.1.%d", 2+i%2), 1000+i), to, "q"))
			require.Equal(t, i >= 64, v.Reason == flow.ReasonNodePorts, "%d: %v", i, v.Reason)
		}
		require.Equal(t, flow.Forward, n.Outbound(0, pkttest.UDP("10.244.1.2:9", to[:len(to)-2]+"54", "q")).Action, "another destination")
	}
	require.Equal(t, flow.Bypass, n.Outbound(0, pkttest.UDP("10.244.1.2:9", "10.244.0.2:53", "q")).Action)
	n.now = flow.At(time.Hour)
	n.Advance(n.now, func(flow.Emission) {})
	n.sends(pkttest.UDP("10.244.1.2:9", "198.51.100.9:53", "q"), "20.50.1.1")
}

// More than 110 pods on a Windows node are allowed, and warned about.
func TestWindows_pods(t *testing.T) {
	c := single(func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Count: 1}, {Name: "win", Count: 1, OSType: Windows}, {Count: 1, OSType: Windows, MaxPods: 110}}
	})
	require.Equal(t, []string{"NodePools[1].MaxPods 250: at most 110 are recommended on a Windows node"}, c.Warnings())
}

// With OutboundNAT off there is no such limit.
func TestWindows_outboundNATOff(t *testing.T) {
	n := bounded(t, ceilings.Limits{}, func(c *ClusterConfig) {
		c.OutboundType = OutboundManagedNATGateway
		c.NodePools = []NodePool{{Count: 1}, {Count: 1, OSType: Windows, DisableOutboundNAT: true}}
	})
	for i := range 100 {
		v := n.Outbound(0, pkttest.UDP(endpoint("10.244.1.2", 1000+i), "198.51.100.9:53", "q"))
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	}
}

// Azure DNS takes so many queries a second of a node, and lets so many wait.
func TestCeilings_dns(t *testing.T) {
	query := func(port, id int) []byte {
		return pkttest.UDP(endpoint("10.244.0.2", port), "168.63.129.16:53", string([]byte{byte(id >> 8), byte(id), 1, 0}))
	}
	n := bounded(t, ceilings.Limits{DNSQueries: 5, DNSPending: 3}, nil)
	var out [][]byte
	for i := range 3 {
		out = append(out, n.sends(query(1000+i, 7), "10.1.0.4"))
	}
	n.drops(n.Outbound(n.now, query(2000, 7)), flow.ReasonDNSPending)
	n.sends(query(1002, 7), "10.1.0.4") // once more
	n.sends(pkttest.UDP("10.1.0.5:9", "168.63.129.16:53", "\x00\x09q"), "10.1.0.5")
	answer := pkttest.UDP("168.63.129.16:53", endpoint("10.1.0.4", 1000), string(out[0][28:32]))
	n.takes(answer, "10.244.0.2")
	n.sends(query(2000, 7), "10.1.0.4") // the fifth of the second
	n.takes(pkttest.UDP("168.63.129.16:53", endpoint("10.1.0.4", 2000), string(out[0][28:32])), "10.244.0.2")
	n.drops(n.Outbound(n.now, query(2001, 7)), flow.ReasonDNSQueries)
	require.EqualValues(t, 1, n.Stats().Outbound.Drops[flow.ReasonDNSQueries])
	before := n.Stats().Outbound
	n.now = flow.At(time.Second)
	verdicts := make([]flow.Verdict, 3)
	n.OutboundBatch(n.now, [][]byte{query(3000, 1), query(3001, 1), pkttest.TCP("10.244.0.2:9", "168.63.129.16:53", pkttest.SYN)}, verdicts)
	require.Equal(t, []flow.Reason{flow.ReasonNone, flow.ReasonDNSPending, flow.ReasonNone}, []flow.Reason{verdicts[0].Reason, verdicts[1].Reason, verdicts[2].Reason})
	after := n.Stats().Outbound
	require.EqualValues(t, 2, after.Forwarded-before.Forwarded)
	require.EqualValues(t, 1, after.Dropped-before.Dropped)
	n.now = flow.At(7 * time.Second) // nobody waits for longer than 5
	for i := range 3 {
		n.sends(query(3000+i, 1), "10.1.0.4")
	}
}

// The user's own hooks are called as well, and his Admit is asked first.
func TestCeilings_hooksOfTheUser(t *testing.T) {
	created, expired := 0, 0
	n := bounded(t, ceilings.Limits{VMConnections: 1}, func(c *ClusterConfig) {
		c.Hooks.SessionCreated = func(flow.Time, uint32, flow.Info) { created++ }
		c.Hooks.SessionExpired = func(flow.Time, uint32, flow.Info) { expired++ }
		c.Admit = func(f snat.NewFlow) flow.Reason {
			return map[bool]flow.Reason{true: flow.ReasonRoute}[f.Remote.Port() == 25]
		}
	})
	n.sends(pkttest.UDP("10.244.0.2:1", "198.51.100.9:53", "q"), "20.50.1.1")
	n.drops(n.Outbound(0, pkttest.UDP("10.244.0.2:4", "198.51.100.9:25", "q")), flow.ReasonRoute)
	n.drops(n.Outbound(0, pkttest.UDP("10.244.0.2:4", "198.51.100.9:53", "q")), flow.ReasonVMConnections)
	n.Advance(flow.At(time.Hour), func(flow.Emission) {})
	require.Equal(t, 1, created)
	require.Equal(t, 1, expired)
	_, err := n.Reconfigure(flow.At(time.Hour), n.Config())
	require.NoError(t, err)
	n.sends(pkttest.UDP("10.244.0.2:1", "198.51.100.9:53", "q"), "20.50.1.1")
	require.Equal(t, 2, created, "once, not twice")
}

// What is counted is what there is, whatever changes: after every step the counts are those
// of the sessions.
func TestCeilings_countsAreSessions(t *testing.T) {
	const seed = 2
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	limits := []ceilings.Limits{{VMConnections: 20}, {Conntrack: 12, EphemeralPorts: 3}, {}, {VMConnections: 15, EphemeralPorts: 2}}
	n := bounded(t, limits[0], func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Name: "a", Count: 2}, {Name: "w", Count: 1, OSType: Windows}, {Name: "gw", Count: 2, Mode: ModeGateway, GatewayPublicIPPrefixSize: 30}}
		c.StaticGatewayConfigurations = []StaticGatewayConfiguration{{Name: "g", GatewayNodepoolName: "gw"}, {Name: "h", GatewayNodepoolName: "gw"}}
	})
	prefixes := pfx("20.88.0.0/30", "20.88.0.4/30", "20.88.0.8/30")
	types := []OutboundType{OutboundLoadBalancer, OutboundManagedNATGateway, OutboundUserDefinedRouting, OutboundNone, OutboundManagedNATGatewayV2}
	refused, left, over := make(map[flow.Reason]int), 0, 0
	for step := range pkttest.Operations(2000, 8000, 200_000) {
		switch rng.IntN(30) {
		case 0:
			cfg := n.Config()
			cfg.NodePools[0].Count, cfg.NodePools[1].Count, cfg.NodePools[2].Count = 1+rng.IntN(3), rng.IntN(3), rng.IntN(3)
			if rng.IntN(3) == 0 { // what has left by the former one is cut
				cfg.StaticGatewayConfigurations[0].PublicIPPrefix = prefixes[rng.IntN(len(prefixes))]
			}
			if rng.IntN(3) == 0 {
				cfg.Ceilings = limits[rng.IntN(len(limits))]
			}
			cfg.OutboundType, cfg.LoadBalancerProfile = types[rng.IntN(len(types))], LoadBalancerProfile{}
			_, err := n.Reconfigure(n.now, cfg)
			require.NoError(t, err)
			for i, pod := range []string{"10.244.0.3", "10.244.0.4", "10.244.1.3", "10.244.1.4"} {
				n.gateways.Use(netip.MustParseAddr(pod), []string{"g", "h"}[i%2])
			}
		case 1:
			n.now += flow.At(time.Duration(rng.IntN(60)) * time.Second)
			if rng.IntN(5) == 0 { // UDP is over, and gateways hold its ports
				n.now += flow.At(4 * time.Minute)
			}
			n.Advance(n.now, func(flow.Emission) {})
		default:
			from := []string{"10.1.0.4", "10.1.0.5", "10.1.0.6", "10.244.0.2", "10.244.1.2", "10.244.2.2", "10.244.2.3", "10.1.77.1", "10.244.0.3", "10.244.0.4", "10.244.1.3", "10.244.1.4"}[rng.IntN(12)]
			to := []string{"198.51.100.9", "192.168.3.4", "10.1.0.4", "10.1.0.5", "10.244.1.2"}[rng.IntN(5)]
			if from == to {
				continue
			}
			pkt := pkttest.UDP(endpoint(from, 1000+rng.IntN(6)), endpoint(to, 53), "q")
			if rng.IntN(2) == 0 {
				pkt = pkttest.TCP(endpoint(from, 1000+rng.IntN(6)), endpoint(to, 53), []pkttest.Field{pkttest.SYN, pkttest.TCPFlags("R")}[rng.IntN(2)])
			}
			door := n.Outbound
			if from == "10.1.77.1" {
				door = n.Inbound
			}
			refused[door(n.now, pkt).Reason]++
		}
		s, want := n.state.Load(), make(map[string]int64)
		exits := make(map[netip.Addr]string)
		for _, g := range n.StaticGateways() {
			for _, e := range g.Nodes {
				exits[e.Addr] = e.Node
			}
		}
		for info := range n.Sessions() {
			node := info.Node
			if info.Class == flow.ClassTCPResetSent || info.Class == flow.ClassUDPHeld {
				over++
				continue
			}
			if exit, ok := exits[info.Outside.Addr()]; ok {
				node = exit
				left++
			}
			want[node]++
		}
		for i, node := range s.byIndex {
			if node != nil && s.machines != nil {
				require.Equal(t, want[node.Name], s.machines.Of(i).Connections(), "step %d: %s", step, node.Name)
			}
		}
	}
	for _, r := range []flow.Reason{flow.ReasonVMConnections, flow.ReasonConntrack, flow.ReasonEphemeralPorts} {
		require.Positive(t, refused[r], "%v", r)
	}
	require.Positive(t, left, "nothing has left by gateways")
	require.Positive(t, over, "no port is held after its flow")
}

// Bounded flows take no memory of the heap once there have been as many.
func TestCeilings_noAllocations(t *testing.T) {
	n := bounded(t, ceilings.Limits{VMConnections: 100, EphemeralPorts: 100, DNSQueries: 1 << 30, DNSPending: 10}, nil)
	pkts := [][]byte{
		pkttest.UDP("10.1.0.4:1000", "198.51.100.9:53", "q"), pkttest.UDP("10.1.0.4:1000", "192.168.3.4:53", "q"),
		pkttest.UDP("10.1.0.4:1000", "168.63.129.16:53", "\x00\x01q"),
	}
	buf := make([]byte, 100)
	now := flow.Time(0)
	run := func() {
		for _, pkt := range pkts {
			n.Outbound(now, buf[:copy(buf, pkt)])
		}
		now += flow.At(time.Hour)
		n.Advance(now, func(flow.Emission) {})
	}
	run()
	require.Zero(t, testing.AllocsPerRun(100, run))
}

func TestCeilings_validate(t *testing.T) {
	err := single(func(c *ClusterConfig) { c.Ceilings = ceilings.Limits{VMConnections: -1, DNSPending: -2} }).Validate()
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	require.EqualError(t, err, "Ceilings.DNSPending -2: out of range: 0 is no limit\nCeilings.VMConnections -1: out of range: 0 is no limit")
	require.Equal(t, ceilings.Limits{VMConnections: 500_000, Conntrack: 262_144, EphemeralPorts: 28_232, DNSQueries: 1000, DNSPending: 200}, ceilings.Azure(4<<30))
	require.Equal(t, 131_072, ceilings.ConntrackMax(1<<30))
	require.Equal(t, 2_097_152, ceilings.ConntrackMax(1<<40))
}
