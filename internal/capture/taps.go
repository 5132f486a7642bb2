// Layers that are on no wire: what systems and radios write in front of a packet when
// they capture it.

package capture

import (
	"bytes"
	"encoding/binary"
)

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

// radiotap is a header with facts about a radio, and its length.
func radiotap(b []byte) (protocol, []byte, bool) {
	const headerLen = 8
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	return skip(max(headerLen, int(binary.LittleEndian.Uint16(b[2:]))), wlan)(b)
}

// prism is the same in one of two older forms: of Prism, in the byte order of the machine
// that captured, or of AVS.
func prism(b []byte) (protocol, []byte, bool) {
	const headerLen, message = 8, 0x44
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	n := binary.BigEndian.Uint32(b[4:])
	if binary.LittleEndian.Uint32(b) == message {
		n = binary.LittleEndian.Uint32(b[4:])
	}
	return skip(max(headerLen, int(min(n, MaxFrameLen+1))), wlan)(b)
}

// ipnet is a header of Solaris with the address family.
func ipnet(b []byte) (protocol, []byte, bool) {
	const headerLen, family = 24, 1
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	return protocol{families, uint32(b[family])}, b[headerLen:], true
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
	return empty, nil, true
}
