// Explanations: what the cluster would do with a packet, in words and without doing it.

package overlay

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Explanation says what becomes of a packet, hop by hop.
type Explanation struct {
	Steps  []Step      // in the order in which the packet meets them
	Action flow.Action // what becomes of it
	Reason flow.Reason // why, if Action is Drop
}

// Step is the decision at one hop.
type Step struct {
	At       string // who decides, such as "node aks-nodepool1-vmss000000"
	Decision string // a sentence
}

// String returns one line for each step, and one for the outcome.
func (e Explanation) String() string {
	var b strings.Builder
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "%s: %s\n", s.At, s.Decision)
	}
	fmt.Fprint(&b, e.Action)
	if e.Action == flow.Drop {
		fmt.Fprintf(&b, ": %s", e.Reason.Sentence())
	}
	return b.String()
}

// Explain says what would become of a packet that comes at now, and changes nothing. A
// packet whose source is a node or pod is explained as Outbound would take it, any other as
// Inbound. Flows that end by idling until now are over; what probes have found is what they
// had found when Advance was last called. It does not say which port a new flow gets, nor whether
// one is free; of TCP it looks at addresses, ports, SYN and RST only, not at the state of
// the connection, and of fragments at the first. Cost: it goes through all sessions.
func (c *Cluster) Explain(now flow.Time, pkt []byte) Explanation {
	x := explainer{cluster: c, state: c.state.Load(), now: now}
	problem := wire.Parse(pkt, &x.packet)
	if problem != wire.OK && problem != wire.UnsupportedProto {
		x.drop("packet", flow.Reason(problem))
		return x.Explanation
	}
	x.supported = problem == wire.OK
	x.read(pkt)
	i, inside := x.state.nodeOf(x.src.Addr())
	node, toNode := x.state.byAddr[x.dst.Addr()]
	switch {
	case inside && x.state.strict && x.state.spoofs(pkt):
		x.node = x.state.byIndex[i]
		x.outbound(pkt)
	case !inside && toNode && x.state.inboundWay(pkt) == byEgress:
		x.fromInternet() // which has no way to private addresses
	case !inside && (toNode && x.atNode(node) || x.toPublicAddr()):
	case x.service():
	case inside:
		x.node = x.state.byIndex[i]
		x.outbound(pkt)
	default:
		x.inbound(pkt)
	}
	return x.Explanation
}

// explainer follows one packet.
type explainer struct {
	Explanation
	cluster   *Cluster
	state     *state
	now       flow.Time
	packet    wire.Packet
	src, dst  netip.AddrPort // port 0 where there are none
	supported bool           // its protocol can be followed
	node      *Node          // of the source, or the destination
	picksUp   bool           // a connection may begin with any segment but a reset
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
		if pod := x.cluster.podAt(x.src.Addr()); pod != "" {
			sender = "pod " + pod
		}
	}
	x.say(at, "%v is %s.", x.src.Addr(), sender)
	switch w := x.state.outboundWay(pkt); w {
	case spoofed:
		x.drop(at, flow.ReasonSpoof)
	case onNode:
		if x.Action = flow.Bypass; x.supported {
			x.say(at, "%v is on this node, so the packet does not leave it and is not translated.", x.dst.Addr())
		} else {
			x.say(at, "A packet of this protocol passes unchanged between nodes and pods.")
		}
	case byEgress:
		x.toInternet(at)
	default:
		x.toNetwork(at, w == toNextHop)
	}
}

