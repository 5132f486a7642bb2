package headers

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Leniency says which whole packets pass that the parser refuses: SYNs with PSH or URG and
// RSTs with PSH but without ACK; datagrams from source port 0; and UDP over IPv6 with the
// checksum 0.
type Leniency struct{ TCPFlags, UDPPortZero, UDP6Zero bool }

// Tolerates reports whether a packet that the parser has refused for a reason passes
// nevertheless.
func (l *Leniency) Tolerates(reason flow.Reason, p *wire.Packet) bool {
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
