// From a frame to the IP packet in it.

package capture

import (
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
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

// The tags that may precede the EtherType of a payload.
const (
	etherVLAN    = layers.EthernetTypeDot1Q
	etherQinQ    = layers.EthernetTypeQinQ
	etherOldQinQ = layers.EthernetType(0x9100)
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
		switch t := layers.EthernetType(binary.BigEndian.Uint16(frame[typeAt:])); t {
		case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6:
			return frame[payloadAt:], ""
		case etherVLAN, etherQinQ, etherOldQinQ:
			typeAt, payloadAt = payloadAt+2, payloadAt+4
		case layers.EthernetTypeARP:
			return nil, "ARP"
		default:
			return nil, fmt.Sprintf("EtherType %#04x", uint16(t))
		}
	}
	return nil, "too short"
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
		// Some decoders work on a copy: the parts need not lie in the frame.
		return slices.Concat(ip.LayerContents(), ip.LayerPayload()), ""
	}
	return nil, name + " without IP"
}
