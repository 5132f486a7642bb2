package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/publicips"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
)

// Node is a node, with the fields of overlay.Node.
type Node struct {
	Index       int // the owner's to set
	Name        string
	Pool        string
	MaxPods     int
	Addrs       []netip.Addr // one per family of the cluster, IPv4 first
	PublicAddrs []netip.Addr
	PodBlocks   []netip.Prefix
}

// Addr returns the node's own address of a family, which the cluster has.
func (n *Node) Addr(is6 bool) netip.Addr {
	if is6 {
		return n.Addrs[1]
	}
	return n.Addrs[0]
}

// Fleet is the nodes of a cluster, and what is remembered of those that are gone.
type Fleet struct {
	Nodes    []Node                  // pool by pool, ascending in each
	Numbers  map[string]int          // of the next new node, by pool
	Prefixes map[string]netip.Prefix // of static gateways, by name
	Reserved []netip.Addr            // of subnets, which no new node may get
}

// Config says which nodes a cluster has. It must be valid.
type Config struct {
	Pools        []Pool
	Families     int
	PodCIDRs     []netip.Prefix // by family; none where pods have addresses of subnets
	Gateways     []staticgateway.Configuration
	GatewayPools []staticgateway.Pool
}

// Pool is a node pool.
type Pool struct {
	Name    string
	Count   int // of nodes
	MaxPods int
	Subnets [flow.NumFamilies]netip.Prefix // that nodes have their addresses from
	Public  *publicips.Pool
}

// Plan returns the fleet that follows one when c comes into force. Nodes that stay keep all
// they have. Those with the highest numbers go first, as in a scale set; a new one gets
// the next number that its pool has never had, and the lowest pod block and addresses
// that are free. What Azure does there is not published.
func (c *Config) Plan(from *Fleet) *Fleet {
	next, total := &Fleet{Numbers: make(map[string]int)}, 0
	had := make(map[string][]Node) // the nodes of a pool are together
	for first := 0; first < len(from.Nodes); {
		end, pool := first+1, from.Nodes[first].Pool
		for end < len(from.Nodes) && from.Nodes[end].Pool == pool {
			end++
		}
		had[pool], first = from.Nodes[first:end], end
	}
	for _, p := range c.Pools {
		total += p.Count
	}
	next.Nodes = make([]Node, 0, total)
	of := make([]*Pool, 0, total) // the pool of each node
	for i := range c.Pools {
		p := &c.Pools[i]
		next.Numbers[p.Name] = from.Numbers[p.Name]
		stay := had[p.Name]
		stay = stay[:min(len(stay), p.Count)]
		next.Nodes = append(next.Nodes, stay...)
		for range p.Count - len(stay) {
			number := next.Numbers[p.Name]
			next.Numbers[p.Name]++
			next.Nodes = append(next.Nodes, Node{Name: nodeName(p.Name, number), Pool: p.Name, MaxPods: p.MaxPods})
		}
		for range p.Count {
			of = append(of, p)
		}
	}
	c.givePublicAddrs(next.Nodes, of)
	c.giveAddrs(next.Nodes, of, from.Reserved)
	next.Prefixes = staticgateway.Prefixes(c.Gateways, c.GatewayPools, from.Prefixes)
	return next
}

// Without returns the fleet less some nodes, by name.
func (f *Fleet) Without(names map[string]bool) *Fleet {
	return &Fleet{
		Numbers: f.Numbers, Prefixes: f.Prefixes,
		Nodes: slices.DeleteFunc(slices.Clone(f.Nodes), func(n Node) bool { return names[n.Name] }),
	}
}

// givePublicAddrs gives public addresses to new nodes, which have no other addresses yet, as
// far as there are any: the lowest that is free.
func (c *Config) givePublicAddrs(nodes []Node, of []*Pool) {
	all := make([]publicips.Node, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		all[i] = publicips.Node{Pool: of[i].Public, New: len(n.Addrs) == 0, Addrs: n.PublicAddrs}
	}
	publicips.Give(all, c.Families)
	for i := range nodes {
		nodes[i].PublicAddrs = all[i].Addrs
	}
}

// giveAddrs gives addresses and pod blocks to new nodes.
func (c *Config) giveAddrs(nodes []Node, of []*Pool, reserved []netip.Addr) {
	for f := range c.Families {
		hold := make([]addressing.Holding, len(nodes))
		for i := range nodes {
			n := &nodes[i]
			h := &hold[i]
			h.Subnet = of[i].Subnets[f]
			if len(c.PodCIDRs) == 0 {
				h.Kept, h.Pods = n.MaxPods, n.PodBlocks
			} else if h.PodCIDR = c.PodCIDRs[f]; len(n.PodBlocks) > f {
				h.Pods = n.PodBlocks[f : f+1]
			}
			if len(n.Addrs) > f {
				h.Addr = n.Addrs[f]
			}
		}
		addressing.Give(hold, reserved)
		for i := range nodes {
			if n := &nodes[i]; len(n.Addrs) <= f {
				n.Addrs, n.PodBlocks = append(n.Addrs, hold[i].Addr), append(n.PodBlocks, hold[i].Pods...)
			}
		}
	}
}

// nodeName names the i-th node of a pool as virtual machine scale sets do.
func nodeName(pool string, i int) string {
	return fmt.Sprintf("%s%06s", ScaleSetName(pool), strconv.FormatInt(int64(i), 36))
}

// ScaleSetName names the scale set of a pool; Azure's has a number of the cluster in it besides.
func ScaleSetName(pool string) string { return "aks-" + pool + "-vmss" }
