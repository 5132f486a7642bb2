// The layers that may come between a capture's frame and an IP packet. To add
// one, add a row.

package capture

import "encoding/binary"

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
	wlan     = protocol{linkTypes, 105}
)

// What holds no packet that can be read.
var (
	encrypted = protocol{unreadable, 0}
	inPieces  = protocol{unreadable, 1}
	empty     = protocol{unreadable, 2}
)

// table says how each layer is read. Numbers are those of the registries that the
// spaces name.
var table = map[protocol]layer{
	{linkTypes, 0}:   loopback,                  // BSD, also Windows and macOS
	{linkTypes, 1}:   etherLayer,                // IEEE 802.3
	{linkTypes, 6}:   tokenRing,                 // IEEE 802.5
	{linkTypes, 8}:   skip(16, ip),              // SLIP
	{linkTypes, 9}:   hdlcLayer,                 // PPP
	{linkTypes, 10}:  skip(13, llc),             // FDDI
	{linkTypes, 11}:  skip(0, llc),              // ATM, as BSD writes it
	{linkTypes, 12}:  skip(0, ip),               // raw, as BSD writes it
	{linkTypes, 14}:  skip(0, ip),               // and OpenBSD
	{linkTypes, 17}:  families32(0, 28),         // PF log of OpenBSD before 3.4
	{linkTypes, 50}:  hdlcLayer,                 // PPP in HDLC-like framing
	{linkTypes, 51}:  pppoe,                     // RFC 2516
	{linkTypes, 100}: skip(0, llc),              // ATM, RFC 2684
	{linkTypes, 101}: skip(0, ip),               // raw
	{linkTypes, 104}: typed(etherTypes, 2, 4),   // Cisco HDLC
	{linkTypes, 105}: wlanLayer,                 // IEEE 802.11
	{linkTypes, 107}: frameRelay,                // RFC 2427
	{linkTypes, 108}: loopback,                  // OpenBSD
	{linkTypes, 109}: families32(0, 12),         // IPsec of OpenBSD
	{linkTypes, 113}: cooked(14, 16),            // Linux cooked
	{linkTypes, 117}: pfLog,                     // PF log
	{linkTypes, 119}: prism,                     // 802.11 behind what old radios add
	{linkTypes, 122}: skip(16, llc),             // IP over Fibre Channel, RFC 2625
	{linkTypes, 123}: sunATM,                    // Solaris
	{linkTypes, 127}: radiotap,                  // 802.11 behind what radios add
	{linkTypes, 138}: typed(etherTypes, 16, 18), // IP over IEEE 1394
	{linkTypes, 149}: pktap,                     // macOS, before it had a number
	{linkTypes, 163}: prism,                     // 802.11 behind what AVS adds
	{linkTypes, 178}: juniper(ethernet),         // Juniper, of several links
	{linkTypes, 179}: juniper(ppp),
	{linkTypes, 180}: juniper(protocol{linkTypes, 107}),
	{linkTypes, 181}: juniper(cisco),
	{linkTypes, 192}: ppi,                       // per-packet information of CACE
	{linkTypes, 197}: erf,                       // Endace
	{linkTypes, 204}: skip(1, hdlc),             // PPP behind its direction
	{linkTypes, 205}: skip(1, cisco),            // Cisco HDLC behind its direction
	{linkTypes, 226}: ipnet,                     // Solaris
	{linkTypes, 228}: skip(0, ip),               // raw IPv4
	{linkTypes, 229}: skip(0, ip),               // raw IPv6
	{linkTypes, 239}: nfLog,                     // Linux, from nflog and nftables
	{linkTypes, 240}: skip(4, ethernet),         // Hilscher netANALYZER
	{linkTypes, 242}: typed(etherTypes, 40, 44), // IP over InfiniBand, RFC 4391
	{linkTypes, 258}: pktap,                     // macOS
	{linkTypes, 259}: skip(8, ethernet),         // Ethernet of a passive optical network
	{linkTypes, 274}: skip(8, ethernet),         // Ethernet behind its preamble
	{linkTypes, 276}: cooked(0, 20),             // Linux cooked, version 2

	{etherTypes, 0x0800}: skip(0, ip),
	{etherTypes, 0x22f3}: trill,                   // RFC 6325
	{etherTypes, 0x4305}: batman,                  // batman-adv
	{etherTypes, 0x6558}: skip(0, ethernet),       // transparent bridging
	{etherTypes, 0x8100}: typed(etherTypes, 2, 4), // VLAN
	{etherTypes, 0x86dd}: skip(0, ip),
	{etherTypes, 0x880b}: skip(0, ppp),
	{etherTypes, 0x8847}: mplsLayer,
	{etherTypes, 0x8848}: mplsLayer, // multicast
	{etherTypes, 0x8864}: pppoe,
	{etherTypes, 0x8870}: skip(0, llc),            // LLC of a jumbo frame
	{etherTypes, 0x88a8}: typed(etherTypes, 2, 4), // service VLAN (QinQ)
	{etherTypes, 0x88e5}: macsec,                  // IEEE 802.1AE
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
	{pppProtocols, 0x003d}: multilink,  // RFC 1990
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

	{batmanTypes, 0x01}: skip(14, ethernet), // broadcast
	{batmanTypes, 0x40}: skip(10, ethernet), // unicast
	{batmanTypes, 0x42}: skip(18, ethernet), // unicast with its origin

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
