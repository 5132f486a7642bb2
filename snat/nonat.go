package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Rows of the destination table that are narrower than a prefix, and what they
// leave untranslated. Read RFC 6888 section 3 (REQ-6) first.

// effect is what a row of the destination table means for what it is for.
type effect struct {
	action   RouteAction
	bothWays bool
	anyPort  bool // it is for all ports, and for no ports too
}

// translated is the effect for destinations without a row.
var translated = effect{action: Translate}

// untranslated reports whether a packet passes as it is although its ports are
// not known.
func (e *effect) untranslated() bool { return e.bothWays && e.anyPort }

// row returns what the row is for, and what it means.
func (r *Route) row() (prefixes.Row, effect) {
	row := prefixes.Row{Prefix: r.Prefix, First: r.FirstPort, Last: r.LastPort}
	switch {
	case r.FirstPort == 0:
		row.Last = 65535
	case r.LastPort == 0:
		row.Last = r.FirstPort
	}
	switch r.Protocol {
	case TCP:
		row.Proto = wire.ProtoTCP
	case UDP:
		row.Proto = wire.ProtoUDP
	}
	return row, effect{action: r.Action, bothWays: r.BothWays, anyPort: r.FirstPort == 0}
}

// precedence orders rows with the same prefix: the higher comes first.
func (r *Route) precedence() (n int) {
	if r.FirstPort != 0 {
		n += 2
	}
	if r.Protocol != All {
		n++
	}
	return n
}

// remotePort returns the remote's port in a packet from a side; 0 if it has none,
// or not every fragment of it.
func remotePort(p *wire.Packet, from flow.Side) uint16 {
	if p.Flags&wire.Fragmented != 0 || p.Proto != wire.ProtoTCP && p.Proto != wire.ProtoUDP {
		return 0
	}
	ports := p.Ports()
	if from == flow.Outside {
		ports >>= 16
	}
	return uint16(ports)
}

// untranslated returns the instance that an inbound packet reaches as it is, by a
// row that works both ways, or nil. The lane's addresses must have been read.
func (r *routes) untranslated(l *lane) *instance {
	t := addresses(&l.p, flow.Outside)
	port := int32(-1)
	if l.p.Flags&wire.Fragmented == 0 {
		port = int32(remotePort(&l.p, flow.Outside))
	}
	if e := r.effect(&t, port); !e.bothWays || port < 0 && !e.untranslated() {
		return nil
	}
	packed := r.homeOf(&t)
	if packed == 0 || r.unsolicited(l) != flow.ReasonNoFlow {
		return nil
	}
	index, _ := unpack(packed)
	return r.instances[index]
}

// bypass counts a packet that needs no lock and passes as it is.
func (inst *instance) bypass(from flow.Side) flow.Verdict {
	inst.direct.bypassed[from].Add(1)
	return flow.Verdict{Action: flow.Bypass, To: from ^ 1, Instance: inst.Index}
}
