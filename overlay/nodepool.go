// Node pools, and what is checked of each and of all together.

package overlay

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb"
)

// NodePool is a set of equal nodes (an AKS agent pool).
type NodePool struct {
	Name string // unique; "" means "nodepool1" for the first pool, and so on

	// Count is the number of nodes at the start, 0 to 1,000. 0 means MinCount.
	Count int

	// MinCount and MaxCount are the bounds of the cluster autoscaler, 0 to
	// 1,000; MaxCount 0 means that it is off. The simulated cluster does not
	// scale by itself, but ports and addresses must suffice for MaxCount.
	MinCount, MaxCount int

	// MaxSurge is how many nodes an upgrade adds for its duration: a number
	// ("2") or a share of the pool, rounded up ("33%"). "" means "1". It adds no
	// more than the pool has. Ports must suffice for them too.
	MaxSurge string

	// MaxPods is the most pods that a node of this pool can run, 10 to 250.
	// 0 means 250.
	MaxPods int

	// Subnet names the subnet of VNet that this pool's nodes are in. "" means
	// the first.
	Subnet string

	// LocalDNS lets pods of this pool ask the DNS cache on their node at 169.254.10.10 and
	// 169.254.10.11: what they send there does not leave the node ([flow.Bypass]). What the
	// cache asks in turn is for the caller to send, with the node's address.
	LocalDNS bool

	// OSSKU is the Linux of the nodes. Zero is Ubuntu.
	OSSKU OSSKU

	// Mode says what the nodes are for; zero is ModeUser. GatewayPublicIPPrefixSize is the length of
	// the public IP prefixes of static egress gateways, with ModeGateway and only then: 28 to 31, and the pool
	// has at most as many nodes as such a prefix has addresses. It has no autoscaler then.
	Mode                      PoolMode
	GatewayPublicIPPrefixSize int // see Mode

	// NodePublicIP gives the nodes public addresses of their own.
	NodePublicIP NodePublicIP
}

// OSSKU names the Linux distribution of nodes.
type OSSKU uint8

// The distributions. What tells them apart here is that AzureLinux cannot route what probes of
// IPv6 send to a pod: no node with it is healthy to a Service of IPv6 with policy Cluster.
const (
	Ubuntu OSSKU = iota
	AzureLinux
	numOSSKUs
)

var osSKUNames = [...]string{"Ubuntu", "AzureLinux"}

var _ = [1]struct{}{}[len(osSKUNames)-int(numOSSKUs)] // one name per distribution

// String returns the name of the distribution in AKS.
func (o OSSKU) String() string { return enum.Name(o, osSKUNames[:]) }

// maxNodes is the largest number of nodes the pool may have, surge not counted.
func (p *NodePool) maxNodes() int { return max(p.Count, p.MaxCount) }

// checkNodePools checks each pool, and whether there is room for all.
func (v *validation) checkNodePools() {
	total, running, counted := 0, 0, true
	perSubnet := make(map[string]int)
	names := make(map[string]bool)
	for i, p := range v.NodePools {
		at := problems.Index("NodePools", i)
		if names[p.Name] {
			v.Add(at+".Name", p.Name, flow.ErrDuplicateName, "node pools have unique names")
		}
		names[p.Name] = true
		problems.Constant(&v.List, at+".OSSKU", p.OSSKU, numOSSKUs)
		problems.Between(&v.List, at+".MaxPods", p.MaxPods, minMaxPods, maxMaxPods)
		if v.subnet(p.Subnet) == nil && len(v.VNet.Subnets) > 0 {
			v.Add(at+".Subnet", p.Subnet, flow.ErrUnknownName, "no such subnet in VNet.Subnets")
		}
		_, err := lb.MaxSurge(p.MaxSurge).Nodes(1)
		v.Include(at, err)
		countOK := problems.Between(&v.List, at+".Count", p.Count, 0, MaxNodesPerPool)
		minOK := problems.Between(&v.List, at+".MinCount", p.MinCount, 0, MaxNodesPerPool)
		maxOK := problems.Between(&v.List, at+".MaxCount", p.MaxCount, 0, MaxNodesPerPool)
		if !countOK || !minOK || !maxOK {
			counted = false
			continue
		}
		if p.MaxCount > 0 || p.MinCount > 0 {
			problems.Between(&v.List, at+".MaxCount", p.MaxCount, max(1, p.MinCount), MaxNodesPerPool)
		}
		if p.MaxCount > 0 && p.MinCount <= p.MaxCount {
			problems.Between(&v.List, at+".Count", p.Count, p.MinCount, p.MaxCount)
		}
		most := max(p.maxNodes(), p.Count+v.extra[p.Name])
		running += p.Count + v.extra[p.Name]
		total += most
		perSubnet[p.Subnet] += most
	}
	if running == 0 && counted {
		v.Add("NodePools", problems.None, flow.ErrMissing, "0 nodes, at least one pool must have a Count of 1 or more")
	}
	if total > MaxNodes {
		v.Add("NodePools", problems.None, ErrTooManyNodes, "%d, a cluster has at most %d", total, MaxNodes)
	}
	// The documents count a range's blocks and addresses against the nodes that
	// may exist. An upgrade's surge is not counted here (our choice): it delays
	// the upgrade, it does not make the configuration invalid.
	for i, p := range v.PodCIDRs {
		if n := NodesPerPodCIDR(p); 0 < n && n < total {
			v.Add(problems.Index("PodCIDRs", i), p, ErrTooManyNodes, "has room for the pod blocks of %d nodes, NodePools may have %d", n, total)
		}
	}
	for i, s := range v.VNet.Subnets {
		for j, p := range s.AddressPrefixes {
			first, ok := s.prefix(familyOf(p.Addr()))
			if n := NodesPerSubnet(p); ok && p == first && p.IsValid() && n < perSubnet[s.Name] {
				v.Add(problems.Index(problems.Index("VNet.Subnets", i)+".AddressPrefixes", j), p, ErrTooManyNodes, "has room for %d nodes, the pools in it may have %d", n, perSubnet[s.Name])
			}
		}
	}
}
