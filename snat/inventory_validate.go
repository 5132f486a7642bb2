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

// What is checked of Shared ports, and of what must not stand beside them.

// inventory checks c's Shared ports.
func (v *validation) inventory(c *settings) {
	inv := c.shared
	if inv == nil {
		v.unheld("", &c.Policy)
		for i := range c.Instances {
			if p := c.Instances[i].Policy; p != nil {
				v.unheld(fmt.Sprintf("Instances[%d].Policy.", i), p)
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

// unheld complains about a hold of UDP ports that nobody would see to.
func (v *validation) unheld(prefix string, p *Policy) {
	if p.Timeouts.UDPHeld != 0 {
		v.Add(prefix+"Timeouts.UDPHeld", p.Timeouts.UDPHeld, flow.ErrOutOfRange, "it needs Shared ports")
	}
}