// toNetwork explains what a node does with what it does not leave to the egress.
func (x *explainer) toNetwork(at string, nextHop bool) {
	x.Action, x.picksUp = flow.Forward, true
	own := x.node.has(x.src.Addr())
	route := snat.RouteTo(x.state.config.localRoutes(), snat.All, x.dst)
	if nextHop {
		route = snat.NodeAddress
	}
	if s, ok := x.find(x.cluster.nodes.Sessions(), flow.Inside); ok {
		x.goesOn(at, s.Outside)
	} else {
		switch {
		case own && x.src.Addr() == x.dst.Addr():
			x.drop(at, flow.ReasonLand)
			return
		case !x.supported && (route == snat.Blackhole || route == snat.NodeAddress && !own):
			x.drop(at, flow.ReasonUnsupportedProto)
			return
		case route == snat.Blackhole:
			x.drop(at, flow.ReasonRoute)
			return
		case route == snat.PassThrough:
			x.say(at, "%v is reached with the sender's own address: the packet is not translated and nothing is remembered.", x.dst.Addr())
			x.Action = flow.Bypass
		case own:
			x.say(at, "The source is the node's own address, so it stays.")
			if !x.supported || x.resets() {
				x.Action = flow.Bypass
			}
		case x.resets():
			x.drop(at, flow.ReasonNoFlow)
			return
		default:
			x.say(at, "%v is masqueraded: the source becomes %v, with the same port if no other flow to %v has it.", x.dst.Addr(), x.node.addr(x.dst.Addr().Is6()), x.dst)
		}
		if x.refuses(flow.Inside, x.src, x.dst, route == snat.PassThrough) {
			return
		}
	}
	if nextHop {
		x.say("route of the subnet", "The next hop of the Internet is the user's: the packet goes there with the node's address.")
	}
}

// toInternet explains what the load balancer or the gateway does with a packet.
func (x *explainer) toInternet(at string) {
	egress := x.state.config.OutboundType.String()
	if x.oneToOne(at) || !x.carried(true) {
		return
	}
	if s, ok := x.find(x.cluster.egress.Sessions(), flow.Inside); ok {
		x.goesOn(egress, s.Outside)
		x.Action = flow.Forward
		return
	}
	if !x.begins() {
		x.drop(egress, flow.ReasonNoFlow)
		return
	}
	if x.isOurs() {
		x.drop(egress, flow.ReasonHairpin)
		return
	}
	if x.refuses(flow.Inside, x.src, x.dst, false) {
		return
	}
	protocol := snat.TCP
	if x.packet.Proto != wire.ProtoTCP {
		protocol = snat.UDP
	}
	d, _ := x.cluster.egress.DecideTo(x.node.Name, protocol, x.dst)
	if !x.node.has(x.src.Addr()) {
		x.say(at, "%v is not in the network: the source becomes %v.", x.dst.Addr(), x.node.addr(x.dst.Addr().Is6()))
	}
	x.say(egress, "%s", d.Reason)
	if len(d.Addrs) == 0 {
		x.drop(egress, flow.ReasonNoOutbound)
		return
	}
	x.say(egress, "The source becomes one of %v, with a port of it that is free for %v.", d.Addrs, x.dst)
	x.Action = flow.Forward
}

// carried reports whether the egress, perhaps with its gateway, carries the packet's
// protocol, and drops it if not.
func (x *explainer) carried(gateway bool) bool {
	egress, d := x.state.config.OutboundType.String(), &x.state.config.Dataplane
	switch fragment := x.packet.Flags&wire.Fragmented != 0; {
	case !x.supported || wire.IsICMP(x.packet.Proto) && !d.ICMP.Queries && !d.ICMP.Errors && !(gateway && x.gatewayCarriesICMP()):
		x.drop(egress, flow.ReasonUnsupportedProto)
	case fragment && d.Fragments.Mode == snat.FragmentsDropped:
		x.drop(egress, flow.ReasonFragment)
	default:
		return true
	}
	return false
}

// gatewayCarriesICMP reports whether the gateway is of the SKU that carries echo.
func (x *explainer) gatewayCarriesICMP() bool {
	g := x.state.egress.NATGateway
	return g != nil && g.SKU == lb.GatewayStandardV2
}

// inbound explains a packet that comes from elsewhere.
func (x *explainer) inbound(pkt []byte) {
	if x.state.inboundWay(pkt) == byEgress {
		x.fromInternet()
		return
	}
	if s, ok := x.find(x.cluster.nodes.Sessions(), flow.Outside); ok {
		x.comesBack("node "+x.cluster.session(s).Node, s)
		return
	}
	i, ok := x.state.nodeOf(x.dst.Addr())
	if !ok && !x.supported {
		x.drop("virtual network", flow.ReasonUnsupportedProto)
		return
	}
	if !ok {
		x.drop("virtual network", flow.ReasonNotOurs)
		return
	}
	x.node, x.Action = x.state.byIndex[i], flow.Forward
	at := "node " + x.node.Name
	unseen := snat.RouteTo(x.state.config.localRoutes(), snat.All, x.src) == snat.PassThrough
	if !x.supported && !x.node.has(x.dst.Addr()) && !unseen {
		x.drop(at, flow.ReasonUnsupportedProto)
		return
	}
	if !x.supported || unseen || x.resets() {
		x.Action = flow.Bypass
	}
	x.picksUp = true
	x.say(at, "%v is here: the packet is delivered as it is, and so is what answers it.", x.dst.Addr())
	x.refuses(flow.Outside, x.dst, x.src, unseen)
}

