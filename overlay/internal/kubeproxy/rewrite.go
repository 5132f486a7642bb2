// Rewriting in place, with the checksums kept as true or false as they were (RFC 1624).

package kubeproxy

import (
	"math/bits"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Offsets of addresses.
const (
	ip4Src, ip4Dst = 12, 16
	ip6Src, ip6Dst = 8, 24
)

// family returns the index of a family.
func family(is6 bool) int {
	if is6 {
		return 1
	}
	return 0
}

// netAddr unpacks an address.
func netAddr(a address, is6 bool) netip.Addr {
	if is6 {
		return flow.NetAddr6(a)
	}
	return flow.NetAddr4(uint32(a[0]))
}

// delta returns the change of a checksum that covers an address.
func delta(was, is address) wire.Delta {
	s, c := bits.Add64(^was[0], ^was[1], 0)
	s, c = bits.Add64(s, is[0], c)
	s, c = bits.Add64(s, is[1], c)
	s, c = bits.Add64(s, 0, c)
	return wire.Delta(wire.Fold(s + c))
}

// rewrite gives a packet the addresses and ports of is in the place of those of was. Of a
// fragment with an offset only addresses are there.
func rewrite(pkt *wire.Packet, was, is *tuple) {
	if was.src != is.src {
		pkt.Readdress(ip4Src, ip6Src, is.src, delta(was.src, is.src))
	}
	if was.dst != is.dst {
		pkt.Readdress(ip4Dst, ip6Dst, is.dst, delta(was.dst, is.dst))
	}
	if pkt.Flags&wire.NonFirst != 0 {
		return
	}
	if pkt.Proto == wire.ProtoTCP {
		t := pkt.TCP()
		if was.sport != is.sport {
			t.RewriteSrcPort(is.sport)
		}
		if was.dport != is.dport {
			t.RewriteDstPort(is.dport)
		}
		return
	}
	u := pkt.UDP()
	if was.sport != is.sport {
		u.RewriteSrcPort(is.sport)
	}
	if was.dport != is.dport {
		u.RewriteDstPort(is.dport)
	}
}
