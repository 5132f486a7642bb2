package headers

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Addresses reads a packet's addresses, of whatever protocol, as the tuple of
// one that came from a side.
func Addresses(p *wire.Packet, from flow.Side) ports.Tuple {
	t := ports.Tuple{Family: p.Family(), Proto: p.Proto}
	if t.Inside, t.Remote = p.Addrs(); from == flow.Outside {
		t.Inside, t.Remote = t.Remote, t.Inside
	}
	return t
}

// Tuple reads the tuple of a TCP or UDP packet, whole or a first fragment, that came from a side.
func Tuple(p *wire.Packet, from flow.Side) ports.Tuple {
	t, both := Addresses(p, from), p.Ports()
	t.InsidePort, t.DestPort = uint16(both>>16), uint16(both)
	if from == flow.Outside {
		t.InsidePort, t.DestPort = t.DestPort, t.InsidePort
	}
	return t
}

// RemotePort returns the remote's port in a packet from a side; 0 if it has none,
// or not every fragment of it.
func RemotePort(p *wire.Packet, from flow.Side) uint16 {
	if p.Flags&wire.Fragmented != 0 || p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return 0
	}
	ports := p.Ports()
	if from == flow.Outside {
		ports >>= 16
	}
	return uint16(ports)
}

// Words reads an IPv6 address.
func Words(b []byte) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}
