// Tuples: between which sockets a packet is.

package kubeproxy

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// tuple is a packet's.
type tuple struct {
	src, dst     address
	sport, dport uint16
	proto        uint8
	is6          bool
}

func (t *tuple) source() socket      { return socket{t.src, t.sport, t.proto, t.is6} }
func (t *tuple) destination() socket { return socket{t.dst, t.dport, t.proto, t.is6} }
func (t *tuple) reverse() tuple {
	return tuple{t.dst, t.src, t.dport, t.sport, t.proto, t.is6}
}

// tupleOf reads the tuple of TCP and UDP packets with a transport header.
func tupleOf(p *wire.Packet) (t tuple) {
	ports := p.Ports()
	t.sport, t.dport, t.proto = uint16(ports>>16), uint16(ports), p.Proto
	if p.Flags&wire.V6 == 0 {
		h := p.B[:ip4Dst+4]
		t.src[0], t.dst[0] = uint64(binary.BigEndian.Uint32(h[ip4Src:])), uint64(binary.BigEndian.Uint32(h[ip4Dst:]))
		return t
	}
	t.is6 = true
	t.src, t.dst = words(p.B[ip6Src:]), words(p.B[ip6Dst:])
	return t
}
