// From a frame to the IP packet in it.

package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// The link types of hosts and routers, which are looked into here, so that the
// packet may be damaged in any way. Numbers are those of the tcpdump group's
// registry of link-layer header types.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRawBSD   = 12 // LINKTYPE_RAW as BSD writes it
	linkRawOpen  = 14 // and OpenBSD
	linkPPPHDLC  = 50
	linkPPPoE    = 51
	linkRaw      = 101
	linkCHDLC    = 104
	linkLoop     = 108
	linkSLL      = 113
	linkPPI      = 192
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

// What may come between a link and the packet: tags, labels, PPPoE, and lengths
// where an EtherType could be.
const (
	etherVLAN     = layers.EthernetTypeDot1Q
	etherQinQ     = layers.EthernetTypeQinQ
	etherOldQinQ  = layers.EthernetType(0x9100)
	etherMPLS     = layers.EthernetTypeMPLSUnicast
	etherMPLSMany = layers.EthernetTypeMPLSMulticast
	etherPPPoE    = layers.EthernetTypePPPoESession
	etherLowest   = 0x600 // below, the length of an IEEE 802.2 LLC frame
)

// ipPacket returns the IP packet inside a frame, or what the frame is instead.
// A packet is never empty.
func ipPacket(link uint16, frame []byte) (packet []byte, kind string) {
	switch link {
	case linkEthernet:
		return etherPayload(frame, 12, 14)
	case linkSLL:
		return etherPayload(frame, 14, 16)
	case linkSLL2:
		return etherPayload(frame, 0, 20)
	case linkCHDLC:
		return etherPayload(frame, 2, 4)
	case linkPPPHDLC:
		return pppPayload(frame)
	case linkPPPoE:
		return pppoePayload(frame)
	case linkPPI:
		const headerLen = 8
		if len(frame) < headerLen || len(frame) < int(binary.LittleEndian.Uint16(frame[2:])) {
			return nil, "too short"
		}
		inner := binary.LittleEndian.Uint32(frame[4:])
		if size := binary.LittleEndian.Uint16(frame[2:]); size >= headerLen && inner != linkPPI && inner <= 0xffff {
			return ipPacket(uint16(inner), frame[size:])
		}
		return nil, "PPI without IP"
	case linkNull, linkLoop:
		if len(frame) <= 4 {
			return nil, "too short"
		}
		// The address family is in the byte order of the machine that captured.
		switch family := binary.BigEndian.Uint32(frame) | binary.LittleEndian.Uint32(frame); family & 0xff {
		case 2, 10, 24, 28, 30: // AF_INET everywhere; AF_INET6 of Linux and the BSDs
			return frame[4:], ""
		default:
			return nil, fmt.Sprintf("address family %d", family&0xff)
		}
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		if len(frame) == 0 {
			return nil, "too short"
		}
		return frame, ""
	}
	return decoded(link, frame)
}

// etherPayload returns the IP packet of a frame whose EtherType is at typeAt
// and whose payload, or next VLAN tag, starts at payloadAt.
func etherPayload(frame []byte, typeAt, payloadAt int) (packet []byte, kind string) {
	for len(frame) > payloadAt {
		rest := frame[payloadAt:]
		switch t := layers.EthernetType(binary.BigEndian.Uint16(frame[typeAt:])); t {
		case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
			return rest, ""
		case etherVLAN, etherQinQ, etherOldQinQ:
			typeAt, payloadAt = payloadAt+2, payloadAt+4
		case etherMPLS, etherMPLSMany:
			return mplsPayload(rest)
		case etherPPPoE:
			return pppoePayload(rest)
		case layers.EthernetTypeARP:
			return nil, "ARP"
		default:
			switch {
			case t >= etherLowest:
				return nil, fmt.Sprintf("EtherType %#04x", uint16(t))
			case !bytes.HasPrefix(rest, []byte{0xaa, 0xaa, 3, 0, 0, 0}): // SNAP with an EtherType
				return nil, "LLC without IP"
			}
			typeAt, payloadAt = payloadAt+6, payloadAt+8
		}
	}
	return nil, "too short"
}

// mplsPayload returns the IP packet behind a stack of MPLS labels (RFC 3032), which
// do not say what they carry: it must look like IP.
func mplsPayload(b []byte) (packet []byte, kind string) {
	for len(b) > 4 {
		last := b[2]&1 != 0
		if b = b[4:]; last {
			if version := b[0] >> 4; version == 4 || version == 6 {
				return b, ""
			}
			return nil, "MPLS without IP"
		}
	}
	return nil, "too short"
}

// pppoePayload returns the IP packet behind a PPPoE session header (RFC 2516).
func pppoePayload(b []byte) (packet []byte, kind string) {
	const headerLen = 6
	if len(b) < headerLen {
		return nil, "too short"
	}
	return pppPayload(b[headerLen:])
}

// pppPayload returns the IP packet behind a PPP header, with or without the address
// and control of HDLC (RFC 1661, RFC 1662).
func pppPayload(b []byte) (packet []byte, kind string) {
	const ipv4, ipv6 = 0x21, 0x57
	b = bytes.TrimPrefix(b, []byte{0xff, 3})
	if len(b) <= 2 {
		return nil, "too short"
	}
	if protocol := binary.BigEndian.Uint16(b); protocol == ipv4 || protocol == ipv6 {
		return b[2:], ""
	}
	return nil, "PPP without IP"
}

// decoded leaves the frame of a rare link type to gopacket, which finds an IP
// packet only if its header is sound: PPP, FDDI, 802.11 with or without what
// radios add, PF logs.
func decoded(link uint16, frame []byte) (packet []byte, kind string) {
	name := "UnknownLinkType"
	if link <= 0xff {
		name = layers.LinkType(link).String()
	}
	if name == "UnknownLinkType" {
		return nil, fmt.Sprintf("link type %d", link)
	}
	p := gopacket.NewPacket(frame, layers.LinkType(link), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4, *layers.IPv6:
		// Some decoders work on a copy: the parts need not lie in the frame. A
		// header that ends the frame at once is an empty layer.
		if packet = slices.Concat(ip.LayerContents(), ip.LayerPayload()); len(packet) > 0 {
			return packet, ""
		}
	}
	return nil, name + " without IP"
}
