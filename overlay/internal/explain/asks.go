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
	asked := x.begins()
	if x.picksUp && m == nil {
		asked = !x.resets()
	}
	if x.packet.Flags&wire.NonFirst != 0 || !asked || m == nil && !x.supported {
		return flow.ReasonNone, ""
	}
	f := snat.NewFlow{
		From: from, Instance: uint32(x.node.Index), Name: x.node.Name, Protocol: x.packet.Proto, Inside: inside, Remote: remote,
	}
	if m != nil && f.Protocol != wire.ProtoTCP {
		id, isError := x.query()
		if wire.IsICMP(f.Protocol) {
			f.Inside = netip.AddrPortFrom(inside.Addr(), id)
		}
		if isError || m.Remembers(x.now, f) {
			return flow.ReasonNone, ""
		}
	}
	return x.Admitted.Decide(f)
}

// refusesTunnel asks about a new flow of a pod that leaves by another node, and drops the packet if it may
// not begin.
func (x *explainer) refusesTunnel(exit string) {
	id, isError := x.query()
	if isError || x.packet.Flags&wire.NonFirst != 0 {
		return
	}
	f := snat.NewFlow{
		From: flow.Inside, Instance: uint32(x.node.Index), Name: x.node.Name, Protocol: x.packet.Proto, Inside: x.src, Remote: x.dst,
	}
	if wire.IsICMP(f.Protocol) {
		f.Inside = netip.AddrPortFrom(x.src.Addr(), id)
	}
	if r, who := x.Admitted.DecideTunnel(f, exit); r != flow.ReasonNone {
		x.drop(who, r)
	}
}

// query returns the identifier of an ICMP query, and whether the packet is another ICMP message.
func (x *explainer) query() (id uint16, isError bool) {
	if !wire.IsICMP(x.packet.Proto) {
		return 0, false
	}
	b := x.packet.B[x.packet.L4:]
	switch typ := b[0]; {
	case x.packet.Proto == wire.ProtoICMP && (typ == wire.ICMPv4EchoRequest || typ == wire.ICMPv4EchoReply),
		x.packet.Proto == wire.ProtoICMPv6 && (typ == wire.ICMPv6EchoRequest || typ == wire.ICMPv6EchoReply):
		return binary.BigEndian.Uint16(b[4:]), false
	}
	return 0, true
}

// reply returns the identifier of an ICMP query, and whether the packet is a reply to one.
func (x *explainer) reply() (id uint16, isReply bool) {
	id, isError := x.query()
	typ := x.packet.B[x.packet.L4]
	return id, !isError && (typ == wire.ICMPv4EchoReply || typ == wire.ICMPv6EchoReply)
}
