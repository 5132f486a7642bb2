// Packets to and from Services, and to public addresses of nodes.

package explain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/kubeproxy"
	"github.com/seed-a61be3fe/natplane/overlay/internal/servicelb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// toPublicAddr explains a packet from elsewhere to the public address of a node, and reports
// whether it is one. Nothing is remembered of what comes there unasked.
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
	case x.refuses(flow.Outside, x.dst, x.src, true):
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
	protocol := snat.TCP
	if x.packet.Proto != wire.ProtoTCP {
		protocol = snat.UDP
	}
	d, _ := x.Egress.DecideTo(x.node.Name, protocol, x.dst)
	public := x.node.publicAddr(x.src.Addr())
	if d.Option != lb.InstancePublicIP || !public.IsValid() {
		return false
	}
	if x.isOurs() {
		x.drop(x.OutboundType, flow.ReasonHairpin)
	} else if !x.refuses(flow.Inside, x.src, x.dst, true) {
		x.say(at, "The source becomes %v, the node's public address, one to one: nothing is remembered.", public)
		x.Action = flow.Forward
	}
	return true
}

// followsPorts reports whether a Service can be told from the packet.
func (x *explainer) followsPorts() bool {
	return x.supported && x.packet.Flags&wire.NonFirst == 0 && !wire.IsICMP(x.packet.Proto)
}

// service explains a packet to a Service, or of one of its endpoints, and reports whether
// it is one. What becomes of the packet after its node it does not say, for the endpoint
// is chosen by chance.
func (x *explainer) service() bool {
	if !x.followsPorts() {
		return false
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
			x.isAt(s.Endpoint.Addr())
		case s.Endpoint == x.src && s.Seen == x.dst:
			x.say(at, "The packet answers a connection through %s %s: it leaves as %v for %v.", is, name, s.Frontend, s.Client)
			x.src, x.dst, x.node = s.Frontend, s.Client, node
			x.Action = flow.Forward
			x.answers()
			return true
		default:
			continue
		}
		x.Action = flow.Forward
		return true
	}
	return x.beginsService()
}

// answers explains the rest of the way of what answers by a frontend.
func (x *explainer) answers() {
	client, at := x.dst.Addr(), "node "+x.node.Name
	if _, inside := x.nodeOf(client); inside || (x.isLocal(x.dst) || x.Routed) && !x.Internal.Has(x.src.Addr()) {
		return
	}
	if x.node.has(x.src.Addr()) {
		x.toInternet(at)
	} else if _, ok := x.find(x.Egress.Sessions(), flow.Inside); !ok {
		x.drop(x.LoadBalancer, flow.ReasonSpoofFrontend)
	}
}

// atNode asks about a packet from elsewhere that comes to a node by its own address, and
// reports whether it is refused.
func (x *explainer) atNode(node *Node) bool {
	x.node, x.picksUp = node, true
	if _, ok := x.find(x.Translator.Sessions(), flow.Outside); ok {
		return false
	}
	return x.refuses(flow.Outside, x.dst, x.src, snat.RouteTo(x.Routes, snat.All, x.src) == snat.PassThrough)
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

// beginsService explains a packet that may begin a connection through a Service, at the node
// that it meets first.
func (x *explainer) beginsService() bool {
	src, dst := x.src.Addr(), x.dst.Addr()
	if node, ok := x.nodeOf(src); ok {
		from := kubeproxy.FromPod
		if node.has(src) {
			from = kubeproxy.FromHost
		}
		return x.beginsAt([]*Node{node}, from)
	}
	if node, ok := x.host(dst); ok {
		return x.beginsAt([]*Node{node}, kubeproxy.FromWire)
	}
	r, ok := servicelb.RuleOf(x.Config, x.packet.Proto, x.dst)
	if !ok || x.Internal.Has(dst) && !x.Routed && !x.isLocal(x.src) {
		return false // the latter is from the Internet, which reaches no private address
	}
	if x.resets() {
		x.drop(x.LoadBalancer, flow.ReasonNoFlow)
		return true
	}
	nodes := slices.DeleteFunc(slices.Clone(x.Nodes), func(n *Node) bool { return n == nil })
	all := len(nodes)
	if r.Probe != "" {
		nodes = slices.DeleteFunc(nodes, func(n *Node) bool {
			healthy, ok := x.Egress.Healthy(r.Probe, n.Name)
			if x.Internal.Has(dst) {
				healthy, ok = x.Egress.InternalHealthy(servicelb.InternalName, r.Probe, n.Name)
			}
			return ok && !healthy
		})
		x.say(x.LoadBalancer, "%v is of rule %s, whose probe %s has found %d of %d nodes healthy.", x.dst, r.Name, r.Probe, len(nodes), all)
	} else {
		x.say(x.LoadBalancer, "%v is of rule %s, which has no probe: any of %d nodes gets the packet.", x.dst, r.Name, len(nodes))
	}
	if len(nodes) == 0 {
		x.drop(x.LoadBalancer, flow.ReasonNoTarget)
		return true
	}
	x.node, x.picksUp = nodes[0], true
	to := x.dst
	if !r.EnableFloatingIP {
		to = netip.AddrPortFrom(x.node.addr(dst.Is6()), r.BackendPort)
		x.say(x.LoadBalancer, "The destination becomes the node's port %d, for the rule has no floating IP.", r.BackendPort)
	}
	if x.refuses(flow.Outside, to, x.src, false) {
		return true
	}
	x.dst = to
	if x.beginsAt(nodes, kubeproxy.FromWire) {
		return true
	}
	x.drop("node", flow.ReasonNotOurs) // it has come by HA ports to a port of no Service
	return true
}

// beginsAt explains a packet that arrives at one of some nodes: one where it may go on, if there
// is such a one.
func (x *explainer) beginsAt(nodes []*Node, from kubeproxy.Origin) bool {
	var is kubeproxy.Choice
	found := false
	for i := range nodes {
		c, ok := x.Proxy.Choice(nodes[i].Index, from, x.packet.Proto, x.src, x.dst)
		if ok && (!found || c.Reason == flow.ReasonNone) {
			is, found = c, true
		}
		if ok && c.Reason == flow.ReasonNone {
			break
		}
	}
	if !found {
		return false
	}
	at := "service proxy of the node"
	if len(nodes) == 1 {
		at = "service proxy of node " + nodes[0].Name
	}
	if name, what := x.kindOfService(is.Service); name != is.Service {
		x.say(at, "%v is %s %s.", x.dst, what, name)
	} else {
		x.say(at, "%v is port %q of Service %s.", x.dst, is.Port, is.Service)
	}
	if x.resets() {
		is.Reason = flow.ReasonNoFlow
	}
	if is.Reason != flow.ReasonNone {
		x.drop(at, is.Reason)
		if is.Reason == flow.ReasonNoTarget && x.isLocal(x.src) {
			x.say(at, "The node rejects the packet: it answers that the port is unreachable.")
		}
		return true
	}
	x.say(at, "One of its %d endpoints gets the packet, as its traffic policies and its affinity say.", is.Endpoints)
	x.Action = flow.Forward
	return true
}
