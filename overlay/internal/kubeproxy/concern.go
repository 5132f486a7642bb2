// Which packets are a concern of Services at all, told by two filters without a lock.

package kubeproxy

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Concern says why a packet may be a concern of a Service; 0 is that it is none.
type Concern uint8

// The concerns, as bits.
const (
	ToFrontend Concern = 1 << iota // it is to an address of a frontend
	OfEndpoint                     // it is from an endpoint
	Unsure                         // it is not plain TCP or UDP: only Translate tells
)

// Idle reports whether nothing is a concern of a Service: there is none, and none has
// sessions. Cost: a cache line.
func (p *Proxy) Idle() bool { return p.tables.Load().idle }

// Concerns reports whether a packet may be one that Translate does something with. It
// is for a caller that would else parse all packets, and is Unsure of whatever is not
// plain. Cost: two cache lines.
func (p *Proxy) Concerns(pkt []byte) Concern {
	t := p.tables.Load()
	if t.idle {
		return 0
	}
	if len(pkt) >= 28 && pkt[0] == 0x45 && pkt[6]&0x3f|pkt[7] == 0 {
		if proto := pkt[9]; proto == wire.ProtoTCP || proto == wire.ProtoUDP {
			src, dst := binary.BigEndian.Uint32(pkt[ip4Src:]), binary.BigEndian.Uint32(pkt[ip4Dst:])
			var c Concern
			if t.toFrontend(address{uint64(dst)}, binary.BigEndian.Uint16(pkt[22:])) {
				c = ToFrontend
			}
			if t.sockets.has(mix(address{uint64(src)}, binary.BigEndian.Uint16(pkt[20:]))) {
				c |= OfEndpoint
			}
			return c
		} else if proto != wire.ProtoICMP {
			return 0
		}
		return Unsure
	}
	if len(pkt) >= 48 && pkt[0]>>4 == 6 && (pkt[6] == wire.ProtoTCP || pkt[6] == wire.ProtoUDP) {
		return t.concerns(&tuple{
			src: words(pkt[ip6Src:]), sport: binary.BigEndian.Uint16(pkt[40:]),
			dst: words(pkt[ip6Dst:]), dport: binary.BigEndian.Uint16(pkt[42:]),
		})
	}
	return Unsure
}

// toFrontend reports whether there may be a frontend at an address, with a port.
func (t *tables) toFrontend(a address, port uint16) bool {
	return t.ports.has(port) && t.addrs.has(mix(a, 0))
}

// concerns asks the filters about the sockets of a packet.
func (t *tables) concerns(k *tuple) (c Concern) {
	if t.toFrontend(k.dst, k.dport) {
		c = ToFrontend
	}
	if t.sockets.has(mix(k.src, k.sport)) {
		c |= OfEndpoint
	}
	return c
}
