package snat

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// What a configuration means to those who hand ports out.

// The choices of a configuration and of the packages that carry them out have the same numbers,
// and port blocks one size.
var (
	_ = [1]struct{}{}[PreservePort-PortChoice(ports.Preserve)]
	_ = [1]struct{}{}[RequireClass-PortClass(ports.RequireClass)]
	_ = [1]struct{}{}[Arbitrary-Pooling(ports.Arbitrary)]
	_ = [1]struct{}{}[PerConnection-Mapping(ports.PerConnection)]
	_ = [1]struct{}{}[ShareNever-PortShare(ports.Exclusive)]
	_ = [1]struct{}{}[BlockSize-ports.BlockSize]
)

// rules compiles what s says of ports.
func (s *settings) rules() ports.Rules {
	a := &s.Allocation
	return ports.Rules{
		Behaviors: s.behaviors(),
		Choice:    ports.Choice(a.Choice), Parity: a.Parity, Class: ports.Class(a.Class), Pooling: ports.Pooling(a.Pooling),
		Quarantine: ports.Quarantine(a.Quarantine), Excludes: len(a.Exclude) > 0,
		SubscriberBlockSize: s.Blocks.Size, BlocksPerSubscriber: s.Blocks.PerSubscriber,
		Limits: subscribers.Limits(s.Limits), Deterministic: s.deterministic(),
		RandomIDs: s.ICMP.RandomIDs, Seed: s.Seed,
	}
}

// compiled returns the shared ports that c means; queries says that there are
// identifiers.
func (c Shared) compiled(queries bool) ports.Shared {
	c = c.withDefaults()
	return ports.Shared{
		Frontends: c.Frontends, FirstPort: c.FirstPort, LastPort: c.LastPort, Choice: ports.Choice(c.Choice),
		FlowsPerDestination: c.FlowsPerDestination, MaxFlows: c.MaxFlows, Queries: queries,
	}
}

// behaviors returns what s says of TCP, UDP and queries; it is the same for every
// configuration of a NAT.
func (s *settings) behaviors() (all [ports.NumPools]ports.Behavior) {
	flowByFlow := Behavior{AddressAndPortDependent, AddressAndPortDependentFiltering, SharePerDestination}
	query := Behavior{EndpointIndependent, AddressAndPortDependentFiltering, ShareNever}
	if s.ICMP.QueryPerDestination {
		query = flowByFlow
	}
	for protocol, b := range [ports.NumPools]Behavior{ports.TCPIndex: s.TCP, ports.UDPIndex: s.UDP, ports.QueryIndex: query} {
		b = b.filled(protocol)
		if s.shared != nil {
			b = flowByFlow
		}
		of := ports.Behavior{
			Mapping: ports.Mapping(b.Mapping), Sharing: ports.Sharing(b.Share), Claim: ports.Sharing(b.Share),
			Opens: b.Filtering <= AddressDependentFiltering,
		}
		of.PerFlow = b.Mapping >= AddressAndPortDependent && !of.Opens && b.Share == SharePerDestination
		if b.Share == ShareNever && b.Filtering == AddressDependentFiltering {
			of.Claim = ports.PerAddress
		}
		all[protocol] = of
	}
	return all
}

// exclusions lays out what is excluded. Cost: O(n log n).
func (a *Allocation) exclusions() *ports.Exclusions {
	x := &ports.Exclusions{}
	for protocol := range x {
		for _, e := range a.Exclude {
			if x[protocol] == nil {
				x[protocol] = map[netip.Addr][]flow.PortSpan{}
			}
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
