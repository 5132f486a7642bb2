package overlay

import (
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

// aimed returns a packet to anything that the cluster has, or an answer.
func aimed(rng *rand.Rand, c *Cluster, sessions []ServiceSession) []byte {
	f := rng.IntN(2)
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
	port := []int{80, 53, 8000, 8001, 22, 30080, 30081, 30082, 30083, 30053}[rng.IntN(10)]
	a, b := endpoint(src, 1000+rng.IntN(40)), endpoint(dst, port)
	switch rng.IntN(9) {
	case 0, 5:
		return pkttest.TCP(a, b, pkttest.TCPFlags([]string{"A", "A", "SA", "FA"}[rng.IntN(4)]), pkttest.Seq(1), pkttest.Ack(1))
	case 1, 2, 3:
		return pkttest.UDP(a, b, "query")
	case 4:
		return pkttest.TCP(a, b, pkttest.TCPFlags("R"), pkttest.Seq(1))
	}
	return pkttest.TCP(a, b, pkttest.SYN, pkttest.Seq(1))
}

// What Explain says of Services, host ports, public addresses and probes is what the doors
// then do, while time goes on, and asking changes nothing.
func TestExplain_isTrueOfServices(t *testing.T) {
	for name, edit := range map[string]func(*ClusterConfig){
		"load balancer": nil,
		"NAT gateway":   func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGatewayV2 },
		"next hop":      func(c *ClusterConfig) { c.OutboundType = OutboundUserDefinedRouting },
		"none":          func(c *ClusterConfig) { c.OutboundType = OutboundNone },
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
				deny("dns", 102, nsg.Outbound, []string{"10.244.0.0/16"}, "53"),
			}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			const seed = 7
			t.Log("seed", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			c, now := fullHouse(t, edit), flow.Time(0)
			reasons := make(map[string]int)
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
				pkt := aimed(rng, c, slices.Collect(c.ServiceSessions()))
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
			}
			t.Log(reasons)
		})
	}
}
