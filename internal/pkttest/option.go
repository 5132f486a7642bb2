package pkttest

import "github.com/google/gopacket/layers"

// TCPOption is a TCP option of any kind but end-of-options and no-operation, whose
// length follows from data.
func TCPOption(kind uint8, data ...byte) Field {
	return tcpOption("option", layers.TCPOptionKind(kind), data)
}
