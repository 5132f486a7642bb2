package snat

import (
	"net/netip"
	"reflect"
	"slices"
)

// Shared ports, as they are configured. validation.go checks them with what must not stand
// beside them.

// Shared says that all instances share the outside ports and take them on demand, as
// those of an Azure NAT gateway. TCP and UDP have separate ports, and queries of
// ICMP, if they are carried, identifiers of the same numbers. Every flow is mapped
// on its own and may share its port with flows whose remote address or port
// differs, or of queries the address. A UDP session that has ended holds its port for
// Timeouts.UDPHeld: its socket, too, gets another one towards the same remote.
//
// What is an instance's alone must not be set: its Ports, its Policy, its
// Deterministic. Of ICMP, QueryPerDestination and RandomIDs must not be either.
// [NAT.Reconfigure] can change instances and what is asked of new flows, but neither these
// ports nor Policy.
//
// Memory: 2 bytes for each port of each protocol, as far as it has been used, and 12 more for each of a group
// of 16 in which one has had more flows than 2 bytes can tell, such as 32 active ones beside one that is over.
type Shared struct {
	// Frontends are the addresses whose ports are handed out: 1..64 of each
	// family. (An Azure NAT gateway has up to 16.)
	Frontends []netip.Addr

	// FirstPort and LastPort bound the ports, the same for all frontends:
	// 1..65535. 0 means 1024 and 65535, the 64,512 ports of an Azure NAT
	// gateway.
	FirstPort, LastPort uint16

	// Choice says which port a new flow gets: RandomPort, the default, or
	// PreservePort.
	Choice PortChoice

	// FlowsPerDestination limits the flows of one frontend to one remote
	// address and port of one protocol, those included that are over and only
	// hold their port: 1..65,536, and 65,536 is no limit. 0 means 50,000, as
	// of an Azure NAT gateway.
	FlowsPerDestination int

	// MaxFlows limits the flows of all frontends together that are not over,
	// 1..2^31-1. 0 means 2,000,000, as of an Azure NAT gateway. A closed connection
	// that is opened again on its port is not refused.
	MaxFlows int
}

// The defaults of Shared: Azure NAT gateway, NAT gateway resource.
const (
	DefaultFirstPort           = 1024
	DefaultLastPort            = 65535
	DefaultFlowsPerDestination = 50_000
	DefaultMaxFlows            = 2_000_000
)

// same reports whether two configurations share the same ports in the same way.
func (c *Shared) same(o *Shared) bool {
	is, was := c.withDefaults(), o.withDefaults()
	frontends := slices.Equal(is.Frontends, was.Frontends)
	is.Frontends, was.Frontends = nil, nil
	return frontends && reflect.DeepEqual(is, was)
}

// withDefaults returns c with every zero field filled in.
func (c Shared) withDefaults() Shared {
	if c.FirstPort == 0 {
		c.FirstPort = DefaultFirstPort
	}
	if c.LastPort == 0 {
		c.LastPort = DefaultLastPort
	}
	if c.Choice == DefaultPort {
		c.Choice = RandomPort
	}
	if c.FlowsPerDestination == 0 {
		c.FlowsPerDestination = DefaultFlowsPerDestination
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = DefaultMaxFlows
	}
	return c
}
