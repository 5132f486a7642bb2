// Packets that leave their node: into the network, and to the Internet.

package explain

import (
	"cmp"
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// toNetwork explains what a node does with what it does not leave to the egress.
func (x *explainer) toNetwork(at string, nextHop bool) {
	x.Action, x.opens = flow.Forward, bySYNOrACK
	if s, ok := x.find(x.Translator.Sessions(), flow.Inside); ok {
		x.goesOn(at, s.Outside)
	} else if !x.toOthers(at, nextHop) {
		return
	}
	if nextHop {
		x.say("route of the subnet", "The next hop of the Internet is the user's: the packet goes there with the node's address.")
	}
}

// toOthers explains what a node does with a packet into the network that no session is of, and reports
// whether the packet leaves.
func (x *explainer) toOthers(at string, nextHop bool) bool {
	own, to := x.node.has(x.src.Addr()), x.dst.Addr()
	route := snat.RouteTo(x.Routes, snat.All, x.dst)
	if nextHop {
		route = snat.NodeAddress
	}
	var how string
	why := flow.ReasonNone
	switch first := x.first(); {
	case x.src.Addr() == to:
		why = flow.ReasonLand
	case !x.supported && (route == snat.Blackhole || route == snat.NodeAddress && !own):
		why = flow.ReasonUnsupportedProto
	case route == snat.Blackhole:
		x.noService(at)
		why = flow.ReasonRoute
	case route == snat.PassThrough:
		x.Action = flow.Bypass
		how = fmt.Sprintf("%v is reached with the sender's own address: the packet is not translated and nothing is remembered.", to)
	case own:
		if !x.supported || first != flow.ReasonNone {
			x.Action = flow.Bypass
		}
		how = "The source is the node's own address, so it stays."
	case first != flow.ReasonNone:
		why = first
	default:
		how = fmt.Sprintf("%v is masqueraded: the source becomes %v, with %s.", to, x.node.addr(to.Is6()), x.kept())
	}
	if why != flow.ReasonNone {
		x.drop(at, why)
		return false
	}
	if x.refuses(flow.Inside, x.src, x.dst, x.unseen(x.Action == flow.Bypass)) {
		return false
	}
	x.say(at, "%s", how)
	if n, pod := x.nodeOf(to); route == snat.PassThrough && pod && x.PodRoutes && !n.has(to) {
		x.say("route of the subnet", "%v is a pod's: the next hop is %v, node %s.", to, n.addr(to.Is6()), n.Name)
	}
	return true
}

// noService says why an address of the service range is nobody's, or what its Service lacks.
func (x *explainer) noService(at string) {
	name := x.Proxy.ServiceAt(x.dst.Addr())
	switch {
	case name == "" && x.dst.Addr() == x.DNS:
		x.say(at, "%v is the cluster's DNS, and no Service has it: it is the Service kube-dns of the namespace kube-system.", x.dst.Addr())
	case name == "":
		x.say(at, "%v is in the service range, and no Service has it.", x.dst.Addr())
	case x.followsPorts():
		x.say(at, "%v is of Service %s, which has no port %d of this protocol.", x.dst.Addr(), name, x.dst.Port())
	default:
		x.say(at, "%v is of Service %s, which is reached by its ports only.", x.dst.Addr(), name)
	}
}

// kept says what a node keeps of a source when it masquerades.
func (x *explainer) kept() string {
	if x.dst.Port() == 0 {
		return fmt.Sprintf("the same identifier if no other flow to %v has it", x.dst.Addr())
	}
	return fmt.Sprintf("the same port if no other flow to %v has it", x.dst)
}

// toInternet explains what the load balancer or the gateway does with a packet.
func (x *explainer) toInternet(at string) {
	egress := x.OutboundType
	x.opens = bySYN
	if x.oneToOne(at) || x.asItCame(at) || !x.carried(true) {
		return
	}
	if s, ok := x.find(x.Egress.Sessions(), flow.Inside); ok {
		x.goesOn(egress, s.Outside)
		x.Action = flow.Forward
		return
	}
	if r := x.first(); r != flow.ReasonNone {
		x.drop(egress, r)
		return
	}
	if x.isOurs() {
		x.drop(egress, flow.ReasonHairpin)
		return
	}
	if x.refuses(flow.Inside, x.src, x.dst, nil) {
		return
	}
	d, _ := x.Egress.DecideTo(x.node.Name, x.protocol(), x.dst)
	if len(d.Addrs) == 0 {
		x.say(egress, "%s", d.Reason)
		x.drop(egress, flow.ReasonNoOutbound)
		return
	}
	if !x.node.has(x.src.Addr()) {
		x.say(at, "%v is not in the network: the source becomes %v.", x.dst.Addr(), x.node.addr(x.dst.Addr().Is6()))
	}
	x.say(egress, "%s", d.Reason)
	x.Action = flow.Forward
	public, free := fmt.Sprintf("one of %v", d.Addrs), fmt.Sprintf("a port of it that is free for %v", x.dst)
	if len(d.Addrs) == 1 {
		public = d.Addrs[0].String()
	}
	if x.dst.Port() == 0 {
		free = fmt.Sprintf("an identifier that is free for %v", x.dst.Addr())
	}
	if d.Option == lb.InstancePublicIP {
		x.say(egress, "The source becomes %s, the node's public address, one to one.", public)
	} else {
		x.say(egress, "The source becomes %s, with %s.", public, free)
	}
}

// protocol returns the protocol by which the packet's outbound option is chosen: identifiers of queries
// go with UDP's ports.
func (x *explainer) protocol() snat.Protocol {
	return cmp.Or(snat.ProtocolOf(x.packet.Proto), snat.UDP)
}

// leavesByPublicIP reports whether what the packet's node sends leaves with the node's public address.
func (x *explainer) leavesByPublicIP() bool {
	if x.node == nil {
		return false
	}
	d, _ := x.Egress.DecideTo(x.node.Name, x.protocol(), x.dst)
	return d.Option == lb.InstancePublicIP
}

// carried reports whether the egress, perhaps with its gateway, carries the packet's
// protocol, and drops it if not.
func (x *explainer) carried(gateway bool) bool {
	egress, d := x.OutboundType, x.Dataplane
	switch fragment := x.packet.Flags&wire.Fragmented != 0; {
	case !x.supported || wire.IsICMP(x.packet.Proto) && !d.ICMP.Queries && !d.ICMP.Errors && !(gateway && x.gatewayCarriesICMP()) && !x.leavesByPublicIP():
		x.drop(egress, flow.ReasonUnsupportedProto)
	case fragment && d.Fragments.Mode == snat.FragmentsDropped:
		x.drop(egress, flow.ReasonFragment)
	default:
		return true
	}
	return false
}
