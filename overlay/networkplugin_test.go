package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/snat"
)

// nodeSubnet is a configuration of nodes and pods that share 10.1.0.0/24.
func nodeSubnet(pools ...NodePool) ClusterConfig {
	return ClusterConfig{
		NetworkPlugin: cni.NodeSubnet, NodePools: pools,
		VNet: VNet{AddressSpaces: pfx("10.1.0.0/16"), Subnets: []Subnet{{"nodes", pfx("10.1.0.0/24")}}, PeeredPrefixes: pfx("192.168.0.0/16")},
	}
}

// A node keeps an address for each pod that it may run, beside its own.
func TestAzureRow_5_vnetCNI(t *testing.T) {
	c := newCluster(t, nodeSubnet(NodePool{Count: 2, MaxPods: 10}))
	nodes := c.Nodes()
	require.Equal(t, addrs("10.1.0.4"), nodes[0].Addrs)
	require.Equal(t, pfx("10.1.0.5/32", "10.1.0.6/31", "10.1.0.8/30", "10.1.0.12/31", "10.1.0.14/32"), nodes[0].PodBlocks)
	require.Equal(t, addrs("10.1.0.15"), nodes[1].Addrs)
	for i := range 10 {
		p, err := c.AddPod(nodes[1].Name, fmt.Sprint("pod", i))
		require.NoError(t, err)
		require.Equal(t, addrs(fmt.Sprintf("10.1.0.%d", 16+i)), p.Addrs)
		owner, ok := c.PodByAddr(p.Addrs[0])
		require.True(t, ok)
		require.Equal(t, p, owner)
	}
	_, err := c.AddPod(nodes[1].Name, "one more")
	require.ErrorIs(t, err, ErrTooManyPods)
	require.NoError(t, c.RemovePod("pod3"))
	p, err := c.AddPod(nodes[1].Name, "one more")
	require.NoError(t, err)
	require.Equal(t, addrs("10.1.0.19"), p.Addrs)
	_, ok := c.NodeByAddr(netip.MustParseAddr("10.1.0.26"))
	require.False(t, ok)
}

// Addresses are each given once, out of the subnet, and stay as long as the node does,
// however pools of different size come and go.
func TestNodeSubnet_addressesOverLife(t *testing.T) {
	const seed = 3
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	cfg := nodeSubnet(NodePool{Name: "a", Count: 1, MaxPods: 10}, NodePool{Name: "b", MaxPods: 33})
	subnet := cfg.VNet.Subnets[0].AddressPrefixes[0]
	c := newCluster(t, cfg)
	had := make(map[string]Node)
	full := 0
	for range 300 {
		next := c.Config()
		next.NodePools[0].Count, next.NodePools[1].Count = rng.IntN(12), rng.IntN(6)
		fits := next.NodePools[0].Count*11+next.NodePools[1].Count*34 <= 251 && next.NodePools[0].Count+next.NodePools[1].Count > 0
		_, err := c.Reconfigure(0, next)
		require.Equal(t, fits, err == nil, "%+v: %v", next.NodePools, err)
		if !fits {
			full++
			require.Error(t, err)
		}
		seen, now := make(map[netip.Addr]bool), make(map[string]Node)
		for _, n := range c.Nodes() {
			kept := 0
			all := []netip.Prefix{netip.PrefixFrom(n.Addrs[0], 32)}
			for _, r := range append(all, n.PodBlocks...) {
				require.Equal(t, r.Masked(), r)
				for a := r.Addr(); r.Contains(a); a = a.Next() {
					require.False(t, seen[a], "%v is given twice", a)
					require.True(t, subnet.Contains(a) && a.As4()[3] >= 4 && a.As4()[3] != 255, "%v", a)
					at, ok := c.NodeByAddr(a)
					require.True(t, ok)
					require.Equal(t, n.Name, at.Name)
					seen[a] = true
					kept++
				}
			}
			require.Equal(t, 1+n.MaxPods, kept)
			if before, ok := had[n.Name]; ok {
				require.Equal(t, before, n)
			}
			now[n.Name] = n
		}
		had = now
	}
	require.Positive(t, full)
}

