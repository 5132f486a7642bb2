// The leg from a node to an endpoint: who is asked whether it may begin.

package kubeproxy

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Leg is the first packet of a session as the node sends it on.
type Leg struct {
	Node         int // that translates
	From         Origin
	Proto        uint8          // TCP or UDP
	Client       netip.AddrPort // who has sent it
	Seen         netip.AddrPort // what the endpoint sees in the client's place
	Endpoint     netip.AddrPort
	EndpointNode int // -1 is none of the cluster's
}

// SetAdmit sets who is asked about each session that would begin, once its endpoint has been
// chosen: a reason drops the packet, and nothing begins. nil admits all. It runs under the lock of a shard, so it must not
// call the proxy.
func (p *Proxy) SetAdmit(ask func(Leg) flow.Reason) {
	if ask == nil {
		p.admit.Store(nil)
		return
	}
	p.admit.Store(&ask)
}

// legOf describes the leg of a packet to an endpoint.
func legOf(node int, from Origin, k *tuple, seen socket, e *endpoint) Leg {
	return Leg{
		Node: node, From: from, Proto: k.proto, EndpointNode: int(e.node),
		Client:   netip.AddrPortFrom(netAddr(k.src, k.is6), k.sport),
		Seen:     netip.AddrPortFrom(netAddr(seen.addr, k.is6), seen.port),
		Endpoint: netip.AddrPortFrom(netAddr(e.socket.addr, k.is6), e.socket.port),
	}
}
