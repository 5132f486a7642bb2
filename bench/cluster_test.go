package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// BenchmarkCluster sends segments of random established connections of pods:
// pod to node to frontend, in one session. In turns with it run those of package snat, as
// many: x-snat is the ratio.
func BenchmarkCluster(b *testing.B) {
	for _, flows := range flowCounts(b) {
		if flows > 1_032_192 {
			continue // more nodes than AKS allows in a cluster
		}
		b.Run(fmt.Sprintf("ip=4/flows=%d/batch=%d", flows, batch), func(b *testing.B) {
			c, pods := newCluster(b, flows, false)
			defer c.Close()
			t := podTraffic(b, c, pods, flows)
			f := newFloor(b, c.Stats().Bytes)
			pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
			send := func() { c.OutboundBatch(0, pkts, verdicts) }
			bytes := float64(c.Stats().Bytes) / float64(flows)
			beside := newWorld(b, flows, false).beside(flow.Inside)
			measureBeside(b, flow.Forward, t, f, beside, pkts, verdicts, send, bytes)
		})
	}
}

const podsPerNode = 8

// newCluster returns a cluster of nodes with 1,024 ports and 8 pods each, and the pods'
// addresses of IPv4. dual adds IPv6.
func newCluster(b testing.TB, flows int, dual bool) (*overlay.Cluster, []netip.Addr) {
	nodes := (flows + portsPerInstance - 1) / portsPerInstance
	cfg := overlay.ClusterConfig{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.192.0.0/11")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("172.20.0.0/16")},
		VNet: overlay.VNet{
			AddressSpaces: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/12")},
			Subnets:       []overlay.Subnet{{Name: "nodes", AddressPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}},
		},
		DNSServiceIP: netip.MustParseAddr("172.20.0.10"),
		LoadBalancerProfile: overlay.LoadBalancerProfile{
			ManagedOutboundIPCount: (nodes+10)*portsPerInstance/64_000 + 1,
			AllocatedOutboundPorts: portsPerInstance,
			IdleTimeout:            time.Hour,
		},
	}
	if dual {
		cfg.IPFamilies = "ipv4,ipv6"
		cfg.PodCIDRs = append(cfg.PodCIDRs, netip.MustParsePrefix("fd12:3456:789a::/64"))
		cfg.ServiceCIDRs = append(cfg.ServiceCIDRs, netip.MustParsePrefix("fd12:3456:789a:1::/108"))
		cfg.VNet.AddressSpaces = append(cfg.VNet.AddressSpaces, netip.MustParsePrefix("fd12:3456:789b::/48"))
		subnet := &cfg.VNet.Subnets[0]
		subnet.AddressPrefixes = append(subnet.AddressPrefixes, netip.MustParsePrefix("fd12:3456:789b::/64"))
		cfg.LoadBalancerProfile.ManagedOutboundIPCountIPv6 = cfg.LoadBalancerProfile.ManagedOutboundIPCount
	}
	for left := nodes; left > 0; left -= 1000 {
		cfg.NodePools = append(cfg.NodePools, overlay.NodePool{Name: fmt.Sprint("pool", len(cfg.NodePools)), Count: min(left, 1000)})
	}
	c, err := overlay.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	var pods []netip.Addr
	for _, n := range c.Nodes() {
		for i := range podsPerNode {
			p, err := c.AddPod(n.Name, fmt.Sprint(n.Name, "-", i))
			if err != nil {
				b.Fatal(err)
			}
			pods = append(pods, p.Addrs[0])
		}
	}
	return c, pods
}

// podTraffic establishes the flows and returns their packets in random order.
func podTraffic(b testing.TB, c *overlay.Cluster, pods []netip.Addr, flows int) *traffic {
	inside := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(pods[i/portsPerInstance*podsPerNode+i%podsPerNode], uint16(20_000+i%portsPerInstance))
	}
	buf := buffers(1)[0]
	for i := range flows {
		pkt := tcp(buf, inside(i), remote(false), flow.SYN)
		if v := c.Outbound(0, pkt); v.Action != flow.Forward {
			b.Fatalf("flow %d: %v", i, v.Reason)
		}
		// The frontend and port stand in the packet now.
		outside := netip.AddrPortFrom(netip.AddrFrom4([4]byte(pkt[12:16])), uint16(pkt[20])<<8|uint16(pkt[21]))
		if v := c.Inbound(0, tcp(buf, remote(false), outside, flow.SYN|flow.ACK)); v.Action != flow.Forward {
			b.Fatalf("flow %d: %v", i, v.Reason)
		}
		c.Outbound(0, tcp(buf, inside(i), remote(false), flow.ACK))
	}
	n := min(trafficLen, flows)
	t := &traffic{pkts: make([]byte, n*64), n: n}
	rng := rand.New(rand.NewPCG(2, uint64(flows)))
	for i := range n {
		tcp(t.pkts[i*64:i*64+64], inside(rng.IntN(flows)), remote(false), flow.ACK|flow.PSH)
	}
	return t
}
