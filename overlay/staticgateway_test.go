package overlay_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/snat"
)

// gatewayConfig is a cluster with a gateway pool of two nodes and two static gateways.
func gatewayConfig() overlay.ClusterConfig {
	return overlay.ClusterConfig{
		NodePools: []overlay.NodePool{{Name: "p", Count: 2}, {Name: "gw", Count: 2, Mode: overlay.ModeGateway, GatewayPublicIPPrefixSize: 30}},
		StaticGatewayConfigurations: []overlay.StaticGatewayConfiguration{
			{Name: "shop/own", GatewayNodepoolName: "gw", PublicIPPrefix: netip.MustParsePrefix("20.88.0.4/30"), ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
			{Name: "shop/made", GatewayNodepoolName: "gw"},
		},
		Dataplane: snat.Dataplane{Seed: 1, HashKey: 1},
	}
}

func gatewayCluster(t *testing.T, edit func(*overlay.ClusterConfig)) *serving {
	cfg := gatewayConfig()
	if edit != nil {
		edit(&cfg)
	}
	c, err := overlay.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	for i := range 8 {
		_, err := c.AddPod(c.Nodes()[i%2].Name, fmt.Sprintf("shop/pod%d", i))
		require.NoError(t, err)
	}
	return &serving{T: t, Cluster: c}
}

// Annotated pods leave with addresses of the prefix, whatever the outbound type is, other pods and what
// is local or excluded as ever; answers come back; no port of the load balancer is used.
func TestAzureRow_11_4_staticEgress(t *testing.T) {
	for _, kind := range []overlay.OutboundType{overlay.OutboundLoadBalancer, overlay.OutboundManagedNATGateway, overlay.OutboundUserDefinedRouting, overlay.OutboundNone} {
		t.Run(kind.String(), func(t *testing.T) {
			s := gatewayCluster(t, func(c *overlay.ClusterConfig) { c.OutboundType = kind })
			own := netip.MustParsePrefix("20.88.0.4/30")
			seen := map[netip.Addr]bool{}
			for i := range 7 {
				name := fmt.Sprintf("shop/pod%d", i)
				require.NoError(t, s.UseStaticGateway(name, "shop/own"))
				client := s.addr(name) + ":5000"
				pkt := pkttest.TCP(client, "198.51.100.9:443", pkttest.SYN)
				x := s.Explain(0, pkt)
				assert.Equal(t, flow.Forward, x.Action)
				a := s.leaves(pkt)
				assert.Contains(t, x.String(), fmt.Sprintf("static gateway shop/own: The pod's node sends the packet to a node of the gateway: the source becomes %v", a))
				require.True(t, own.Contains(a))
				seen[a] = true
				from, _ := sockets(pkt)
				answer := pkttest.TCP("198.51.100.9:443", from.String(), pkttest.TCPFlags("SA"), pkttest.Ack(1))
				assert.Equal(t, flow.Forward, s.Explain(0, answer).Action)
				v := s.Inbound(0, answer)
				require.Equal(t, flow.Forward, v.Action)
				assert.Equal(t, s.Nodes()[i%2].Name, s.Nodes()[v.Instance].Name)
				pkttest.Check(t, answer, pkttest.Dst(client))
			}
			assert.Len(t, seen, 2, "both nodes are used")
			client := s.addr("shop/pod0") + ":6000"
			assert.Contains(t, s.outbound(pkttest.UDP(client, "10.225.0.9:53", "q")), s.node(0), "the virtual network")
			assert.NotContains(t, s.outbound(pkttest.UDP(client, "203.0.113.9:53", "q")), "20.88.0", "excluded")
			assert.NotContains(t, s.outbound(pkttest.UDP(s.addr("shop/pod7")+":6000", "198.51.100.9:53", "q")), "20.88.0", "no user")
			unasked := pkttest.TCP("198.51.100.9:443", "20.88.0.4:22", pkttest.SYN)
			assert.Equal(t, s.Explain(0, unasked).Reason, s.Inbound(0, unasked).Reason)
			sessions := 0
			for x := range s.Sessions() {
				if own.Contains(x.Outside.Addr()) {
					sessions++
					assert.Contains(t, x.Pod, "shop/pod")
					assert.NotEmpty(t, x.Node)
				}
			}
			assert.Equal(t, 7, sessions)
			g := s.StaticGateways()
			require.Len(t, g, 2)
			assert.Equal(t, 7, g[0].Nodes[0].Pods+g[0].Nodes[1].Pods)
			assert.Equal(t, 7, g[0].Nodes[0].Sessions+g[0].Nodes[1].Sessions)
			assert.Equal(t, netip.MustParsePrefix("20.61.0.0/30"), g[1].PublicIPPrefix)
		})
	}
}

// What leaves by a static gateway takes room of the node that it leaves by, and of no other: until it ends, or
// that address goes. Limits that come later count what there is.
func TestStaticGateway_ceilings(t *testing.T) {
	for reason, l := range map[flow.Reason]ceilings.Limits{
		flow.ReasonVMConnections: {VMConnections: 3, EphemeralPorts: 1}, flow.ReasonConntrack: {Conntrack: 3, EphemeralPorts: 1},
	} {
		s := gatewayCluster(t, func(c *overlay.ClusterConfig) { c.NodePools[1].Count = 1 })
		require.NoError(t, s.UseStaticGateway("shop/pod0", "shop/own"))
		require.NoError(t, s.UseStaticGateway("shop/pod1", "shop/made"))
		begins := func(pod string, port int) flow.Reason {
			pkt := pkttest.UDP(fmt.Sprintf("%s:%d", s.addr(pod), port), "198.51.100.9:53", "q")
			x := s.Explain(0, pkt)
			v := s.Outbound(0, pkt)
			assert.Equal(t, []any{x.Action, x.Reason}, []any{v.Action, v.Reason})
			return v.Reason
		}
		change := func(edit func(*overlay.ClusterConfig)) {
			c := s.Config()
			edit(&c)
			_, err := s.Reconfigure(0, c)
			require.NoError(t, err)
		}
		assert.Equal(t, flow.ReasonNone, begins("shop/pod0", 1))
		change(func(c *overlay.ClusterConfig) { c.Ceilings = l })
		assert.Equal(t, flow.ReasonNone, begins("shop/pod0", 2))
		assert.Equal(t, flow.ReasonNone, begins("shop/pod1", 3))
		assert.Equal(t, reason, begins("shop/pod0", 4))
		assert.Equal(t, reason, begins("shop/pod1", 4))
		assert.Equal(t, flow.ReasonNone, begins("shop/pod0", 1), "it goes on")
		for port := range 3 {
			assert.Equal(t, flow.ReasonNone, begins("shop/pod2", 1+port), "the pod's own node has room")
		}
		change(func(c *overlay.ClusterConfig) {
			c.StaticGatewayConfigurations[0].PublicIPPrefix = netip.MustParsePrefix("20.88.0.8/30")
		})
		assert.Equal(t, flow.ReasonNone, begins("shop/pod1", 4))
		assert.Equal(t, flow.ReasonNone, begins("shop/pod0", 4))
		assert.Equal(t, reason, begins("shop/pod0", 5))
		s.Advance(flow.At(time.Hour), nil)
		assert.Equal(t, flow.ReasonNone, begins("shop/pod0", 5))
	}
}

// What a pod begins by a static gateway passes the policy at the pod and the user's Admit, as what it begins
// elsewhere, and the groups of the gateway's node, whose address they see.
func TestStaticGateway_admission(t *testing.T) {
	rule := func(name string, priority int, from, to string) nsg.SecurityRule {
		return nsg.SecurityRule{
			Name: name, Priority: priority, Direction: nsg.Outbound, Access: nsg.Deny, SourceAddressPrefixes: []string{from}, SourcePortRanges: []string{"*"},
			DestinationAddressPrefixes: []string{to}, DestinationPortRanges: []string{"*"},
		}
	}
	forbidden := netip.MustParseAddr("198.51.100.66")
	var asked []snat.NewFlow
	s := gatewayCluster(t, nil)
	require.NoError(t, s.UseStaticGateway("shop/pod0", "shop/own"))
	established := s.addr("shop/pod0") + ":4000"
	s.leaves(pkttest.UDP(established, "198.51.100.66:53", "q"))
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.NetworkPolicy = func(f snat.NewFlow) bool { asked = append(asked, f); return f.Remote.Addr() != forbidden }
		c.Admit = func(f snat.NewFlow) flow.Reason {
			if f.Remote.Port() == 25 {
				return flow.ReasonRoute
			}
			return flow.ReasonNone
		}
		c.SecurityGroups = &nsg.Config{NetworkSecurityGroups: []nsg.NetworkSecurityGroup{{Name: overlay.ClusterSecurityGroupName, SecurityRules: []nsg.SecurityRule{
			rule("of-pods", 200, "10.244.0.0/16", "198.51.100.0/24"), rule("of-node", 201, s.node(0), "198.51.100.0/24"),
			rule("of-gateway", 202, s.node(2), "198.51.100.77"), rule("of-gateways", 203, s.node(3), "198.51.100.77"),
		}}}}
	}))
	client := s.addr("shop/pod0")
	tcp := func(to string) []byte { return pkttest.TCP(client+":5000", to, pkttest.SYN) }
	for name, tt := range map[string]struct {
		pkt  []byte
		want flow.Reason
	}{
		"allowed":                     {tcp("198.51.100.9:443"), flow.ReasonNone},
		"no policy lets it":           {tcp("198.51.100.66:443"), flow.ReasonNetworkPolicy},
		"in UDP":                      {pkttest.UDP(client+":5000", "198.51.100.66:53", "q"), flow.ReasonNetworkPolicy},
		"as an echo":                  {pkttest.ICMPEcho(client, "198.51.100.66", 7, 1), flow.ReasonNetworkPolicy},
		"of an established flow":      {pkttest.UDP(established, "198.51.100.66:53", "q"), flow.ReasonNone},
		"that the user does not want": {tcp("198.51.100.9:25"), flow.ReasonRoute},
		"that the node may not send":  {tcp("198.51.100.77:443"), flow.ReasonNSGOutbound},
	} {
		asked = nil
		x := s.Explain(0, tt.pkt)
		before := s.Stats().Outbound
		v := s.Outbound(0, append([]byte(nil), tt.pkt...))
		assert.Equal(t, tt.want, v.Reason, name)
		assert.Equal(t, []any{v.Action, v.Reason}, []any{x.Action, x.Reason}, "%s: %v", name, x)
		for _, f := range asked {
			assert.Equal(t, []any{flow.Inside, s.Nodes()[0].Name, uint32(0), client}, []any{f.From, f.Name, f.Instance, f.Inside.Addr().String()}, name)
		}
		if tt.want == flow.ReasonNone {
			continue
		}
		assert.Equal(t, before.Drops[tt.want]+1, s.Stats().Outbound.Drops[tt.want], name)
		one := []flow.Verdict{{}}
		s.OutboundBatch(0, [][]byte{append([]byte(nil), tt.pkt...)}, one)
		assert.Equal(t, v, one[0], name)
	}
	_, err := s.AddService(0, overlay.Service{Name: "far", Ports: []overlay.ServicePort{{Port: 80}}})
	require.NoError(t, err)
	require.NoError(t, s.SetEndpoints("far", overlay.Endpoint{Addr: forbidden}))
	assert.Equal(t, "network_policy", s.outbound(tcp(s.Services()[0].ClusterIPs[0].String()+":80")), "by a Service")
}

