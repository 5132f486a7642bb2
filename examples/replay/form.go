// Endpoints of a packet, read and replaced with plain arithmetic. This is the
// measure that the translator is held against, so it shares no code with it.

package main

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Protocol numbers that this program tells apart.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// form is where a packet keeps its endpoints and the checksums over them. Offsets
// are 0 where there is nothing to rely on: in a packet that is too short, damaged,
// or of another protocol.
type form struct {
	v4, v6  bool
	length  int   // of the IP packet; what follows is padding of the link
	proto   uint8 // of the transport header, if that was found
	srcPort int   // of an ICMP query both ports are its identifier
	dstPort int
	sum     int   // transport checksum
	pseudo  bool  // which covers the addresses
	id      int   // of a fragment: its identification ..
	idLen   int   // .. of 2 or 4 bytes
	part    bool  // it is a quote, which may end anywhere
	quote   int   // of an ICMP error: where the packet that it quotes begins ..
	quoted  *form // .. and its form
}

// locate describes the packet b.
func locate(b []byte) form {
	const ip4Len, ip6Len = 20, 40
	f := form{length: len(b)}
	switch {
	case len(b) >= ip4Len && b[0]>>4 == 4:
		f.v4 = true
		header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if header < ip4Len || total < header || total > len(b) {
			break
		}
		f.length = total
		fragment := binary.BigEndian.Uint16(b[6:])
		if fragment&0x3fff != 0 {
			f.id, f.idLen = 4, 2
		}
		if fragment&0x1fff == 0 {
			f.transport(b[:total], b[9], header)
		}
	case len(b) >= ip6Len && b[0]>>4 == 6:
		f.v6 = true
		total := ip6Len + int(binary.BigEndian.Uint16(b[4:]))
		if total > len(b) {
			break
		}
		f.length = total
		f.extensions(b[:total], b[6], ip6Len)
	}
	return f
}

// extensions walks the extension headers of an IPv6 packet to its transport.
func (f *form) extensions(b []byte, next uint8, at int) {
	const hopByHop, routing, fragment, destination, mobility, hip, shim6 = 0, 43, 44, 60, 135, 139, 140
	for len(b) >= at+8 || f.part && len(b) >= at+4 {
		switch next {
		case hopByHop, routing, destination, mobility, hip, shim6:
			next, at = b[at], at+8+int(b[at+1])*8
		case fragment:
			if len(b) < at+8 {
				return
			}
			word := binary.BigEndian.Uint16(b[at+2:])
			if word&^6 != 0 { // an atomic fragment is whole
				f.id, f.idLen = at+4, 4
			}
			if word>>3 != 0 {
				return
			}
			next, at = b[at], at+8
		default:
			f.transport(b, next, at)
			return
		}
	}
}

// transport finds the ports and the checksum of a transport header at an offset,
// and what an ICMP error quotes. Of a quote the ports will do.
func (f *form) transport(b []byte, proto uint8, at int) {
	const portsLen, tcpLen, othersLen, tcpSum, udpSum, icmpSum, queryID = 4, 20, 8, 16, 6, 2, 4
	least, sum := othersLen, 0
	switch {
	case proto == protoTCP:
		least, sum, f.pseudo = tcpLen, tcpSum, true
	case proto == protoUDP:
		sum, f.pseudo = udpSum, true
	case proto == protoICMP && f.v4:
		sum = icmpSum
	case proto == protoICMPv6 && f.v6:
		sum, f.pseudo = icmpSum, true
	default:
		return
	}
	if f.part && (proto == protoTCP || proto == protoUDP) {
		least = portsLen
	}
	if len(b) < at+least {
		f.pseudo = false
		return
	}
	f.proto = proto
	if len(b) >= at+sum+2 {
		f.sum = at + sum
	}
	switch {
	case proto == protoTCP || proto == protoUDP:
		f.srcPort, f.dstPort = at, at+2
	case isQuery(proto, b[at]):
		f.srcPort, f.dstPort = at+queryID, at+queryID
	case isError(proto, b[at]) && !f.part && f.id == 0:
		f.locateQuote(b, at)
	}
}

