package snat_test

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
)

// modelMapping is an inside socket and as much of a remote as its mapping is for:
// what Mapping says, or if the port of that was another's, the scope of sharing.
type modelMapping struct {
	inside, peer netip.AddrPort
	apart        bool
	anchor       *modelFlow // the last one from inside, while it lives
}

// anchor is what becomes of a flow that begins outside, and of its mapping.
func (m *model) anchor(from flow.Side, f *modelFlow) {
	b := m.behavior(f.proto)
	if f.mapping == nil || b.Filtering > snat.AddressDependentFiltering {
		return
	}
	a := f.mapping.anchor
	if from == flow.Inside || a == nil || a.tombstone() || !slices.Contains(m.flows, a) {
		f.mapping.anchor = f
		return
	}
	if f.proto == protoUDP && m.refresh[m.policyOf(f)] == snat.RefreshEither {
		return
	}
	if late := m.deadline(f) - m.deadline(a); late > 0 {
		f.last -= late
		f.heard[flow.Inside] = f.last
	}
}

// modelBehavior is a Behavior without zero fields.
type modelBehavior snat.Behavior

// behavior returns what the configuration means for a protocol.
func (m *model) behavior(proto uint8) modelBehavior {
	b, usual := ownedOf(m.config).UDP, snat.Behavior{Mapping: snat.EndpointIndependent, Share: snat.SharePerAddress}
	if proto == protoTCP {
		b, usual = ownedOf(m.config).TCP, snat.Behavior{Mapping: snat.AddressAndPortDependent, Share: snat.SharePerDestination}
	}
	if b.Mapping == snat.DefaultMapping {
		b.Mapping = usual.Mapping
	}
	if b.Share == snat.DefaultShare {
		b.Share = usual.Share
	}
	if b.Filtering == snat.DefaultFiltering {
		b.Filtering = snat.AddressAndPortDependentFiltering
	}
	return modelBehavior(b)
}

// peer returns as much of a remote as a mapping is for.
func (b modelBehavior) peer(remote netip.AddrPort) netip.AddrPort {
	switch b.Mapping {
	case snat.EndpointIndependent:
		return netip.AddrPort{}
	case snat.AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// scope returns as much of a remote as matters for sharing a port.
func (b modelBehavior) scope(remote netip.AddrPort) netip.AddrPort {
	switch b.Share {
	case snat.SharePerAddress:
		return netip.AddrPortFrom(remote.Addr(), 0)
	case snat.SharePerDestination:
		return remote
	}
	return netip.AddrPort{}
}

// mapped looks for a flow on the mapping that want names.
func (m *model) mapped(proto uint8, want modelMapping) *modelFlow {
	for _, g := range m.flows {
		if g.proto == proto && !g.atNode && !g.tombstone() && g.mapping.inside == want.inside && g.mapping.peer == want.peer && g.mapping.apart == want.apart {
			return g
		}
	}
	return nil
}

// openInbound begins a flow with a packet from outside that belongs to none, or
// says why not.
func (m *model) openInbound(now flow.Time, p packet) (*modelFlow, flow.Reason) {
	b := m.behavior(p.proto)
	if sharedOf(m.config) != nil || p.proto == protoTCP && p.flags&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN {
		return nil, flow.ReasonNoFlow
	}
	var of *modelFlow
	used := false
	for _, g := range m.flows {
		if g.proto != p.proto || g.atNode || g.tombstone() || g.outside != p.dst {
			continue
		}
		used = true
		if b.Filtering == snat.EndpointIndependentFiltering || b.Filtering == snat.AddressDependentFiltering && g.remote.Addr() == p.src.Addr() {
			of = g
		}
	}
	switch {
	case !used:
		return nil, flow.ReasonNoFlow
	case of == nil:
		return nil, flow.ReasonFiltered
	case p.proto == protoTCP && p.corrupt:
		return nil, flow.ReasonL4Checksum
	case m.route(p.src, p.proto).Action == snat.Blackhole:
		return nil, flow.ReasonRoute
	}
	f := &modelFlow{instance: of.instance, proto: p.proto, inside: of.inside, outside: of.outside, remote: p.src, mapping: of.mapping, until: of.until}
	if i := slices.IndexFunc(m.flows, func(g *modelFlow) bool {
		return g.proto == f.proto && g.inside == f.inside && g.remote == f.remote && g.forward == 0
	}); i >= 0 {
		if !m.flows[i].tombstone() {
			return nil, flow.ReasonMappingConflict
		}
	}
	if reason := m.admits(flow.Outside, f); reason != flow.ReasonNone {
		return nil, reason
	}
	m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool {
		return g.proto == f.proto && g.inside == f.inside && g.remote == f.remote && g.forward == 0
	})
	if own := m.own(f.instance, f.inside.Addr()); own.IsValid() && len(m.config.Instances[f.instance].Inside) > 0 {
		f.nodePort = m.nodePort(f)
	}
	m.clear(f)
	m.begin(now, flow.Outside, f, p)
	m.evict(f)
	return f, flow.ReasonNone
}

// evict ends the oldest half-open connection that strangers have begun with the host of
// one, if it has more than it may.
func (m *model) evict(f *modelFlow) {
	all := slices.DeleteFunc(slices.Clone(m.flows), func(g *modelFlow) bool {
		return g.proto != protoTCP || g.instance != f.instance || g.inside.Addr() != f.inside.Addr() || g.over() || g.asIs ||
			g.track.Class != flow.ClassTCPOpening || g.track.Initiator() != flow.Outside
	})
	if l := ownedOf(m.config).Limits.HalfOpen; f.proto == protoTCP && l > 0 && len(all) > l {
		m.flows = slices.DeleteFunc(m.flows, func(g *modelFlow) bool { return g == all[0] })
		m.stats.Evicted++
		m.stats.SessionsEnded++
	}
}

// behavior picks any combination of mapping, filtering and sharing that is valid.
func (s *script) behavior() snat.Behavior {
	b := snat.Behavior{
		Mapping:   pick(s, snat.DefaultMapping, snat.EndpointIndependent, snat.AddressDependent, snat.AddressAndPortDependent, snat.PerConnection),
		Filtering: pick(s, snat.DefaultFiltering, snat.EndpointIndependentFiltering, snat.AddressDependentFiltering, snat.AddressAndPortDependentFiltering, snat.PerConnectionFiltering),
		Share:     pick(s, snat.DefaultShare, snat.SharePerAddress, snat.SharePerDestination, snat.ShareNever),
	}
	switch b.Filtering {
	case snat.EndpointIndependentFiltering:
		b.Share = snat.ShareNever
	case snat.AddressDependentFiltering:
		b.Share = pick(s, snat.ShareNever, snat.SharePerAddress)
	}
	return b
}

// hairpins reports whether a packet from the inside comes back to it.
func (m *model) hairpins(p packet) bool {
	i, dst := m.instanceOf(p.src.Addr()), p.dst.Addr()
	if !ownedOf(m.config).Hairpin || i < 0 || m.own(i, dst) == p.src.Addr() && m.public(i, dst).IsValid() {
		return false
	}
	return m.isFrontend(dst) && !m.isPublic(dst) && m.route(p.dst, p.proto).Action == snat.Translate
}
