// Package admission decides which new flows of a cluster may begin: the node's own rules, network
// policy, network security groups, and what the user says, in this order. Read Dataplane.Admit
// of package snat first, for whom it is asked about.
//
// [Rules] never change once [New] has made them, so that any number of goroutines may ask;
// another configuration has other rules. [Rules.Decide] is about what a translator lets begin,
// [Rules.DecideTunnel] about what leaves by another node than its own, and
// [Rules.DecideLeg] about the way of a packet from a node's proxy to an endpoint.
//
// It refuses to know how rules for Services come into groups (package security), and who
// carries a packet.
package admission

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb/nsg"
	"github.com/seed-a61be3fe/natplane/overlay/internal/security"
	"github.com/seed-a61be3fe/natplane/snat"
)

// The platform. A node keeps two ports of the first from its pods (AgentBaker:
// cse_config.sh).
var (
	WireServer = netip.MustParseAddr("168.63.129.16")
	Metadata   = netip.MustParseAddr("169.254.169.254")
)

const (
	wireServerPort = 80
	hostPluginPort = 32526
)

// Config is what rules are made of. It must be valid; that it does not change afterwards is up to
// the caller.
type Config struct {
	RestrictIMDS  bool
	NetworkPolicy func(snat.NewFlow) bool        // nil allows all
	Admit         func(snat.NewFlow) flow.Reason // nil allows all
	Machine       func(snat.NewFlow) flow.Reason // what the node has room for; nil is everything
	Exit          func(node string) flow.Reason  // what it has room for of others that leave there; nil is everything
	Unmasked      []netip.Prefix                 // destinations that pods reach with their own address
	Nodes         []Node
	Security      *security.Cluster
}

// Node is a node, with one address per family of the cluster, and the ranges of its pods.
type Node struct {
	Name      string
	Addrs     []netip.Addr
	PodBlocks []netip.Prefix
}

// Rules are the rules in force.
type Rules struct {
	Config
	groups  *nsg.Compiled // the user's and AKS's own; nil if there is nothing that they decide
	outward bool          // they are asked about what nodes begin, too

	byName map[string]*Node
	byAddr map[netip.Addr]*Node
	pods4  prefixes.Disjoint4 // index in Nodes plus one, by range of pods
	pods6  prefixes.Disjoint6
}

// New makes rules. The error is about security rules that are added for Services and host ports.
func New(c Config) (*Rules, error) {
	r := &Rules{
		Config: c, byName: make(map[string]*Node, len(c.Nodes)),
		byAddr: make(map[netip.Addr]*Node, 2*len(c.Nodes)),
	}
	for i := range c.Nodes {
		turns.Step(i)
		n := &c.Nodes[i]
		r.byName[n.Name] = n
		for _, a := range n.Addrs {
			r.byAddr[a] = n
		}
		for _, b := range n.PodBlocks {
			if is := uint32(i) + 1; b.Addr().Is4() {
				r.pods4.Put(b, is)
			} else {
				r.pods6.Put(b, is)
			}
		}
	}
	config, ok, err := c.Security.Groups()
	if err != nil || !ok {
		return r, err
	}
	r.outward = c.Security.User != nil ||
		slices.ContainsFunc(c.Security.Services, func(s security.Service) bool { return s.DenyAllExceptSourceRanges })
	r.groups, err = nsg.Compile(config)
	return r, err
}

// LimitsEgress reports whether any rule concerns flows to and from the Internet.
func (r *Rules) LimitsEgress() bool {
	return r.NetworkPolicy != nil || r.groups != nil || r.Config.Admit != nil || r.Machine != nil
}

// LimitsLegs reports whether any rule concerns what proxies send to endpoints.
func (r *Rules) LimitsLegs() bool { return r.NetworkPolicy != nil || r.groups != nil && r.outward }

// Admit decides about a flow, as [snat.Dataplane].Admit.
func (r *Rules) Admit(f snat.NewFlow) flow.Reason {
	reason, _ := r.Decide(f)
	return reason
}

// Decide decides about a flow, and says who has decided.
func (r *Rules) Decide(f snat.NewFlow) (flow.Reason, string) {
	node := r.byName[f.Name]
	if node == nil {
		return flow.ReasonSpoof, "no node of this name"
	}
	if reason, who := r.decide(node, node, &f); reason != flow.ReasonNone || r.Machine == nil {
		return reason, who
	}
	return r.Machine(f), "the machine of the node"
}

// DecideTunnel decides about a flow that a pod begins through a tunnel from its node, whose name f has, to
// another one, exit, where it leaves for the Internet. Network policy and the user are asked as for any flow
// of the pod, groups about what exit sends, and last what exit has room for.
func (r *Rules) DecideTunnel(f snat.NewFlow, exit string) (flow.Reason, string) {
	node, last := r.byName[f.Name], r.byName[exit]
	if node == nil || last == nil {
		return flow.ReasonSpoof, "no node of this name"
	}
	if reason, who := r.decide(node, last, &f); reason != flow.ReasonNone || r.Exit == nil {
		return reason, who
	}
	return r.Exit(exit), "the machine of the gateway's node"
}

