// Package policy decides by the NetworkPolicies of a cluster which flows may begin. Read
// "Network Policies" of the Kubernetes documentation first.
//
// Terminology:
//   - Group: pods that are equal to policies: of one namespace, with the same labels and ports.
//   - Isolated: what a group is in a direction if a policy of that direction selects it. Then
//     only what a rule allows may begin; otherwise everything may.
//   - Peer: who may be at the other end: groups, or a block of addresses.
//
// A flow between two pods needs the leave of both: the sender's for egress, the receiver's for
// ingress. A pod reaches itself always, and its own node and it reach each other. Processes of nodes, hostNetwork pods
// among them, have no policy. A rule without ports is for every protocol; one with ports
// is for TCP, UDP and SCTP.
//
// [Compile] makes [Rules] out of policies and groups, and [Rules.Bind] says who has which address. After that
// any number of goroutines may ask [Rules.Admit], which allocates nothing. Cost: O(rules that
// concern the two groups). It refuses to know what the objects of Kubernetes look like.
package policy

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Policy is a NetworkPolicy.
type Policy struct {
	Namespace       string
	Selects         labels.Selector // pods of the namespace
	Ingress, Egress bool            // the directions that it isolates
	In, Out         []Rule          // by direction: what is allowed
}

// Rule allows flows that one of Peers begins, or gets, on one of Ports. Without Peers it is anybody,
// and without Ports everything.
type Rule struct {
	Peers []Peer
	Ports []Port
}

// Port is a port of the receiver, or several.
type Port struct {
	Protocol    uint8  // IP protocol
	Name        string // of a port of the receiver's containers; "" if First and Last say it
	First, Last uint16 // both 0 are all ports
}

// Peer is pods by their labels and those of their namespace, or a block of addresses.
type Peer struct {
	Pods       labels.Selector // nil if it is a block
	Namespaces labels.Selector // nil is the namespace of the policy
	Block      netip.Prefix
	Except     []netip.Prefix // parts of Block that are not the peer
}

// Group is a number of equal pods.
type Group struct {
	Namespace string
	Labels    map[string]string
	Ports     []NamedPort
}

// NamedPort is a port of a container that has a name.
type NamedPort struct {
	Name     string
	Protocol uint8 // IP protocol
	Number   uint16
}

// Rules are all policies of a cluster.
type Rules struct {
	groups  []group
	pods    map[netip.Addr]pod
	nodes   map[netip.Addr]int32 // their index, by each of their addresses
	outward bool
}

// group is a group and what concerns it.
type group struct {
	ports    []NamedPort
	isolated [2]bool // by direction
	rules    [2][]*rule
}

// Directions.
const (
	ingress = iota
	egress
)

// rule is a Rule whose peers are known.
type rule struct {
	anybody bool
	groups  []bool // by index, who is a peer
	blocks  []Peer
	ports   []Port
}

// pod is a pod and its node.
type pod struct{ group, node int32 }

// Compile makes rules of policies, the labels of namespaces by name, and groups. With outward a block of
// addresses is for what is outside of the cluster only, as with Cilium.
func Compile(policies []Policy, namespaces map[string]map[string]string, groups []Group, outward bool) *Rules {
	r := &Rules{groups: make([]group, len(groups)), pods: make(map[netip.Addr]pod), nodes: make(map[netip.Addr]int32), outward: outward}
	for i := range groups {
		r.groups[i].ports = groups[i].Ports
	}
	for i := range policies {
		p := &policies[i]
		var rules [2][]*rule
		for j := range p.In {
			rules[ingress] = append(rules[ingress], compile(p, &p.In[j], namespaces, groups))
		}
		for j := range p.Out {
			rules[egress] = append(rules[egress], compile(p, &p.Out[j], namespaces, groups))
		}
		for j := range groups {
			if groups[j].Namespace != p.Namespace || !p.Selects.Matches(labels.Set(groups[j].Labels)) {
				continue
			}
			for direction, isolates := range [2]bool{p.Ingress, p.Egress} {
				if isolates {
					r.groups[j].isolated[direction] = true
					r.groups[j].rules[direction] = append(r.groups[j].rules[direction], rules[direction]...)
				}
			}
		}
	}
	return r
}

