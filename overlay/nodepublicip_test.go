package overlay

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// publicPool makes the first pool one with node public IPs out of prefixes.
func publicPool(count int, hostPorts string, prefixes ...string) func(*ClusterConfig) {
	return func(c *ClusterConfig) {
		p := &c.NodePools[0]
		p.Count, p.NodePublicIP = count, NodePublicIP{Enabled: true, AllowedHostPorts: hostPorts}
		if len(prefixes) > 0 {
			p.NodePublicIP.Prefixes = pfx(prefixes...)
		}
	}
}

const (
	public4, public6 = "203.0.113.16/28", "2001:db8:60::/124"
	client4          = "198.51.100.9:5000"
)

func syn(src, dst string) []byte { return pkttest.TCP(src, dst, pkttest.SYN, pkttest.Seq(1)) }

func TestAzure_55_allowedHostPortsOfAPool(t *testing.T) {
	const ports = "40000-60000/tcp,40000-50000/udp"
	n := newNetwork(t, publicPool(2, ports))
	group, ok := n.ClusterSecurityGroup()
	require.True(t, ok)
	require.Len(t, group.NetworkSecurityGroups[0].SecurityRules, 2)
	require.Equal(t, []nsg.ApplicationSecurityGroup{{Name: "asg-nodepool1", Addrs: addrs("10.1.0.4", "fd00:1::4", "10.1.0.5", "fd00:1::5")}}, group.ApplicationSecurityGroups)
	for _, bad := range []string{"80", "80/icmp", "443-80/tcp", "80/tcp,", "0/tcp", "65536/udp"} {
		err := dual(publicPool(1, bad)).Validate()
		require.ErrorIs(t, err, flow.ErrSyntax, bad)
		require.ErrorContains(t, err, "NodePools[0].NodePublicIP.AllowedHostPorts[", bad)
	}
}

// A /28 serves 16 nodes. The 17th leaves by the outbound rule.
func TestAzure_58_nodePublicIPPrefix(t *testing.T) {
	n := newNetwork(t, publicPool(17, "", public4, public6))
	seen := make(map[netip.Addr]bool)
	for i, node := range n.Nodes() {
		pod := endpoint(addressing.At(node.PodBlocks[ipv4], 7).String(), 5000)
		if i == 16 {
			require.Empty(t, node.PublicAddrs)
			n.sends(syn(pod, "198.51.100.9:443"), "20.50.1.1")
			continue
		}
		require.Len(t, node.PublicAddrs, 2)
		for f, a := range node.PublicAddrs {
			require.True(t, pfx(public4, public6)[f].Contains(a), "%v", a)
			require.False(t, seen[a], "%v twice", a)
			seen[a] = true
		}
		own := node.PublicAddrs[0].String()
		pkttest.Check(t, n.sends(syn(endpoint(node.Addrs[0].String(), 5000), "198.51.100.9:443"), own), pkttest.Src(endpoint(own, 5000)))
		n.sends(syn(pod, "198.51.100.9:443"), own)
	}
}

// What a node with an address of its own sends leaves one to one, in every protocol; its
// pods share the address, and answers come back.
func TestAzureRow_6_enable(t *testing.T) {
	n := newNetwork(t, publicPool(2, "", public4, public6))
	for _, h := range []struct{ node, pod, public, remote string }{
		{"10.1.0.4", "10.244.0.2", "203.0.113.16", "198.51.100.9"},
		{"fd00:1::4", "fd12:3456:789a::2", "2001:db8:60::", "2001:db8:ffff::9"},
	} {
		for _, x := range exchanges() {
			n.sends(x.there(h.node, h.remote), h.public)
			n.takes(x.back(h.remote, h.public), h.node)
		}
		n.sends(pkttest.UDP(endpoint(h.pod, 7000), endpoint(h.remote, 53), "q"), h.public)
		found := 0
		for s := range n.Sessions() {
			if s.Inside.Port() == 7000 && s.Inside.Addr().Is6() == netip.MustParseAddr(h.pod).Is6() {
				found++
				n.takes(pkttest.UDP(endpoint(h.remote, 53), s.Outside.String(), "a"), endpoint(h.pod, 7000))
			}
		}
		require.Equal(t, 1, found)
	}
	plan := n.Allocations()
	require.Empty(t, plan[0].Ports, "it needs no port of the load balancer")
}

