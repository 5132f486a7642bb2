// Package cni has the network plugins of AKS: where the pods of a cluster have their addresses
// from, and who enforces network policies. It knows what AKS refuses together and the
// limits of each plugin.
//
// [Plugin] and [PolicyEngine] are enums for a cluster's configuration; [Choice] is such a
// configuration, as far as plugins matter. All of it is data, without state. It refuses to know what nodes and packets are.
//
// Sources: the Azure documents "AKS legacy Container Networking Interfaces (CNI)", "Azure CNI
// Overlay networking", "Use dual-stack kubenet networking in AKS", "Configure Azure CNI Powered by
// Cilium in AKS" and "Azure subscription and service limits".
package cni

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Plugin says where pods have their addresses from, and so who sees them. It stays as
// long as the cluster exists.
type Plugin uint8

// The network plugins of AKS that are modelled.
const (
	// Overlay is Azure CNI Overlay (networkPlugin azure, networkPluginMode overlay):
	// every node has a pod block of the pod CIDRs, which the virtual network carries without
	// knowing it. Outside of it pods are seen as their node. The default.
	Overlay Plugin = iota

	// Kubenet is kubenet. Every node has a pod block of the pod CIDRs, too, and a route of the
	// subnet leads to it by the node's address, one per family; a route table has room for
	// 400 routes, so there are at most 400 nodes, or 200 with two families, and one less if
	// the table leads to the Internet, too. It is for Linux only, without a policy engine or
	// with Calico. Packets take the ways that they take with Overlay.
	Kubenet

	// NodeSubnet is Azure CNI in VNet mode (Node Subnet; networkPlugin azure without
	// a mode): there is no pod CIDR, and pods have addresses of their node's subnet,
	// which a node takes for all its MaxPods when it comes. So a pool takes Count × (MaxPods + 1)
	// addresses of its subnet, and all of a virtual network at most 65,536. The
	// virtual network sees the pod's address, and what is beyond, peered networks included,
	// that of its node. It is for IPv4 only.
	NodeSubnet

	numPlugins
)

var pluginNames = [...]string{"overlay", "kubenet", "nodeSubnet"}

var defaultMaxPods = [...]int{250, 110, 30}

var (
	_ = [1]struct{}{}[len(pluginNames)-int(numPlugins)] // one name per plugin
	_ = [1]struct{}{}[len(defaultMaxPods)-int(numPlugins)]
)

// String returns "overlay", "kubenet" or "nodeSubnet".
func (p Plugin) String() string { return enum.Name(p, pluginNames[:]) }

// DefaultMaxPods returns how many pods a node runs unless said otherwise: 250, 110 or 30; 0 if there
// is no such plugin.
func (p Plugin) DefaultMaxPods() int {
	if p < numPlugins {
		return defaultMaxPods[p]
	}
	return 0
}

// HasPodCIDRs reports whether pods have addresses of their own ranges.
func (p Plugin) HasPodCIDRs() bool { return p != NodeSubnet }

// Limits of Azure's networks.
const (
	maxRoutes       = 400    // of a route table
	MaxPrivateAddrs = 65_536 // of a virtual network
)

// MaxNodes returns how many nodes the routes of a subnet serve, if it has those of pods, and 0
// for no limit. routed says that a route leads to the Internet, too.
func (p Plugin) MaxNodes(families int, routed bool) int {
	if p != Kubenet {
		return 0
	}
	nodes := maxRoutes / families
	if routed {
		nodes--
	}
	return nodes
}

// PolicyEngine is who enforces network policies. It changes no packet; it is checked what AKS
// refuses.
type PolicyEngine uint8

// The network policy engines of AKS.
const (
	NoPolicyEngine PolicyEngine = iota // none, or one that AKS does not know of. The default
	Azure                              // Azure Network Policy Manager: not with Kubenet, not with two families
	Calico                             // not with two families
	Cilium                             // not with Kubenet, and for Linux only
	numPolicyEngines
)

var policyEngineNames = [...]string{"none", "azure", "calico", "cilium"}

var _ = [1]struct{}{}[len(policyEngineNames)-int(numPolicyEngines)] // one name per engine

// String returns the name that AKS gives it, such as "calico".
func (e PolicyEngine) String() string { return enum.Name(e, policyEngineNames[:]) }

// Choice is what a cluster has chosen.
type Choice struct {
	Plugin     Plugin       // where pods have their addresses from
	Engine     PolicyEngine // who enforces policies
	IPFamilies string       // "ipv4" or "ipv4,ipv6"
	Windows    []string     // where pools are of Windows: the paths of these fields; none if none are
}

const linuxOnly = "is for Linux nodes only"

// Validate returns everything that AKS refuses in one error, or nil. The fields are named
// NetworkPlugin, NetworkPolicyEngine and IPFamilies; problems wrap [flow.ErrConflict] or
// [flow.ErrOutOfRange].
func (c Choice) Validate() error {
	var l problems.List
	const enginePath = "NetworkPolicyEngine"
	known := problems.Constant(&l, "NetworkPlugin", c.Plugin, numPlugins)
	if known = problems.Constant(&l, enginePath, c.Engine, numPolicyEngines) && known; !known {
		return l.Err()
	}
	two := c.IPFamilies == "ipv4,ipv6"
	if c.Plugin == NodeSubnet && two {
		l.Add("IPFamilies", c.IPFamilies, flow.ErrConflict, "NetworkPlugin is %v: pods have addresses of the subnet, which are of IPv4 only", c.Plugin)
	}
	if c.Plugin == Kubenet {
		for _, path := range c.Windows {
			l.Add(path, problems.Raw("Windows"), flow.ErrConflict, "NetworkPlugin %v %s", c.Plugin, linuxOnly)
		}
	}
	switch e := c.Engine; {
	case e == NoPolicyEngine:
	case c.Plugin == Kubenet && e != Calico:
		l.Add(enginePath, e, flow.ErrConflict, "with NetworkPlugin %v there is %v only", c.Plugin, Calico)
	case e == Cilium && len(c.Windows) > 0:
		l.Add(enginePath, e, flow.ErrConflict, "%s", linuxOnly)
	case e != Cilium && two:
		l.Add(enginePath, e, flow.ErrConflict, "not in a cluster of two families, IPFamilies is %q", c.IPFamilies)
	}
	return l.Err()
}
