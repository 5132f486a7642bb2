package dataplane

import (
	"math"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// How the log is told: when sessions, blocks or addresses are taken and given back, or
// refused. Packets of established flows do not come by.

// Info returns a copy of a session for people.
func (sh *shard) Info(id flow.ID) flow.Info {
	s := sh.Shard.Info(id)
	sh.nat.routes.Load().Complete(&s)
	return s
}

// logBegin tells that a session has begun.
func (sh *shard) logBegin(now flow.Time, id flow.ID, s *flow.Session, inst *instance) {
	if sh.nat.config.Hooks.Session != nil { // no call is needed to tell
		sh.logSession(now, id, s, inst, s.Track.Initiator(), false)
	}
}

// logEnd tells that a session ends. It must be called while it still has its port.
func (sh *shard) logEnd(at flow.Time, id flow.ID, s *flow.Session) {
	if sh.nat.config.Hooks.Session != nil {
		sh.logSession(at, id, s, sh.nat.instances[s.Key.VNI()], s.Track.Initiator(), true)
	}
}

func (sh *shard) logSession(at flow.Time, id flow.ID, s *flow.Session, inst *instance, origin flow.Side, ends bool) {
	h := &sh.nat.config.Hooks
	if h.Session == nil || s.Kind() == flow.KindTracked {
		return
	}
	h.Session(at, &inst.Instance, sh.Info(id), origin, compiled.Turn{Ends: ends, Alone: h.Bindings && sh.Alone(id, s, &inst.Instance)})
}

// logRefused tells that a flow was refused, if it was for want of resources and
// if it is time.
func (sh *shard) logRefused(now flow.Time, inst *instance, t *ports.Tuple, reason flow.Reason) {
	tell := sh.nat.config.Hooks.Starved
	if tell == nil {
		return
	}
	what, a := compiled.Starvation{Reason: reason, Proto: t.Proto, Inside: t.InsideAddr()}, &inst.Alarms.Quota
	switch reason {
	case flow.ReasonPorts, flow.ReasonDestinationLimit, flow.ReasonNoOutbound:
		a = &inst.Alarms.Exhausted
		what.Frontend, _ = sh.OnlyFrontend(&inst.Instance, t)
	case flow.ReasonFlowLimit:
		what.Limit = uint32(sh.nat.ports.MaxFlows())
	case flow.ReasonSubscribers:
		what.Limit = uint32(sh.nat.config.Ports.Limits.Subscribers)
	case flow.ReasonQuota, flow.ReasonRate, flow.ReasonSessionCap:
		what.Limit = uint32(min(int64(sh.LimitReached(&inst.Instance, t, reason)), math.MaxUint32))
	default:
		return
	}
	if count, due := a.Ring(now, sh.nat.alarmInterval); due {
		what.Count = count
		tell(now, &inst.Instance, what)
	}
}
