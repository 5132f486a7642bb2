// Nodes: who they are, and how a configuration turns into a list of them, at first and
// again when it changes.

package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
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

	localDNS bool // of its pool
}

// clone returns a copy of n that the caller may keep and change.
func (n Node) clone() Node {
	n.Addrs = slices.Clone(n.Addrs)
	n.PublicAddrs = slices.Clone(n.PublicAddrs)
	n.PodBlocks = slices.Clone(n.PodBlocks)
	return n
}

// fleet is the nodes of a cluster, and what is remembered of those that are gone.
type fleet struct {
	nodes   []Node         // pool by pool, ascending in each; Index is not set here
	numbers map[string]int // of the next new node, by pool

	reserved []netip.Addr // of subnets, which no node may get

	gateways map[string]netip.Prefix // of static gateways, by name
}

// planNodes gives every node of a valid configuration with defaults its addresses.
func (c *ClusterConfig) planNodes() []Node {
	nodes := c.plan(&fleet{}, nil).nodes
	for i := range nodes {
		nodes[i].Index = i
	}
	return nodes
}

// plan returns the fleet that follows one when c, valid and with defaults, comes into
// force. extra is how many nodes a pool has besides its Count. Nodes that stay keep all
// they have. Those with the highest numbers go first, as in a scale set; a new one gets
// the next number that its pool has never had, and the lowest pod block and addresses
// that are free. What Azure does there is not published.
func (c *ClusterConfig) plan(from *fleet, extra map[string]int) *fleet {
	next, total := &fleet{numbers: make(map[string]int)}, 0
	had := make(map[string][]Node) // the nodes of a pool are together
	for first := 0; first < len(from.nodes); {
		end, pool := first+1, from.nodes[first].Pool
		for end < len(from.nodes) && from.nodes[end].Pool == pool {
			end++
		}
		had[pool], first = from.nodes[first:end], end
	}
	for _, p := range c.NodePools {
		total += p.Count + extra[p.Name]
	}
	next.nodes = make([]Node, 0, total)
	for _, p := range c.NodePools {
		next.numbers[p.Name] = from.numbers[p.Name]
		want, stay := p.Count+extra[p.Name], had[p.Name]
		stay = stay[:min(len(stay), want)]
		next.nodes = append(next.nodes, stay...)
		for range want - len(stay) {
			number := next.numbers[p.Name]
			next.numbers[p.Name]++
			next.nodes = append(next.nodes, Node{Name: nodeName(p.Name, number), Pool: p.Name, MaxPods: p.MaxPods})
		}
	}
	c.givePublicAddrs(next.nodes)
	c.giveAddresses(next.nodes, from.reserved)
	gateways, pools := c.staticGateways(extra)
	next.gateways = staticgateway.Prefixes(gateways, pools, from.gateways)
	for i := range next.nodes {
		n := &next.nodes[i]
		n.localDNS = c.pool(n.Pool).LocalDNS
	}
	return next
}

// without returns the fleet less some nodes, by name.
func (f *fleet) without(names map[string]bool) *fleet {
	return &fleet{
		numbers: f.numbers, gateways: f.gateways,
		nodes: slices.DeleteFunc(slices.Clone(f.nodes), func(n Node) bool { return names[n.Name] }),
	}
}

// subnetOf returns the prefix that a node gets its address of family f from.
func (c *ClusterConfig) subnetOf(n *Node, f family) netip.Prefix {
	subnet := c.subnet(c.pool(n.Pool).Subnet)
	prefix, ok := subnet.prefix(f)
	if !ok {
		panic(fmt.Sprintf("overlay: subnet %q without %v prefix passed validation", subnet.Name, f))
	}
	return prefix
}

// pool returns the node pool of that name, which there is.
func (c *ClusterConfig) pool(name string) *NodePool {
	return &c.NodePools[slices.IndexFunc(c.NodePools, func(p NodePool) bool { return p.Name == name })]
}

// nodeName names the i-th node of a pool as virtual machine scale sets do.
func nodeName(pool string, i int) string {
	return fmt.Sprintf("%s%06s", scaleSetName(pool), strconv.FormatInt(int64(i), 36))
}

// scaleSetName names the scale set of a pool; Azure's has a number of the cluster in it besides.
func scaleSetName(pool string) string { return "aks-" + pool + "-vmss" }

// byIndex orders nodes by Index.
func byIndex(a, b Node) int { return cmp.Compare(a.Index, b.Index) }
