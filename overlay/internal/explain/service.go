// Packets to and from Services, and to public addresses of nodes.

package explain

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/admission"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// toPublicAddr explains a packet from elsewhere to the public address of a node, and reports
// whether it is one.
func (x *explainer) toPublicAddr() bool {
	to := x.dst.Addr()
	node := x.publicAt(to)
	if node == nil {
		return false
	}
	x.node = node
	if s, ok := x.find(x.Egress.Sessions(), flow.Outside); ok {
		x.comesBack("node "+x.node.Name, s)
		return true
	}
	x.dst = netip.AddrPortFrom(x.node.addr(to.Is6()), x.dst.Port())
	x.say("virtual network", "%v is the public address of node %s: the packet goes to %v, one to one.", to, x.node.Name, x.dst.Addr())
	switch {
	case x.refuses(flow.Outside, x.dst, x.src, x.Egress):
	case x.service():
	default:
		x.say("node "+x.node.Name, "The packet is for the node itself.")
		x.Action = flow.Forward
	}
	return true
}

// publicAt returns the node whose public address it is, or nil.
func (x *explainer) publicAt(a netip.Addr) *Node {
	i := slices.IndexFunc(x.Nodes, func(n *Node) bool { return n != nil && slices.Contains(n.PublicAddrs, a) })
	return x.at(i)
}

// oneToOne explains a packet that a node with a public address sends to the Internet, and reports
// whether it is one.
func (x *explainer) oneToOne(at string) bool {
	d, _ := x.Egress.DecideTo(x.node.Name, x.protocol(), x.dst)
	public := x.node.publicAddr(x.src.Addr())
	if d.Option != lb.InstancePublicIP || !public.IsValid() {
		return false
	}
	if x.isOurs() {
		x.drop(x.OutboundType, flow.ReasonHairpin)
	} else if !x.refuses(flow.Inside, x.src, x.dst, x.Egress) {
		x.say(at, "The source becomes %v, the node's public address, one to one.", public)
		x.Action = flow.Forward
	}
	return true
}

// asItCame explains what answers by the public address of a node that a gateway or a service endpoint precedes, and
// reports whether it is that.
func (x *explainer) asItCame(at string) bool {
	if x.packet.Flags&wire.NonFirst != 0 || x.packet.Proto == wire.ProtoTCP && x.flags() == flow.SYN {
		return false
	}
	if wire.IsICMP(x.packet.Proto) && !x.isReply() {
		return false
	}
	f, _ := x.begun(flow.Inside, x.src, x.dst)
	if !x.Egress.AnswersPublicIP(x.now, f) {
		return false
	}
	x.say(at, "The packet answers what has come to the node's public address: it leaves with that, %v, as it came.", x.node.publicAddr(x.src.Addr()))
	x.Action = flow.Forward
	return true
}

// followsPorts reports whether a Service can be told from the packet.
func (x *explainer) followsPorts() bool {
	return x.supported && x.packet.Flags&wire.NonFirst == 0 && !wire.IsICMP(x.packet.Proto)
}

// laterPiece explains a fragment with an offset that a node or its pods, unless sender is nil, send to a
// Service, or that comes to HA ports, and reports whether it is one whose way that decides.
func (x *explainer) laterPiece(sender *Node) bool {
	if !x.supported || x.packet.Flags&wire.NonFirst == 0 {
		return false
	}
	if sender != nil {
		at := "service proxy of node " + sender.Name
		goes, misses := x.Proxy.Follows(x.now, sender.Index, &x.packet)
		if goes {
			x.say(at, "The packet goes where the first fragment of its datagram has gone.")
			x.Action = flow.Forward
		} else if misses {
			x.drop(at, flow.ReasonFragment)
		}
		return goes || misses
	}
	if r, ok := x.rule(); !ok || r.FrontendPort != 0 {
		return false
	}
	x.say(x.LoadBalancer, "The packet goes where the first fragment of its datagram goes, and waits for that if it has not come.")
	x.Action = flow.Forward
	return true
}

