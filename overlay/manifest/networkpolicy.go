// NetworkPolicies: what they say, and when they are in force.

package manifest

import (
	"maps"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/cni"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/decode"
	"github.com/seed-a61be3fe/natplane/overlay/manifest/internal/policy"
	"github.com/seed-a61be3fe/natplane/snat"
)

// policies are the NetworkPolicies of a cluster.
type policies struct {
	all        []policy.Policy
	namespaces map[string]map[string]string // labels
	stated     bool                         // a file says which engine there is, or that there is none
}

// namespace notes the labels of a namespace.
func (r *reader) namespace(_ object, n *corev1.Namespace) {
	r.cluster.policies.namespaces[n.Name] = n.Labels
}

// networkPolicy takes over a policy.
func (r *reader) networkPolicy(o object, n *networkingv1.NetworkPolicy) {
	before := r.problems.Len()
	spec := &n.Spec
	p := policy.Policy{Namespace: n.Namespace, Selects: r.selector(o, &spec.PodSelector, "spec", "podSelector"), Ingress: true, Egress: len(spec.Egress) > 0}
	if len(spec.PolicyTypes) > 0 {
		p.Ingress, p.Egress = slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress), slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
	for i, t := range spec.PolicyTypes {
		if t != networkingv1.PolicyTypeIngress && t != networkingv1.PolicyTypeEgress {
			r.badAt(o.place("spec", "policyTypes", i), string(t), flow.ErrOutOfRange, "Ingress or Egress")
		}
	}
	for i := range spec.Ingress {
		p.In = append(p.In, r.policyRule(o, spec.Ingress[i].From, spec.Ingress[i].Ports, "from", "spec", "ingress", i))
	}
	for i := range spec.Egress {
		p.Out = append(p.Out, r.policyRule(o, spec.Egress[i].To, spec.Egress[i].Ports, "to", "spec", "egress", i))
	}
	if r.problems.Len() > before {
		return
	}
	if r.cluster.policies.stated && r.cluster.Config.NetworkPolicyEngine == cni.NoPolicyEngine {
		r.omit(o.place("kind"), n.Name, "has no effect: the cluster has no engine of network policies")
		return
	}
	r.cluster.policies.all = append(r.cluster.policies.all, p)
}

// policyRule reads a rule, which is at a path and has its peers in a field.
func (r *reader) policyRule(o object, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, field string, path ...any) (rule policy.Rule) {
	at := func(steps ...any) []any { return append(slices.Clone(path), steps...) }
	for i := range peers {
		rule.Peers = append(rule.Peers, r.policyPeer(o, &peers[i], at(field, i)))
	}
	for i := range ports {
		rule.Ports = append(rule.Ports, r.policyPort(o, &ports[i], at("ports", i)))
	}
	return rule
}

// policyPeer reads a peer.
func (r *reader) policyPeer(o object, from *networkingv1.NetworkPolicyPeer, path []any) (p policy.Peer) {
	at := func(steps ...any) []any { return append(slices.Clone(path), steps...) }
	block := from.IPBlock
	switch {
	case block != nil && (from.PodSelector != nil || from.NamespaceSelector != nil):
		r.badAt(o.place(at("ipBlock")...), block.CIDR, flow.ErrConflict, "a peer is a block or selectors")
	case block != nil:
		p.Block = r.policyBlock(o, block.CIDR, at("ipBlock", "cidr"))
		for i, text := range block.Except {
			e := r.policyBlock(o, text, at("ipBlock", "except", i))
			if e.IsValid() && p.Block.IsValid() && (e.Bits() <= p.Block.Bits() || !p.Block.Contains(e.Addr())) {
				r.badAt(o.place(at("ipBlock", "except", i)...), text, flow.ErrOutOfRange, "must be a part of %v", p.Block)
			}
			p.Except = append(p.Except, e)
		}
	case from.PodSelector == nil && from.NamespaceSelector == nil:
		r.badAt(o.place(path...), nil, flow.ErrMissing, "a peer has podSelector, namespaceSelector or ipBlock")
	default:
		p.Pods = labels.Everything()
		if from.PodSelector != nil {
			p.Pods = r.selector(o, from.PodSelector, at("podSelector")...)
		}
		if from.NamespaceSelector != nil {
			p.Namespaces = r.selector(o, from.NamespaceSelector, at("namespaceSelector")...)
		}
	}
	return p
}

