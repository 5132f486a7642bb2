package snat

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/rendezvous"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/hop"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// What a configuration means to the dataplane. rules.go says what it means to those who
// hand ports out, tell.go to whom it tells what happens.

// Constants of a configuration and of the packages that carry it out have the same numbers.
var (
	_ = [1]struct{}{}[Blackhole-RouteAction(addresses.Blackhole)]
	_ = [1]struct{}{}[NodeAddress-RouteAction(addresses.NodeAddress)]
	_ = [1]struct{}{}[SourceIPProtocol-Distribution(rendezvous.SourceIPProtocol)]
	_ = [1]struct{}{}[uint8(FiveTuple)-uint8(rendezvous.FiveTuple)|uint8(SourceIP)-uint8(rendezvous.SourceIP)]
	_ = [1]struct{}{}[TargetGone-TargetState(forwards.Gone)]
	_ = [1]struct{}{}[uint8(TargetUp)-uint8(forwards.Up)|uint8(TargetDown)-uint8(forwards.Down)]
	_ = [1]struct{}{}[CutTarget-CutCause(counters.CutTarget)]
	_ = [1]struct{}{}[NumCutCauses-CutCause(counters.NumCutCauses)]
	_ = [1]struct{}{}[ResetSender-ResetUnknown(resets.Sender)]
	_ = [1]struct{}{}[RefreshOutbound-UDPRefresh(udp.Outbound)]
)

// shards returns how many shards a translator begins with: as many as it is asked for, and as there
// are different policies.
func (s *settings) shards() int {
	return max(cmp.Or(s.Shards, flow.DefaultShards), len(s.policies()))
}

// fixed compiles what never changes.
func (s *settings) fixed(shards int) compiled.Fixed {
	i, fragments := &s.ICMP, s.Fragments.rules()
	f := compiled.Fixed{
		Shards: shards, HashKey: s.HashKey, Seed: s.Seed,
		Lenient: headers.Leniency(s.Lenient), PerConnection: s.TCP.Filtering == PerConnectionFiltering, Hairpin: s.Hairpin,
		Holders:       s.CountHolders.rules(shards),
		AlarmInterval: cmp.Or(s.Log.AlarmInterval, alarmInterval),
		Messages:      i.rules(), PublicICMP: i.PublicAddrs, Fragments: fragments, MaxSYNs: s.HoldSYN.Max, HoldSYN: cmp.Or(s.HoldSYN.Wait, minHoldSYN),
		Hop: hop.Config{
			CountsDown: i.TTL == TTLRouter, MTU: i.MTU, Problems: i.Problems, ProtocolUnreachable: i.ProtocolUnreachable,
			Refusal: [numRefusals]*icmp.Report{RefuseHostUnreachable: &icmp.HostUnreachable, RefuseProhibited: &icmp.Prohibited}[i.Refusals],
		},
		// Quotes of fragments can be translated where both are carried.
		Routed:    i.TTL != TTLTransparent || i.MTU > 0 || i.Problems || i.ProtocolUnreachable || i.Errors && fragments.Carried,
		Silent:    [2]bool{flow.Inside: i.SilentInside, flow.Outside: i.SilentOutside},
		ErrorRate: cmp.Or(i.ErrorRate, defaultErrorRate), ErrorBurst: cmp.Or(i.ErrorBurst, defaultErrorRate),
	}
	for _, a := range i.RouterAddrs {
		f.RouterAddrs[flow.Family(a)] = ports.Packed(a)
	}
	if s.shared != nil {
		shared := s.shared.compiled(i.Queries)
		f.Shared = &shared
	}
	return f
}