// isQuery reports whether an ICMP type is that of an echo, a timestamp, or a reply
// to one.
func isQuery(proto, typ uint8) bool {
	if proto == protoICMPv6 {
		return typ == 128 || typ == 129
	}
	return typ == 0 || typ == 8 || typ == 13 || typ == 14
}

// isError reports whether an ICMP type is that of an error that hosts heed.
func isError(proto, typ uint8) bool {
	if proto == protoICMPv6 {
		return typ >= 1 && typ <= 4
	}
	return typ == 3 || typ == 11 || typ == 12
}

// locateQuote describes the packet that the ICMP error at an offset of b quotes. It
// ends where it says itself, or the error does, or an extension follows (RFC 4884).
func (f *form) locateQuote(b []byte, at int) {
	const ip4Len, ip6Len = 20, 40
	size := int(b[at+5]) * 4
	if f.v6 {
		if size = 0; b[at] == 1 || b[at] == 3 {
			size = int(b[at+4]) * 8
		}
	}
	q := b[at+8:]
	if size > 0 && size < len(q) {
		q = q[:size]
	}
	inner := form{part: true}
	switch {
	case f.v4 && len(q) >= ip4Len && q[0]>>4 == 4:
		header := int(q[0]&15) * 4
		if header < ip4Len || header > len(q) {
			return
		}
		inner.v4 = true
		inner.length = min(max(header, int(binary.BigEndian.Uint16(q[2:]))), len(q))
		if binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			inner.id, inner.idLen = 4, 2
		} else {
			inner.transport(q[:inner.length], q[9], header)
		}
	case f.v6 && len(q) >= ip6Len && q[0]>>4 == 6:
		inner.v6 = true
		inner.length = min(ip6Len+int(binary.BigEndian.Uint16(q[4:])), len(q))
		inner.extensions(q[:inner.length], q[6], ip6Len)
	}
	if inner.proto != 0 || inner.isTail() {
		f.quote, f.quoted = at+8, &inner
	}
}

// inQuote lets set change the packet that b, an ICMP error of this form, quotes. The
// error's checksum follows.
func (f *form) inQuote(b []byte, set func(quoted *form, quote []byte)) {
	quote := b[f.quote : f.quote+f.quoted.length]
	stale := slices.Clone(quote)
	set(f.quoted, quote)
	words := len(quote) &^ 1 // nothing changes half of a word
	amend(b[f.sum:], stale[:words], quote[:words])
}

// isHead reports whether a packet of this form is the first fragment of several,
// and isTail whether it is another one.
func (f *form) isHead() bool { return f.id != 0 && f.proto != 0 }
func (f *form) isTail() bool { return f.id != 0 && f.proto == 0 }

// setID gives b, a fragment of this form, another identification.
func (f *form) setID(b []byte, id uint32) {
	if f.v6 {
		binary.BigEndian.PutUint32(b[f.id:], id)
		return
	}
	stale := [2]byte(b[f.id:])
	binary.BigEndian.PutUint16(b[f.id:], uint16(id))
	amend(b[10:12], stale[:], b[f.id:f.id+2])
}

// addHop adds to the TTL or hop limit of b, a packet of this form.
func (f *form) addHop(b []byte) {
	switch {
	case f.v6:
		b[7]++
	case f.v4:
		stale := [2]byte(b[8:10])
		b[8]++
		amend(b[10:12], stale[:], b[8:10])
	}
}

// hopLimit returns the TTL or hop limit of b, a packet of this form.
func (f *form) hopLimit(b []byte) uint8 {
	if f.v6 {
		return b[7]
	}
	return b[8]
}

// endpoints returns where b, a packet of this form, comes from and goes to. Ports
// are 0 where there are none, addresses invalid where the packet has none.
func (f *form) endpoints(b []byte) (src, dst netip.AddrPort) {
	port := func(at int) uint16 {
		if at == 0 {
			return 0
		}
		return binary.BigEndian.Uint16(b[at:])
	}
	switch {
	case f.v4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), port(f.srcPort)),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), port(f.dstPort))
	case f.v6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), port(f.srcPort)),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), port(f.dstPort))
	}
	return netip.AddrPort{}, netip.AddrPort{}
}