// Batches do what single packets do.
func TestStaticGateway_batches(t *testing.T) {
	s, one := gatewayCluster(t, nil), gatewayCluster(t, nil)
	for _, c := range []*serving{s, one} {
		require.NoError(t, c.UseStaticGateway("shop/pod0", "shop/own"))
		require.NoError(t, c.UseStaticGateway("shop/pod2", "shop/made"))
	}
	var out, in, singles [][]byte
	for i := range 100 {
		pkt := pkttest.UDP(netip.AddrPortFrom(netip.MustParseAddr(s.addr(fmt.Sprintf("shop/pod%d", i%4))), uint16(5000+i)).String(), []string{"198.51.100.9:53", "10.225.0.9:53"}[i/50], "q")
		out, singles = append(out, pkt), append(singles, append([]byte(nil), pkt...))
	}
	verdicts := make([]flow.Verdict, len(out))
	s.OutboundBatch(0, out, verdicts)
	for i := range out {
		v := one.Outbound(0, singles[i])
		require.Equal(t, v, verdicts[i], i)
		require.Equal(t, singles[i], out[i])
		src, dst := sockets(out[i])
		in = append(in, pkttest.UDP(dst.String(), src.String(), "a"))
		singles[i] = append([]byte(nil), in[i]...)
	}
	s.InboundBatch(0, in, verdicts)
	for i := range in {
		require.Equal(t, one.Inbound(0, singles[i]), verdicts[i], i)
		require.Equal(t, flow.Forward, verdicts[i].Action)
		require.Equal(t, singles[i], in[i])
	}
	assert.Equal(t, one.Stats().Outbound, s.Stats().Outbound)
}

