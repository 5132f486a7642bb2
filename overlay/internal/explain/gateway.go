// Packets to and from the Internet by gateways.

package explain

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
)

// toGateway explains what a static gateway does with a packet.
func (x *explainer) toGateway() {
	name, exit, public := x.Gateways.Of(x.src.Addr())
	at := "static gateway " + name
	x.Action = flow.Forward
	if s, ok := x.find(x.Gateways.Sessions(), flow.Inside); ok {
		x.goesOn(at, s.Outside)
		return
	}
	switch {
	case !public.IsValid():
		x.drop(at, flow.ReasonNoOutbound)
	case !x.supported:
		x.drop(at, flow.ReasonUnsupportedProto)
	case x.resets():
		x.drop(at, flow.ReasonNoFlow)
	default:
		x.say(at, "The pod's node sends the packet to a node of the gateway: the source becomes %v, with the same port if no other flow to %v has it.", public, x.dst)
		x.refusesTunnel(exit)
	}
}

// fromGateway explains a packet that arrives for the address of a static gateway.
func (x *explainer) fromGateway() {
	const at = "static gateway"
	if s, ok := x.find(x.Gateways.Sessions(), flow.Outside); ok {
		x.comesBack(at, s)
	} else {
		x.drop(at, flow.ReasonNoFlow)
	}
}

// gatewayCarriesICMP reports whether the gateway is of the SKU that carries echo.
func (x *explainer) gatewayCarriesICMP() bool {
	g := x.Config.NATGateway
	return g != nil && g.SKU == lb.GatewayStandardV2
}
