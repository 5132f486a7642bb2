package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Rows of the destination table that are narrower than a prefix, and what they
// leave untranslated. Read RFC 6888 section 3 (REQ-6) first.

// rule is what a row of the destination table says besides its prefix.
type rule struct {
	first, last uint16 // ports; 0 and 65535 are all, and no ports too
	proto       uint8  // 0 is any
	action      RouteAction
	bothWays    bool
}

// translated is the row for destinations without one.
var translated = rule{action: Translate}

// covers reports whether a row is for a protocol and port; see routes.rule.
func (u *rule) covers(proto uint8, port int32) bool {
	return (u.proto == 0 || u.proto == proto) && (port < 0 || uint16(port) >= u.first && uint16(port) <= u.last)
}

// untranslated reports whether a packet passes as it is although its ports are
// not known.
func (u *rule) untranslated() bool { return u.bothWays && u.first == 0 }

// rule returns the row without its prefix.
func (r *Route) rule() rule {
	u := rule{first: r.FirstPort, last: r.LastPort, action: r.Action, bothWays: r.BothWays}
	switch {
	case r.FirstPort == 0:
		u.last = 65535
	case r.LastPort == 0:
		u.last = r.FirstPort
	}
	switch r.Protocol {
	case TCP:
		u.proto = wire.ProtoTCP
	case UDP:
		u.proto = wire.ProtoUDP
	}
	return u
}

// special orders rows with the same prefix: the higher comes first.
func (r *Route) special() (n int) {
	if r.FirstPort != 0 {
		n += 2
	}
	if r.Protocol != All {
		n++
	}
	return n
}

// route checks what narrows a row.
func (v *validation) route(i int, r *Route) {
	if r.Protocol > UDP {
		v.add("Routes[%d].Protocol %d: %w: 0..%d", i, r.Protocol, ErrOutOfRange, UDP)
	}
	if r.LastPort != 0 && (r.FirstPort == 0 || r.FirstPort > r.LastPort) {
		v.add("Routes[%d].FirstPort %d: %w: 1..%d, LastPort", i, r.FirstPort, ErrOutOfRange, r.LastPort)
	}
	if r.BothWays && r.Action != PassThrough {
		v.add("Routes[%d].BothWays %v: %w: only with PassThrough", i, r.BothWays, ErrOutOfRange)
	}
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
	if u := r.rule(&t, port); !u.bothWays || port < 0 && !u.untranslated() {
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
	return flow.Verdict{Action: flow.Bypass, To: from ^ 1, Instance: inst.index}
}
