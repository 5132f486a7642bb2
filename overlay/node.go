// Nodes: who they are, and how a configuration turns into a list of them.

package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Node is a node of a cluster. It does not change as long as the cluster lives.
type Node struct {
	// Index is the node's place in Cluster.Nodes: pools in the order of the
	// configuration, ascending in each. It is also the Instance of a verdict or
	// an emission that concerns the node.
	Index int

	// Name is "aks-<pool>-vmss<number>", the number with six digits in base 36,
	// like the computer names of AKS nodes without their eight-digit cluster hash.
	Name string

	Pool    string // name of its NodePool
	MaxPods int    // how many pods it can run

	// Addrs are the node addresses, one per family of the cluster, IPv4 first.
	Addrs []netip.Addr

	// PodBlocks are the ranges of the node's pods, likewise.
	PodBlocks []netip.Prefix
}

// clone returns a copy of n that the caller may keep and change.
func (n Node) clone() Node {
	n.Addrs = slices.Clone(n.Addrs)
	n.PodBlocks = slices.Clone(n.PodBlocks)
	return n
}

// planNodes gives every node of a valid configuration with defaults its
// addresses: the next pod block of every pod CIDR, and the next free address of
// its pool's subnet.
func (c *ClusterConfig) planNodes() []Node {
	families := c.families()
	used := make(map[string]int) // addresses per subnet
	var nodes []Node
	for _, p := range c.NodePools {
		subnet := c.subnet(p.Subnet)
		for i := range p.Count {
			n := Node{Index: len(nodes), Name: nodeName(p.Name, i), Pool: p.Name, MaxPods: p.MaxPods}
			for _, f := range families {
				prefix, ok := subnet.prefix(f)
				if !ok {
					panic(fmt.Sprintf("overlay: subnet %q without %v prefix passed validation", subnet.Name, f))
				}
				n.Addrs = append(n.Addrs, nodeAddr(prefix, used[subnet.Name]))
				n.PodBlocks = append(n.PodBlocks, podBlock(c.PodCIDRs[f], n.Index))
			}
			used[subnet.Name]++
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// nodeName names the i-th node of a pool as virtual machine scale sets do.
func nodeName(pool string, i int) string {
	return fmt.Sprintf("aks-%s-vmss%06s", pool, strconv.FormatInt(int64(i), 36))
}