// service explains a packet to a Service, or of one of its endpoints, and reports whether
// it is one. What becomes of the packet after its node it does not say, for the endpoint
// is chosen by chance.
func (x *explainer) service() bool {
	if !x.followsPorts() {
		return false
	}
	if _, balanced := x.rule(); balanced && x.resets() {
		if _, known := x.find(x.Egress.Sessions(), flow.Outside); !known {
			x.drop(x.LoadBalancer, flow.ReasonNoFlow)
			return true
		}
	}
	for s := range x.Proxy.Sessions() {
		node := x.at(s.Node)
		if s.Proto != x.packet.Proto || node == nil || s.Due <= x.now {
			continue
		}
		at := "service proxy of node " + node.Name
		name, is := x.kindOfService(s.Service)
		switch {
		case s.Client == x.src && s.Frontend == x.dst:
			x.say(at, "The packet belongs to a connection through %s %s with %v, which sees it come from %v.", is, name, s.Endpoint, s.Seen)
			x.src, x.dst, x.node = s.Seen, s.Endpoint, node
			x.Action = flow.Forward
			x.toEndpoint()
			return true
		case s.Endpoint == x.src && s.Seen == x.dst:
			x.say(at, "The packet answers a connection through %s %s: it leaves as %v for %v.", is, name, s.Frontend, s.Client)
			x.src, x.dst, x.node = s.Frontend, s.Client, node
			x.Action = flow.Forward
			x.answers()
			return true
		}
	}
	return x.beginsService()
}

// toEndpoint explains the rest of the way of what a node's proxy has sent to an endpoint: the
// network and the egress see it if the endpoint is none of the cluster's.
func (x *explainer) toEndpoint() {
	if _, inside := x.nodeOf(x.dst.Addr()); inside {
		x.isAt(x.dst.Addr())
	} else {
		x.leaves("node "+x.node.Name, x.rewritten())
	}
}

// answers explains the rest of the way of what answers by a frontend.
func (x *explainer) answers() {
	at := "node " + x.node.Name
	switch client, inside := x.nodeOf(x.dst.Addr()); {
	case inside && client == x.node:
	case x.node.has(x.src.Addr()):
		x.leaves(at, x.rewritten())
	case x.Routed && !x.isLocal(x.dst):
	case x.Outbound(x.rewritten()) != ByEgress:
		x.drop(at, flow.ReasonSpoof) // what is inside the network the load balancer does not see
	default:
		if _, ok := x.find(x.Egress.Sessions(), flow.Inside); !ok {
			x.drop(x.LoadBalancer, flow.ReasonSpoofFrontend)
		}
	}
}

// rewritten returns a copy of the packet, which has ports, with the sockets that it has by now, which can be
// parsed: only the checksum behind its IP header is not that of it.
func (x *explainer) rewritten() []byte {
	b, at := slices.Clone(x.packet.B), 12
	if x.dst.Addr().Is6() {
		at = 8
	}
	copy(b[at:], append(x.src.Addr().AsSlice(), x.dst.Addr().AsSlice()...))
	binary.BigEndian.PutUint16(b[x.packet.L4:], x.src.Port())
	binary.BigEndian.PutUint16(b[x.packet.L4+2:], x.dst.Port())
	if !x.dst.Addr().Is6() {
		wire.IPv4(b).ComputeChecksum()
	}
	return b
}

// atNode asks about a packet from elsewhere that comes to a node by its own address, and
// reports whether it is refused, or answers what the node has translated: then it is for no Service, whatever
// its port is.
func (x *explainer) atNode(node *Node) bool {
	x.node, x.opens = node, bySYNOrACK
	if s, ok := x.find(x.Translator.Sessions(), flow.Outside); ok {
		if s.Outside != s.Inside {
			x.comesBack("node "+node.Name, s)
		}
		return s.Outside != s.Inside
	}
	unseen := snat.RouteTo(x.Routes, snat.All, x.src) == snat.PassThrough || x.first() != flow.ReasonNone
	return x.refuses(flow.Outside, x.dst, x.src, x.unseen(unseen))
}

// isAt says whose an address is that a packet has come to.
func (x *explainer) isAt(a netip.Addr) {
	node, ok := x.nodeOf(a)
	if !ok {
		return
	}
	at := "node " + node.Name
	if pod := x.PodAt(a); pod != "" {
		x.say(at, "%v is pod %s.", a, pod)
	} else if node.has(a) {
		x.say(at, "%v is the node itself.", a)
	}
}

// publicAddr returns the public address that a node has for one of its own, if any.
func (n *Node) publicAddr(own netip.Addr) netip.Addr {
	i := slices.IndexFunc(n.PublicAddrs, func(a netip.Addr) bool { return a.Is6() == own.Is6() })
	if i < 0 || !n.has(own) {
		return netip.Addr{}
	}
	return n.PublicAddrs[i]
}

