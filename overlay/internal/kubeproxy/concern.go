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
func (p *Proxy) Idle() bool { return p.idle(p.tables.Load()) }

// Concerns reports whether a packet may be one that Translate does something with. It
// is for a caller that would else parse all packets, and is Unsure of whatever is not
// plain. Cost: two cache lines.
func (p *Proxy) Concerns(pkt []byte) Concern {
	t := p.tables.Load()
	if p.idle(t) {
		return 0
	}
	var k tuple
	switch {
	case len(pkt) >= 28 && pkt[0] == 0x45 && pkt[6]&0x3f|pkt[7] == 0:
		if k.proto = pkt[9]; k.proto == wire.ProtoTCP || k.proto == wire.ProtoUDP {
			k.src[0], k.dst[0] = uint64(binary.BigEndian.Uint32(pkt[ip4Src:])), uint64(binary.BigEndian.Uint32(pkt[ip4Dst:]))
			k.sport = binary.BigEndian.Uint16(pkt[20:])
			return t.concerns(&k)
		}
		if k.proto != wire.ProtoICMP {
			return 0
		}
	case len(pkt) >= 48 && pkt[0]>>4 == 6 && (pkt[6] == wire.ProtoTCP || pkt[6] == wire.ProtoUDP):
		k.src, k.dst = words(pkt[ip6Src:]), words(pkt[ip6Dst:])
		k.sport = binary.BigEndian.Uint16(pkt[40:])
		return t.concerns(&k)
	}
	return Unsure
}

// concerns asks the filters about source, source port and destination of a packet.
func (t *tables) concerns(k *tuple) (c Concern) {
	if t.addrs.has(mix(k.dst, 0)) {
		c = ToFrontend
	}
	if t.sockets.has(mix(k.src, k.sport)) {
		c |= OfEndpoint
	}
	return c
}
