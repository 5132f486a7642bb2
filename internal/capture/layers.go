// The layers that may come between a capture's frame and an IP packet. To add
// one, add a row.

package capture

import (
	"bytes"
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Layers that others name.
var (
	ip       = protocol{internet, 0}
	ethernet = protocol{linkTypes, 1}
	hdlc     = protocol{linkTypes, 50} // PPP or Cisco HDLC
	cisco    = protocol{linkTypes, 104}
	ppp      = protocol{headers, 0}
	llc      = protocol{headers, 1}
	mpls     = protocol{etherTypes, 0x8847}
	bySight  = protocol{headers, 2} // IP, if it begins like that
)

// table says how each layer is read. Numbers are those of the registries that the
// spaces name.
var table = map[protocol]layer{
	{linkTypes, 0}:   loopback,                  // BSD, also Windows and macOS
	{linkTypes, 1}:   etherLayer,                // IEEE 802.3
	{linkTypes, 6}:   tokenRing,                 // IEEE 802.5
	{linkTypes, 8}:   skip(16, ip),              // SLIP
	{linkTypes, 9}:   hdlcLayer,                 // PPP
	{linkTypes, 11}:  skip(0, llc),              // ATM, as BSD writes it
	{linkTypes, 12}:  skip(0, ip),               // raw, as BSD writes it
	{linkTypes, 14}:  skip(0, ip),               // and OpenBSD
	{linkTypes, 17}:  families32(0, 28),         // PF log of OpenBSD before 3.4
	{linkTypes, 50}:  hdlcLayer,                 // PPP in HDLC-like framing
	{linkTypes, 51}:  pppoe,                     // RFC 2516
	{linkTypes, 100}: skip(0, llc),              // ATM, RFC 2684
	{linkTypes, 101}: skip(0, ip),               // raw
	{linkTypes, 104}: typed(etherTypes, 2, 4),   // Cisco HDLC
	{linkTypes, 107}: frameRelay,                // RFC 2427
	{linkTypes, 108}: loopback,                  // OpenBSD
	{linkTypes, 109}: families32(0, 12),         // IPsec of OpenBSD
	{linkTypes, 113}: cooked(14, 16),            // Linux cooked
	{linkTypes, 117}: pfLog,                     // PF log
	{linkTypes, 122}: skip(16, llc),             // IP over Fibre Channel, RFC 2625
	{linkTypes, 123}: sunATM,                    // Solaris
	{linkTypes, 138}: typed(etherTypes, 16, 18), // IP over IEEE 1394
	{linkTypes, 192}: ppi,                       // per-packet information of CACE
	{linkTypes, 197}: erf,                       // Endace
	{linkTypes, 204}: skip(1, hdlc),             // PPP behind its direction
	{linkTypes, 205}: skip(1, cisco),            // Cisco HDLC behind its direction
	{linkTypes, 228}: skip(0, ip),               // raw IPv4
	{linkTypes, 229}: skip(0, ip),               // raw IPv6
	{linkTypes, 239}: nfLog,                     // Linux, from nflog and nftables
	{linkTypes, 240}: skip(4, ethernet),         // Hilscher netANALYZER
	{linkTypes, 242}: typed(etherTypes, 40, 44), // IP over InfiniBand, RFC 4391
	{linkTypes, 258}: pktap,                     // macOS
	{linkTypes, 274}: skip(8, ethernet),         // Ethernet behind its preamble
	{linkTypes, 276}: cooked(0, 20),             // Linux cooked, version 2

	{etherTypes, 0x0800}: skip(0, ip),
	{etherTypes, 0x22f3}: trill,                   // RFC 6325
	{etherTypes, 0x6558}: skip(0, ethernet),       // transparent bridging
	{etherTypes, 0x8100}: typed(etherTypes, 2, 4), // VLAN
	{etherTypes, 0x86dd}: skip(0, ip),
	{etherTypes, 0x880b}: skip(0, ppp),
	{etherTypes, 0x8847}: mplsLayer,
	{etherTypes, 0x8848}: mplsLayer, // multicast
	{etherTypes, 0x8864}: pppoe,
	{etherTypes, 0x88a8}: typed(etherTypes, 2, 4), // service VLAN (QinQ)
	{etherTypes, 0x88e7}: skip(4, ethernet),       // provider backbone bridges, 802.1ah
	{etherTypes, 0x8903}: skip(2, ethernet),       // Cisco FabricPath
	{etherTypes, 0x8909}: ciscoMetadata,           // Cisco TrustSec
	{etherTypes, 0x8926}: typed(etherTypes, 4, 6), // VN-Tag
	{etherTypes, 0x892f}: typed(etherTypes, 4, 6), // HSR, IEC 62439-3
	{etherTypes, 0x893f}: typed(etherTypes, 6, 8), // E-TAG, 802.1BR
	{etherTypes, 0x894f}: nsh,                     // RFC 8300
	{etherTypes, 0x9100}: typed(etherTypes, 2, 4), // QinQ before it had a number
	{etherTypes, 0x9200}: typed(etherTypes, 2, 4),

	{pppProtocols, 0x0021}: skip(0, ip),
	{pppProtocols, 0x0031}: pppBridged, // RFC 3518
	{pppProtocols, 0x0057}: skip(0, ip),
	{pppProtocols, 0x0281}: mplsLayer,
	{pppProtocols, 0x0283}: mplsLayer, // multicast

	{families, 2}:  skip(0, ip),
	{families, 10}: skip(0, ip), // IPv6 of Linux
	{families, 23}: sight,       // of Windows; elsewhere this is IPX
	{families, 24}: skip(0, ip), // of NetBSD and OpenBSD
	{families, 26}: sight,       // of Solaris
	{families, 28}: skip(0, ip), // of FreeBSD
	{families, 30}: skip(0, ip), // of macOS

	{nlpids, 0x80}: snap(0),
	{nlpids, 0x8e}: skip(0, ip),
	{nlpids, 0xcc}: skip(0, ip),
	{nlpids, 0xcf}: skip(0, ppp),

	{llcFrames, 0x0603}: sight,
	{llcFrames, 0xaa03}: snap(2),
	{llcFrames, 0xfe03}: oneByte(nlpids),

	{bridged, 1}: skip(0, ethernet), // with the checksum of the link
	{bridged, 7}: skip(0, ethernet), // and without

	{nshProtocols, 1}: skip(0, ip),
	{nshProtocols, 2}: skip(0, ip),
	{nshProtocols, 3}: skip(0, ethernet),
	{nshProtocols, 4}: nsh,
	{nshProtocols, 5}: skip(0, mpls),

	{erfTypes, 1}:  skip(0, hdlc),
	{erfTypes, 2}:  skip(2, ethernet), // behind an offset and padding
	{erfTypes, 4}:  skip(4, llc),      // AAL5
	{erfTypes, 5}:  skip(4, hdlc),     // of many channels
	{erfTypes, 10}: skip(0, hdlc),     // with a color
	{erfTypes, 11}: skip(2, ethernet),
	{erfTypes, 15}: skip(0, hdlc), // of a coprocessor
	{erfTypes, 16}: skip(2, ethernet),
	{erfTypes, 17}: skip(4, hdlc),
	{erfTypes, 19}: skip(0, hdlc), // with a hash
	{erfTypes, 20}: skip(2, ethernet),
	{erfTypes, 22}: skip(0, ip),
	{erfTypes, 23}: skip(0, ip),

	ppp:     pppLayer,
	llc:     llcLayer,
	bySight: sight,
}

// skip is a layer of n bytes that can carry one thing only.
func skip(n int, carries protocol) layer {
	return func(b []byte) (protocol, []byte, bool) {
		if len(b) < n {
			return protocol{}, nil, false
		}
		return carries, b[n:], true
	}
}

// typed is a layer of n bytes, two of which say what it carries.
func typed(s space, at, n int) layer {
	return func(b []byte) (protocol, []byte, bool) {
		if len(b) < n {
			return protocol{}, nil, false
		}
		return protocol{s, uint32(binary.BigEndian.Uint16(b[at:]))}, b[n:], true
	}
}

// oneByte is a layer of one byte that says what it carries.
func oneByte(s space) layer {
	return func(b []byte) (protocol, []byte, bool) { return protocol{s, uint32(b[0])}, b[1:], true }
}

// sight is no layer: it tells IP by its version.
func sight(b []byte) (protocol, []byte, bool) {
	if version := b[0] >> 4; version != 4 && version != 6 {
		return protocol{firstNibbles, uint32(version)}, b, true
	}
	return ip, b, true
}

// etherLayer is an Ethernet header. Where the EtherType is, there may be the length
// of an IEEE 802.2 frame.
func etherLayer(b []byte) (protocol, []byte, bool) {
	const headerLen, islLen, lowest = 14, 26, 0x600
	if isl := b[0] &^ 2; len(b) > islLen && isl == 1 && bytes.HasPrefix(b[1:], []byte{0, 0x0c, 0, 0}) && bytes.HasPrefix(b[14:], []byte{0xaa, 0xaa, 3}) {
		return ethernet, b[islLen:], true // Cisco's inter-switch link
	}
	carries, rest, whole := typed(etherTypes, headerLen-2, headerLen)(b)
	if carries.number < lowest {
		carries = llc
	}
	return carries, rest, whole
}

// llcLayer is an IEEE 802.2 header: two service access points, which agree where IP is
// carried, and a control field.
func llcLayer(b []byte) (protocol, []byte, bool) {
	const headerLen = 3
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	return protocol{llcFrames, uint32(b[0])<<8 | uint32(b[2])}, b[headerLen:], true
}

// snap is an IEEE 802 SNAP header, behind which a bridged frame has padding.
func snap(padding int) layer {
	const headerLen = 5
	return func(b []byte) (protocol, []byte, bool) {
		if len(b) < headerLen {
			return protocol{}, nil, false
		}
		number := uint32(binary.BigEndian.Uint16(b[3:]))
		switch oui := binary.BigEndian.Uint32(b) >> 8; oui {
		case 0, 0x0000f8: // of Xerox, and of 802.1H
			return protocol{etherTypes, number}, b[headerLen:], true
		case 0x0080c2: // of 802.1
			return skip(headerLen+padding, protocol{bridged, number})(b)
		default:
			return protocol{ouis, oui}, b[headerLen:], true
		}
	}
}

// tokenRing is an IEEE 802.5 header, with a source route or without.
func tokenRing(b []byte) (protocol, []byte, bool) {
	const headerLen, source, routed = 14, 8, 0x80
	if len(b) <= headerLen {
		return protocol{}, nil, false
	}
	n := headerLen
	if b[source]&routed != 0 {
		n += int(b[headerLen] & 31)
	}
	return skip(n, llc)(b)
}

// pppoe is a PPPoE session header (RFC 2516).
func pppoe(b []byte) (protocol, []byte, bool) { return skip(6, ppp)(b) }

// pppLayer is a PPP header: a protocol, of one byte if that is odd, with or without
// the address and control of HDLC (RFC 1661, RFC 1662).
func pppLayer(b []byte) (protocol, []byte, bool) {
	b = bytes.TrimPrefix(b, []byte{0xff, 3})
	if len(b) > 0 && b[0]&1 != 0 {
		return oneByte(pppProtocols)(b)
	}
	return typed(pppProtocols, 0, 2)(b)
}

// hdlcLayer is a PPP header, or Cisco's way to use HDLC, which has addresses that
// are no PPP protocol.
func hdlcLayer(b []byte) (protocol, []byte, bool) {
	const unicast, broadcast = 0x0f, 0x8f
	if b[0] == unicast || b[0] == broadcast {
		return cisco, b, true
	}
	return ppp, b, true
}

// pppBridged is the header of a frame that PPP carries (RFC 3518).
func pppBridged(b []byte) (protocol, []byte, bool) {
	const headerLen, spanningTree, controlled, ethernetType = 2, 0x10, 0x40, 1
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	n := headerLen
	if b[0]&controlled != 0 { // a LAN ID
		n += 4
	}
	if b[0]&spanningTree != 0 || b[1] != ethernetType {
		return protocol{bridged, uint32(b[1])}, nil, true
	}
	return skip(n, ethernet)(b)
}

// frameRelay is a frame relay address of two to four bytes, then the multiprotocol
// header of RFC 2427 or, as Cisco does it, an EtherType.
func frameRelay(b []byte) (protocol, []byte, bool) {
	const longest, last, unnumbered = 4, 1, 3
	n := 1
	for n < min(len(b), longest) && b[n-1]&last == 0 {
		n++
	}
	if b = b[n:]; len(b) == 0 || b[0] != unnumbered {
		return typed(etherTypes, 0, 2)(b)
	}
	if b = bytes.TrimPrefix(b[1:], []byte{0}); len(b) == 0 {
		return protocol{}, nil, false
	}
	return oneByte(nlpids)(b)
}

// loopback is the address family in front of a packet that did not leave the host, in
// the byte order of the machine that captured, or an EtherType, or PPP.
func loopback(b []byte) (protocol, []byte, bool) {
	const headerLen, lowest = 4, 0x600
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	if bytes.HasPrefix(b, []byte{0xff, 3}) {
		return ppp, b, true
	}
	n := uint32(binary.LittleEndian.Uint16(b)) | uint32(binary.BigEndian.Uint16(b[2:])) // one is 0
	switch {
	case n >= lowest:
		return protocol{etherTypes, n}, b[headerLen:], true
	case n > 0xff: // in the other half of the word
		n >>= 8
	}
	return protocol{families, n}, b[headerLen:], true
}

// families32 is a header of n bytes with an address family in four, of either byte
// order.
func families32(at, n int) layer {
	return func(b []byte) (protocol, []byte, bool) {
		if len(b) < n {
			return protocol{}, nil, false
		}
		family := binary.BigEndian.Uint32(b[at:]) | binary.LittleEndian.Uint32(b[at:])
		return protocol{families, family & 0xff}, b[n:], true
	}
}

// cooked is a header that Linux makes for what has none, or different ones.
func cooked(at, n int) layer {
	return func(b []byte) (protocol, []byte, bool) {
		const raw8023, frame, llc8022, pppHDLC = 1, 3, 4, 7 // ETH_P_ values that are no EtherTypes
		carries, rest, whole := typed(etherTypes, at, n)(b)
		switch carries.number {
		case raw8023, llc8022:
			carries = llc
		case frame:
			carries = ethernet
		case pppHDLC:
			carries = hdlc
		}
		return carries, rest, whole
	}
}

// pfLog is the header of a log of PF, which begins with its length without padding
// and the address family.
func pfLog(b []byte) (protocol, []byte, bool) {
	if len(b) < 2 {
		return protocol{}, nil, false
	}
	return skip((int(b[0])+3)&^3, protocol{families, uint32(b[1])})(b)
}

// sunATM is Solaris' header of an ATM frame, with LLC or a LAN emulation in it.
func sunATM(b []byte) (protocol, []byte, bool) {
	const headerLen, kind, lane = 4, 0x0f, 1
	if b[0]&kind == lane {
		return skip(headerLen+2, ethernet)(b)
	}
	return skip(headerLen, llc)(b)
}

// ppi is a header with the link type of the frame and facts about it.
func ppi(b []byte) (protocol, []byte, bool) {
	const headerLen = 8
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	n := max(headerLen, int(binary.LittleEndian.Uint16(b[2:])))
	return skip(n, protocol{linkTypes, binary.LittleEndian.Uint32(b[4:])})(b)
}

// pktap is a header with the link type of the frame and facts about the process
// that it is of.
func pktap(b []byte) (protocol, []byte, bool) {
	const headerLen = 12
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	n := max(headerLen, int(min(binary.LittleEndian.Uint32(b), MaxFrameLen+1)))
	return skip(n, protocol{linkTypes, binary.LittleEndian.Uint32(b[8:])})(b)
}

// erf is the header of a record of Endace, with any number of extensions.
func erf(b []byte) (protocol, []byte, bool) {
	const headerLen, extensionLen, kind, more = 16, 8, 8, 0x80
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	carries := protocol{erfTypes, uint32(b[kind] &^ more)}
	extended := b[kind]&more != 0
	for b = b[headerLen:]; extended; b = b[extensionLen:] {
		if len(b) < extensionLen {
			return protocol{}, nil, false
		}
		extended = b[0]&more != 0
	}
	return carries, b, true
}

// nfLog is a header and fields of Linux' netfilter log, in the byte order of the
// machine that captured. One field is the packet.
func nfLog(b []byte) (protocol, []byte, bool) {
	const headerLen, fieldLen, header, payload = 4, 4, 1, 9
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	carries := protocol{families, uint32(b[0])}
	var order binary.ByteOrder = binary.LittleEndian
	if len(b) > headerLen+fieldLen && int(order.Uint16(b[headerLen:])) > len(b)-headerLen {
		order = binary.BigEndian
	}
	for b = b[headerLen:]; len(b) >= fieldLen; {
		n := int(order.Uint16(b))
		if n < fieldLen || n > len(b) {
			return protocol{}, nil, false
		}
		switch kind, value := order.Uint16(b[2:]), b[fieldLen:n]; {
		case kind == header && len(value) >= 2: // of a bridge, the family is none of IP
			if t := binary.BigEndian.Uint16(value); t != 0 {
				carries = protocol{etherTypes, uint32(t)}
			}
		case kind == payload:
			return carries, value, true
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return protocol{nflogFields, 0}, nil, true
}

// nsh is a network service header, which has its length in words (RFC 8300).
func nsh(b []byte) (protocol, []byte, bool) {
	const headerLen, words = 8, 0x3f
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	return skip(max(headerLen, int(b[1]&words)*4), protocol{nshProtocols, uint32(b[3])})(b)
}

// trill is a TRILL header, with the length of its options in words (RFC 6325).
func trill(b []byte) (protocol, []byte, bool) {
	if len(b) < 2 {
		return protocol{}, nil, false
	}
	options := int(binary.BigEndian.Uint16(b)>>6) & 31
	return skip(6+options*4, ethernet)(b)
}

// ciscoMetadata is a version, the number of options, and these, of four bytes each.
func ciscoMetadata(b []byte) (protocol, []byte, bool) {
	if len(b) < 2 {
		return protocol{}, nil, false
	}
	n := 2 + int(b[1])*4
	return typed(etherTypes, n, n+2)(b)
}

// mplsLayer is a stack of MPLS labels (RFC 3032), which do not say what they carry:
// IP, or Ethernet behind a control word or not (RFC 4448).
func mplsLayer(b []byte) (protocol, []byte, bool) {
	const labelLen, last, controlLen = 4, 1, 4
	for bottom := false; !bottom; b = b[labelLen:] {
		if len(b) < labelLen {
			return protocol{}, nil, false
		}
		bottom = b[2]&last != 0
	}
	if len(b) == 0 {
		return protocol{}, nil, false
	}
	switch inner, version := etherIP(b), b[0]>>4; {
	case (version == 4 || version == 6) && !isIP(inner), version == 4 && isIP(b):
	case inner != nil:
		return ethernet, b, true
	case version == 0 && len(b) > controlLen && etherIP(b[controlLen:]) != nil:
		return ethernet, b[controlLen:], true
	}
	return bySight, b, true
}

// etherIP returns the IP packet in an Ethernet frame with at most two VLAN tags; nil if
// b is none, or does not get that far.
func etherIP(b []byte) []byte {
	carries, rest, whole := etherLayer(b)
	for tags := 0; whole && tags <= 2 && carries.space == etherTypes; tags++ {
		switch carries.number {
		case 0x0800, 0x86dd:
			return rest
		case 0x8100, 0x88a8:
			carries, rest, whole = typed(etherTypes, 2, 4)(rest)
		default:
			return nil
		}
	}
	return nil
}

// isIP reports whether b looks like an IP packet: an IPv4 header with a right checksum,
// or an IPv6 header with the length of what follows, but for padding.
func isIP(b []byte) bool {
	const least4, least6, padding = 20, 40, 64
	switch {
	case len(b) >= least4 && b[0]>>4 == 4:
		n := int(b[0]&15) * 4
		return n >= least4 && n <= len(b) && wire.Checksum(b[:n], 0) == 0
	case len(b) >= least6 && b[0]>>4 == 6:
		excess := len(b) - least6 - int(binary.BigEndian.Uint16(b[4:]))
		return 0 <= excess && excess < padding
	}
	return false
}
