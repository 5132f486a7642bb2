package snat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
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
			v.add("Instances[%d].Ports: %d ranges: %w", i, n, ErrShared)
		}
		if c.Instances[i].Policy != nil {
			v.add("Instances[%d].Policy: %w", i, ErrShared)
		}
	}
	var families [2]int
	for i, a := range inv.Frontends {
		if !flow.IsHost(a) {
			v.add("Ports.Frontends[%d] %v: %w", i, a, ErrAddress)
			continue
		}
		families[family(a)]++
		if slices.Index(inv.Frontends, a) < i {
			v.add("Ports.Frontends[%d] %v: %w", i, a, ErrOwned)
		}
		for j := range c.Instances {
			if inst := &c.Instances[j]; slices.Contains(inst.Addrs, a) || slices.Contains(inst.PublicAddrs, a) ||
				slices.ContainsFunc(inst.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
				v.add("Ports.Frontends[%d] %v: %w: Instances[%d]", i, a, ErrOverlap, j)
			}
		}
	}
	if n := max(families[0], families[1]); len(inv.Frontends) == 0 || n > ports.MaxSharedFrontends {
		v.add("Ports.Frontends: %d addresses: %w: 1..%d of each family", n, ErrOutOfRange, ports.MaxSharedFrontends)
	}
	if d := inv.withDefaults(); d.FirstPort > d.LastPort {
		v.add("Ports.FirstPort %d: %w: at most LastPort %d", d.FirstPort, ErrOutOfRange, d.LastPort)
	}
	if inv.Choice >= numPortChoices || inv.Choice == LowestPort {
		v.add("Ports.Choice %d: %w: 0..%d without LowestPort (%d)", inv.Choice, ErrOutOfRange, numPortChoices-1, LowestPort)
	}
	if n := inv.FlowsPerDestination; n < 0 || n > 65536 {
		v.add("Ports.FlowsPerDestination %d: %w: 0..65536", n, ErrOutOfRange)
	}
	if n := inv.MaxFlows; n < 0 || n > math.MaxInt32 {
		v.add("Ports.MaxFlows %d: %w: 0..%d", n, ErrOutOfRange, math.MaxInt32)
	}
}

// unheld complains about a hold of UDP ports that nobody would see to.
func (v *validation) unheld(prefix string, p *Policy) {
	if p.Timeouts.UDPHeld != 0 {
		v.add("%sTimeouts.UDPHeld %v: %w: it needs Shared ports", prefix, p.Timeouts.UDPHeld, ErrOutOfRange)
	}
}
