package snat

// Leniency lets whole packets pass that are dropped as malformed by default, because
// some translators carry them, Linux's among them. They are then packets like others.
// What is never let pass is a packet whose TTL is 0 on arrival.
type Leniency struct {
	// TCPFlags carries SYNs with PSH or URG, and RSTs with PSH but without ACK
	// ([flow.ReasonTCPFlags]).
	TCPFlags bool

	// UDPPortZero carries datagrams from source port 0, which RFC 768 has for
	// those that want no answer ([flow.ReasonPortZero]). It is exchanged for
	// another port, and answers come back to port 0.
	UDPPortZero bool

	// UDP6Zero carries UDP over IPv6 with the checksum 0, which stays 0
	// ([flow.ReasonUDP6Zero]; RFC 6935 permits it to tunnels).
	UDP6Zero bool
}
