// Network plugins: where pods have their addresses from, and what AKS allows together with
// that. Read "AKS legacy Container Networking Interfaces (CNI)" first.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/snat"
)

// NetworkPlugin says where pods have their addresses from, and so who sees them. It stays as
// long as the cluster exists.
type NetworkPlugin uint8

// The network plugins of AKS.
const (
	// PluginOverlay is Azure CNI Overlay (networkPlugin azure, networkPluginMode overlay):
	// every node has a pod block of PodCIDRs, which the virtual network carries without
	// knowing it. Outside of it pods are seen as their node. The default.
	PluginOverlay NetworkPlugin = iota

	// PluginKubenet is kubenet. Every node has a pod block of PodCIDRs, too, and a route of the
	// subnet leads to it by the node's address, one per family; a route table has room for
	// 400 routes, so there are at most 400 nodes, or 200 with two families, less those that
	// OutboundUserDefinedRouting needs for itself. It is for Linux only, without network policy or with that of
	// Calico. Packets take the ways that they take with PluginOverlay.
	PluginKubenet

	// PluginNodeSubnet is Azure CNI in VNet mode (Node Subnet; networkPlugin azure without
	// a mode): there is no pod CIDR, and pods have addresses of their node's subnet,
	// which a node takes for all its MaxPods when it comes. So a pool takes Count × (MaxPods + 1) addresses
	// of its subnet, and all of a virtual network at most 65,536 ("Azure subscription and
	// service limits"). The virtual network sees the pod's address, and what is beyond,
	// peered networks included, that of its node. It is for IPv4 only.
	PluginNodeSubnet

	numNetworkPlugins
)

var networkPluginNames = [...]string{"overlay", "kubenet", "nodeSubnet"}

// defaultMaxPods are the values of MaxPods by plugin ("AKS legacy CNI", "Azure CNI Overlay
// networking").
var defaultMaxPods = [...]int{DefaultMaxPods, 110, 30}

var (
	_ = [1]struct{}{}[len(networkPluginNames)-int(numNetworkPlugins)] // one name per plugin
	_ = [1]struct{}{}[len(defaultMaxPods)-int(numNetworkPlugins)]
)

// String returns "overlay", "kubenet" or "nodeSubnet".
func (p NetworkPlugin) String() string { return enum.Name(p, networkPluginNames[:]) }

// NetworkPolicyEngine is who enforces network policies. What they say is the business of
// [ClusterConfig].NetworkPolicy; here it is only checked what AKS refuses.
type NetworkPolicyEngine uint8

// The network policy engines of AKS.
const (
	PolicyEngineNone   NetworkPolicyEngine = iota // no engine, or one that AKS does not know of. The default
	PolicyEngineAzure                             // Azure Network Policy Manager: not with kubenet, not with two families
	PolicyEngineCalico                            // Calico: not with two families
	PolicyEngineCilium                            // Cilium: not with kubenet, and for Linux only
	numNetworkPolicyEngines
)

var networkPolicyEngineNames = [...]string{"none", "azure", "calico", "cilium"}

var _ = [1]struct{}{}[len(networkPolicyEngineNames)-int(numNetworkPolicyEngines)] // one name per engine

// String returns the name that AKS gives it, such as "calico".
func (e NetworkPolicyEngine) String() string { return enum.Name(e, networkPolicyEngineNames[:]) }

// Specification constants of plugins.
const (
	maxRoutes        = 400    // of a route table ("Use dual-stack kubenet networking in AKS")
	maxPrivateAddrs  = 65_536 // of a virtual network ("Azure subscription and service limits")
	windowsPods      = 110    // more are not recommended on a Windows node
	windowsNATPorts  = 64     // of an address of a Windows node, for what its pods begin
	reasonIPv4Only   = "pods have addresses of the subnet, which are of IPv4 only"
	reasonLinuxNodes = "is for Linux nodes only"
)

// hasPodCIDRs reports whether pods have addresses of PodCIDRs.
func (c *ClusterConfig) hasPodCIDRs() bool { return c.NetworkPlugin != PluginNodeSubnet }