// A gateway lives on when its pool scales, when a pod goes its address is another's, and prefixes that AKS
// makes stay.
func TestStaticGateway_life(t *testing.T) {
	s := gatewayCluster(t, nil)
	require.NoError(t, s.UseStaticGateway("shop/pod0", "shop/made"))
	to := func() []byte { return pkttest.TCP(s.addr("shop/pod0")+":5000", "198.51.100.9:443", pkttest.SYN) }
	s.leaves(to())
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) {
		c.NodePools[1].Count = 4
		c.StaticGatewayConfigurations = append([]overlay.StaticGatewayConfiguration{{Name: "a", GatewayNodepoolName: "gw"}}, c.StaticGatewayConfigurations...)
	}))
	g := s.StaticGateways()
	assert.Equal(t, []string{"20.61.0.16/30", "20.88.0.4/30", "20.61.0.0/30"}, []string{g[0].PublicIPPrefix.String(), g[1].PublicIPPrefix.String(), g[2].PublicIPPrefix.String()})
	require.Len(t, g[2].Nodes, 4)
	_, _, err := s.AddNodes(0, "gw", 1)
	require.ErrorIs(t, err, overlay.ErrTooManyNodes)
	_, err = s.AddPod(g[0].Nodes[0].Node, "shop/pod9")
	require.ErrorIs(t, err, overlay.ErrCordoned)

	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.NodePools[1].Count = 0 }))
	assert.Equal(t, "no_outbound", s.outbound(to()))
	assert.Equal(t, flow.ReasonNoOutbound, s.Explain(0, to()).Reason)
	require.NoError(t, s.reconfigure(func(c *overlay.ClusterConfig) { c.StaticGatewayConfigurations = nil }))
	assert.Equal(t, "no_outbound", s.outbound(to()), "it does not leave by another way unnoticed")
	require.NoError(t, s.RemovePod("shop/pod0"))
	addr := netip.MustParseAddr("10.244.0.2")
	assert.Contains(t, s.outbound(pkttest.TCP(netip.AddrPortFrom(addr, 5000).String(), "198.51.100.9:443", pkttest.SYN)), "20.50.1.1")
}

