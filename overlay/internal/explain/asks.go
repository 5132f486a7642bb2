package explain

// Who may begin: what is asked about a packet, and what is remembered.

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat"
)

// memory remembers flows that have no session.
type memory interface {
	Remembers(now flow.Time, f snat.NewFlow) bool
}

// unseen returns who remembers the flow of a packet inside the network, which begins no session
// there if so is said; else nil.
func (x *explainer) unseen(is bool) memory {
	if is {
		return x.Translator
	}
	return nil
}

// opening says which segments may begin a connection.
type opening uint8

const (
	bySYN      opening = iota // a SYN alone: what the inside begins at load balancers and gateways
	bySYNOrACK                // or an ACK alone, of a connection that is picked up: nodes
	notByReset                // any but resets: rules of load balancers, and the proxies of nodes
)

// first reports why the packet, to which no session belongs, may not begin one; ReasonNone if
// it may. Fragments after the first are not looked at, nor is what an ICMP error is about.
func (x *explainer) first() flow.Reason {
	begins := true
	switch {
	case !x.supported || x.packet.Flags&wire.NonFirst != 0:
	case x.packet.Proto == wire.ProtoTCP:
		flags := x.flags()
		begins = flags == flow.SYN || x.opens == bySYNOrACK && flags == flow.ACK || x.opens == notByReset && flags&flow.RST == 0
	case wire.IsICMP(x.packet.Proto):
		begins = !x.isReply()
	}
	if begins {
		return flow.ReasonNone
	}
	return flow.ReasonNoFlow
}

// flags returns the flags of a TCP segment that tell what it begins and ends.
func (x *explainer) flags() uint8 {
	return x.packet.TCP().Flags() & (flow.SYN | flow.ACK | flow.RST | flow.FIN)
}

// resets reports whether the packet is a reset of TCP, which begins nothing.
func (x *explainer) resets() bool {
	return x.packet.Proto == wire.ProtoTCP && x.packet.Flags&wire.NonFirst == 0 && x.flags()&flow.RST != 0
}

// refuses asks about a new flow, and drops the packet if it may not begin.
func (x *explainer) refuses(from flow.Side, inside, remote netip.AddrPort, m memory) bool {
	r, who := x.asks(from, inside, remote, m)
	if r != flow.ReasonNone {
		x.drop(who, r)
	}
	return r != flow.ReasonNone
}

// asks asks about a new flow, and returns who says why it may not begin. m, unless nil, remembers
// flows that have no session; of TCP only SYNs are asked about there, and what an ICMP error is
// about it does not look up.
func (x *explainer) asks(from flow.Side, inside, remote netip.AddrPort, m memory) (flow.Reason, string) {
	if x.packet.Flags&wire.NonFirst != 0 || m == nil && (!x.supported || x.first() != flow.ReasonNone) {
		return flow.ReasonNone, ""
	}
	f, isError := x.begun(from, inside, remote)
	switch {
	case m == nil:
	case f.Protocol == wire.ProtoTCP:
		if x.flags()&(flow.SYN|flow.ACK) != flow.SYN {
			return flow.ReasonNone, ""
		}
	case isError || m.Remembers(x.now, f):
		return flow.ReasonNone, ""
	}
	return x.Admitted.Decide(f)
}

// refusesTunnel asks about a new flow of a pod that leaves by another node, and drops the packet if it may
// not begin.
func (x *explainer) refusesTunnel(exit string) {
	if x.packet.Flags&wire.NonFirst != 0 {
		return
	}
	f, isError := x.begun(flow.Inside, x.src, x.dst)
	if isError {
		return
	}
	if r, who := x.Admitted.DecideTunnel(f, exit); r != flow.ReasonNone {
		x.drop(who, r)
	}
}

// begun returns the flow of a packet that is no later fragment, as the doors ask about it, and whether
// it is an ICMP message other than a query.
func (x *explainer) begun(from flow.Side, inside, remote netip.AddrPort) (f snat.NewFlow, isError bool) {
	f = snat.NewFlow{
		From: from, Instance: uint32(x.node.Index), Name: x.node.Name, Protocol: x.packet.Proto, Inside: inside, Remote: remote,
	}
	if wire.IsICMP(f.Protocol) {
		var id uint16
		id, isError = x.query()
		f.Inside = netip.AddrPortFrom(inside.Addr(), id)
	}
	return f, isError
}

// query returns the identifier of an ICMP query, and whether the message is another one. A later
// fragment has neither.
func (x *explainer) query() (id uint16, isError bool) {
	b := x.packet.B[x.packet.L4:]
	switch typ := b[0]; {
	case x.packet.Proto == wire.ProtoICMP && (typ == wire.ICMPv4EchoRequest || typ == wire.ICMPv4EchoReply),
		x.packet.Proto == wire.ProtoICMPv6 && (typ == wire.ICMPv6EchoRequest || typ == wire.ICMPv6EchoReply):
		return binary.BigEndian.Uint16(b[4:]), false
	}
	return 0, true
}

// isReply reports whether an ICMP message, whose start is there, is a reply to a query.
func (x *explainer) isReply() bool {
	typ := x.packet.B[x.packet.L4]
	return x.packet.Proto == wire.ProtoICMP && typ == wire.ICMPv4EchoReply || x.packet.Proto == wire.ProtoICMPv6 && typ == wire.ICMPv6EchoReply
}
