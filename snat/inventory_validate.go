package snat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// What is checked of an Inventory, and of what must not stand beside it.

// inventory checks c's Inventory.
func (v *validation) inventory(c *Config) {
	inv := c.Inventory
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
			v.add("Instances[%d].Ports: %d ranges: %w", i, n, ErrInventory)
		}
		if c.Instances[i].Policy != nil {
			v.add("Instances[%d].Policy: %w", i, ErrInventory)
		}
	}
	if c.TCP != (Behavior{}) {
		v.add("TCP %+v: %w", c.TCP, ErrInventory)
	}
	if c.UDP != (Behavior{}) {
		v.add("UDP %+v: %w", c.UDP, ErrInventory)
	}
	var families [2]int
	for i, a := range inv.Frontends {
		if !flow.IsHost(a) {
			v.add("Inventory.Frontends[%d] %v: %w", i, a, ErrAddress)
			continue
		}
		families[family(a)]++
		if slices.Index(inv.Frontends, a) < i {
			v.add("Inventory.Frontends[%d] %v: %w", i, a, ErrOwned)
		}
		for j := range c.Instances {
			if inst := &c.Instances[j]; slices.Contains(inst.Addrs, a) || slices.Contains(inst.PublicAddrs, a) ||
				slices.ContainsFunc(inst.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
				v.add("Inventory.Frontends[%d] %v: %w: Instances[%d]", i, a, ErrOverlap, j)
			}
		}
	}
	if n := max(families[0], families[1]); len(inv.Frontends) == 0 || n > maxInventoryFrontends {
		v.add("Inventory.Frontends: %d addresses: %w: 1..%d of each family", n, ErrOutOfRange, maxInventoryFrontends)
	}
	if d := inv.withDefaults(); d.FirstPort > d.LastPort {
		v.add("Inventory.FirstPort %d: %w: at most LastPort %d", d.FirstPort, ErrOutOfRange, d.LastPort)
	}
	if inv.Choice >= numPortChoices || inv.Choice == LowestPort {
		v.add("Inventory.Choice %d: %w: 0..%d without LowestPort (%d)", inv.Choice, ErrOutOfRange, numPortChoices-1, LowestPort)
	}
	if n := inv.FlowsPerDestination; n < 0 || n > 65536 {
		v.add("Inventory.FlowsPerDestination %d: %w: 0..65536", n, ErrOutOfRange)
	}
	if n := inv.MaxFlows; n < 0 || n > math.MaxInt32 {
		v.add("Inventory.MaxFlows %d: %w: 0..%d", n, ErrOutOfRange, math.MaxInt32)
	}
}

// unheld complains about a hold of UDP ports that nobody would see to.
func (v *validation) unheld(prefix string, p *Policy) {
	if p.Timeouts.UDPHeld != 0 {
		v.add("%sTimeouts.UDPHeld %v: %w: it needs an Inventory", prefix, p.Timeouts.UDPHeld, ErrOutOfRange)
	}
}
