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
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// change reconfigures a cluster by an edit of what is in force.
func (n *network) change(edit func(*ClusterConfig)) snat.Change {
	n.Helper()
	cfg := n.Config()
	edit(&cfg)
	change, err := n.Reconfigure(n.now, cfg)
	require.NoError(n, err)
	return change
}

// talk begins a UDP flow of a pod of each node to the Internet, and one to the VNet, and
// returns how many sessions there are.
func (n *network) talk() int {
	n.Helper()
	for _, node := range n.Nodes() {
		pod := addressing.At(node.PodBlocks[ipv4], 7).String()
		for _, to := range []string{"198.51.100.9", "10.1.77.1"} {
			v := n.Outbound(n.now, pkttest.UDP(endpoint(pod, 5000), endpoint(to, 53), "q"))
			require.Equal(n, flow.Forward, v.Action, "%s: %v", node.Name, v.Reason)
			require.EqualValues(n, node.Index, v.Instance, node.Name)
		}
	}
	return n.Stats().SessionsActive
}

// consistent wants both translators, and the state, to agree about indexes and blocks.
func (n *network) consistent() {
	n.Helper()
	egress := make(map[int]string)
	for i, inst := range n.egress.Instances() {
		egress[i] = inst.Name
	}
	nodes := n.Nodes()
	require.Len(n, egress, len(nodes))
	seen := make(map[netip.Addr]bool)
	for _, node := range nodes {
		require.Equal(n, egress[node.Index], node.Name)
		for f, a := range node.Addrs {
			require.False(n, seen[a], "%v twice", a)
			seen[a] = true
			pod := addressing.At(node.PodBlocks[f], 2)
			require.False(n, seen[pod], "%v twice", node.PodBlocks[f])
			seen[pod] = true
			for _, any := range []netip.Addr{a, pod} {
				at, ok := n.NodeByAddr(any)
				require.True(n, ok)
				require.Equal(n, node, at)
			}
		}
	}
}

// names returns the names of all nodes, by index.
func (n *network) names() (all []string) {
	for _, node := range n.Nodes() {
		all = append(all, fmt.Sprint(node.Index, " ", node.Name[4:], " ", node.PodBlocks[ipv4].Addr()))
	}
	return all
}

// A pool grows, shrinks to nothing, goes and comes; what concerns others goes on.
func TestReconfigure_pools(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Name: "a", Count: 2}, {Name: "b", Count: 1}}
	})
	n.consistent()
	require.Equal(t, 6, n.talk())
	pod, err := n.AddPod("aks-b-vmss000000", "web")
	require.NoError(t, err)

	change := n.change(func(c *ClusterConfig) { c.NodePools[0].Count = 3 })
	n.consistent()
	require.Equal(t, []string{"0 a-vmss000000 10.244.0.0", "1 a-vmss000001 10.244.1.0", "2 b-vmss000000 10.244.2.0", "3 a-vmss000002 10.244.3.0"}, n.names())
	require.True(t, change.Instances[0].Added)
	require.Zero(t, change.Total().Cut)
	require.Equal(t, 8, n.talk(), "six go on")
	again, ok := n.Pod("web")
	require.True(t, ok)
	require.Equal(t, pod, again)

	change = n.change(func(c *ClusterConfig) { c.NodePools[1].Count = 0 })
	n.consistent()
	require.Equal(t, uint64(2), uint64(change.Total().Cut[snat.CutRemoved]), "of both translators")
	require.Equal(t, 6, n.talk())
	_, ok = n.Pod("web")
	require.False(t, ok)
	_, ok = n.PodByAddr(pod.Addrs[0])
	require.False(t, ok)
	n.drops(n.Outbound(n.now, pkttest.UDP("10.244.2.7:5000", "198.51.100.9:53", "q")), flow.ReasonSpoof)

	n.change(func(c *ClusterConfig) { c.NodePools[1].Count = 1 })
	n.consistent()
	require.Equal(t, []string{"0 a-vmss000000 10.244.0.0", "1 a-vmss000001 10.244.1.0", "2 b-vmss000001 10.244.2.0", "3 a-vmss000002 10.244.3.0"}, n.names(), "the next number, and the free block")

	n.change(func(c *ClusterConfig) { c.NodePools = []NodePool{{Name: "c", Count: 2}, c.NodePools[0]} })
	n.consistent()
	require.Equal(t, []string{"0 a-vmss000000 10.244.0.0", "1 a-vmss000001 10.244.1.0", "2 c-vmss000000 10.244.2.0", "3 a-vmss000002 10.244.3.0", "4 c-vmss000001 10.244.4.0"}, n.names())
	require.Equal(t, 10, n.talk())
}

