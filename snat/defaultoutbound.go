package snat

import "net/netip"

// Default outbound access: the way out that Azure leaves to a virtual machine
// which has no other.

// DefaultOutboundPorts is the number of ports, for TCP and as many for UDP, of an
// instance with default outbound access: Azure's default for up to 50 instances
// (outbound connections, 2019).
const DefaultOutboundPorts = 1024

// DefaultOutbound returns the Ports of an instance with default outbound access
// by way of an address that it shares with nobody. It carries what ports can:
// whole TCP and UDP packets, no ICMP, no ESP, no fragments. Azure fixes its idle
// timeout at 4 minutes without resets, which is the zero Policy; give it to the
// instance if the Config's is another. Azure picks the address and may change it;
// here the caller does. That the ports begin at 1024 is our choice.
func DefaultOutbound(address netip.Addr) []PortRange {
	return []PortRange{{Frontend: address, First: 1024, Count: DefaultOutboundPorts}}
}
