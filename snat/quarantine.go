package snat

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Quarantine keeps a port of an instance that has lost its last session from
// everybody for a while, so that late packets for its old owner do not reach a
// new one (RFC 6888 REQ-8). Azure only keeps a port from the destinations of
// closed connections, which Policy.Timeouts says: a port in quarantine has served
// those holds. The default is none. A resting port counts as used
// ([PortUses].Resting).
type Quarantine struct {
	// Hold is how long a port rests, in whole milliseconds, at most 24 days. 0
	// means not at all; RFC 6888 asks for 120 s.
	Hold time.Duration

	// MaxPorts is how many ports of an instance may rest at once, for each family
	// and protocol: 1..516,096. One more sets the one free that was freed first. 0
	// means no limit.
	MaxPorts int

	// ExemptTCP lets TCP ports be used again at once, which RFC 6888 REQ-8 A
	// permits to those who track connections, as we do.
	ExemptTCP bool
}

// exclusions lays out what is excluded. Cost: O(n log n).
func (a *Allocation) exclusions() *ports.Exclusions {
	x := &ports.Exclusions{}
	for protocol := range x {
		x[protocol] = map[netip.Addr][]flow.PortSpan{}
		for _, e := range a.Exclude {
			if of := Protocol(protocol) + TCP; of == e.Protocol || e.Protocol == All && of != Query {
				x[protocol][e.Frontend] = append(x[protocol][e.Frontend], flow.PortSpan{First: e.First, Last: cmp.Or(e.Last, e.First)})
			}
		}
		for f, spans := range x[protocol] {
			slices.SortFunc(spans, func(a, b flow.PortSpan) int { return int(a.First) - int(b.First) })
			merged := spans[:1]
			for _, s := range spans[1:] {
				if last := &merged[len(merged)-1]; s.First <= last.Last {
					last.Last = max(last.Last, s.Last)
				} else {
					merged = append(merged, s)
				}
			}
			x[protocol][f] = merged
		}
	}
	return x
}
