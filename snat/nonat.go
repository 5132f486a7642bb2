package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Rows of the destination table that are narrower than a prefix, and what they
// leave untranslated. Read RFC 6888 section 3 (REQ-6) first.

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
