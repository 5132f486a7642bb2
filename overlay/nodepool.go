// Node pools, and what is checked of each and of all together.

package overlay

import (
	"slices"

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
	// 0 means 250, with cni.Kubenet 110, and with cni.NodeSubnet 30.
	MaxPods int

	// Subnet names the subnet of VNet that this pool's nodes are in. "" means
	// the first.
	Subnet string

	// LocalDNS lets pods of this pool ask the DNS cache on their node at 169.254.10.10 and
	// 169.254.10.11: what they send there does not leave the node ([flow.Bypass]). What the
	// cache asks in turn is for the caller to send, with the node's address.
	LocalDNS bool

	// OSType is the operating system of the nodes. Zero is Linux.
	OSType OSType

	// OSSKU is the Linux of the nodes. Zero is Ubuntu, and goes with Windows, too.
	OSSKU OSSKU

	// Mode says what the nodes are for; zero is ModeUser. GatewayPublicIPPrefixSize is the length of
	// the public IP prefixes of static egress gateways, with ModeGateway and only then: 28 to 31, and the pool
	// has at most as many nodes as such a prefix has addresses. It has no autoscaler then.
	Mode                      PoolMode
	GatewayPublicIPPrefixSize int // see Mode

	// DisableOutboundNAT lets the pods of Windows nodes leave without the node's own
	// translation, and so without its 64 ports; see [Windows]. It goes with no node public IPs
	// (AgentPoolWindowsProfile, learn.microsoft.com/javascript/api/@azure/arm-containerservice/agentpoolwindowsprofile).
	DisableOutboundNAT bool

	// NodePublicIP gives the nodes public addresses of their own.
	NodePublicIP NodePublicIP
}

// OSType is an operating system of nodes.
type OSType uint8

// The operating systems. The first pool must be of Linux ("Limitations for Windows Server
// node pools"), and kubenet has nothing else.
const (
	Linux OSType = iota

	// Windows translates what its pods begin by OutboundNAT, which has 64 ports of each of the
	// node's addresses: as many flows of pods go to one destination at the same time,
	// with each protocol, wherever the node is what that sees ([flow.ReasonNodePorts]). That a port
	// serves any number of destinations is our choice; no document says it. With DisableOutboundNAT,
	// which needs a NAT gateway or OutboundUserDefinedRouting, there is no such limit.
	Windows

	numOSTypes
)

var osTypeNames = [...]string{"Linux", "Windows"}

var _ = [1]struct{}{}[len(osTypeNames)-int(numOSTypes)] // one name per type

// String returns the name of the operating system in AKS.
func (o OSType) String() string { return enum.Name(o, osTypeNames[:]) }

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
		v.checkOS(at, i, &p)
		problems.Between(&v.List, at+".MaxPods", p.MaxPods, minMaxPods, maxMaxPods)
		if v.subnet(p.Subnet) == nil && len(v.VNet.Subnets) > 0 {
			v.Add(at+".Subnet", p.Subnet, flow.ErrUnknownName, "no such subnet in VNet.Subnets")
		}
		_, err := lb.MaxSurge(p.MaxSurge).Nodes(1)
		v.Include(at, err)
		countOK := problems.Between(&v.List, at+".Count", p.Count+v.extra[p.Name], 0, MaxNodesPerPool)
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
		perSubnet[p.Subnet] += most * v.addrsPerNode(&p)
	}
	if running == 0 && counted {
		v.Add("NodePools", problems.None, flow.ErrMissing, "0 nodes, at least one pool must have a Count of 1 or more")
	}
	if total > MaxNodes {
		v.Add("NodePools", problems.None, ErrTooManyNodes, "%d, a cluster has at most %d", total, MaxNodes)
	}
	v.checkRoom(total, perSubnet)
}

// checkOS checks the operating system of the i-th pool.
func (v *validation) checkOS(at string, i int, p *NodePool) {
	if !problems.Constant(&v.List, at+".OSType", p.OSType, numOSTypes) {
		return
	}
	windows := p.OSType == Windows
	if windows && i == 0 {
		v.Add(at+".OSType", p.OSType, flow.ErrConflict, "the first pool, which runs the system's pods, is of %v", Linux)
	}
	if windows && p.OSSKU != Ubuntu {
		v.Add(at+".OSSKU", p.OSSKU, flow.ErrConflict, "OSType is %v", p.OSType)
	}
	switch {
	case !p.DisableOutboundNAT:
	case !windows:
		v.Add(at+".DisableOutboundNAT", true, flow.ErrConflict, "OSType is %v, which has no OutboundNAT", p.OSType)
	case v.OutboundType < numOutboundTypes && !v.OutboundType.hasGateway() && v.OutboundType != OutboundUserDefinedRouting:
		v.Add(at+".DisableOutboundNAT", true, flow.ErrConflict, "needs a NAT gateway or %v, OutboundType is %v", OutboundUserDefinedRouting, v.OutboundType)
	case p.NodePublicIP.Enabled:
		v.Add(at+".DisableOutboundNAT", true, flow.ErrConflict, "the pool has node public IPs")
	}
}

// hasWindows reports whether a cluster has a pool of Windows nodes.
func hasWindows(c *ClusterConfig) bool {
	return slices.ContainsFunc(c.NodePools, func(p NodePool) bool { return p.OSType == Windows })
}
