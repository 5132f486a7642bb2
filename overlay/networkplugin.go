// Network plugins: what they make of pods, subnets and nodes. What AKS allows together with
// each is in package cni.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/internal/ranges"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Windows nodes ("Use Windows node pools"; "Create a managed or user-assigned NAT gateway").
const (
	windowsPods     = 110 // more are not recommended
	windowsNATPorts = 64  // of an address of a node, for what its pods begin
)

// unmasked are the destinations that pods reach with their own address.
func (c *ClusterConfig) unmasked() []netip.Prefix {
	own := c.PodCIDRs
	if !c.NetworkPlugin.HasPodCIDRs() {
		own = slices.DeleteFunc(slices.Clone(c.VNet.AddressSpaces), func(p netip.Prefix) bool { return ranges.Within(p, c.ServiceCIDRs) })
	}
	return slices.Concat(own, c.Masquerade.NonMasqueradeCIDRs)
}

// addrsPerNode is how many addresses of its subnet a node of a pool takes.
func (c *ClusterConfig) addrsPerNode(p *NodePool) int {
	if c.NetworkPlugin.HasPodCIDRs() {
		return 1
	}
	return 1 + p.MaxPods
}

// checkNetworkPlugin checks what does not go together with the plugin and the policy engine.
func (v *validation) checkNetworkPlugin() {
	choice := cni.Choice{Plugin: v.NetworkPlugin, Engine: v.NetworkPolicyEngine, IPFamilies: v.IPFamilies}
	for i, p := range v.NodePools {
		if p.OSType == Windows {
			choice.Windows = append(choice.Windows, problems.Index("NodePools", i)+".OSType")
		}
	}
	v.Include("", choice.Validate())
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
	if most := v.NetworkPlugin.MaxNodes(len(v.families()), v.OutboundType == OutboundUserDefinedRouting); 0 < most && most < total {
		v.Add("NodePools", problems.None, ErrTooManyNodes, "%d, and the routes of a subnet serve %d with NetworkPlugin %v", total, most, v.NetworkPlugin)
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
			if v.NetworkPlugin.HasPodCIDRs() {
				v.Add(at, p, ErrTooManyNodes, "has room for %d nodes, the pools in it may have %d", n, need)
			} else {
				v.Add(at, p, ErrTooManyNodes, "has room for %d addresses, the nodes of the pools in it may take %d, each one and its MaxPods", n, need)
			}
		}
	}
	if !v.NetworkPlugin.HasPodCIDRs() && sum > cni.MaxPrivateAddrs {
		v.Add("NodePools", problems.None, ErrTooManyNodes, "they take %d addresses, a virtual network has at most %d", sum, cni.MaxPrivateAddrs)
	}
}

// checkPodCIDRChange reports pod CIDRs that may not change as they do: AKS expands those of
// Azure CNI Overlay without Windows nodes.
func (c *ClusterConfig) checkPodCIDRChange(was *ClusterConfig, l *problems.List) {
	for i, cidr := range c.PodCIDRs {
		at := problems.Index("PodCIDRs", i)
		switch {
		case i >= len(was.PodCIDRs) || cidr == was.PodCIDRs[i]:
		case c.NetworkPlugin != cni.Overlay:
			l.Add(at, cidr, snat.ErrFixed, "it is %v, and NetworkPlugin %v", was.PodCIDRs[i], c.NetworkPlugin)
		case hasWindows(was) || hasWindows(c):
			l.Add(at, cidr, snat.ErrFixed, "it is %v, and expansion is for Linux nodes only", was.PodCIDRs[i])
		default:
			l.Include(at, CheckPodCIDRExpansion(was.PodCIDRs[i], cidr))
		}
	}
}

// isOfPods reports whether an address may be a pod's, of a node that there is or may be.
func (s *state) isOfPods(a netip.Addr) bool {
	_, _, kept := s.places.Locate(a)
	return kept || ranges.Within(netip.PrefixFrom(a, a.BitLen()), s.config.PodCIDRs)
}
