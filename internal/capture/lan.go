// Layers of local networks: Ethernet and its kin, and the tags and tunnels inside.

package capture

import (
	"bytes"
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

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

// wlanLayer is an IEEE 802.11 header of data, also of the first of several packets that
// one frame carries together. A checksum of the frame at its end does no harm.
func wlanLayer(b []byte) (protocol, []byte, bool) {
	const (
		headerLen, addressLen, qosLen, controlLen = 24, 6, 2, 4
		kinds, data, without                      = 0x0c, 0x08, 0x40 // of the first byte
		quality                                   = 0x80
		distribution, protected, order            = 0x03, 0x40, 0x80 // of the second
		together, subframeLen                     = 0x80, 14
	)
	switch {
	case len(b) < headerLen:
		return protocol{}, nil, false
	case b[0]&kinds != data || b[0]&without != 0:
		return protocol{wlanFrames, uint32(b[0])}, nil, true
	case b[1]&protected != 0:
		return encrypted, nil, true
	}
	n := headerLen
	if b[1]&distribution == distribution { // between access points
		n += addressLen
	}
	several := false
	if b[0]&quality != 0 {
		several = len(b) > n && b[n]&together != 0
		n += qosLen
		if b[1]&order != 0 {
			n += controlLen
		}
	}
	if several {
		return skip(n+subframeLen, llc)(b)
	}
	if isSNAP := []byte{0xaa, 0xaa, 3}; len(b) > n+2 && !bytes.HasPrefix(b[n:], isSNAP) && bytes.HasPrefix(b[n+2:], isSNAP) {
		n += 2 // padding of some radios
	}
	return skip(n, llc)(b)
}

// batman is the beginning of a batman-adv packet.
func batman(b []byte) (protocol, []byte, bool) {
	const version = 15
	switch {
	case len(b) < 2:
		return protocol{}, nil, false
	case b[1] != version:
		return protocol{batmanTypes, 0x100 | uint32(b[1])}, nil, true
	}
	return protocol{batmanTypes, uint32(b[0])}, b, true
}

// macsec is the tag of an IEEE 802.1AE frame that is not encrypted.
func macsec(b []byte) (protocol, []byte, bool) {
	const headerLen, channelLen = 6, 8
	const channel, secret = 0x20, 0x0c
	if len(b) < headerLen {
		return protocol{}, nil, false
	}
	if b[0]&secret != 0 {
		return encrypted, nil, true
	}
	n := headerLen
	if b[0]&channel != 0 {
		n += channelLen
	}
	return typed(etherTypes, n, n+2)(b)
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
