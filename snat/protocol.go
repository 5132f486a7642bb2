package snat

import "net/netip"

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