// fromInternet explains what the load balancer or the gateway does with a packet that
// arrives.
func (x *explainer) fromInternet() {
	egress := x.state.config.OutboundType.String()
	_, node := x.state.byAddr[x.dst.Addr()]
	switch {
	case x.supported && !node && !x.isFrontend():
		x.drop(egress, flow.ReasonNotOurs)
		return
	case !x.carried(!node):
		return
	}
	if s, ok := x.find(x.cluster.egress.Sessions(), flow.Outside); ok {
		x.comesBack(egress, s)
		return
	}
	x.drop(egress, flow.ReasonNoFlow)
}

// isFrontend reports whether the destination is an outbound IP, or a Service's address at the
// load balancer.
func (x *explainer) isFrontend() bool {
	if x.state.internal.Has(x.dst.Addr()) {
		return true
	}
	for _, f := range x.state.egress.LoadBalancer.FrontendIPConfigurations {
		if f.PublicIPAddress == x.dst.Addr() {
			return true
		}
	}
	for _, f := range x.cluster.Frontends() {
		if f.Frontend == x.dst.Addr() {
			return true
		}
	}
	return false
}

// resets reports whether the packet is a reset of TCP, which begins nothing.
func (x *explainer) resets() bool {
	return x.packet.Proto == wire.ProtoTCP && x.packet.Flags&wire.NonFirst == 0 && x.packet.TCP().Flags()&flow.RST != 0
}

// isOurs reports whether the destination is an address of what the node leaves by.
func (x *explainer) isOurs() bool {
	d, _ := x.cluster.egress.DecideTo(x.node.Name, snat.TCP, x.dst)
	if d.Option == lb.NATGatewaySNAT {
		return slices.Contains(d.Addrs, x.dst.Addr())
	}
	return x.isFrontend() || slices.ContainsFunc(x.state.nodes, func(n Node) bool { return slices.Contains(n.PublicAddrs, x.dst.Addr()) })
}

// begins reports whether the packet may begin a flow.
func (x *explainer) begins() bool {
	return x.packet.Proto != wire.ProtoTCP || x.packet.Flags&wire.NonFirst != 0 || x.packet.TCP().Flags()&(flow.SYN|flow.ACK|flow.RST|flow.FIN) == flow.SYN
}

// refuses asks about a new flow, and drops the packet if it may not begin. Where nothing is
// remembered only SYNs are asked about.
func (x *explainer) refuses(from flow.Side, inside, remote netip.AddrPort, unseen bool) bool {
	asked := x.begins()
	if x.picksUp && !unseen {
		asked = !x.resets()
	}
	if !x.supported || x.packet.Flags&wire.NonFirst != 0 || !asked || unseen && x.packet.Proto != wire.ProtoTCP {
		return false
	}
	r, who := x.state.admitted.Decide(snat.NewFlow{
		From: from, Instance: uint32(x.node.Index), Name: x.node.Name, Protocol: x.packet.Proto, Inside: inside, Remote: remote,
	})
	if r == flow.ReasonNone {
		return false
	}
	x.drop(who, r)
	return true
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
	whose := x.cluster.session(s)
	x.say(at, "The packet belongs to a flow of %v: it is delivered to it.", s.Inside)
	if whose.Pod != "" {
		x.say("node "+whose.Node, "%v is pod %s.", s.Inside.Addr(), whose.Pod)
	}
}

// find returns the session that the packet, from a side, belongs to.
func (x *explainer) find(sessions iter.Seq[flow.Info], from flow.Side) (flow.Info, bool) {
	near, far := x.src, x.dst
	if from == flow.Outside {
		near, far = far, near
	}
	for s := range sessions {
		if s.Due <= x.now {
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
