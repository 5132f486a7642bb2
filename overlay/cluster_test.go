package overlay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

// vnetCluster has nodes 10.1.0.4 .. and a VNet with room for other hosts.
func vnetCluster(t testing.TB, edit func(*ClusterConfig)) *Cluster {
	return newCluster(t, dual(func(c *ClusterConfig) {
		c.VNet = VNet{
			AddressSpaces:  pfx("10.1.0.0/16", "fd00:1::/48"),
			Subnets:        []Subnet{{"nodes", pfx("10.1.0.0/24", "fd00:1::/64")}},
			PeeredPrefixes: pfx("192.168.0.0/16", "fd00:2::/48"),
		}
		if edit != nil {
			edit(c)
		}
	}))
}

// source returns the source address of a packet.
func source(pkt []byte) string {
	if pkt[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(pkt[12:16])).String()
	}
	return netip.AddrFrom16([16]byte(pkt[8:24])).String()
}

func endpoint(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}

func TestAzure_45_podToVNetAndInternet(t *testing.T) {
	c := vnetCluster(t, nil)
	pkt := pkttest.UDP("10.244.1.7:41000", "10.1.0.9:53", "query")
	v := c.Outbound(0, pkt)
	require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	require.EqualValues(t, 1, v.Instance)
	pkttest.Check(t, pkt, pkttest.Src("10.1.0.5:41000"), pkttest.Dst("10.1.0.9:53"), pkttest.ChecksumsOK())

	pkt = pkttest.UDP("10.244.1.7:41000", "203.0.113.10:53", "query")
	v = c.Outbound(0, pkt)
	require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
	pkttest.Check(t, pkt, pkttest.Src("20.50.1.1"), pkttest.Dst("203.0.113.10:53"), pkttest.ChecksumsOK())
}

func TestAzure_46_podToPod(t *testing.T) {
	c := vnetCluster(t, nil)
	for _, pkt := range [][]byte{
		pkttest.UDP("10.244.1.7:41000", "10.244.2.9:53", "query"),
		pkttest.UDP("[fd12:3456:789a:0:1::7]:41000", "[fd12:3456:789a:0:2::9]:53", "query"),
	} {
		before := slices.Clone(pkt)
		require.Equal(t, flow.Bypass, c.Outbound(0, pkt).Action)
		require.Equal(t, before, pkt, "pod to pod traffic is not touched")
	}
}

// Which way a packet takes depends on its destination.
func TestCluster_destinations(t *testing.T) {
	c := vnetCluster(t, nil)
	for _, tt := range []struct {
		name, src, dst string
		action         flow.Action
		reason         flow.Reason
		source         string // afterwards, unless dropped
	}{
		{"another VM of the VNet", "10.244.0.7", "10.1.77.1", flow.Forward, 0, "10.1.0.4"},
		{"another node", "10.244.0.7", "10.1.0.6", flow.Forward, 0, "10.1.0.4"},
		{"a peered network", "10.244.0.7", "192.168.3.4", flow.Forward, 0, "10.1.0.4"},
		{"a peered network, IPv6", "fd12:3456:789a::7", "fd00:2::9", flow.Forward, 0, "fd00:1::4"},
		{"the VNet, IPv6", "fd12:3456:789a:0:2::7", "fd00:1::99", flow.Forward, 0, "fd00:1::6"},
		{"instance metadata", "10.244.0.7", "169.254.169.254", flow.Forward, 0, "10.1.0.4"},
		{"the platform address", "10.244.0.7", "168.63.129.16", flow.Forward, 0, "10.1.0.4"},
		{"a cluster IP", "10.244.0.7", "10.0.0.10", flow.Drop, flow.ReasonRoute, ""},
		{"a cluster IP, IPv6", "fd12:3456:789a::7", "fd12:3456:789a:1::a", flow.Drop, flow.ReasonRoute, ""},
		{"the Internet", "10.244.0.7", "198.51.100.9", flow.Forward, 0, "20.50.1.1"},
		{"the Internet, IPv6", "fd12:3456:789a::7", "2001:db8:ffff::9", flow.Forward, 0, "2001:db8:50:1::1"},
		{"node to Internet", "10.1.0.5", "198.51.100.9", flow.Forward, 0, "20.50.1.1"},
		{"node to VNet", "10.1.0.5", "10.1.77.1", flow.Forward, 0, "10.1.0.5"},
		{"node to pod", "10.1.0.5", "10.244.0.7", flow.Bypass, 0, "10.1.0.5"},
		{"an address of no node", "10.1.0.99", "198.51.100.9", flow.Drop, flow.ReasonSpoof, ""},
		{"a pod block without node", "10.244.9.1", "198.51.100.9", flow.Drop, flow.ReasonSpoof, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pkt := pkttest.UDP(endpoint(tt.src, 41000), endpoint(tt.dst, 443), "x")
			v := c.Outbound(0, pkt)
			require.Equal(t, tt.action, v.Action, "%v", v.Reason)
			require.Equal(t, tt.reason, v.Reason)
			if v.Action != flow.Drop {
				pkttest.Check(t, pkt, pkttest.Src(tt.source), pkttest.Dst(endpoint(tt.dst, 443)), pkttest.ChecksumsOK())
			}
		})
	}
}