// Who sees a pod's address, and who that of its node.
func TestAzureRow_5_vnetCNI_sources(t *testing.T) {
	for plugin, h := range map[cni.Plugin]hosts{cni.Overlay: eachFamily[0], cni.Kubenet: eachFamily[0], cni.NodeSubnet: inNodeSubnet} {
		t.Run(plugin.String(), func(t *testing.T) {
			n := newNetwork(t, func(c *ClusterConfig) { c.NetworkPlugin, c.IPFamilies = plugin, "ipv4" })
			inVNet := h.node
			if plugin == cni.NodeSubnet {
				inVNet = h.pod
			}
			for port, tt := range []struct{ to, source string }{
				{h.other, h.pod}, {h.pod2, h.pod}, {h.node, h.pod},
				{h.node2, inVNet}, {h.vm, inVNet}, {h.peer, h.node}, {"168.63.129.16", h.node}, {"169.254.169.254", h.node}, {h.remote, h.frontend},
			} {
				out := n.sends(pkttest.UDP(endpoint(h.pod, 4000+port), endpoint(tt.to, 53), "query"), tt.source)
				answer := reversed(out)
				if tt.to != h.other && tt.to != h.pod2 && tt.to != h.node && tt.to != h.node2 {
					n.takes(answer, h.pod)
				}
			}
			for _, to := range []string{h.vm, h.peer} {
				n.sends(pkttest.UDP(endpoint(h.node, 5000), endpoint(to, 53), "query"), h.node)
			}
			n.takes(pkttest.UDP(endpoint(h.vm, 7), endpoint(h.pod, 9), "unasked"), h.pod)
			n.sends(pkttest.UDP(endpoint(h.pod, 9), endpoint(h.vm, 7), "answer"), h.pod)
			require.Equal(t, flow.Drop, n.Inbound(0, pkttest.UDP(endpoint(h.remote, 7), endpoint(h.pod, 9), "unasked")).Action)
		})
	}
}

// The next hop of the user gets what pods send with their node's address, in each mode.
func TestNetworkPlugins_nextHop(t *testing.T) {
	for plugin, h := range map[cni.Plugin]hosts{cni.Kubenet: eachFamily[0], cni.NodeSubnet: inNodeSubnet} {
		n := newNetwork(t, func(c *ClusterConfig) {
			c.NetworkPlugin, c.IPFamilies, c.OutboundType = plugin, "ipv4", OutboundUserDefinedRouting
		})
		out := n.sends(pkttest.UDP(endpoint(h.pod, 4000), endpoint(h.remote, 53), "query"), h.node)
		n.takes(reversed(out), h.pod)
	}
}

// A packet between pods of nodes takes the route that kubenet has made for it.
func TestAzureRow_5_kubenet(t *testing.T) {
	pkt := pkttest.UDP("10.244.0.2:4000", "10.244.1.2:53", "query")
	for plugin, want := range map[cni.Plugin]bool{cni.Overlay: false, cni.Kubenet: true} {
		c := vnetCluster(t, func(c *ClusterConfig) { c.NetworkPlugin = plugin })
		const says = "route of the subnet: 10.244.1.2 is a pod's: the next hop is 10.1.0.5, node aks-nodepool1-vmss000001."
		require.Equal(t, want, strings.Contains(c.Explain(0, pkt).String(), says))
	}
}

// An internal Service takes an address that no node keeps for a pod.
func TestNodeSubnet_internalService(t *testing.T) {
	c := newCluster(t, nodeSubnet(NodePool{Count: 8, MaxPods: 30}))
	internal := func(name, addr string) Service {
		s := Service{Name: name, Type: LoadBalancer, Ports: []ServicePort{{Port: 80}}}
		s.Annotations = map[string]string{"service.beta.kubernetes.io/azure-load-balancer-internal": "true"}
		if addr != "" {
			s.Annotations["service.beta.kubernetes.io/azure-load-balancer-ipv4"] = addr
		}
		return s
	}
	_, err := c.AddService(0, internal("web", "10.1.0.9"))
	require.ErrorIs(t, err, flow.ErrOverlap)
	web, err := c.AddService(0, internal("web", ""))
	require.NoError(t, err)
	require.Equal(t, addrs("10.1.0.254"), web.LoadBalancerIPs)
	for i := range 3 { // 8 × 31 nodes and pods, and 3 of the 251
		_, err = c.AddService(0, internal(fmt.Sprint("more", i), ""))
		require.Equal(t, i < 2, err == nil, "%v", err)
	}
}

