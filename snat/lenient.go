package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Leniency lets whole packets pass that are dropped as malformed by default, because
// some translators carry them, Linux's among them. They are then packets like others.
// What is never let pass is a packet whose TTL is 0 on arrival.
type Leniency struct {
	// TCPFlags carries SYNs with PSH or URG, and RSTs with PSH but without ACK
	// ([flow.ReasonTCPFlags]).
	TCPFlags bool

	// UDPPortZero carries datagrams from source port 0, which RFC 768 has for
	// those that want no answer ([flow.ReasonPortZero]). It is exchanged for
	// another port, and answers come back to port 0.
	UDPPortZero bool

	// UDP6Zero carries UDP over IPv6 with the checksum 0, which stays 0
	// ([flow.ReasonUDP6Zero]; RFC 6935 permits it to tunnels).
	UDP6Zero bool
}

// tolerates reports whether a packet that the parser has refused for a reason passes
// nevertheless.
func (l *Leniency) tolerates(reason flow.Reason, p *wire.Packet) bool {
	if *l == (Leniency{}) {
		return false
	}
	switch reason {
	case flow.ReasonTCPFlags, flow.ReasonPortZero, flow.ReasonUDP6Zero:
	default:
		return false
	}
	hops := 8 // offset of the TTL
	if p.Flags&wire.V6 != 0 {
		hops = 7
	}
	if p.Flags&wire.Fragmented != 0 || p.B[hops] == 0 {
		return false
	}
	if p.Proto == wire.ProtoTCP {
		t := p.TCP()
		const control = flow.FIN | flow.SYN | flow.RST | flow.ACK
		odd := t.Flags()&control == flow.SYN || t.Flags()&(control|flow.URG) == flow.RST
		return l.TCPFlags && odd && t.SrcPort() != 0 && t.DstPort() != 0
	}
	u := p.UDP()
	return (u.SrcPort() != 0 || l.UDPPortZero) && u.DstPort() != 0 &&
		(u.Checksum() != 0 || p.Flags&wire.V6 == 0 || l.UDP6Zero)
}