// setSource makes b, a packet of this form, come from an endpoint of its family.
func (f *form) setSource(b []byte, to netip.AddrPort) {
	at, _ := f.sourceAt()
	f.replace(b, at, f.srcPort, to)
}

// sourceAt returns where the source address is, and its length.
func (f *form) sourceAt() (at, n int) {
	if f.v6 {
		return 8, 16
	}
	return 12, 4
}

// setDestination makes b, a packet of this form, go to an endpoint of its family.
// A TCP or UDP port of 0, which is an error of the sender, stays.
func (f *form) setDestination(b []byte, to netip.AddrPort) {
	at := 16
	if f.v6 {
		at = 24
	}
	port := f.dstPort
	if f.proto == protoTCP || f.proto == protoUDP {
		if binary.BigEndian.Uint16(b[port:]) == 0 {
			port = 0
		}
	}
	f.replace(b, at, port, to)
}

// replace stores an address and, if port is not 0, a port. Checksums follow by
// the difference, so that wrong ones stay exactly as wrong.
func (f *form) replace(b []byte, addr, port int, to netip.AddrPort) {
	fresh := to.Addr().AsSlice()
	stale := slices.Clone(b[addr : addr+len(fresh)])
	copy(b[addr:], fresh)
	if f.v4 {
		amend(b[10:12], stale, fresh)
	}
	if !f.pseudo {
		stale, fresh = nil, nil
	}
	if port != 0 {
		stale, fresh = append(stale, b[port:port+2]...), binary.BigEndian.AppendUint16(fresh, to.Port())
		binary.BigEndian.PutUint16(b[port:], to.Port())
	}
	switch {
	case f.sum == 0:
	case f.proto != protoUDP:
		amend(b[f.sum:], stale, fresh)
	case b[f.sum]|b[f.sum+1] != 0: // 0000 is no checksum
		if amend(b[f.sum:], stale, fresh); b[f.sum]|b[f.sum+1] == 0 {
			b[f.sum], b[f.sum+1] = 0xff, 0xff
		}
	}
}

// amend updates a checksum after the words stale became fresh: HC' = ~(~HC + ~m
// + m') (RFC 1624 equation 3).
func amend(sum, stale, fresh []byte) {
	word := func(b []byte) uint32 { return uint32(binary.BigEndian.Uint16(b)) }
	total := 0xffff &^ word(sum)
	for i := 0; i < len(stale); i += 2 {
		total += 0xffff&^word(stale[i:]) + word(fresh[i:])
	}
	for total > 0xffff {
		total = total&0xffff + total>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(total))
}

// likeness says how two packets compare.
type likeness uint8

const (
	identical likeness = iota
	canonical          // see the package comment
	different
)

// compare compares a packet of this form with what came back of it, in the same
// buffer and so of the same length.
func (f *form) compare(sent, back []byte) likeness {
	switch {
	case bytes.Equal(sent, back):
		return identical
	case bytes.Equal(f.normal(sent), f.normal(back)):
		return canonical
	}
	return different
}

// normal returns a copy of b, a packet of this form, in which everything that a
// translator may have to change has one value.
func (f *form) normal(b []byte) []byte {
	b = slices.Clone(b)
	if f.id != 0 {
		id := b[f.id : f.id+f.idLen]
		if f.v4 {
			amend(b[10:12], id, []byte{0, 0})
		}
		clear(id)
	}
	positive := func(sum []byte) {
		if sum[0]&sum[1] == 0xff {
			sum[0], sum[1] = 0, 0
		}
	}
	if f.v4 {
		positive(b[10:12])
	}
	if f.sum != 0 && f.proto != protoUDP {
		positive(b[f.sum : f.sum+2])
	}
	if f.quoted != nil { // whose checksums the error's own does not tell apart
		copy(b[f.quote:], f.quoted.normal(b[f.quote:f.quote+f.quoted.length]))
	}
	return b
}
