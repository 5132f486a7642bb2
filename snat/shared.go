package snat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Shared ports, as they are configured; what is checked of them, and of what must not
// stand beside them.

// Shared says that all instances share the outside ports and take them on demand, as
// those of an Azure NAT gateway. TCP and UDP have separate ports, and queries of
// ICMP, if they are carried, identifiers of the same numbers. Every flow is mapped
// on its own and may share its port with flows whose remote address or port
// differs, or of queries the address. A UDP session that has ended holds its port for
// Timeouts.UDPHeld: its socket, too, gets another one towards the same remote.
//
// What is an instance's alone must not be set: its Ports, its Policy, its
// Deterministic. Of ICMP, QueryPerDestination and RandomIDs must not be either, and
// [NAT.Reconfigure] always fails.
//
// Memory: 12 bytes for each port of each protocol, as far as it has been used.
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

// shared checks c's Shared ports.
func (v *validation) shared(c *settings) {
	inv := c.shared
	if inv == nil {
		v.Include("Timeouts", c.ValidateTimeouts(c.Timeouts))
		for i := range c.Instances {
			if p := c.Instances[i].Policy; p != nil {
				v.Include(fmt.Sprintf("Instances[%d].Policy.Timeouts", i), c.ValidateTimeouts(p.Timeouts))
			}
		}
		return
	}
	for i := range c.Instances {
		if n := len(c.Instances[i].Ports); n > 0 {
			v.Add(fmt.Sprintf("Instances[%d].Ports", i), problems.Rawf("has %d ranges", n), ErrShared, "")
		}
		if c.Instances[i].Policy != nil {
			v.Add(fmt.Sprintf("Instances[%d].Policy", i), problems.None, ErrShared, "")
		}
	}
	var families [2]int
	for i, a := range inv.Frontends {
		if !flow.IsHost(a) {
			v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, flow.ErrAddress, "")
			continue
		}
		families[flow.Family(a)]++
		if slices.Index(inv.Frontends, a) < i {
			v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, ErrOwned, "")
		}
		for j := range c.Instances {
			if inst := &c.Instances[j]; slices.Contains(inst.Addrs, a) || slices.Contains(inst.PublicAddrs, a) ||
				slices.ContainsFunc(inst.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
				v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, flow.ErrOverlap, "with Instances[%d]", j)
			}
		}
	}
	if n := max(families[0], families[1]); len(inv.Frontends) == 0 || n > ports.MaxSharedFrontends {
		v.Add("Ports.Frontends", problems.Rawf("has %d addresses", n), flow.ErrOutOfRange, "1..%d of each family", ports.MaxSharedFrontends)
	}
	if d := inv.withDefaults(); d.FirstPort > d.LastPort {
		v.Add("Ports.FirstPort", d.FirstPort, flow.ErrOutOfRange, "at most LastPort %d", d.LastPort)
	}
	if inv.Choice >= numPortChoices || inv.Choice == LowestPort {
		v.Add("Ports.Choice", uint8(inv.Choice), flow.ErrOutOfRange, "0..%d without LowestPort (%d)", numPortChoices-1, LowestPort)
	}
	problems.Between(&v.List, "Ports.FlowsPerDestination", inv.FlowsPerDestination, 0, 65536)
	problems.Between(&v.List, "Ports.MaxFlows", inv.MaxFlows, 0, math.MaxInt32)
}