// kindOfService tells Services and the host ports of pods apart.
func (w *World) kindOfService(name string) (of, is string) {
	if pod, ok := strings.CutPrefix(name, w.HostPort); ok {
		return pod, "a host port of pod"
	}
	return name, "Service"
}

// arrival is where a packet may come to, and its destination there.
type arrival struct {
	node *Node
	dst  netip.AddrPort
}

// beginsService explains a packet that may begin a connection through a Service, at the node
// that it meets first.
func (x *explainer) beginsService() bool {
	src, dst := x.src.Addr(), x.dst.Addr()
	if node, ok := x.nodeOf(src); ok {
		from := kubeproxy.FromPod
		if node.has(src) {
			from = kubeproxy.FromHost
		}
		return x.beginsAt([]arrival{{node, x.dst}}, from)
	}
	if node, ok := x.host(dst); ok {
		return x.beginsAt([]arrival{{node, x.dst}}, kubeproxy.FromWire)
	}
	r, ok := x.rule()
	if !ok {
		return false
	}
	if x.packet.Flags&wire.Fragmented != 0 && r.FrontendPort != 0 {
		x.drop(x.LoadBalancer, flow.ReasonFragment) // the rule could not carry the others
		return true
	}
	if all := x.balanced(&r); len(all) == 0 {
		x.drop(x.LoadBalancer, flow.ReasonNoTarget)
	} else if all = x.mayBegin(all); len(all) > 0 && !x.beginsAt(all, kubeproxy.FromWire) {
		x.drop("node", flow.ReasonNotOurs) // it has come by HA ports to a port of no Service
	}
	return true
}

// rule returns the rule of a load balancer that the packet is for, and whether there is one. From the
// Internet nothing reaches a private address.
func (x *explainer) rule() (r lb.LoadBalancingRule, ok bool) {
	_, inside := x.nodeOf(x.src.Addr())
	_, toNode := x.host(x.dst.Addr())
	if inside || toNode || x.Internal.Has(x.dst.Addr()) && !x.Routed && !x.isLocal(x.src) {
		return r, false
	}
	return servicelb.RuleOf(x.Config, x.packet.Proto, x.dst)
}

// balanced returns the nodes that a rule may send the packet to.
func (x *explainer) balanced(r *lb.LoadBalancingRule) (all []arrival) {
	is6, nodes := x.dst.Addr().Is6(), 0
	for _, n := range x.Nodes {
		if n == nil {
			continue
		}
		nodes++
		healthy, asked := x.Egress.Healthy(r.Probe, n.Name)
		if x.Internal.Has(x.dst.Addr()) {
			healthy, asked = x.Egress.InternalHealthy(servicelb.InternalName, r.Probe, n.Name)
		}
		if r.Probe != "" && asked && !healthy {
			continue
		}
		to := arrival{n, x.dst}
		if !r.EnableFloatingIP {
			to.dst = netip.AddrPortFrom(n.addr(is6), r.BackendPort)
		}
		all = append(all, to)
	}
	if r.Probe != "" {
		x.say(x.LoadBalancer, "%v is of rule %s, whose probe %s has found %d of %d nodes healthy.", x.dst, r.Name, r.Probe, len(all), nodes)
	} else {
		x.say(x.LoadBalancer, "%v is of rule %s, which has no probe: any of %d nodes gets the packet.", x.dst, r.Name, nodes)
	}
	if !r.EnableFloatingIP && len(all) > 0 {
		x.say(x.LoadBalancer, "The destination becomes the node's port %d, for the rule has no floating IP.", r.BackendPort)
	}
	return all
}

// mayBegin returns those of some nodes that the packet may begin at, and drops it if there are none.
func (x *explainer) mayBegin(all []arrival) (may []arrival) {
	var why flow.Reason
	var who string
	x.opens = notByReset
	for _, to := range all {
		x.node = to.node
		if r, by := x.asks(flow.Outside, to.dst, x.src, nil); r == flow.ReasonNone {
			may = append(may, to)
		} else if who == "" {
			why, who = r, by
		}
	}
	if len(may) == 0 {
		x.drop(who, why)
	} else if who != "" {
		x.say(who, "At %d of these nodes it may not begin: %s", len(all)-len(may), why.Sentence())
	}
	return may
}