// What comes back reaches the pod it belongs to; nothing else reaches one.
func TestCluster_replies(t *testing.T) {
	c := vnetCluster(t, nil)
	pod, err := c.AddPod(c.Nodes()[2].Name, "web")
	require.NoError(t, err)
	for f, remotes := range [][]string{{"198.51.100.9", "10.1.77.1", "192.168.3.4"}, {"2001:db8:ffff::9", "fd00:1::99"}} {
		for _, remote := range remotes {
			inside, remote := endpoint(pod.Addrs[f].String(), 41000), endpoint(remote, 443)
			out := pkttest.TCP(inside, remote, pkttest.TCPFlags("S"))
			v := c.Outbound(0, out)
			require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
			require.True(t, v.New)

			in := reply(out)
			v = c.Inbound(0, in)
			require.Equal(t, flow.Forward, v.Action, "%s: %v", pkttest.String(in), v.Reason)
			require.Equal(t, flow.Inside, v.To)
			require.EqualValues(t, 2, v.Instance)
			pkttest.Check(t, in, pkttest.Src(remote), pkttest.Dst(inside), pkttest.TCPFlags("SA"), pkttest.ChecksumsOK())
			owner, ok := c.PodByAddr(netip.MustParseAddrPort(inside).Addr())
			require.True(t, ok)
			require.Equal(t, "web", owner.Name)
		}
	}
	for _, dst := range []string{pod.Addrs[0].String(), "20.50.1.1", "10.1.0.4"} {
		pkt := pkttest.TCP("198.51.100.9:443", endpoint(dst, 41000), pkttest.TCPFlags("S"))
		require.Equal(t, flow.Drop, c.Inbound(0, pkt).Action, "unsolicited, to %s", dst)
	}
}

// reply answers a SYN that has just been forwarded.
func reply(syn []byte) []byte {
	src, dst := "", ""
	if syn[0]>>4 == 4 {
		at := int(syn[0]&15) * 4
		src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(syn[12:16])), uint16(syn[at])<<8|uint16(syn[at+1])).String()
		dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(syn[16:20])), uint16(syn[at+2])<<8|uint16(syn[at+3])).String()
	} else {
		src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(syn[8:24])), uint16(syn[40])<<8|uint16(syn[41])).String()
		dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(syn[24:40])), uint16(syn[42])<<8|uint16(syn[43])).String()
	}
	return pkttest.TCP(dst, src, pkttest.TCPFlags("SA"), pkttest.Ack(1))
}

