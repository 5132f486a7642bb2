// Admission: which new flows may begin at all. Read Dataplane.Admit of package snat first,
// for whom it is asked about.

package overlay

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/snat"
)

// admission decides whether a flow may begin, in this order: the node's own rules, network
// policy, network security groups, and what the user's Dataplane.Admit says. It never
// changes, and any number of goroutines may ask it.
type admission struct {
	imds    bool // RestrictIMDS
	policy  func(snat.NewFlow) bool
	groups  *nsg.Compiled // the user's and AKS's own; nil if there is nothing that they decide
	outward bool          // they are asked about what nodes begin, too

	inNetwork bool // groups can refuse what the nodes' translator carries
	also      func(snat.NewFlow) flow.Reason
	own       map[string]*Node // by name
	podCIDRs  []netip.Prefix
	unmasked  []netip.Prefix // destinations that pods reach with their own address
}

// The ports of 168.63.129.16 that a node keeps from its pods (AgentBaker: cse_config.sh).
const (
	wireServerPort = 80
	hostPluginPort = 32526
)

// newAdmission makes the rules of a valid configuration, whose nodes and Services are given. The
// error is about rules for Services, and there is none without any.
func newAdmission(c *ClusterConfig, nodes []Node, services []security.Service) (*admission, error) {
	a := &admission{
		imds: c.RestrictIMDS, policy: c.NetworkPolicy, also: c.Admit,
		own: make(map[string]*Node, len(nodes)), podCIDRs: c.PodCIDRs, unmasked: c.Masquerade.NonMasqueradeCIDRs,
	}
	for i := range nodes {
		a.own[nodes[i].Name] = &nodes[i]
	}
	s := c.security(nodes, services)
	config, ok, err := s.Groups()
	if err != nil || !ok {
		return a, err
	}
	a.outward = c.SecurityGroups != nil
	a.inNetwork = a.outward || c.OutboundType == OutboundUserDefinedRouting ||
		slices.ContainsFunc(services, func(s security.Service) bool { return s.DenyAllExceptSourceRanges })
	a.groups, err = nsg.Compile(config)
	return a, err
}

// security describes what decides about security groups.
func (c *ClusterConfig) security(nodes []Node, services []security.Service) *security.Cluster {
	s := &security.Cluster{User: c.SecurityGroups, VirtualNetwork: c.virtualNetwork(), Services: services}
	for i := range nodes {
		n := &nodes[i]
		s.Nodes = append(s.Nodes, security.Node{Name: n.Name, Pool: n.Pool, Addrs: n.Addrs, Public: len(n.PublicAddrs) > 0})
	}
	for _, p := range c.NodePools {
		s.Pools = append(s.Pools, security.Pool{Name: p.Name, AllowedHostPorts: p.NodePublicIP.AllowedHostPorts})
	}
	return s
}

// virtualNetwork returns what rules mean by the virtual network.
func (c *ClusterConfig) virtualNetwork() []netip.Prefix {
	return slices.Concat(c.VNet.AddressSpaces, c.VNet.PeeredPrefixes, c.PodCIDRs)
}

// limitsEgress reports whether any rule concerns flows to and from the Internet.
func (a *admission) limitsEgress() bool {
	return a.policy != nil || a.groups != nil || a.also != nil
}

// admit decides about a flow, as [snat.Dataplane].Admit.
func (a *admission) admit(f snat.NewFlow) flow.Reason {
	r, _ := a.decide(f)
	return r
}

// decide decides about a flow, and says who has decided.
func (a *admission) decide(f snat.NewFlow) (flow.Reason, string) {
	node := a.own[f.Name]
	if node == nil {
		return flow.ReasonSpoof, "no node of this name"
	}
	if r := a.keepsFromPod(node, &f); r != flow.ReasonNone {
		return r, "the node"
	}
	if a.policy != nil && !a.policy(f) {
		return flow.ReasonNetworkPolicy, "the network policy"
	}
	if a.groups != nil && (a.outward || f.From == flow.Outside) {
		if r := a.asksGroups(node, &f); r != flow.ReasonNone {
			return r, "the network security group"
		}
	}
	if a.also != nil {
		return a.also(f), "Admit"
	}
	return flow.ReasonNone, ""
}

// keepsFromPod returns why a node does not let its pod begin a flow to the platform.
func (a *admission) keepsFromPod(node *Node, f *snat.NewFlow) flow.Reason {
	if f.From != flow.Inside || node.has(f.Inside.Addr()) {
		return flow.ReasonNone
	}
	switch f.Remote.Addr() {
	case wireServer:
		if f.Protocol == wire.ProtoTCP && (f.Remote.Port() == wireServerPort || f.Remote.Port() == hostPluginPort) {
			return flow.ReasonPlatform
		}
	case metadata:
		if a.imds {
			return flow.ReasonIMDS
		}
	}
	return flow.ReasonNone
}

// asksGroups asks the groups of the node's interface. They see a pod's address in the
// network of pods, and the node's everywhere else; what stays on the node they do not see.
func (a *admission) asksGroups(node *Node, f *snat.NewFlow) flow.Reason {
	remote := f.Remote.Addr()
	if node.has(remote) || within(netip.PrefixFrom(remote, remote.BitLen()), node.PodBlocks) {
		return flow.ReasonNone
	}
	at, inside := node.addr(remote.Is6()), f.Inside
	direction := nsg.Inbound
	if f.From == flow.Inside {
		direction = nsg.Outbound
		if host := netip.PrefixFrom(remote, remote.BitLen()); !within(host, a.podCIDRs) && !within(host, a.unmasked) {
			inside = netip.AddrPortFrom(at, inside.Port())
		}
	}
	return a.groups.Admit(direction, f.Protocol, inside, f.Remote, at)
}

// has reports whether a is the node's own address.
func (n *Node) has(a netip.Addr) bool {
	for _, own := range n.Addrs {
		if own == a {
			return true
		}
	}
	return false
}

// addr returns the node's own address of a family, which the cluster has.
func (n *Node) addr(is6 bool) netip.Addr {
	if is6 {
		return n.Addrs[ipv6]
	}
	return n.Addrs[ipv4]
}
