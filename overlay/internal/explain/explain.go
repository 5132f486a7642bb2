// Package explain says in words what a cluster would do with a packet, hop by hop, and changes
// nothing.
//
// [World] is the cluster at one moment, as far as an explanation looks at it; [Of] explains a packet
// there. An explanation is for one goroutine; what the World has is only read.
//
// It refuses to know how a cluster is configured and who has which address: it asks. What is said
// here must be what the doors of the cluster do: tests compare the two.
package explain

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/staticgateway"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Way says who carries a packet.
type Way uint8

// The ways that are told apart here.
const (
	ByEgress   Way = iota // load balancer or NAT gateway
	ByNodes               // the nodes, inside the network
	ToNextHop             // the nodes, and then the next hop of the user's route
	OnNode                // nobody: it does not leave its node, or passes it in a protocol that none follows
	ByBalancer            // a load balancer or the public address of a node if what this answers came there, else the nodes
	ByGateway             // a static gateway
	Spoofed               // nobody: no pod has the source
)

// World is the cluster at one moment.
type World struct {
	LoadBalancer string     // name of the one to the Internet
	DNS          netip.Addr // the cluster IP that is for the DNS Service
	OutboundType string     // name of what the Internet is reached by
	HostPort     string     // what the name of a host port's service begins with, before the pod's
	Routed       bool       // the Internet is behind a next hop of the user's
	PodRoutes    bool       // a route of the subnet leads to the pods of each node

	Egress     *lb.Egress
	Translator *snat.NAT // what nodes do inside the network
	Proxy      *kubeproxy.Proxy
	Gateways   *staticgateway.Set
	Config     *lb.EgressConfig                      // of Egress
	Internal   *servicelb.Frontends                  // of internal Services
	Routes     []snat.Route                          // of Translator, but the next hop's
	Dataplane  *snat.Dataplane                       // of Egress
	Admitted   *admission.Rules                      // who may begin
	Nodes      []*Node                               // by Index, nil where there is none
	NodeOf     func(netip.Addr) (index int, ok bool) // the node that has an address, or whose pod may have it
	PodAt      func(netip.Addr) string               // the name of the pod that has an address, or ""

	Outbound, Inbound func(pkt []byte) Way // who carries a packet from a side
}

// Node is a node.
type Node struct {
	Index       int
	Name        string
	Addrs       []netip.Addr // one per family, IPv4 first
	PublicAddrs []netip.Addr // at most one per family
}

// Outcome is an explanation: the decisions, and what becomes of the packet.
type Outcome struct {
	Steps  []Step
	Action flow.Action
	Reason flow.Reason
}

// Step is the decision at one hop.
type Step struct{ At, Decision string }

// Of explains a packet that comes at now. Cost: O(sessions + nodes).
func Of(w *World, now flow.Time, pkt []byte) Outcome {
	x := explainer{World: w, now: now}
	problem := wire.Parse(pkt, &x.packet)
	if problem != wire.OK && problem != wire.UnsupportedProto {
		x.drop("packet", flow.Reason(problem))
		return x.Outcome
	}
	x.supported = problem == wire.OK
	x.read(pkt)
	sender, inside := x.nodeOf(x.src.Addr())
	host, toNode := x.host(x.dst.Addr())
	switch {
	case inside && x.Outbound(pkt) == Spoofed:
		x.node = sender
		x.outbound(pkt)
	case !inside && toNode && x.Inbound(pkt) == ByEgress:
		x.fromInternet() // which has no way to private addresses
	case !inside && (toNode && x.atNode(host) || x.toPublicAddr()):
	case !inside && x.toPod(pkt):
	case x.laterPiece(sender):
	case x.service():
	case inside:
		x.node = sender
		x.outbound(pkt)
	default:
		x.inbound(pkt)
	}
	return x.Outcome
}

// nodeOf returns the node that has an address, or whose pod may have it.
func (w *World) nodeOf(a netip.Addr) (*Node, bool) {
	i, ok := w.NodeOf(a)
	if !ok || w.at(i) == nil {
		return nil, false
	}
	return w.Nodes[i], true
}

// host returns the node whose own address it is.
func (w *World) host(a netip.Addr) (*Node, bool) {
	n, ok := w.nodeOf(a)
	return n, ok && n.has(a)
}

// at returns the node of an index, or nil.
func (w *World) at(index int) *Node {
	if index < 0 || index >= len(w.Nodes) {
		return nil
	}
	return w.Nodes[index]
}

// isLocal reports whether an address is inside the network.
func (w *World) isLocal(a netip.AddrPort) bool {
	return snat.RouteTo(w.Routes, snat.All, a) != snat.Translate
}

// whose returns the names of the node and the pod that a flow is of; "" is none.
func (w *World) whose(s *flow.Info) (node, pod string) {
	n, ok := w.nodeOf(s.Inside.Addr())
	if !ok {
		n = w.at(int(s.VNI))
	}
	if n != nil {
		node = n.Name
	}
	return node, w.PodAt(s.Inside.Addr())
}