func TestCluster_strictPodAddresses(t *testing.T) {
	c := vnetCluster(t, func(c *ClusterConfig) { c.StrictPodAddresses = true })
	pod, err := c.AddPod(c.Nodes()[1].Name, "web")
	require.NoError(t, err)
	send := func(src string) flow.Verdict {
		return c.Outbound(0, pkttest.UDP(endpoint(src, 41000), endpoint(map[bool]string{true: "2001:db8:ffff::9", false: "198.51.100.9"}[netip.MustParseAddr(src).Is6()], 53), "x"))
	}
	spoof := flow.Verdict{Action: flow.Drop, Reason: flow.ReasonSpoof}
	require.Equal(t, spoof, send("10.244.9.9"), "what package snat says of a source without node")
	for f, other := range []string{"10.244.1.3", "fd12:3456:789a:0:1::3"} {
		require.Equal(t, flow.Forward, send(pod.Addrs[f].String()).Action)
		require.Equal(t, spoof, send(other))
	}
	require.Equal(t, spoof, send("10.244.1.255"))
	require.Equal(t, spoof, send("fd12:3456:789a:0:1:1::2"), "beyond the offsets that pods use")
	require.Equal(t, flow.Forward, send("10.1.0.5").Action, "nodes are no pods")
	require.Equal(t, flow.ReasonShort, c.Outbound(0, []byte{0x45, 0, 0}).Reason)
	require.Equal(t, flow.ReasonShort, c.Outbound(0, nil).Reason)

	require.NoError(t, c.RemovePod("web"))
	require.Equal(t, spoof, send(pod.Addrs[0].String()))
	stats := c.Stats()
	require.EqualValues(t, 6, stats.Outbound.Drops[flow.ReasonSpoof])
	require.EqualValues(t, 8, stats.Outbound.Dropped)
	require.EqualValues(t, 3, stats.Outbound.Forwarded)
}

// The batch doors do what the packet doors do, spoofed packets in between or not.
func TestCluster_batchEqualsSingle(t *testing.T) {
	const seed = 3
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	strict := func(c *ClusterConfig) { c.StrictPodAddresses = true }
	batch, one := vnetCluster(t, strict), vnetCluster(t, strict)
	for _, c := range []*Cluster{batch, one} {
		for i := range 5 {
			_, err := c.AddPod(c.Nodes()[i%3].Name, fmt.Sprint(i))
			require.NoError(t, err)
		}
	}
	for round := range 50 {
		var pkts, twins [][]byte
		for range rng.IntN(20) {
			src := fmt.Sprintf("10.244.%d.%d:%d", rng.IntN(3), 2+rng.IntN(3), 1024+rng.IntN(40))
			dst := []string{"198.51.100.9:53", "10.1.0.99:53", "10.244.2.2:53", "10.0.0.10:53"}[rng.IntN(4)]
			pkts = append(pkts, pkttest.UDP(src, dst, "x"))
			twins = append(twins, slices.Clone(pkts[len(pkts)-1]))
		}
		verdicts := make([]flow.Verdict, len(pkts)+1)
		now := flow.At(time.Duration(round) * time.Second)
		batch.OutboundBatch(now, pkts, verdicts)
		for i, twin := range twins {
			require.Equal(t, one.Outbound(now, twin), verdicts[i])
			if verdicts[i].Action != flow.Drop {
				require.True(t, bytes.Equal(twin, pkts[i]))
			}
		}
	}
	require.Equal(t, one.Stats(), batch.Stats())
}

// AKS resets idle connections after 30 minutes, at the pod and at the remote.
func TestCluster_idleReset(t *testing.T) {
	c := vnetCluster(t, nil)
	syn := pkttest.TCP("10.244.1.7:41000", "198.51.100.9:443", pkttest.TCPFlags("S"))
	require.Equal(t, flow.Forward, c.Outbound(0, syn).Action)
	require.Equal(t, flow.Forward, c.Inbound(0, reply(syn)).Action)
	ack := pkttest.TCP("10.244.1.7:41000", "198.51.100.9:443", pkttest.TCPFlags("A"), pkttest.Seq(1), pkttest.Ack(1))
	require.Equal(t, flow.Forward, c.Outbound(0, ack).Action)

	due := flow.At(30 * time.Minute)
	for {
		next, ok := c.NextDeadline()
		require.True(t, ok)
		if next >= due {
			break
		}
		c.Advance(next, func(e flow.Emission) { t.Errorf("%v at %v", pkttest.String(e.Packet), next) })
	}
	var to []flow.Side
	c.Advance(due, func(e flow.Emission) {
		require.EqualValues(t, 1, e.Instance)
		to = append(to, e.To)
		if e.To == flow.Inside {
			pkttest.Check(t, e.Packet, pkttest.Src("198.51.100.9:443"), pkttest.Dst("10.244.1.7:41000"), pkttest.ChecksumsOK())
		} else {
			pkttest.Check(t, e.Packet, pkttest.Src("20.50.1.1"), pkttest.Dst("198.51.100.9:443"), pkttest.ChecksumsOK())
		}
	})
	slices.Sort(to)
	require.Equal(t, []flow.Side{flow.Inside, flow.Outside}, to)
	require.Zero(t, c.Stats().SessionsActive)
	require.True(t, c.AdvanceStep(due, func(flow.Emission) { t.Error("nothing is left to emit") }))
}