// unmasked are the destinations that pods reach with their own address.
func (c *ClusterConfig) unmasked() []netip.Prefix {
	own := c.PodCIDRs
	if !c.hasPodCIDRs() {
		own = slices.DeleteFunc(slices.Clone(c.VNet.AddressSpaces), func(p netip.Prefix) bool { return ranges.Within(p, c.ServiceCIDRs) })
	}
	return slices.Concat(own, c.Masquerade.NonMasqueradeCIDRs)
}

// addrsPerNode is how many addresses of its subnet a node of a pool takes.
func (c *ClusterConfig) addrsPerNode(p *NodePool) int {
	if c.hasPodCIDRs() {
		return 1
	}
	return 1 + p.MaxPods
}

// checkNetworkPlugin checks what does not go together with the plugin and the policy engine.
func (v *validation) checkNetworkPlugin() {
	if !problems.Constant(&v.List, "NetworkPlugin", v.NetworkPlugin, numNetworkPlugins) {
		return
	}
	two := len(v.families()) == int(numFamilies)
	if v.NetworkPlugin == PluginNodeSubnet && two {
		v.Add("IPFamilies", v.IPFamilies, flow.ErrConflict, "NetworkPlugin is %v: %s", v.NetworkPlugin, reasonIPv4Only)
	}
	windows := false
	for i, p := range v.NodePools {
		if p.OSType != Windows {
			continue
		}
		windows = true
		if v.NetworkPlugin == PluginKubenet {
			v.Add(problems.Index("NodePools", i)+".OSType", p.OSType, flow.ErrConflict, "NetworkPlugin %v %s", v.NetworkPlugin, reasonLinuxNodes)
		}
	}
	const path = "NetworkPolicyEngine"
	if !problems.Constant(&v.List, path, v.NetworkPolicyEngine, numNetworkPolicyEngines) {
		return
	}
	switch e := v.NetworkPolicyEngine; {
	case e == PolicyEngineNone:
	case v.NetworkPlugin == PluginKubenet && e != PolicyEngineCalico:
		v.Add(path, e, flow.ErrConflict, "with NetworkPlugin %v there is %v only", v.NetworkPlugin, PolicyEngineCalico)
	case e == PolicyEngineCilium && windows:
		v.Add(path, e, flow.ErrConflict, "%s", reasonLinuxNodes)
	case e != PolicyEngineCilium && two:
		v.Add(path, e, flow.ErrConflict, "not in a cluster of two families, IPFamilies is %q", v.IPFamilies)
	}
}

// checkRoom compares the ranges of pods, nodes and routes with the nodes that there may be:
// in all, and the addresses of each subnet that they take.
func (v *validation) checkRoom(total int, perSubnet map[string]int) {
	// The documents count a range's blocks and addresses against the nodes that
	// may exist. An upgrade's surge is not counted here (our choice): it delays
	// the upgrade, it does not make the configuration invalid.
	for i, p := range v.PodCIDRs {
		if n := NodesPerPodCIDR(p); 0 < n && n < total {
			v.Add(problems.Index("PodCIDRs", i), p, ErrTooManyNodes, "has room for the pod blocks of %d nodes, NodePools may have %d", n, total)
		}
	}
	if routes := len(v.families()); v.NetworkPlugin == PluginKubenet {
		most := maxRoutes / routes
		if v.OutboundType == OutboundUserDefinedRouting {
			most-- // the route to the Internet
		}
		if total > most {
			v.Add("NodePools", problems.None, ErrTooManyNodes, "%d, and the %d routes of a route table serve %d with NetworkPlugin %v", total, maxRoutes, most, v.NetworkPlugin)
		}
	}
	sum := 0
	for i, s := range v.VNet.Subnets {
		need := perSubnet[s.Name]
		sum += need
		for j, p := range s.AddressPrefixes {
			first, ok := s.prefix(familyOf(p.Addr()))
			n := NodesPerSubnet(p)
			if !ok || p != first || !p.IsValid() || n >= need {
				continue
			}
			at := problems.Index(problems.Index("VNet.Subnets", i)+".AddressPrefixes", j)
			if v.hasPodCIDRs() {
				v.Add(at, p, ErrTooManyNodes, "has room for %d nodes, the pools in it may have %d", n, need)
			} else {
				v.Add(at, p, ErrTooManyNodes, "has room for %d addresses, the nodes of the pools in it may take %d, each one and its MaxPods", n, need)
			}
		}
	}
	if !v.hasPodCIDRs() && sum > maxPrivateAddrs {
		v.Add("NodePools", problems.None, ErrTooManyNodes, "they take %d addresses, a virtual network has at most %d", sum, maxPrivateAddrs)
	}
}