// beginsAt explains a packet that arrives at one of some nodes, and reports whether any has a frontend
// there. It goes on if it may do so at one of them.
func (x *explainer) beginsAt(all []arrival, from kubeproxy.Origin) bool {
	var (
		is      kubeproxy.Choice // at a node where the packet may go on, if there is one
		dst     netip.AddrPort   // of it
		node    *Node            // that
		found   bool
		reached bool
		refused flow.Reason // of a leg, at any node
	)
	for _, to := range all {
		c, ok := x.Proxy.Choice(x.now, to.node.Index, from, x.packet.Proto, x.src, to.dst)
		if !ok {
			continue
		}
		may, why := x.reach(to.node, &c)
		if refused == flow.ReasonNone {
			refused = why
		}
		if !found || is.Reason != flow.ReasonNone && c.Reason == flow.ReasonNone || !reached && may {
			is, dst, node, found, reached = c, to.dst, to.node, true, may
		}
		if reached && !x.Admitted.LimitsLegs() {
			break
		}
	}
	if !found {
		return false
	}
	at := "service proxy of node " + node.Name
	if len(all) > 1 {
		x.say(at, "Any of %d nodes may get the packet; this is one of them, and another chooses by its own endpoints.", len(all))
	}
	if name, what := x.kindOfService(is.Service); name != is.Service {
		x.say(at, "%v is %s %s.", dst, what, name)
	} else if is.Port == "" {
		x.say(at, "%v is Service %s.", dst, is.Service)
	} else {
		x.say(at, "%v is port %q of Service %s.", dst, is.Port, is.Service)
	}
	if x.resets() {
		is.Reason = flow.ReasonNoFlow
	}
	switch {
	case is.Reason != flow.ReasonNone:
		x.drop(at, is.Reason)
		if is.Reason == flow.ReasonNoTarget && x.isLocal(x.src) {
			x.say(at, "The node rejects the packet: it answers that the port is unreachable.")
		}
		return true
	case !reached:
		if len(is.Legs) == 1 {
			x.say(at, "Its only endpoint, %v, may not be reached.", is.Legs[0].Endpoint)
		} else {
			x.say(at, "None of its %d endpoints may be reached.", len(is.Legs))
		}
		x.drop("way to the endpoint", refused)
		return true
	case refused != flow.ReasonNone:
		x.say(at, "Not all of its endpoints may be reached, and a packet for another is dropped: %s", refused.Sentence())
	}
	if len(is.Legs) == 1 {
		x.say(at, "Its only endpoint that may be chosen gets the packet: %v.", is.Legs[0].Endpoint)
	} else {
		x.say(at, "One of its %d endpoints gets the packet, as its traffic policies and its affinity say: %s.", len(is.Legs), someEndpoints(is.Legs))
	}
	x.stops(at, is.Legs)
	if seen := is.Legs[0].Seen.Addr(); !slices.ContainsFunc(is.Legs, func(l kubeproxy.Leg) bool { return l.Seen.Addr() != seen }) {
		who := seen.String()
		if len(all) > 1 && seen != x.src.Addr() { // any of the nodes
			who = "the address of the node"
		}
		x.say(at, "It sees %s as the client.", who)
	}
	x.Action = flow.Forward
	if l := is.Legs[0]; len(is.Legs) == 1 && l.EndpointNode < 0 {
		x.src, x.dst, x.node = l.Seen, l.Endpoint, node
		x.toEndpoint()
	}
	return true
}

// stops says where the explanation stops if chance may choose an endpoint outside the cluster.
func (x *explainer) stops(at string, legs []kubeproxy.Leg) {
	if len(legs) > 1 && slices.ContainsFunc(legs, func(l kubeproxy.Leg) bool { return l.EndpointNode < 0 }) {
		x.say(at, "What becomes of a packet for an endpoint outside the cluster after its node is not said here.")
	}
}

// someEndpoints lists the first endpoints.
func someEndpoints(legs []kubeproxy.Leg) string {
	const most = 4
	var b strings.Builder
	for i := range legs {
		switch {
		case i == most:
			b.WriteString(" ..")
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(legs[i].Endpoint.String())
	}
	return b.String()
}

// reach reports whether any of the endpoints that a node may choose can be reached, and why one
// cannot, if there is such a one.
func (x *explainer) reach(node *Node, c *kubeproxy.Choice) (may bool, why flow.Reason) {
	for _, l := range c.Legs {
		leg := admission.Leg{Node: node.Name, Outside: l.From == kubeproxy.FromWire, Protocol: l.Proto, Client: l.Client, Seen: l.Seen, Endpoint: l.Endpoint}
		if r := x.Admitted.DecideLeg(&leg); r == flow.ReasonNone {
			may = true
		} else {
			why = r
		}
	}
	return may, why
}