func TestCluster_inboundBatch(t *testing.T) {
	c := vnetCluster(t, nil)
	syn := pkttest.TCP("10.244.1.7:41000", "198.51.100.9:443", pkttest.TCPFlags("S"))
	require.Equal(t, flow.Forward, c.Outbound(0, syn).Action)
	pkts := [][]byte{reply(syn), pkttest.TCP("198.51.100.10:443", "20.50.1.1:2048", pkttest.TCPFlags("SA"))}
	verdicts := make([]flow.Verdict, 2)
	c.InboundBatch(0, pkts, verdicts)
	require.Equal(t, flow.Forward, verdicts[0].Action)
	pkttest.Check(t, pkts[0], pkttest.Dst("10.244.1.7:41000"), pkttest.ChecksumsOK())
	require.Equal(t, flow.Drop, verdicts[1].Action)
}

// All pods of a node share its ports; other nodes' free ports do not help.
func TestCluster_nodePortsRunOut(t *testing.T) {
	c := vnetCluster(t, func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 1, ManagedOutboundIPCountIPv6: 1, AllocatedOutboundPorts: 64}
	})
	send := func(pod, port int) flow.Verdict {
		return c.Outbound(0, pkttest.UDP(fmt.Sprintf("10.244.0.%d:%d", pod, port), "198.51.100.9:53", "x"))
	}
	for i := range 64 {
		require.Equal(t, flow.Forward, send(2+i%4, 30000+i).Action)
	}
	v := send(9, 40000)
	require.Equal(t, flow.Drop, v.Action)
	require.Equal(t, flow.ReasonPorts, v.Reason)
	require.EqualValues(t, 1, c.Stats().ConnectionsFailed)
	v = c.Outbound(0, pkttest.UDP("10.244.1.2:30000", "198.51.100.9:53", "x"))
	require.Equal(t, flow.Forward, v.Action, "another node has its own ports")
}

func TestCluster_ownOutboundIPs(t *testing.T) {
	c := vnetCluster(t, func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{
			OutboundIPs:        addrs("203.0.113.7", "2001:db8:7::7"),
			OutboundIPPrefixes: pfx("203.0.113.16/28"),
		}
	})
	for src, dst := range map[string]string{"10.244.0.2:1234": "198.51.100.9:53", "[fd12:3456:789a::2]:1234": "[2001:db8:ffff::9]:53"} {
		pkt := pkttest.UDP(src, dst, "x")
		require.Equal(t, flow.Forward, c.Outbound(0, pkt).Action)
		require.Contains(t, []string{"203.0.113.7", "2001:db8:7::7"}, source(pkt), "the first of each family is used first")
	}
}

// Every address of an own prefix counts.
func TestCluster_ownOutboundPrefixPorts(t *testing.T) {
	cfg := dual(func(c *ClusterConfig) {
		c.LoadBalancerProfile = LoadBalancerProfile{
			OutboundIPPrefixes:     pfx("203.0.113.16/31", "2001:db8:7::/127"),
			AllocatedOutboundPorts: 32_000, // 3 nodes and one of surge on 2 addresses
		}
	})
	require.Len(t, newCluster(t, cfg).Frontends(), 8, "4 addresses, TCP and UDP each")
	cfg.LoadBalancerProfile.OutboundIPPrefixes = pfx("203.0.113.16/31")
	cfg.LoadBalancerProfile.OutboundIPs = addrs("2001:db8:7::1")
	err := cfg.Validate()
	require.ErrorContains(t, err, "AllocatedOutboundPorts (IPv6)")
	require.NotContains(t, err.Error(), "(IPv4)")
}

