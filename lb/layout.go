// Layout: what a plan gives to one backend, out of what is dealt in each protocol and family.

package lb

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/grants"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Allocation is what one backend got.
type Allocation struct {
	Instance string // Backend.Name

	// Ports are the granted ranges in the order of consumption: IPv4 before IPv6,
	// rule by rule, frontend by frontend, ascending. Where TCP and UDP have the
	// same ranges in a family they are one range of protocol snat.All; otherwise
	// all for TCP come before those for UDP.
	Ports []snat.PortRange
}

// Total returns the number of ports of protocol p, TCP or UDP, in one family.
func (a Allocation) Total(p snat.Protocol, is6 bool) (ports int) {
	for _, r := range a.Ports {
		if covers(r.Protocol, p) && r.Frontend.Is6() == is6 {
			ports += r.Count
		}
	}
	return ports
}

// keptAll reports whether a backend keeps all that it has.
func keptAll(granted *[flow.NumFamilies][2][]grants.Granted, backend int) bool {
	for family := range granted {
		for _, g := range granted[family] {
			if !g[backend].Kept {
				return false
			}
		}
	}
	return true
}

// ranges returns what a backend that had ranges gets in a protocol and family.
func ranges(g *grants.Granted, had []snat.PortRange, p snat.Protocol, is6 bool) []snat.PortRange {
	if !g.Kept {
		return g.Ranges
	}
	var kept []snat.PortRange
	for _, r := range had {
		if covers(r.Protocol, p) && r.Frontend.Is6() == is6 {
			r.Protocol = snat.All
			kept = append(kept, r)
		}
	}
	return kept
}

// merge joins the ranges of both protocols of one backend and family.
func merge(tcp, udp []snat.PortRange) []snat.PortRange {
	if slices.Equal(tcp, udp) {
		return withProtocol(tcp, snat.All)
	}
	return append(withProtocol(tcp, snat.TCP), withProtocol(udp, snat.UDP)...)
}

func withProtocol(ranges []snat.PortRange, p snat.Protocol) []snat.PortRange {
	for i := range ranges {
		ranges[i].Protocol = p
	}
	return ranges
}