// Echoes of a node and of its pods pass by its public address, and errors about flows of a pod come back to it;
// with ICMP.Queries those of other nodes pass, too, and else no ICMP does.
func TestNodePublicIP_ICMP(t *testing.T) {
	for _, queries := range []bool{false, true} {
		n := newNetwork(t, func(c *ClusterConfig) {
			publicPool(1, "", public4, public6)(c)
			c.NodePools = append(c.NodePools, NodePool{Name: "plain", Count: 1})
			c.ICMP.Queries = queries
		})
		for _, h := range eachFamily {
			public := map[string]string{"v4": "203.0.113.16", "v6": "2001:db8:60::"}[h.family]
			exceeded := map[string]uint8{"v4": 11, "v6": 3}[h.family]
			n.sends(pkttest.ICMPEcho(h.node, h.remote, 6, 1), public)
			agrees(t, n.Cluster, 0, pkttest.ICMPEcho(h.pod, h.remote, 7, 1), "forward none")
			n.sends(pkttest.ICMPEcho(h.pod, h.remote, 7, 2), public)
			n.takes(pkttest.ICMPEchoReply(h.remote, public, 7, 1), h.pod)
			left := n.sends(pkttest.UDP(endpoint(h.pod, 4000), endpoint(h.remote, 33434), "q"), public)
			n.takes(pkttest.ICMP(h.peer, public, exceeded, 0, 0, left), h.pod)
			about := n.takes(pkttest.UDP(endpoint(h.remote, 33434), endpoint(public, 4000), "a"), endpoint(h.pod, 4000))
			n.sends(pkttest.ICMP(h.pod, h.remote, map[string]uint8{"v4": 3, "v6": 1}[h.family], 3, 0, about), public)
			want := map[bool]string{false: "drop unsupported_proto", true: "forward none"}[queries]
			agrees(t, n.Cluster, 0, pkttest.ICMPEcho(h.other, h.remote, 7, 1), want)
			agrees(t, n.Cluster, 0, pkttest.ICMPEcho(h.node2, h.remote, 8, 1), want)
		}
	}
}

// TCP from the Internet reaches the node at host ports that are allowed only, and what the
// group of the subnet denies nowhere.
func TestAzureRow_6_effect(t *testing.T) {
	n := newNetwork(t, publicPool(1, "", public4, public6))
	n.drops(n.Inbound(0, syn(client4, "203.0.113.16:80")), flow.ReasonNSGInbound)
	n.change(func(c *ClusterConfig) { c.NodePools[0].NodePublicIP.AllowedHostPorts = "80/tcp, 40000-40010/TCP" })
	for _, port := range []string{"80", "40000", "40010"} {
		n.takes(syn(client4, "203.0.113.16:"+port), "10.1.0.4:"+port)
		n.takes(syn("[2001:db8:ffff::9]:5000", "[2001:db8:60::]:"+port), "[fd00:1::4]:"+port)
		n.sends(pkttest.TCP("10.1.0.4:"+port, client4, pkttest.TCPFlags("SA"), pkttest.Seq(5), pkttest.Ack(2)), "203.0.113.16:"+port)
	}
	n.drops(n.Inbound(0, syn(client4, "203.0.113.16:40011")), flow.ReasonNSGInbound)
	query := func(port string) []byte { return pkttest.UDP(client4, "203.0.113.16:"+port, "query") }
	n.drops(n.Inbound(0, query("53")), flow.ReasonNSGInbound)
	n.drops(n.Inbound(0, pkttest.ICMPEcho("198.51.100.9", "203.0.113.16", 7, 1)), flow.ReasonNSGInbound)
	n.drops(n.Inbound(0, pkttest.IP("198.51.100.9", "203.0.113.16", 50, []byte("x"))), flow.ReasonNSGInbound)
	n.sends(pkttest.UDP("10.1.0.4:40123", client4, "from inside"), "203.0.113.16")
	n.takes(query("40123"), "10.1.0.4:40123") // which answers that
	n.change(func(c *ClusterConfig) {
		c.NodePools[0].NodePublicIP.AllowedHostPorts = "53/udp, 80/tcp, 40000-40010/TCP"
	})
	n.takes(query("53"), "10.1.0.4:53")
	n.drops(n.Inbound(0, query("54")), flow.ReasonNSGInbound)
	n.takes(syn("10.1.77.1:5000", "10.1.0.4:22"), "10.1.0.4:22") // from the network

	n.change(func(c *ClusterConfig) {
		c.SecurityGroups = &nsg.Config{
			NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: "subnet", SecurityRules: []nsg.SecurityRule{{
				Name: "web", Priority: 100, Access: nsg.Allow, Protocol: nsg.TCP, SourceAddressPrefixes: []string{nsg.TagInternet},
				DestinationAddressPrefixes: []string{"*"}, DestinationPortRanges: []string{"80", "443"},
			}}}},
			Subnets: []nsg.Subnet{{Name: "nodes", AddressPrefixes: pfx("10.1.0.0/24"), NetworkSecurityGroup: "subnet"}},
		}
	})
	n.takes(syn("198.51.100.9:5001", "203.0.113.16:80"), "10.1.0.4:80")
	n.drops(n.Inbound(0, syn("198.51.100.9:5001", "203.0.113.16:40000")), flow.ReasonNSGInbound)
	n.drops(n.Inbound(0, syn("198.51.100.9:5001", "203.0.113.16:443")), flow.ReasonNSGInbound)
}