// decide is Decide but for machines. node is that of the inside, and exit the one whose
// interface the flow passes.
func (r *Rules) decide(node, exit *Node, f *snat.NewFlow) (flow.Reason, string) {
	if reason := r.keepsFromPod(node, f); reason != flow.ReasonNone {
		return reason, "the node"
	}
	if r.NetworkPolicy != nil && !r.NetworkPolicy(*f) {
		return flow.ReasonNetworkPolicy, "the network policy"
	}
	if r.groups != nil && (r.outward || f.From == flow.Outside) {
		if reason := r.asksGroups(exit, f); reason != flow.ReasonNone {
			return reason, "the network security group"
		}
	}
	if r.Config.Admit != nil {
		if reason := r.Config.Admit(*f); reason != flow.ReasonNone {
			return reason, "Admit"
		}
	}
	return flow.ReasonNone, ""
}

// keepsFromPod returns why a node does not let its pod begin a flow to the platform.
func (r *Rules) keepsFromPod(node *Node, f *snat.NewFlow) flow.Reason {
	if f.From != flow.Inside || node.has(f.Inside.Addr()) {
		return flow.ReasonNone
	}
	switch f.Remote.Addr() {
	case WireServer:
		if f.Protocol == wire.ProtoTCP && (f.Remote.Port() == wireServerPort || f.Remote.Port() == hostPluginPort) {
			return flow.ReasonPlatform
		}
	case Metadata:
		if r.RestrictIMDS {
			return flow.ReasonIMDS
		}
	}
	return flow.ReasonNone
}

// asksGroups asks the groups of the node's interface, and of the receiver's if that is of the cluster.
// They see a pod's address in the network of pods, and the node's everywhere else; what
// stays on the node they do not see.
func (r *Rules) asksGroups(node *Node, f *snat.NewFlow) flow.Reason {
	remote := f.Remote.Addr()
	if f.From == flow.Outside {
		if node.owns(remote) {
			return flow.ReasonNone
		}
		return r.groups.Admit(nsg.Inbound, f.Protocol, f.Inside, f.Remote, node.addr(remote.Is6()))
	}
	inside := f.Inside
	if !within(remote, r.Unmasked) {
		inside = netip.AddrPortFrom(node.addr(remote.Is6()), inside.Port())
	}
	return r.sends(node, f.Protocol, inside, f.Remote)
}

// sends asks the groups at both ends of what leaves a node.
func (r *Rules) sends(node *Node, protocol uint8, from, to netip.AddrPort) flow.Reason {
	is6 := to.Addr().Is6()
	if node.owns(to.Addr()) {
		return flow.ReasonNone
	}
	if reason := r.groups.Admit(nsg.Outbound, protocol, from, to, node.addr(is6)); reason != flow.ReasonNone {
		return reason
	}
	if other := r.nodeOf(to.Addr()); other != nil {
		return r.groups.Admit(nsg.Inbound, protocol, to, from, other.addr(is6))
	}
	return flow.ReasonNone
}

// Leg is the first packet of a connection through a Service, as a node's proxy sends it on.
type Leg struct {
	Node     string         // that sends it
	Outside  bool           // it has come from another machine, and not from a pod or process of the node
	Protocol uint8          // IP protocol
	Client   netip.AddrPort // who has begun it
	Seen     netip.AddrPort // what the endpoint sees in the client's place
	Endpoint netip.AddrPort
}

// DecideLeg decides about the way to an endpoint of the cluster. Network policy is asked about
// what the client begins if that is of the node, and else about what reaches the endpoint; groups are asked
// if the leg leaves the node. What the user's Admit says is asked of translators only.
func (r *Rules) DecideLeg(l *Leg) flow.Reason {
	node, to := r.byName[l.Node], r.nodeOf(l.Endpoint.Addr())
	if node == nil || to == nil {
		return flow.ReasonNone // then translators are asked
	}
	if r.NetworkPolicy != nil {
		f := snat.NewFlow{From: flow.Inside, Name: node.Name, Protocol: l.Protocol, Inside: l.Client, Remote: l.Endpoint}
		if l.Outside {
			f = snat.NewFlow{From: flow.Outside, Name: to.Name, Protocol: l.Protocol, Inside: l.Endpoint, Remote: l.Seen}
		}
		if !r.NetworkPolicy(f) {
			return flow.ReasonNetworkPolicy
		}
	}
	if r.groups == nil || !r.outward {
		return flow.ReasonNone
	}
	return r.sends(node, l.Protocol, l.Seen, l.Endpoint)
}

// nodeOf returns the node that has an address, or whose pod may have it.
func (r *Rules) nodeOf(a netip.Addr) *Node {
	if n := r.byAddr[a]; n != nil || !a.IsValid() {
		return n
	}
	var is uint32
	if a.Is4() {
		is = r.pods4.Get(flow.Addr4(a))
	} else {
		is = r.pods6.Get(flow.Addr6(a))
	}
	if is == 0 {
		return nil
	}
	return &r.Nodes[is-1]
}

// has reports whether a is the node's own address.
func (n *Node) has(a netip.Addr) bool { return slices.Contains(n.Addrs, a) }

// owns reports whether a is of the node or one of its pods.
func (n *Node) owns(a netip.Addr) bool { return n.has(a) || within(a, n.PodBlocks) }

// addr returns the node's own address of a family, which the cluster has.
func (n *Node) addr(is6 bool) netip.Addr {
	for _, a := range n.Addrs {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// within reports whether a range has an address.
func within(a netip.Addr, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}