// checkPodCIDRChange reports pod CIDRs that may not change as they do: AKS expands those of
// Azure CNI Overlay without Windows nodes.
func (c *ClusterConfig) checkPodCIDRChange(was *ClusterConfig, l *problems.List) {
	for i, cidr := range c.PodCIDRs {
		at := problems.Index("PodCIDRs", i)
		switch {
		case i >= len(was.PodCIDRs) || cidr == was.PodCIDRs[i]:
		case c.NetworkPlugin != PluginOverlay:
			l.Add(at, cidr, snat.ErrFixed, "it is %v, and NetworkPlugin %v", was.PodCIDRs[i], c.NetworkPlugin)
		case hasWindows(was) || hasWindows(c):
			l.Add(at, cidr, snat.ErrFixed, "it is %v, and expansion %s", was.PodCIDRs[i], reasonLinuxNodes)
		default:
			l.Include(at, CheckPodCIDRExpansion(was.PodCIDRs[i], cidr))
		}
	}
}

// giveAddresses gives addresses to the nodes that have none, but not those that are reserved.
func (c *ClusterConfig) giveAddresses(nodes []Node, reserved []netip.Addr) {
	for _, f := range c.families() {
		blocks, subnets := addressing.NewNumbers(), map[netip.Prefix]*addressing.Numbers{}
		in := func(n *Node) (netip.Prefix, *addressing.Numbers) {
			prefix := c.subnetOf(n, f)
			if subnets[prefix] == nil {
				subnets[prefix] = addressing.NewNumbers()
				for _, a := range reserved {
					subnets[prefix].TakeAddr(prefix, a)
				}
			}
			return prefix, subnets[prefix]
		}
		for i := range nodes {
			n := &nodes[i]
			if len(n.Addrs) <= int(f) {
				continue
			}
			prefix, addrs := in(n)
			addrs.TakeAddr(prefix, n.Addrs[f])
			if c.hasPodCIDRs() {
				blocks.Take(addressing.BlockNumber(c.PodCIDRs[f], n.PodBlocks[f]))
				continue
			}
			for _, r := range n.PodBlocks {
				for a := r.Addr(); r.Contains(a); a = a.Next() {
					addrs.TakeAddr(prefix, a)
				}
			}
		}
		for i := range nodes {
			n := &nodes[i]
			if len(n.Addrs) > int(f) {
				continue
			}
			prefix, addrs := in(n)
			n.Addrs = append(n.Addrs, addressing.NodeAddr(prefix, addrs.Free()))
			if c.hasPodCIDRs() {
				n.PodBlocks = append(n.PodBlocks, addressing.PodBlock(c.PodCIDRs[f], blocks.Free()))
				continue
			}
			kept := make([]int, n.MaxPods)
			for k := range kept {
				kept[k] = addrs.Free()
			}
			n.PodBlocks = addressing.Collapse(prefix, kept)
		}
	}
}

// isOfPods reports whether an address may be a pod's, of a node that there is or may be.
func (s *state) isOfPods(a netip.Addr) bool {
	_, _, kept := s.places.Locate(a)
	return kept || ranges.Within(netip.PrefixFrom(a, a.BitLen()), s.config.PodCIDRs)
}
