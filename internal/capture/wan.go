// Layers of lines between sites: PPP, HDLC, frame relay, ATM.

package capture

import (
	"bytes"
	"encoding/binary"
)

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

// sunATM is Solaris' header of an ATM frame, with LLC or a LAN emulation in it.
func sunATM(b []byte) (protocol, []byte, bool) {
	const headerLen, kind, lane = 4, 0x0f, 1
	if b[0]&kind == lane {
		return skip(headerLen+2, ethernet)(b)
	}
	return skip(headerLen, llc)(b)
}

// juniper is a header of a Juniper router with flags and perhaps extensions.
func juniper(carries protocol) layer {
	const headerLen, lengthLen, flags, extended = 4, 2, 3, 0x80
	const bare, familyLen = 0x02, 4 // without the header of the link
	return func(b []byte) (protocol, []byte, bool) {
		if len(b) < headerLen+lengthLen {
			return protocol{}, nil, false
		}
		n := headerLen
		if b[flags]&extended != 0 {
			n += lengthLen + int(binary.BigEndian.Uint16(b[headerLen:]))
		}
		if b[flags]&bare != 0 {
			return skip(n+familyLen, bySight)(b)
		}
		return skip(n, carries)(b)
	}
}

// multilink is the header of a PPP frame on several links, which may be in pieces
// (RFC 1990).
func multilink(b []byte) (protocol, []byte, bool) {
	const headerLen, whole = 4, 0xc0
	if b[0]&whole != whole {
		return inPieces, nil, true
	}
	return skip(headerLen, ppp)(b)
}