// has reports whether a is the node's own address.
func (n *Node) has(a netip.Addr) bool { return slices.Contains(n.Addrs, a) }

// addr returns the node's own address of a family, which the cluster has.
func (n *Node) addr(is6 bool) netip.Addr {
	return n.Addrs[slices.IndexFunc(n.Addrs, func(a netip.Addr) bool { return a.Is6() == is6 })]
}

// explainer follows one packet.
type explainer struct {
	Outcome
	*World
	now       flow.Time
	packet    wire.Packet
	src, dst  netip.AddrPort // port 0 where there are none
	supported bool           // its protocol can be followed
	node      *Node          // of the source, or the destination
	opens     opening        // what may begin a connection where the packet is
}

// read reads the sockets of the packet.
func (x *explainer) read(pkt []byte) {
	src, dst := addressing.Ends(pkt)
	x.src, x.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	if x.supported && x.packet.Flags&wire.NonFirst == 0 && !wire.IsICMP(x.packet.Proto) {
		ports := x.packet.Ports()
		x.src, x.dst = netip.AddrPortFrom(src, uint16(ports>>16)), netip.AddrPortFrom(dst, uint16(ports))
	}
}

// say adds a step.
func (x *explainer) say(at, format string, args ...any) {
	x.Steps = append(x.Steps, Step{at, fmt.Sprintf(format, args...)})
}

// drop ends the explanation with a drop.
func (x *explainer) drop(at string, r flow.Reason) {
	x.say(at, "%s", r.Sentence())
	x.Action, x.Reason = flow.Drop, r
}

// outbound explains a packet that a node or pod sends.
func (x *explainer) outbound(pkt []byte) {
	at := "node " + x.node.Name
	sender := "the node itself"
	if !x.node.has(x.src.Addr()) {
		sender = "a pod that is not known"
		if pod := x.PodAt(x.src.Addr()); pod != "" {
			sender = "pod " + pod
		}
	}
	x.say(at, "%v is %s.", x.src.Addr(), sender)
	x.leaves(at, pkt)
}

// leaves explains the way of a packet that leaves the node, or does not.
func (x *explainer) leaves(at string, pkt []byte) {
	switch w := x.Outbound(pkt); w {
	case Spoofed:
		x.drop(at, flow.ReasonSpoof)
	case OnNode:
		if x.Action = flow.Bypass; x.supported {
			x.say(at, "%v is on this node, so the packet does not leave it and is not translated.", x.dst.Addr())
		} else {
			x.say(at, "A packet of this protocol passes unchanged between nodes and pods.")
		}
	case ByEgress:
		x.toInternet(at)
	case ByGateway:
		x.toGateway()
	case ByBalancer:
		if x.asItCame(at) {
			return
		}
		if s, ok := x.find(x.Egress.Sessions(), flow.Inside); ok {
			x.goesOn(x.LoadBalancer, s.Outside)
			x.Action = flow.Forward
			return
		}
		x.toNetwork(at, false)
	default:
		x.toNetwork(at, w == ToNextHop)
	}
}

// toPod explains a packet from elsewhere to the own address of a pod, and reports whether it is one. The node
// has let it in before its proxy sees whether it answers a connection through a Service.
func (x *explainer) toPod(pkt []byte) bool {
	if n, ok := x.nodeOf(x.dst.Addr()); !ok || n.has(x.dst.Addr()) {
		return false
	}
	if x.inbound(pkt); x.Action != flow.Drop {
		x.service()
	}
	return true
}

// inbound explains a packet that comes from elsewhere.
func (x *explainer) inbound(pkt []byte) {
	switch x.Inbound(pkt) {
	case ByEgress:
		x.fromInternet()
		return
	case ByGateway:
		x.fromGateway()
		return
	}
	if s, ok := x.find(x.Translator.Sessions(), flow.Outside); ok {
		node, _ := x.whose(&s)
		x.comesBack("node "+node, s)
		return
	}
	n, ok := x.nodeOf(x.dst.Addr())
	if !ok && !x.supported {
		x.drop("virtual network", flow.ReasonUnsupportedProto)
		return
	}
	if !ok {
		x.drop("virtual network", flow.ReasonNotOurs)
		return
	}
	x.node, x.Action = n, flow.Forward
	at := "node " + x.node.Name
	unseen := snat.RouteTo(x.Routes, snat.All, x.src) == snat.PassThrough
	if !x.supported && !x.node.has(x.dst.Addr()) && !unseen {
		x.drop(at, flow.ReasonUnsupportedProto)
		return
	}
	x.opens = bySYNOrACK
	first := x.first()
	if first != flow.ReasonNone && !x.node.has(x.dst.Addr()) && !unseen {
		x.drop(at, first)
		return
	}
	if !x.supported || unseen || first != flow.ReasonNone {
		x.Action = flow.Bypass
	}
	x.say(at, "%v is here: the packet is delivered as it is, and so is what answers it.", x.dst.Addr())
	x.refuses(flow.Outside, x.dst, x.src, x.unseen(x.Action == flow.Bypass))
}