func TestStaticGateway_refused(t *testing.T) {
	for _, tt := range []struct {
		edit func(*overlay.ClusterConfig)
		is   error
		want string
	}{
		{func(c *overlay.ClusterConfig) { c.NodePools[1].GatewayPublicIPPrefixSize = 0 }, flow.ErrOutOfRange, "NodePools[1].GatewayPublicIPPrefixSize 0"},
		{func(c *overlay.ClusterConfig) { c.NodePools[1].GatewayPublicIPPrefixSize = 27 }, flow.ErrOutOfRange, "NodePools[1].GatewayPublicIPPrefixSize 27"},
		{func(c *overlay.ClusterConfig) { c.NodePools[0].GatewayPublicIPPrefixSize = 28 }, flow.ErrConflict, "NodePools[0].GatewayPublicIPPrefixSize 28"},
		{func(c *overlay.ClusterConfig) { c.NodePools[1].Count = 5 }, overlay.ErrTooManyNodes, "NodePools[1].Count 5: too many nodes: a /30 has addresses for 4"},
		{func(c *overlay.ClusterConfig) { c.NodePools[1].MaxCount = 4 }, flow.ErrConflict, "NodePools[1].MaxCount"},
		{func(c *overlay.ClusterConfig) { c.NodePools[1].Mode = 9 }, flow.ErrOutOfRange, "NodePools[1].Mode"},
		{func(c *overlay.ClusterConfig) { c.IPFamilies = "ipv4,ipv6" }, flow.ErrConflict, "NodePools[1].Mode Gateway"},
		{func(c *overlay.ClusterConfig) { c.StaticGatewayConfigurations[0].Name = "" }, flow.ErrMissing, "StaticGatewayConfigurations[0].Name"},
		{func(c *overlay.ClusterConfig) { c.StaticGatewayConfigurations[1].Name = "shop/own" }, flow.ErrDuplicateName, "StaticGatewayConfigurations[1].Name"},
		{func(c *overlay.ClusterConfig) { c.StaticGatewayConfigurations[0].GatewayNodepoolName = "p" }, flow.ErrUnknownName, `GatewayNodepoolName "p"`},
		{func(c *overlay.ClusterConfig) {
			c.StaticGatewayConfigurations[0].PublicIPPrefix = netip.MustParsePrefix("20.88.0.0/28")
		}, flow.ErrConflict, "StaticGatewayConfigurations[0].PublicIPPrefix 20.88.0.0/28"},
		{func(c *overlay.ClusterConfig) {
			c.StaticGatewayConfigurations[0].PublicIPPrefix = netip.MustParsePrefix("10.225.0.0/30")
		}, flow.ErrOverlap, "StaticGatewayConfigurations[0].PublicIPPrefix 10.225.0.0/30"},
		{func(c *overlay.ClusterConfig) {
			c.StaticGatewayConfigurations[0].PublicIPPrefix = netip.MustParsePrefix("20.50.1.0/30")
		}, flow.ErrOverlap, "LoadBalancerProfile"},
		{func(c *overlay.ClusterConfig) { c.StaticGatewayConfigurations[0].ExcludeCIDRs = []netip.Prefix{{}} }, flow.ErrPrefix, "StaticGatewayConfigurations[0].ExcludeCIDRs[0]"},
	} {
		c := gatewayConfig()
		require.NoError(t, c.Validate())
		tt.edit(&c)
		err := c.Validate()
		require.ErrorIs(t, err, tt.is, tt.want)
		assert.ErrorContains(t, err, tt.want)
	}
	s := gatewayCluster(t, nil)
	require.NoError(t, s.UseStaticGateway("shop/pod0", "shop/own"))
	for _, tt := range []struct {
		pod, configuration string
		is                 error
	}{
		{"shop/none", "shop/own", flow.ErrUnknownName},
		{"shop/pod1", "shop/none", flow.ErrUnknownName},
		{"shop/pod1", "own", flow.ErrConflict},
		{"shop/pod0", "shop/made", flow.ErrDuplicateName},
	} {
		require.ErrorIs(t, s.UseStaticGateway(tt.pod, tt.configuration), tt.is, tt)
	}
	for _, edit := range []func(*overlay.ClusterConfig){
		func(c *overlay.ClusterConfig) {
			c.NodePools[1].GatewayPublicIPPrefixSize = 29
			c.StaticGatewayConfigurations = nil
		},
		func(c *overlay.ClusterConfig) {
			c.NodePools[1].Mode, c.NodePools[1].GatewayPublicIPPrefixSize = overlay.ModeUser, 0
			c.StaticGatewayConfigurations = nil
		},
	} {
		require.ErrorIs(t, s.reconfigure(edit), snat.ErrFixed)
	}
	s.Close()
	require.ErrorIs(t, s.UseStaticGateway("shop/pod1", "shop/own"), flow.ErrClosed)
}
