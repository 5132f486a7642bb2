package dataplane

// Hairpinning: packets of the inside to a frontend, where another host of the
// inside has a mapping. Read RFC 4787 section 6 and RFC 5382 section 6 first.
//
// Such a packet is translated twice, as if it had gone to the outside and come
// back: once outbound, in a session of its sender, and then inbound, in one of its
// receiver, whose filter sees the sender's outside socket. The two may be in
// different shards, so each has its lock for itself. What the second translation
// sends inside is delivered; there is no third, so nothing goes round.
//
// Without Fixed.Hairpin no packet is looked at for this. With it the routes of
// inside sources carry a mark, and all outbound packets take the way of those that
// need a closer look.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// lookBack goes on with parseOutbound for a packet whose source has LookFlag.
// If it is to be translated twice the verdict is undecided.
func (n *NAT) lookBack(r *routes, l *lane, packed uint32, v *flow.Verdict) bool {
	t := headers.Addresses(&l.p, flow.Inside)
	t.DestPort = headers.RemotePort(&l.p, flow.Inside)
	if !l.hairpin && l.hairpins(n, r, &t) {
		v.Action = undecided
		return false
	}
	n.read(l, packed, &t)
	return true
}

// read makes the key of an outbound packet between the addresses of t, to which it adds the
// ports, and whose source is packed so.
func (n *NAT) read(l *lane, packed uint32, t *ports.Tuple) {
	ports := l.ports()
	t.InsidePort, t.DestPort = uint16(ports>>16), uint16(ports)
	l.inst, l.shard = addresses.Unpack(packed &^ addresses.LookFlag)
	l.is6 = t.Family == 1
	vniProto := l.inst<<8 | uint32(l.p.Proto)
	if l.is6 {
		l.key6 = flow.Key6{Src: t.Inside, Dst: t.Remote, SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: vniProto}
		l.hash = n.table.Hasher().Hash6(&l.key6)
	} else {
		l.key = flow.Key{Src: uint32(t.Inside[0]), Dst: uint32(t.Remote[0]), SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: vniProto}
		l.hash = n.table.Hasher().Hash(&l.key)
	}
}

// hairpins reports whether an outbound packet has to come back to the inside. An
// ICMP query does not: no identifier of a frontend admits one.
func (l *lane) hairpins(n *NAT, r *routes, t *ports.Tuple) bool {
	switch t.Proto {
	case wire.ProtoTCP, wire.ProtoUDP:
	default:
		if !n.messages.CarriesError(&l.p) {
			return false
		}
	}
	return r.FrontAt(t.Family == 1, t.Remote)-1 < addresses.PublicFlag && r.To(t) == addresses.Translate
}