// policyBlock reads a block of addresses; it is not valid if it cannot.
func (r *reader) policyBlock(o object, text string, path []any) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		r.badAt(o.place(path...), text, flow.ErrPrefix, "must be a prefix such as 203.0.113.0/24")
	}
	return p.Masked()
}

// policyPort reads a port.
func (r *reader) policyPort(o object, from *networkingv1.NetworkPolicyPort, path []any) (p policy.Port) {
	at := func(field string) decode.Place { return o.place(append(slices.Clone(path), field)...) }
	p.Protocol = wire.ProtoTCP
	if from.Protocol != nil {
		number, ok := protocolNumbers[*from.Protocol]
		if !ok {
			r.badAt(at("protocol"), string(*from.Protocol), flow.ErrOutOfRange, "TCP, UDP or SCTP")
		}
		p.Protocol = number
	}
	switch {
	case from.Port == nil:
		if from.EndPort != nil {
			r.badAt(at("endPort"), *from.EndPort, flow.ErrConflict, "needs a port")
		}
	case from.Port.Type == intstr.String:
		if p.Name = from.Port.StrVal; p.Name == "" {
			r.badAt(at("port"), nil, flow.ErrMissing, "a number or the name of a port")
		}
		if from.EndPort != nil {
			r.badAt(at("endPort"), *from.EndPort, flow.ErrConflict, "needs a port that is a number")
		}
	default:
		first, last := from.Port.IntVal, from.Port.IntVal
		if from.EndPort != nil {
			last = *from.EndPort
		}
		switch {
		case first < 1 || first > math.MaxUint16:
			r.badAt(at("port"), first, flow.ErrOutOfRange, "1..65535")
		case last < first || last > math.MaxUint16:
			r.badAt(at("endPort"), last, flow.ErrOutOfRange, "%d..65535", first)
		default:
			p.First, p.Last = uint16(first), uint16(last)
		}
	}
	return p
}

// protocolNumbers are the IP protocols of ports.
var protocolNumbers = map[corev1.Protocol]uint8{corev1.ProtocolTCP: wire.ProtoTCP, corev1.ProtocolUDP: wire.ProtoUDP, corev1.ProtocolSCTP: 132}

// selector reads a selector of labels at a path.
func (r *reader) selector(o object, from *metav1.LabelSelector, path ...any) labels.Selector {
	s, err := metav1.LabelSelectorAsSelector(from)
	if err != nil {
		r.badAt(o.place(path...), nil, flow.ErrSyntax, "%v", err)
		return labels.Nothing()
	}
	return s
}

// compile makes rules for the pods of workloads; nil if there is no policy.
func (p *policies) compile(workloads []Workload, engine cni.PolicyEngine) *policy.Rules {
	if len(p.all) == 0 {
		return nil
	}
	namespaces := make(map[string]map[string]string)
	groups := make([]policy.Group, len(workloads))
	for i := range workloads {
		w := &workloads[i]
		groups[i] = policy.Group{Namespace: w.Namespace, Labels: w.Labels}
		for _, port := range w.Ports {
			number := uint8(wire.ProtoTCP)
			if port.Protocol == snat.UDP {
				number = wire.ProtoUDP
			}
			groups[i].Ports = append(groups[i].Ports, policy.NamedPort{Name: port.Name, Protocol: number, Number: port.Port})
		}
		if namespaces[w.Namespace] == nil {
			namespaces[w.Namespace] = map[string]string{corev1.LabelMetadataName: w.Namespace}
			maps.Copy(namespaces[w.Namespace], p.namespaces[w.Namespace])
		}
	}
	return policy.Compile(p.all, namespaces, groups, engine == cni.Cilium)
}

// enforce puts rules into a configuration, besides what is there.
func enforce(c *overlay.ClusterConfig, rules *policy.Rules) {
	own := c.NetworkPolicy
	c.NetworkPolicy = func(f snat.NewFlow) bool { return rules.Admit(f) && (own == nil || own(f)) }
}