// A NAT gateway precedes the nodes' own addresses, and a pool that comes later may have some.
func TestAzure_40_nodePublicIPAndNATGateway(t *testing.T) {
	n := newNetwork(t, func(c *ClusterConfig) {
		c.IPFamilies, c.VNet = "ipv4", VNet{}
		publicPool(1, "", public4)(c)
		c.OutboundType = OutboundManagedNATGateway
	})
	n.sends(syn("10.244.0.2:5000", "198.51.100.9:443"), "20.50.1.1")
	n.change(func(c *ClusterConfig) { c.OutboundType = OutboundNone })
	n.sends(syn("10.244.0.2:5001", "198.51.100.9:443"), "203.0.113.16")
	n.change(func(c *ClusterConfig) {
		c.NodePools = append(c.NodePools, NodePool{Name: "later", Count: 1, NodePublicIP: NodePublicIP{Enabled: true}},
			NodePool{Name: "shares", Count: 1, NodePublicIP: NodePublicIP{Enabled: true, Prefixes: pfx(public4)}}, NodePool{Name: "plain", Count: 1})
	})
	n.sends(syn("10.244.1.2:5000", "198.51.100.9:443"), "20.60.0.0")
	n.sends(syn("10.244.2.2:5000", "198.51.100.9:443"), "203.0.113.17")
	n.drops(n.Outbound(0, syn("10.244.3.2:5000", "198.51.100.9:443")), flow.ReasonNoOutbound)
}

// Nodes that stay keep their addresses, and an address is given again after its node has gone.
func TestAzureRow_6_prefix(t *testing.T) {
	n := newNetwork(t, publicPool(15, "", "203.0.113.16/30", "2001:db8:60::/126"))
	public := func() (all []string) {
		for _, node := range n.Nodes() {
			all = append(all, fmt.Sprint(node.Name[len(node.Name)-1:], node.PublicAddrs))
		}
		return all[:5]
	}
	before := public()
	require.Equal(t, "4[]", before[4])
	_, err := n.RemoveNodes(0, "aks-nodepool1-vmss000001")
	require.NoError(t, err)
	after := public()
	require.Equal(t, before[0], after[0])
	require.Equal(t, before[2:4], after[1:3])
	require.Equal(t, "4[]", after[3], "a node that had none has none")
	for _, want := range [][]netip.Addr{addrs("203.0.113.17", "2001:db8:60::1"), nil} {
		names, change, err := n.AddNodes(0, "nodepool1", 1)
		require.NoError(t, err)
		require.Zero(t, change.Total().Cut)
		node, ok := n.Node(names[0])
		require.True(t, ok)
		require.Equal(t, want, node.PublicAddrs)
	}
}