// A node more for a while, and one less for good.
func TestReconfigure_nodes(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.NodePools = []NodePool{{Name: "a", Count: 2, MinCount: 1, MaxCount: 2}}
	})
	n.talk()
	names, _, err := n.AddNodes(n.now, "a", 2)
	require.NoError(t, err)
	require.Equal(t, []string{"aks-a-vmss000002", "aks-a-vmss000003"}, names)
	n.consistent()
	require.Equal(t, 8, n.talk())
	change, err := n.RemoveNodes(n.now, "aks-a-vmss000000", "aks-a-vmss000003", "aks-a-vmss000003")
	require.NoError(t, err)
	require.EqualValues(t, 4, change.Total().Cut[snat.CutRemoved])
	n.consistent()
	require.Equal(t, []string{"1 a-vmss000001 10.244.1.0", "2 a-vmss000002 10.244.2.0"}, n.names())
	require.Equal(t, 2, n.Config().NodePools[0].Count, "those that were added have gone first")

	change, err = n.RemoveNodes(n.now, "aks-a-vmss000001")
	require.NoError(t, err)
	require.EqualValues(t, 2, change.Total().Cut[snat.CutRemoved])
	require.Equal(t, 1, n.Config().NodePools[0].Count)
	_, err = n.RemoveNodes(n.now, "aks-a-vmss000002")
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	_, err = n.RemoveNodes(n.now, "aks-a-vmss000001")
	require.ErrorIs(t, err, flow.ErrUnknownName)
	_, _, err = n.AddNodes(n.now, "b", 1)
	require.ErrorIs(t, err, flow.ErrUnknownName)
	_, _, err = n.AddNodes(n.now, "a", 0)
	require.ErrorIs(t, err, flow.ErrOutOfRange)
	n.consistent()
	require.Equal(t, 2, n.talk())
}

// A node that is cordoned takes no pods; one that is drained has none.
func TestCordonAndDrain(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) { c.StrictPodAddresses = true })
	const node = "aks-nodepool1-vmss000001"
	first, err := n.AddPod(node, "first")
	require.NoError(t, err)
	second, err := n.AddPod(node, "second")
	require.NoError(t, err)
	require.NoError(t, n.Cordon(node, true))
	require.True(t, n.Cordoned(node))
	_, err = n.AddPod(node, "third")
	require.ErrorIs(t, err, ErrCordoned)
	pods, err := n.Drain(node)
	require.NoError(t, err)
	require.Equal(t, []Pod{first, second}, pods)
	n.drops(n.Outbound(0, pkttest.UDP(endpoint(first.Addrs[0].String(), 5000), "198.51.100.9:53", "q")), flow.ReasonSpoof)
	require.NoError(t, n.Cordon(node, false))
	_, err = n.AddPod(node, "first")
	require.NoError(t, err)
	require.ErrorIs(t, n.Cordon("x", true), flow.ErrUnknownName)
	_, err = n.Drain("x")
	require.ErrorIs(t, err, flow.ErrUnknownName)
}

