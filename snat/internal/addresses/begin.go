package addresses

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Of what kind a session is that begins inside, as rows of the destination table say.

// Kind returns the kind of a session that an instance begins by an action, which is to
// translate: Translate, or NodeAddress for what does not have that address already.
func (a Action) Kind(t *ports.Tuple, inst *ports.Instance) flow.Kind {
	switch {
	case a == NodeAddress:
		return flow.KindNode // the port at the node is the outside port
	case inst.Public[t.Family] != [2]uint64{}:
		return flow.KindPublic // likewise
	case wire.IsICMP(t.Proto):
		return flow.KindQuery
	}
	return flow.KindTranslated
}

// Begins reports whether what an instance would send from the sockets of a session, without it,
// would still be of the session's kind. What answers, in one that has begun outside, is so
// unless a row drops it or lets it pass.
func (p *Plan) Begins(kind flow.Kind, t *ports.Tuple, inst *ports.Instance) bool {
	e := p.Effect(t, int32(t.DestPort))
	switch own := e.Action == NodeAddress && inst.Owns(t.Family, t.Inside); {
	case e.Action == PassThrough || e.Action == Blackhole:
		return false
	case kind == flow.KindForwarded:
		return true
	case kind == flow.KindTracked:
		return e.BothWays
	case own && !(e.BothWays && kind == flow.KindNode): // or somebody behind the instance has had its port
		return false
	}
	return kind == e.Action.Kind(t, inst) && p.Refuses(t) == flow.ReasonNone
}
