// Rewriting in place, with the checksums kept as true or false as they were (RFC 1624).

package kubeproxy

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Offsets of addresses, and of the checksum.
const (
	ip4Sum         = 10
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

// rewrite4 gives a packet, of IPv4 and with its ports, other addresses and ports, the source
// port in the high half.
func rewrite4(pkt *wire.Packet, src, dst, ports uint32) {
	h := (*[ip4Dst + 4]byte)(pkt.B)
	was := binary.BigEndian.Uint64(h[ip4Src:])
	sum := uint64(^uint32(was>>32)) + uint64(^uint32(was)) + uint64(src) + uint64(dst)
	binary.BigEndian.PutUint64(h[ip4Src:], uint64(src)<<32|uint64(dst))
	check := wire.Delta(wire.Fold(sum)).ApplyIPv4(binary.BigEndian.Uint16(h[ip4Sum:]))
	binary.BigEndian.PutUint16(h[ip4Sum:], check)
	transport(pkt, ports, sum)
}

// rewrite6 is rewrite4 for IPv6.
func rewrite6(pkt *wire.Packet, src, dst *address, ports uint32) {
	h := (*[ip6Dst + 16]byte)(pkt.B)
	s, c := bits.Add64(^binary.BigEndian.Uint64(h[ip6Src:]), ^binary.BigEndian.Uint64(h[ip6Src+8:]), 0)
	s, c = bits.Add64(s, ^binary.BigEndian.Uint64(h[ip6Dst:]), c)
	s, c = bits.Add64(s, ^binary.BigEndian.Uint64(h[ip6Dst+8:]), c)
	s, c = bits.Add64(s, src[0], c)
	s, c = bits.Add64(s, src[1], c)
	s, c = bits.Add64(s, dst[0], c)
	s, c = bits.Add64(s, dst[1], c)
	s = s>>32 + s&0xffffffff + c // so that the ports can be added
	binary.BigEndian.PutUint64(h[ip6Src:], src[0])
	binary.BigEndian.PutUint64(h[ip6Src+8:], src[1])
	binary.BigEndian.PutUint64(h[ip6Dst:], dst[0])
	binary.BigEndian.PutUint64(h[ip6Dst+8:], dst[1])
	transport(pkt, ports, s)
}

// transport is the rest of rewrite4 and rewrite6, where sum is that of the change of addresses.
func transport(pkt *wire.Packet, ports uint32, sum uint64) {
	if pkt.Proto == wire.ProtoTCP {
		t := pkt.TCPHeader()
		d := wire.Delta(wire.Fold(sum + uint64(^binary.BigEndian.Uint32(t[:])) + uint64(ports)))
		binary.BigEndian.PutUint32(t[:], ports)
		wire.TCP(t[:]).Adjust(d)
		return
	}
	u := pkt.UDPHeader()
	d := wire.Delta(wire.Fold(sum + uint64(^binary.BigEndian.Uint32(u[:])) + uint64(ports)))
	binary.BigEndian.PutUint32(u[:], ports)
	wire.UDP(u[:]).Adjust(d)
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
