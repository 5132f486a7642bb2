package snat

import (
	"math"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// How the log is told: when sessions, blocks or addresses are taken and given back, or
// refused. Packets of established flows do not come by.

// Info returns a copy of a session for people.
func (sh *shard) Info(id flow.ID) flow.Info {
	s := sh.Shard.Info(id)
	sh.nat.routes.Load().complete(&s)
	return s
}

// complete fills in the port at the own address of an instance that does not share it,
// so that no session keeps it: the inside port.
func (r *routes) complete(s *flow.Info) {
	if s.Data[ports.DataNodePort] != 0 || s.Class == flow.ClassUDPHeld || int64(s.VNI) >= int64(len(r.instances)) || r.instances[s.VNI] == nil {
		return
	}
	inst, a := r.instances[s.VNI], s.Inside.Addr()
	if a.Is4() && inst.Owns(0, [2]uint64{uint64(flow.Addr4(a))}) || a.Is6() && inst.Owns(1, flow.Addr6(a)) {
		s.Data[ports.DataNodePort] = s.Inside.Port()
	}
}

// logBegin tells that a session has begun.
func (sh *shard) logBegin(now flow.Time, id flow.ID, s *flow.Session, inst *instance) {
	sh.logSession(now, id, s, inst, s.Track.Initiator(), EventSessionCreate, EventBindingCreate)
}

// logEnd tells that a session ends. It must be called while it still has its port.
func (sh *shard) logEnd(at flow.Time, id flow.ID, s *flow.Session) {
	sh.logSession(at, id, s, sh.nat.instances[s.Key.VNI()], s.Track.Initiator(), EventSessionDelete, EventBindingDelete)
}

func (sh *shard) logSession(at flow.Time, id flow.ID, s *flow.Session, inst *instance, origin flow.Side, session, binding EventKind) {
	c := &sh.nat.config
	if c.Hooks.Event == nil || !c.Log.Sessions && !c.Log.Bindings || s.Kind() == flow.KindTracked {
		return
	}
	info := sh.Info(id)
	e := Event{At: at, Proto: info.Proto, Instance: inst.Index, Realm: inst.Realm, Inside: info.Inside, Outside: info.Outside}
	tell := func() {
		if c.Log.Bindings && sh.Alone(id, s, &inst.Instance) {
			e.Kind = binding
			c.Hooks.Event(e)
		}
	}
	if binding == EventBindingCreate {
		tell()
	}
	if c.Log.Sessions {
		e.Kind, e.Origin = session, origin
		if c.Log.Destinations {
			e.Remote = info.Remote
		}
		c.Hooks.Event(e)
		e.Remote, e.Origin = netip.AddrPort{}, flow.Inside
	}
	if binding == EventBindingDelete {
		tell()
	}
}

// logRefused tells that a flow was refused, if it was for want of resources and
// if it is time.
func (sh *shard) logRefused(now flow.Time, inst *instance, t *ports.Tuple, reason flow.Reason) {
	c := &sh.nat.config
	if c.Hooks.Event == nil {
		return
	}
	e := Event{At: now, Instance: inst.Index, Realm: inst.Realm}
	a := &inst.alarms.exhausted
	switch reason {
	case flow.ReasonPorts, flow.ReasonDestinationLimit, flow.ReasonNoOutbound:
		e.Kind, e.Proto = EventAddressesExhausted, t.Proto
		if f, ok := sh.OnlyFrontend(&inst.Instance, t); ok {
			e.Kind, e.Outside = EventPortsExhausted, netip.AddrPortFrom(f, 0)
		}
	case flow.ReasonFlowLimit:
		e.Quota, e.Limit = QuotaSessions, uint32(sh.nat.ports.MaxFlows())
	case flow.ReasonSubscribers:
		e.Quota, e.Limit = QuotaSubscribers, uint32(c.Limits.Subscribers)
	case flow.ReasonQuota, flow.ReasonRate, flow.ReasonSessionCap:
		e.Quota, e.Limit = QuotaPerUser, uint32(min(int64(sh.LimitReached(&inst.Instance, t, reason)), math.MaxUint32))
	default:
		return
	}
	if e.Quota != 0 {
		a, e.Kind, e.Inside = &inst.alarms.quota, EventQuotaExceeded, netip.AddrPortFrom(t.InsideAddr(), 0)
	}
	if count, due := a.ring(now, sh.nat.alarmInterval()); due {
		e.Count = count
		c.Hooks.Event(e)
	}
}

func (n *NAT) alarmInterval() time.Duration {
	if d := n.config.Log.AlarmInterval; d != 0 {
		return d
	}
	return alarmInterval
}

// eventOf returns the entry of the log for what a subscriber has got or lost.
func eventOf(e ports.Event) Event {
	kind := [...]EventKind{
		ports.BlockGranted: EventBlockCreate, ports.BlockReturned: EventBlockDelete,
		ports.HomeGiven: EventAddressBindingCreate, ports.HomeLeft: EventAddressBindingDelete,
	}[e.Kind]
	return Event{
		At: e.At, Kind: kind, Instance: e.Instance.Index, Realm: e.Instance.Realm,
		Inside: netip.AddrPortFrom(e.Inside, 0), Outside: netip.AddrPortFrom(e.Frontend, 0), Ports: e.Ports,
	}
}
