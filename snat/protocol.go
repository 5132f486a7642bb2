package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Protocols and ports, as configurations and statistics name them.

// BlockSize is the number of consecutive ports that are granted together; block
// boundaries are multiples of it (Azure outbound rules; Ananta, SIGCOMM 2013).
const BlockSize = 8

// Protocol selects the transport protocols that something applies to.
type Protocol uint8

// The protocols, with Azure's names.
const (
	All Protocol = iota // TCP and UDP
	TCP
	UDP
	Query // ICMP and ICMPv6 queries, in statistics only: their identifiers follow UDP's ports
	numProtocolValues
)

// Number returns the IP protocol number of TCP or UDP, and 0 of the others.
func (p Protocol) Number() uint8 {
	switch p {
	case TCP:
		return wire.ProtoTCP
	case UDP:
		return wire.ProtoUDP
	}
	return 0
}

// MarshalText returns the name, as String does.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// ProtocolOf returns TCP or UDP by its IP protocol number, and All for any other.
func ProtocolOf(number uint8) Protocol {
	switch number {
	case wire.ProtoTCP:
		return TCP
	case wire.ProtoUDP:
		return UDP
	}
	return All
}

// PortRange is a run of whole port blocks of one frontend.
type PortRange struct {
	Frontend netip.Addr // the address whose ports they are
	Protocol Protocol   // All, the default, is TCP and UDP; Query is not possible
	First    uint16     // a multiple of BlockSize, 8 or higher
	Count    int        // ports, a positive multiple of BlockSize
}

// protocols returns the transport protocols that the range covers.
func (r PortRange) protocols() []Protocol {
	if r.Protocol == All {
		return []Protocol{TCP, UDP}
	}
	return []Protocol{r.Protocol}
}