// compiled compiles n.config, which takes the place of was, except for what never changes.
// Lists of ports that both share are compiled already. The caller holds control, or has n for
// itself.
func (n *NAT) compiled(was *settings) compiled.Config {
	s := &n.config
	all := s.policies()
	c := compiled.Config{
		Policies: make([]compiled.Policy, len(all)), Instances: make([]compiled.Instance, len(s.Instances)),
		Routes: destinations(s.Routes), Forwards: make([]compiled.Forward, len(s.Forwards)),
		Ports: s.rules(), Exclusions: s.Allocation.exclusions(),
		DistributionKey: s.DistributionKey, ReclaimGrace: s.ReclaimGrace, CountTraffic: s.CountTraffic,
		Admit: admission(s.Admit), RememberEntries: s.RememberEntries, Hooks: n.hooks(),
	}
	index := func(p *Policy) int {
		if p == nil {
			return 0
		}
		return slices.Index(all, *p)
	}
	for i := range all {
		c.Policies[i] = all[i].compiled()
	}
	known := make(map[*PortRange][]compiled.Grant, len(was.Instances)) // by the first element of a list
	for i := range was.Instances {
		if all := was.Instances[i].Ports; len(all) > 0 {
			known[&all[0]] = n.grants[i]
		}
	}
	n.grants = make([][]compiled.Grant, len(s.Instances))
	for i := range s.Instances {
		inst := &s.Instances[i]
		if len(inst.Ports) > 0 {
			n.grants[i] = known[&inst.Ports[0]]
		}
		if n.grants[i] == nil {
			n.grants[i] = grantsOf(inst.Ports)
		}
		c.Instances[i] = compiled.Instance{
			Name: inst.Name, Realm: inst.Realm, Addrs: inst.Addrs, PublicAddrs: inst.PublicAddrs, Inside: inst.Inside,
			Ports: n.grants[i], Deterministic: inst.Deterministic, Policy: index(inst.Policy),
		}
	}
	for i := range s.Forwards {
		f := &s.Forwards[i]
		c.Forwards[i] = f.compiled()
		c.Forwards[i].Policy = index(f.Policy)
	}
	return c
}

// grantsOf compiles ports.
func grantsOf(ranges []PortRange) []compiled.Grant {
	grants := make([]compiled.Grant, len(ranges))
	for i, r := range ranges {
		grants[i] = compiled.Grant{Frontend: r.Frontend, TCP: r.Protocol != UDP, UDP: r.Protocol != TCP, First: r.First, Count: r.Count}
	}
	return grants
}

// compiled compiles a policy.
func (p *Policy) compiled() compiled.Policy {
	t := p.timeouts()
	c := compiled.Policy{
		Timeouts: t, ResetIdle: p.EnableTCPReset, AnswerSYN: p.ResetSYN != ResetNone, PickUp: p.PickUp,
		EndRefused: p.EndRefused, TCPRules: p.TCPRules,
		Resets: resets.Rules{Unknown: resets.Who(p.ResetUnknown), SYN: resets.Who(p.ResetSYN), Rate: p.ResetRate, Burst: p.ResetBurst},
		UDP:    udp.Rules{Refresh: udp.Refresh(p.UDPRefresh), RepliedSooner: t.UDPReplied < t.UDP},
	}
	for i, row := range p.UDPPorts {
		c.UDP.Ports[i] = udp.Port(row)
	}
	return c
}

// compiled compiles a forward, except for its policy.
func (f *Forward) compiled() compiled.Forward {
	c := compiled.Forward{Instances: make([]string, len(f.Targets))}
	c.Addr, c.TCP, c.UDP = f.Frontend, f.Protocol != UDP, f.Protocol != TCP
	c.First, c.Last = f.ports()
	c.Fields, c.Floating, c.FromInside = rendezvous.Fields(f.Distribution), f.Floating, f.FromInside
	c.Targets = make([]forwards.Target, len(f.Targets))
	for j := range f.Targets {
		t := &f.Targets[j]
		c.Instances[j] = t.Instance
		c.Targets[j] = forwards.Target{
			Addr: ports.Packed(t.Addr), Port: t.Port, State: forwards.State(t.State),
			Name: rendezvous.Name(t.Instance + " " + t.Addr.String()),
		}
	}
	return c
}

// rules compiles what becomes of fragments.
func (c Fragments) rules() compiled.FragmentRules {
	limits := c.filled()
	return compiled.FragmentRules{
		Carried: c.Mode != FragmentsDropped, UDPOnly: c.Mode == FragmentsUDP, ForwardedOnly: c.Mode == FragmentsForwarded,
		Limits: fragments.Limits{
			Lifetime: flow.Time(limits.Lifetime), MaxDatagrams: limits.MaxDatagrams, MaxPerSource: limits.MaxPerSource,
			MaxPerDatagram: limits.MaxPerDatagram, MaxQueuedBytes: limits.MaxQueuedBytes,
		},
	}
}

// destinations returns what rows are to package addresses.
func destinations(rows []Route) []addresses.Row {
	all := make([]addresses.Row, len(rows))
	for i := range rows {
		all[i] = rows[i].row()
	}
	return all
}

// row returns what r is to package addresses.
func (r *Route) row() addresses.Row {
	row := addresses.Row{Row: prefixes.Row{Prefix: r.Prefix, First: r.FirstPort, Last: r.LastPort}, Action: addresses.Action(r.Action), BothWays: r.BothWays, PassOn: r.PassOn}
	switch r.Protocol {
	case TCP:
		row.Proto = wire.ProtoTCP
	case UDP:
		row.Proto = wire.ProtoUDP
	}
	return row
}