// fromInternet explains what the load balancer or the gateway does with a packet that
// arrives.
func (x *explainer) fromInternet() {
	egress := x.OutboundType
	_, node := x.host(x.dst.Addr())
	switch {
	case x.supported && !node && !x.isFrontend() && (x.packet.Flags&wire.Fragmented == 0 || x.Dataplane.Fragments.Mode != snat.FragmentsDropped):
		if x.isLocal(x.dst) {
			x.say(egress, "%v is inside of the network: there is no way to it from the Internet.", x.dst.Addr())
		}
		x.drop(egress, flow.ReasonNotOurs)
		return
	case !x.carried(x.isGateway()):
		return
	}
	if s, ok := x.find(x.Egress.Sessions(), flow.Outside); ok {
		x.comesBack(egress, s)
	} else if x.isFiltered() {
		x.drop(egress, flow.ReasonFiltered)
	} else {
		if _, ok := x.rule(); !ok && x.followsPorts() && !x.isGateway() {
			x.say(egress, "No rule of the load balancer has %v.", x.dst)
		}
		x.drop(egress, flow.ReasonNoFlow)
	}
}

// isFiltered reports whether the port of a load balancer that the packet is for is that of a flow
// with somebody else. Those of a gateway depend on the remote.
func (x *explainer) isFiltered() bool {
	if x.opens = bySYN; !x.followsPorts() || x.first() != flow.ReasonNone || x.isGateway() {
		return false
	}
	for s := range x.Egress.Sessions() {
		if s.Proto == x.packet.Proto && s.Outside == x.dst && s.Due > x.now {
			return true
		}
	}
	return false
}

// isFrontend reports whether the destination is an outbound IP, or a Service's address at the
// load balancer.
func (x *explainer) isFrontend() bool {
	return x.Internal.Has(x.dst.Addr()) || x.Egress.IsFrontend(x.dst.Addr()) || x.isGateway()
}

// isGateway reports whether the destination is an address of the NAT gateway.
func (x *explainer) isGateway() bool {
	g := x.Egress.Gateway()
	return g != nil && g.IsFrontend(x.dst.Addr())
}

// isOurs reports whether the destination is an address of what the node leaves by.
func (x *explainer) isOurs() bool {
	d, _ := x.Egress.DecideTo(x.node.Name, snat.TCP, x.dst)
	if d.Option == lb.NATGatewaySNAT {
		return slices.Contains(d.Addrs, x.dst.Addr())
	}
	return x.isFrontend() || x.publicAt(x.dst.Addr()) != nil
}

// goesOn says that a packet from inside belongs to a flow.
func (x *explainer) goesOn(at string, outside netip.AddrPort) {
	if outside == x.src {
		x.say(at, "The packet belongs to a flow that is not translated.")
	} else {
		x.say(at, "The packet belongs to a flow whose source is %v there.", outside)
	}
}

// comesBack says that a packet from outside belongs to a flow.
func (x *explainer) comesBack(at string, s flow.Info) {
	x.Action = flow.Forward
	node, pod := x.whose(&s)
	x.say(at, "The packet belongs to a flow of %v: it is delivered to it.", s.Inside)
	if pod != "" {
		x.say("node "+node, "%v is pod %s.", s.Inside.Addr(), pod)
	}
}

// find returns the session that the packet, from a side, belongs to.
func (x *explainer) find(sessions iter.Seq[flow.Info], from flow.Side) (flow.Info, bool) {
	near, far := x.src, x.dst
	if from == flow.Outside {
		near, far = far, near
	}
	for s := range sessions {
		if s.Due <= x.now || s.Class == flow.ClassUDPHeld { // which is over, and keeps its port only
			continue
		}
		local := s.Inside
		if from == flow.Outside {
			local = s.Outside
		}
		if s.Proto != x.packet.Proto || s.Remote.Addr() != far.Addr() || local.Addr() != near.Addr() {
			continue
		}
		if wire.IsICMP(s.Proto) && x.isQueryOf(&s, local.Port(), from) || !wire.IsICMP(s.Proto) && s.Remote.Port() == far.Port() && local == near {
			return s, true
		}
	}
	return flow.Info{}, false
}

// isQueryOf reports whether an ICMP message from a side belongs to a session with an
// identifier: a request does if its sender may have begun that, a reply if the other may.
func (x *explainer) isQueryOf(s *flow.Info, id uint16, from flow.Side) bool {
	m := x.packet.B[x.packet.L4:]
	if x.packet.Flags&wire.NonFirst != 0 {
		return false
	}
	request := m[0] == 8 || m[0] == 128
	return binary.BigEndian.Uint16(m[4:]) == id && (s.Kind == flow.KindTracked || request == (from == flow.Inside))
}