// The pod CIDR grows around the nodes that there are.
func TestAzureRow_5_expandPodCIDR(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.PodCIDRs = pfx("10.244.64.0/23", "fd12:3456:789a::/64")
		c.NodePools[0].Count = 2
	})
	cfg := n.Config()
	cfg.NodePools[0].Count = 3
	_, err := n.Reconfigure(0, cfg)
	require.ErrorIs(t, err, ErrTooManyNodes)
	before := n.talk()
	n.change(func(c *ClusterConfig) {
		c.PodCIDRs[0] = netip.MustParsePrefix("10.244.0.0/16")
		c.NodePools[0].Count = 3
	})
	n.consistent()
	require.Equal(t, []string{"0 nodepool1-vmss000000 10.244.64.0", "1 nodepool1-vmss000001 10.244.65.0", "2 nodepool1-vmss000002 10.244.0.0"}, n.names())
	require.Equal(t, before+2, n.talk())
	for _, bad := range []string{"10.244.0.0/17", "10.250.0.0/15"} {
		cfg = n.Config()
		cfg.PodCIDRs[0] = netip.MustParsePrefix(bad)
		_, err = n.Reconfigure(0, cfg)
		require.ErrorIs(t, err, flow.ErrOutOfRange, bad)
	}
}

// More outbound IPs, other ports and timers; the flows on ports that stay go on.
func TestAzure_69_secondOutboundIPUnderTraffic(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, ManagedOutboundIPCountIPv6: 1, AllocatedOutboundPorts: 1024}
	})
	before := n.talk()
	change := n.change(func(c *ClusterConfig) { c.LoadBalancerProfile.ManagedOutboundIPCount = 2 })
	require.Zero(t, change.Total().Cut)
	require.Equal(t, before, n.talk())
	n.change(func(c *ClusterConfig) {
		c.LoadBalancerProfile.AllocatedOutboundPorts = 2048
		c.LoadBalancerProfile.IdleTimeout = 4 * time.Minute
	})
	require.Equal(t, before, n.talk())
	for _, a := range n.Allocations() {
		require.Equal(t, 2048, a.Total(snat.TCP, false))
	}
	n.now = flow.At(4 * time.Minute)
	n.Advance(n.now, nil)
	require.Zero(t, n.Stats().SessionsActive, "the nodes' timers of UDP are shorter")
}

// Every outbound type, from each to each.
func TestAzureRow_11_4_outboundType(t *testing.T) {
	own := &lb.NATGateway{PublicIPAddresses: []netip.Addr{netip.MustParseAddr("20.60.0.1")}}
	for _, tt := range []struct {
		typ    OutboundType
		edit   func(*ClusterConfig)
		source string
		reason flow.Reason
	}{
		{OutboundLoadBalancer, nil, "20.50.1.1", 0},
		{OutboundManagedNATGateway, func(c *ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPRanges = pfx("20.55.0.0/24")
		}, "20.55.0.1", 0},
		{OutboundManagedNATGatewayV2, func(c *ClusterConfig) {
			c.LoadBalancerProfile.ManagedOutboundIPRanges = pfx("20.56.0.0/24")
		}, "20.56.0.1", 0},
		{OutboundUserAssignedNATGateway, func(c *ClusterConfig) { c.NATGatewayProfile.NATGateway = own }, "20.60.0.1", 0},
		{OutboundUserDefinedRouting, nil, "10.1.0.5", 0},
		{OutboundNone, nil, "", flow.ReasonNoOutbound},
		{OutboundBlock, nil, "", flow.ReasonNoOutbound},
	} {
		for _, from := range []OutboundType{OutboundLoadBalancer, tt.typ, OutboundNone, OutboundUserDefinedRouting} {
			t.Run(fmt.Sprint(from, " to ", tt.typ), func(t *testing.T) {
				single := func(c *ClusterConfig) {
					c.IPFamilies = "ipv4"
					c.VNet.AddressSpaces, c.VNet.PeeredPrefixes = c.VNet.AddressSpaces[:1], nil
					c.VNet.Subnets[0].AddressPrefixes = c.VNet.Subnets[0].AddressPrefixes[:1]
					c.OutboundType = from
					if from == tt.typ && tt.edit != nil {
						tt.edit(c)
					}
				}
				n := newNetwork(t, single)
				vnet := pkttest.UDP("10.244.1.7:5000", "10.1.77.1:53", "q")
				n.sends(vnet, "10.1.0.5")
				n.Outbound(0, pkttest.UDP("10.244.1.7:5000", "198.51.100.9:53", "q"))
				n.change(func(c *ClusterConfig) {
					if c.OutboundType = tt.typ; tt.edit != nil {
						tt.edit(c)
					}
				})
				pkt := pkttest.UDP("10.244.1.7:6000", "198.51.100.9:53", "q")
				v := n.Outbound(0, pkt)
				require.Equal(t, tt.reason.String(), v.Reason.String())
				if tt.source == "" {
					return
				}
				pkttest.Check(t, pkt, pkttest.Src(tt.source), pkttest.ChecksumsOK())
				require.EqualValues(t, 1, v.Instance)
				back := netip.AddrPortFrom(netip.MustParseAddr(tt.source), uint16(pkt[20])<<8|uint16(pkt[21]))
				n.takes(pkttest.UDP("198.51.100.9:53", back.String(), "a"), "10.244.1.7")
				n.takes(pkttest.UDP("10.1.77.1:53", "10.1.0.5:5000", "a"), "10.244.1.7")
			})
		}
	}
}

