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
func (p *Proxy) Concerns(pkt []byte) Concern { return p.tables.Load().ask(pkt) }

// ask is Concerns.
func (t *tables) ask(pkt []byte) Concern {
	if t.idle {
		return 0
	}
	if len(pkt) >= 28 && pkt[0] == 0x45 && pkt[6]&0x3f|pkt[7] == 0 {
		if proto := pkt[9]; proto == wire.ProtoTCP || proto == wire.ProtoUDP {
			h := (*[28]byte)(pkt)
			ports := binary.BigEndian.Uint32(h[20:])
			return t.plain(uint64(binary.BigEndian.Uint32(h[ip4Src:])), 0, uint64(binary.BigEndian.Uint32(h[ip4Dst:])), 0, ports)
		} else if proto != wire.ProtoICMP {
			return 0
		}
		return Unsure
	}
	if len(pkt) >= 48 && pkt[0]>>4 == 6 && (pkt[6] == wire.ProtoTCP || pkt[6] == wire.ProtoUDP) {
		h := (*[48]byte)(pkt)
		ports := binary.BigEndian.Uint32(h[40:])
		return t.plain(binary.BigEndian.Uint64(h[ip6Src:]), binary.BigEndian.Uint64(h[ip6Src+8:]),
			binary.BigEndian.Uint64(h[ip6Dst:]), binary.BigEndian.Uint64(h[ip6Dst+8:]), ports)
	}
	return Unsure
}

// toFrontend reports whether there may be a frontend at an address, with a port.
func (t *tables) toFrontend(high, low uint64, port uint16) bool {
	return t.ports.has(port) && t.addrs.has(mixWords(high, low, 0))
}

// plain asks the filters about the sockets of a packet, by the words of their addresses.
func (t *tables) plain(srcHigh, srcLow, dstHigh, dstLow uint64, ports uint32) (c Concern) {
	if t.toFrontend(dstHigh, dstLow, uint16(ports)) {
		c = ToFrontend
	}
	if t.sockets.has(mixWords(srcHigh, srcLow, uint16(ports>>16))) {
		c |= OfEndpoint
	}
	return c
}

// concerns asks the filters about the sockets of a tuple.
func (t *tables) concerns(k *tuple) Concern {
	return t.plain(k.src[0], k.src[1], k.dst[0], k.dst[1], uint32(k.sport)<<16|uint32(k.dport))
}