// What a plugin has no room for, or does not go together with, is refused by field and rule.
func TestNetworkPlugins_refusals(t *testing.T) {
	kubenet := func(nodes int, edit func(*ClusterConfig)) ClusterConfig {
		c := ClusterConfig{NetworkPlugin: cni.Kubenet, PodCIDRs: pfx("100.64.0.0/12"), NodePools: []NodePool{{Count: nodes}}}
		if edit != nil {
			edit(&c)
		}
		return c
	}
	two := func(c *ClusterConfig) { c.IPFamilies, c.PodCIDRs = "ipv4,ipv6", nil }
	windows := func(c *ClusterConfig) {
		c.NodePools = append(c.NodePools, NodePool{Name: "win", Count: 1, OSType: Windows})
	}
	both := func(edits ...func(*ClusterConfig)) func(*ClusterConfig) {
		return func(c *ClusterConfig) {
			for _, edit := range edits {
				edit(c)
			}
		}
	}
	engine := func(e cni.PolicyEngine) func(*ClusterConfig) {
		return func(c *ClusterConfig) { c.NetworkPolicyEngine = e }
	}
	routed := func(c *ClusterConfig) { c.OutboundType = OutboundUserDefinedRouting }
	for name, tt := range map[string]struct {
		config ClusterConfig
		want   string // "" is none
	}{
		"kubenet, 400 nodes":                 {kubenet(400, nil), ""},
		"kubenet, 401 nodes":                 {kubenet(401, nil), "NodePools: too many nodes: 401, and the routes of a subnet serve 400 with NetworkPlugin kubenet"},
		"kubenet, 400 and one surge":         {kubenet(400, func(c *ClusterConfig) { c.NodePools[0].MaxSurge = "5" }), ""},
		"kubenet, autoscaled to 401":         {kubenet(3, func(c *ClusterConfig) { c.NodePools[0].MaxCount = 401 }), "NodePools: too many nodes: 401"},
		"kubenet, 400 routes and a default":  {kubenet(400, routed), "serve 399 with NetworkPlugin kubenet"},
		"kubenet, 200 nodes of two families": {kubenet(200, two), ""},
		"kubenet, 201 nodes of two families": {kubenet(201, two), "serve 200 with"},
		"kubenet, 250 pods":                  {kubenet(1, func(c *ClusterConfig) { c.NodePools[0].MaxPods = 250 }), ""},
		"kubenet, 251 pods":                  {kubenet(1, func(c *ClusterConfig) { c.NodePools[0].MaxPods = 251 }), "NodePools[0].MaxPods 251: out of range: 10..250"},
		"kubenet and Windows":                {kubenet(1, windows), "NodePools[1].OSType Windows: conflict: NetworkPlugin kubenet is for Linux nodes only"},
		"kubenet and Calico":                 {kubenet(1, engine(cni.Calico)), ""},
		"kubenet and Azure NPM":              {kubenet(1, engine(cni.Azure)), "NetworkPolicyEngine azure: conflict: with NetworkPlugin kubenet there is calico only"},
		"kubenet and Cilium":                 {kubenet(1, engine(cni.Cilium)), "NetworkPolicyEngine cilium: conflict: with"},
		"kubenet, Calico and two families":   {kubenet(1, both(two, engine(cni.Calico))), "NetworkPolicyEngine calico: conflict: not in a cluster of two families"},
		"two families and Azure NPM":         {dual(engine(cni.Azure)), "NetworkPolicyEngine azure: conflict: not in a cluster of two families"},
		"two families and Calico":            {dual(engine(cni.Calico)), "NetworkPolicyEngine calico: conflict: not in a cluster of two families"},
		"two families and Cilium":            {dual(engine(cni.Cilium)), ""},
		"Windows and Cilium":                 {single(both(windows, engine(cni.Cilium))), "NetworkPolicyEngine cilium: conflict: is for Linux nodes only"},
		"no such engine":                     {single(engine(99)), "NetworkPolicyEngine"},
		"no such plugin":                     {single(func(c *ClusterConfig) { c.NetworkPlugin = 99 }), "NetworkPlugin"},
		"node subnet, 8 nodes of a /24":      {nodeSubnet(NodePool{Count: 8}), ""},
		"node subnet, 9 nodes of a /24":      {nodeSubnet(NodePool{Count: 9}), "VNet.Subnets[0].AddressPrefixes[0] 10.1.0.0/24: too many nodes: has room for 251 addresses, the nodes of the pools in it may take 279"},
		"node subnet and pod CIDRs":          {func() ClusterConfig { c := nodeSubnet(NodePool{Count: 1}); c.PodCIDRs = pfx("10.244.0.0/16"); return c }(), "PodCIDRs [10.244.0.0/16]: conflict: with NetworkPlugin nodeSubnet pods have addresses of VNet.Subnets"},
		"node subnet and two families":       {dual(func(c *ClusterConfig) { c.NetworkPlugin = cni.NodeSubnet }), `IPFamilies "ipv4,ipv6": conflict: NetworkPlugin is nodeSubnet: pods have addresses of the subnet, which are of IPv4 only`},
		"node subnet, more than a network has": {single(func(c *ClusterConfig) {
			c.NetworkPlugin, c.VNet = cni.NodeSubnet, VNet{AddressSpaces: pfx("10.64.0.0/10"), Subnets: []Subnet{{"a", pfx("10.64.0.0/12")}}}
			c.NodePools = []NodePool{{Count: 270, MaxPods: 250}}
		}), "NodePools: too many nodes: they take 67770 addresses, a virtual network has at most 65536"},
		"the first pool is of Windows":      {ClusterConfig{NodePools: []NodePool{{Count: 1, OSType: Windows}}}, "NodePools[0].OSType Windows: conflict: the first pool"},
		"Windows with a Linux distribution": {single(both(windows, func(c *ClusterConfig) { c.NodePools[1].OSSKU = AzureLinux })), "NodePools[1].OSSKU AzureLinux: conflict: OSType is Windows"},
		"OutboundNAT off, load balancer":    {single(both(windows, func(c *ClusterConfig) { c.NodePools[1].DisableOutboundNAT = true })), "NodePools[1].DisableOutboundNAT true: conflict: needs a NAT gateway or userDefinedRouting, OutboundType is loadBalancer"},
		"OutboundNAT off, NAT gateway": {single(both(windows, func(c *ClusterConfig) {
			c.NodePools[1].DisableOutboundNAT, c.OutboundType = true, OutboundManagedNATGateway
		})), ""},
		"OutboundNAT off, node public IPs": {single(both(windows, routed, func(c *ClusterConfig) {
			c.NodePools[1].DisableOutboundNAT, c.NodePools[1].NodePublicIP.Enabled = true, true
		})), "NodePools[1].DisableOutboundNAT true: conflict: the pool has node public IPs"},
		"OutboundNAT off, user-defined routing": {single(both(windows, routed, func(c *ClusterConfig) { c.NodePools[1].DisableOutboundNAT = true })), ""},
		"OutboundNAT off, Linux":                {single(both(routed, func(c *ClusterConfig) { c.NodePools[0].DisableOutboundNAT = true })), "NodePools[0].DisableOutboundNAT true: conflict: OSType is Linux, which has no OutboundNAT"},
		"two families and NAT gateway Standard": {dual(func(c *ClusterConfig) { c.OutboundType = OutboundManagedNATGateway }), "OutboundType managedNATGateway: conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.config.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// Pod CIDRs are expanded on Azure CNI Overlay, and without Windows nodes.
func TestNetworkPlugins_expansion(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*ClusterConfig)
		want error
	}{
		"overlay": {nil, nil},
		"kubenet": {func(c *ClusterConfig) { c.NetworkPlugin = cni.Kubenet }, snat.ErrFixed},
		"Windows": {func(c *ClusterConfig) {
			c.NodePools = append(c.NodePools, NodePool{Name: "win", OSType: Windows})
		}, snat.ErrFixed},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, single(func(c *ClusterConfig) {
				c.PodCIDRs = pfx("10.244.0.0/18")
				if tt.edit != nil {
					tt.edit(c)
				}
			}))
			next := c.Config()
			next.PodCIDRs = pfx("10.244.0.0/16")
			_, err := c.Reconfigure(0, next)
			require.ErrorIs(t, err, tt.want)
		})
	}
	c := newCluster(t, single(nil))
	next := c.Config()
	next.NetworkPlugin = cni.Kubenet
	_, err := c.Reconfigure(0, next)
	require.ErrorIs(t, err, snat.ErrFixed)
	require.ErrorContains(t, err, "NetworkPlugin kubenet: cannot be changed by Reconfigure: it is overlay")
}
