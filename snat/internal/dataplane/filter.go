package dataplane

// Sessions that begin outside. Read RFC 4787 section 5, RFC 5382 section 5 and
// RFC 7857 sections 6 and 7 first.
//
// A packet from outside that belongs to no session may begin one if its port has
// a mapping whose filter admits its source. The mapping is found by its claim on
// the port, in one look-up: claims are as fine as the filter needs (Claim in
// rules.go of package ports), and there is one exactly where the mapping has a
// session. A packet that is refused changes nothing.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// openInbound lets an inbound packet without a session begin one and translates
// it, or says why not, and whether it is Config.Admit that refuses.
func (sh *shard) openInbound(m *moment, l *lane, v *flow.Verdict) (reason flow.Reason, refused bool) {
	if sh.nat.ports.ByRemote() {
		return flow.ReasonNoFlow, false
	}
	var seg flow.Segment
	if l.p.Proto == wire.ProtoTCP {
		if headers.Segment(&l.p, &seg); seg.Flags&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN {
			return flow.ReasonNoFlow, false
		}
	}
	var t ports.Tuple
	l.inboundTuple(&t)
	f, inst := l.ownerOf(m.routes, &t)
	if inst == nil {
		return flow.ReasonNoFlow, false
	}
	sh.expireAll(m.now)
	admission, reason := sh.Admit(&inst.Instance, &t, f.Packed, l.outsidePort())
	if reason != flow.ReasonNone {
		return reason, false
	}
	if l.p.Proto == wire.ProtoTCP && headers.Corrupt(&l.p) {
		return flow.ReasonL4Checksum, false
	}
	if m.routes.To(&t) == addresses.Blackhole {
		return flow.ReasonRoute, false
	}
	t.Inside, t.InsidePort = sh.Inside(&admission)
	other := sh.insideOf(&t, inst.Index)
	if other != 0 && sh.At(other).Track.Phase() != flow.TCPResetSent {
		return flow.ReasonMappingConflict, false
	}
	if reason = m.routes.Admits(flow.Outside, inst, &t); reason != flow.ReasonNone {
		return reason, true
	}
	if reason = sh.Enroll(m.now, &inst.Instance, &t, &admission); reason != flow.ReasonNone {
		return sh.refuse(m.now, inst, &t, reason), false
	}
	if other != 0 {
		sh.remove(other, sh.At(other))
	}
	var nodePort uint16
	sh.BeginSearch()
	if own := inst.Own(t.Family); inst.Masquerades && own != [2]uint64{} {
		var ok bool
		if nodePort, ok = sh.NodePort(&inst.Instance, &t, own); !ok {
			return sh.refuse(m.now, inst, &t, sh.Blame(flow.ReasonPorts)), false
		}
	}
	sh.Join(m.now, &inst.Instance, &t, &admission)
	session := sh.create(m.now, flow.Outside, inst, &t, &seg, f.Packed, l.outsidePort(), nodePort, flow.KindTranslated)
	if session == 0 {
		return sh.refuse(m.now, inst, &t, flow.ReasonMemory), false
	}
	s := sh.At(session)
	if l.is6 {
		headers.Inbound6(&l.p, s)
	} else {
		headers.Inbound4(&l.p, s)
	}
	sh.Begun(m.now, session, s, &t)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, New: true, Instance: inst.Index}
	return flow.ReasonNone, false
}