func TestNodePublicIP_refused(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(p *NodePublicIP, c *ClusterConfig)
		is   error
		want string
	}{
		"prefix without addresses": {func(p *NodePublicIP, _ *ClusterConfig) { p.Enabled = false }, flow.ErrConflict, "NodePools[0].NodePublicIP.Enabled"},
		"one family of two":        {func(p *NodePublicIP, _ *ClusterConfig) { p.Prefixes = pfx(public4) }, flow.ErrMissing, "NodePools[0].NodePublicIP.Prefixes"},
		"wrong order":              {func(p *NodePublicIP, _ *ClusterConfig) { p.Prefixes = pfx(public6, public4) }, ErrFamily, "NodePublicIP.Prefixes[0]"},
		"too large":                {func(p *NodePublicIP, _ *ClusterConfig) { p.Prefixes = pfx("203.0.113.0/27", public6) }, flow.ErrOutOfRange, "NodePublicIP.Prefixes[0]"},
		"inside":                   {func(p *NodePublicIP, _ *ClusterConfig) { p.Prefixes = pfx("10.1.3.16/28", public6) }, flow.ErrOverlap, "VNet.AddressSpaces[0]"},
		"an outbound IP":           {func(p *NodePublicIP, _ *ClusterConfig) { p.Prefixes = pfx("20.50.1.0/28", public6) }, flow.ErrOverlap, "LoadBalancerProfile"},
		"unknown tag":              {func(p *NodePublicIP, _ *ClusterConfig) { p.Tags = []string{"RoutingPreference=Intranet"} }, flow.ErrOutOfRange, "NodePublicIP.Tags[0]"},
		"tag twice": {func(p *NodePublicIP, _ *ClusterConfig) {
			p.Tags = []string{"RoutingPreference=Internet", "RoutingPreference=Internet"}
		}, flow.ErrConflict, "NodePublicIP.Tags[1]"},
		"pools that overlap": {func(_ *NodePublicIP, c *ClusterConfig) {
			c.NodePools = append(c.NodePools, NodePool{Name: "b", NodePublicIP: NodePublicIP{Enabled: true, Prefixes: pfx("203.0.113.16/29", public6)}})
		}, flow.ErrOverlap, "NodePools[1].NodePublicIP.Prefixes[0]"},
		"more rules than a group has": {func(_ *NodePublicIP, c *ClusterConfig) {
			for i := range 101 {
				p := NodePool{Name: fmt.Sprint("p", i), Count: 1, NodePublicIP: NodePublicIP{Enabled: true, AllowedHostPorts: "80/tcp"}}
				c.NodePools = append(c.NodePools, p)
			}
		}, flow.ErrTooMany, "aks-agentpool-nsg"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := dual(publicPool(2, "", public4, public6))
			cfg.VNet = VNet{AddressSpaces: pfx("10.1.0.0/16", "fd00:1::/48"), Subnets: []Subnet{{"nodes", pfx("10.1.0.0/24", "fd00:1::/64")}}}
			require.NoError(t, cfg.Validate())
			tt.edit(&cfg.NodePools[0].NodePublicIP, &cfg)
			err := cfg.Validate()
			require.ErrorIs(t, err, tt.is)
			require.ErrorContains(t, err, tt.want)
		})
	}
	n := newNetwork(t, publicPool(2, "", public4, public6))
	for _, edit := range []func(*NodePublicIP){
		func(p *NodePublicIP) { *p = NodePublicIP{} },
		func(p *NodePublicIP) { p.Prefixes = pfx("203.0.113.32/28", public6) },
		func(p *NodePublicIP) { p.Tags = []string{"RoutingPreference=Internet"} },
	} {
		cfg := n.Config()
		edit(&cfg.NodePools[0].NodePublicIP)
		_, err := n.Reconfigure(0, cfg)
		require.ErrorIs(t, err, snat.ErrFixed)
	}
}