// The user's next hop gets packets with the address of their node, and decides.
func TestAzure_nextHop(t *testing.T) {
	var got []string
	n := newNetwork(t, func(c *ClusterConfig) {
		c.OutboundType = OutboundUserDefinedRouting
		c.NextHop = func(_ flow.Time, pkt []byte) flow.Verdict {
			got = append(got, source(pkt))
			return flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFiltered, Instance: 77}
		}
	})
	v := n.Outbound(0, pkttest.UDP("10.244.1.7:5000", "198.51.100.9:53", "q"))
	require.Equal(t, flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFiltered, Instance: 1}, v)
	n.Outbound(0, pkttest.UDP("[fd12:3456:789a::2]:5000", "[2001:db8:ffff::9]:53", "q"))
	n.Outbound(0, pkttest.UDP("10.1.0.6:5000", "198.51.100.9:53", "q"))
	require.Equal(t, []string{"10.1.0.5", "fd00:1::4", "10.1.0.6"}, got)
	n.sends(pkttest.UDP("10.244.1.7:5000", "10.1.77.1:53", "q"), "10.1.0.5")
	require.Len(t, got, 3, "the VNet is no next hop's")
}

// What AKS does not let change is refused, all at once, and nothing happens.
func TestReconfigure_refuses(t *testing.T) {
	n := newNetwork(t, nil)
	n.talk()
	before := n.Stats()
	cfg := n.Config()
	cfg.Name, cfg.ServiceCIDRs, cfg.StrictPodAddresses = "other", pfx("10.9.0.0/16", "fd12:3456:789a:1::/108"), true
	cfg.NodePools[0].MaxPods = 30
	cfg.VNet.Subnets[0].AddressPrefixes = pfx("10.1.9.0/24", "fd00:1::/64")
	_, err := n.Reconfigure(0, cfg)
	require.ErrorIs(t, err, snat.ErrFixed)
	for _, field := range []string{`Name "other"`, "ServiceCIDRs", "DNSServiceIP", "StrictPodAddresses true", "NodePools[0].MaxPods 30", "VNet.Subnets 10.1.9.0/24"} {
		require.ErrorContains(t, err, field)
	}
	cfg = n.Config()
	cfg.Seed = 9
	_, err = n.Reconfigure(0, cfg)
	require.ErrorIs(t, err, snat.ErrFixed)
	cfg = n.Config()
	cfg.NodePools = nil
	_, err = n.Reconfigure(0, cfg)
	require.ErrorIs(t, err, flow.ErrMissing)
	after := n.Stats()
	require.Equal(t, before, after)
}