// compile finds the groups that are peers of a rule.
func compile(p *Policy, of *Rule, namespaces map[string]map[string]string, groups []Group) *rule {
	r := &rule{anybody: len(of.Peers) == 0, groups: make([]bool, len(groups)), ports: of.Ports}
	for i := range of.Peers {
		peer := &of.Peers[i]
		if peer.Pods == nil {
			r.blocks = append(r.blocks, *peer)
			continue
		}
		for j := range groups {
			g := &groups[j]
			near := peer.Namespaces == nil && g.Namespace == p.Namespace ||
				peer.Namespaces != nil && peer.Namespaces.Matches(labels.Set(namespaces[g.Namespace]))
			r.groups[j] = r.groups[j] || near && peer.Pods.Matches(labels.Set(g.Labels))
		}
	}
	return r
}

// Bind says that addresses are of a pod of a group, on a node of an index.
func (r *Rules) Bind(addrs []netip.Addr, group, node int) {
	for _, a := range addrs {
		r.pods[a] = pod{int32(group), int32(node)}
	}
}

// BindNode says that addresses are of a node.
func (r *Rules) BindNode(addrs []netip.Addr, node int) {
	for _, a := range addrs {
		r.nodes[a] = int32(node)
	}
}

// Admit reports whether a flow may begin.
func (r *Rules) Admit(f snat.NewFlow) bool {
	from, to := f.Inside, f.Remote
	if f.From == flow.Outside {
		from, to = to, from
	}
	sender, sends := r.pods[from.Addr()]
	receiver, gets := r.pods[to.Addr()]
	return from.Addr() == to.Addr() ||
		(!sends || r.allows(egress, sender, to.Addr(), &f, to)) &&
			(!gets || r.allows(ingress, receiver, from.Addr(), &f, to))
}

// allows reports whether the policies of a pod let it have a flow with another address.
func (r *Rules) allows(direction int, of pod, other netip.Addr, f *snat.NewFlow, to netip.AddrPort) bool {
	g := &r.groups[of.group]
	if !g.isolated[direction] {
		return true
	}
	node, isNode := r.nodes[other]
	if isNode && node == of.node {
		return true
	}
	peer, isPod := r.pods[other]
	receiver := g // whose names of ports count
	if direction == egress {
		if receiver = nil; isPod {
			receiver = &r.groups[peer.group]
		}
	}
	for _, rule := range g.rules[direction] {
		switch {
		case !rule.hasPort(f.Protocol, to.Port(), receiver):
		case rule.anybody, isPod && rule.groups[peer.group]:
			return true
		case r.outward && (isPod || isNode):
		case slices.ContainsFunc(rule.blocks, func(b Peer) bool { return b.has(other) }):
			return true
		}
	}
	return false
}

// has reports whether a block has an address.
func (p *Peer) has(a netip.Addr) bool {
	return p.Block.Contains(a) && !slices.ContainsFunc(p.Except, func(e netip.Prefix) bool { return e.Contains(a) })
}

// hasPort reports whether a rule is for a port of a receiver, which is nil if it is no pod.
func (r *rule) hasPort(protocol uint8, number uint16, receiver *group) bool {
	if len(r.ports) == 0 {
		return true
	}
	for i := range r.ports {
		p := &r.ports[i]
		switch {
		case p.Protocol != protocol:
		case p.Name == "":
			if p.First == 0 || p.First <= number && number <= p.Last {
				return true
			}
		case receiver != nil && slices.Contains(receiver.ports, NamedPort{p.Name, protocol, number}):
			return true
		}
	}
	return false
}