// A part of the VNet that has the addresses of pods or Services is out of reach
// for pods: its address means the pod or the Service.
func TestAzureRow_5_hostInsidePodCIDR(t *testing.T) {
	c := newCluster(t, single(func(c *ClusterConfig) {
		c.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16", "10.244.1.0/24", "10.0.7.0/24"), Subnets: []Subnet{{"s", pfx("10.1.0.0/24")}}}
	}))
	require.Equal(t, flow.Bypass, c.Outbound(0, pkttest.UDP("10.244.0.2:5000", "10.244.1.9:53", "x")).Action)
	require.Equal(t, flow.ReasonRoute, c.Outbound(0, pkttest.UDP("10.244.0.2:5000", "10.0.7.9:53", "x")).Reason)
}

// The largest cluster that AKS allows.
func TestCluster_fiveThousandNodes(t *testing.T) {
	c := newCluster(t, dual(func(c *ClusterConfig) {
		c.PodCIDRs = pfx("10.32.0.0/11", "fd12:3456:789a::/64")
		c.NodePools = []NodePool{{Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}, {Count: 1000}}
		c.LoadBalancerProfile = LoadBalancerProfile{ManagedOutboundIPCount: 6, ManagedOutboundIPCountIPv6: 6, AllocatedOutboundPorts: 64}
	}))
	last := c.Nodes()[4999]
	require.Equal(t, "aks-nodepool5-vmss0000rr", last.Name)
	require.Equal(t, pfx("10.51.135.0/24", "fd12:3456:789a:0:1387::/80"), last.PodBlocks)
	for f, dst := range []string{"198.51.100.9:53", "[2001:db8:ffff::9]:53"} {
		src := netip.AddrPortFrom(addressing.At(last.PodBlocks[f], 2), 5000)
		v := c.Outbound(0, pkttest.UDP(src.String(), dst, "x"))
		require.Equal(t, flow.Forward, v.Action, "%v", v.Reason)
		require.EqualValues(t, 4999, v.Instance)
	}
}

func TestCluster_managedOutboundIPs(t *testing.T) {
	cfg := dual(func(c *ClusterConfig) {
		c.LoadBalancerProfile.ManagedOutboundIPCount = 2
		c.LoadBalancerProfile.ManagedOutboundIPRanges = pfx("51.104.0.0/30")
	}).withDefaults()
	var got []string
	for _, f := range cfg.outbound().Frontends() {
		got = append(got, f.Name+" "+f.PublicIPAddress.String())
	}
	require.Equal(t, []string{"outbound-1 51.104.0.1", "outbound-2 51.104.0.2", "outbound-3 2001:db8:50:1::1"}, got)
}

func TestCluster_nodeLookups(t *testing.T) {
	c := newCluster(t, single(nil))
	nodes := c.Nodes()
	n, ok := c.Node("aks-nodepool1-vmss000002")
	require.True(t, ok)
	require.Equal(t, nodes[2], n)
	_, ok = c.Node("other")
	require.False(t, ok)

	// What a caller does to a node it was given changes nothing.
	nodes[2].Addrs[0] = netip.MustParseAddr("192.168.0.1")
	again, _ := c.Node(n.Name)
	require.Equal(t, n, again)
}

func TestCluster_packetDoorsDoNotAllocate(t *testing.T) {
	c := vnetCluster(t, func(c *ClusterConfig) { c.StrictPodAddresses = true })
	_, err := c.AddPod(c.Nodes()[0].Name, "web")
	require.NoError(t, err)
	template := pkttest.UDP("10.244.0.2:41000", "198.51.100.9:53", "x")
	pkt := slices.Clone(template)
	pkts, verdicts := [][]byte{pkt}, make([]flow.Verdict, 1)
	if n := testing.AllocsPerRun(1000, func() {
		copy(pkt, template)
		c.Outbound(0, pkt)
		copy(pkt, template)
		c.OutboundBatch(0, pkts, verdicts)
	}); n != 0 {
		t.Errorf("Outbound and OutboundBatch: %v allocs, want 0", n)
	}
	require.Equal(t, flow.Forward, verdicts[0].Action)
}
