// Nodes: who they are. How a configuration turns into a list of them is internal/fleet.

package overlay

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/overlay/internal/fleet"
	"github.com/seed-a61be3fe/natplane/overlay/internal/publicips"
)

// Node is a node of a cluster. It does not change as long as the node exists.
type Node struct {
	// Index is also the Instance of a verdict or an emission that concerns the node.
	// At first the pools count in the order of the configuration, ascending in each; a
	// node that comes later gets the lowest one that is free.
	Index int

	// Name is "aks-<pool>-vmss<number>", the number with six digits in base 36,
	// like the computer names of AKS nodes without their eight-digit cluster hash.
	Name string

	Pool    string // name of its NodePool
	MaxPods int    // how many pods it can run

	// Addrs are the node addresses, one per family of the cluster, IPv4 first.
	Addrs []netip.Addr

	// PublicAddrs are the node's own public addresses, at most one per family, IPv4 first;
	// see NodePool.NodePublicIP.
	PublicAddrs []netip.Addr

	// PodBlocks are the ranges of the node's pods, one per family of the cluster, IPv4 first;
	// under cni.NodeSubnet as many as the addresses that it keeps for MaxPods pods make.
	PodBlocks []netip.Prefix
}

// clone returns a copy of n that the caller may keep and change.
func (n Node) clone() Node {
	n.Addrs = slices.Clone(n.Addrs)
	n.PublicAddrs = slices.Clone(n.PublicAddrs)
	n.PodBlocks = slices.Clone(n.PodBlocks)
	return n
}

// planNodes returns the nodes of a valid configuration with defaults, with their addresses.
func (c *ClusterConfig) planNodes() []fleet.Node {
	nodes := c.planned(nil).Plan(new(fleet.Fleet)).Nodes
	for i := range nodes {
		nodes[i].Index = i
	}
	return nodes
}

// planned describes the nodes of a valid configuration with defaults. extra is how many nodes a pool has
// besides its Count.
func (c *ClusterConfig) planned(extra map[string]int) *fleet.Config {
	f := &fleet.Config{Families: len(c.families())}
	if c.NetworkPlugin.HasPodCIDRs() {
		f.PodCIDRs = c.PodCIDRs
	}
	for i := range c.NodePools {
		p := &c.NodePools[i]
		is := fleet.Pool{Name: p.Name, Count: p.Count + extra[p.Name], MaxPods: p.MaxPods, Public: (*publicips.Pool)(&p.NodePublicIP)}
		for _, f := range c.families() {
			is.Subnets[f] = c.prefixOf(p.Subnet, f)
		}
		f.Pools = append(f.Pools, is)
	}
	f.Gateways, f.GatewayPools = c.staticGateways(extra)
	return f
}

// pool returns the node pool of that name, which there is.
func (c *ClusterConfig) pool(name string) *NodePool {
	return &c.NodePools[slices.IndexFunc(c.NodePools, func(p NodePool) bool { return p.Name == name })]
}

// byIndex orders nodes by Index.
func byIndex(a, b Node) int { return cmp.Compare(a.Index, b.Index) }
