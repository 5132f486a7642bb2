package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// How Hooks, Log and Admit are told what happens in the dataplane, in the words of RFC 8158.

// hooks compiles n.config's Hooks and Log.
func (n *NAT) hooks() compiled.Hooks {
	h, l := n.shielded(n.config.Hooks), n.config.Log
	c := compiled.Hooks{
		Created: h.SessionCreated, Expired: h.SessionExpired, Reset: h.ResetSent, Refused: h.PortRefused, Fault: h.Fault,
		Bindings: l.Bindings,
	}
	if f := h.SessionCut; f != nil {
		c.Cut = func(at flow.Time, instance uint32, s flow.Info, cause counters.CutCause) {
			f(at, instance, s, CutCause(cause))
		}
	}
	tell := h.Event
	if tell == nil {
		return c
	}
	if l.Sessions || l.Bindings {
		c.Session = l.sessions(tell)
	}
	c.Starved = func(at flow.Time, inst *ports.Instance, what compiled.Starvation) { tell(starved(at, inst, what)) }
	c.Ports = func(e ports.Event) { tell(eventOf(e)) }
	c.Parameters = func(at flow.Time, inst *ports.Instance) {
		tell(Event{At: at, Kind: EventParameters, Instance: inst.Index, Parameters: inst.Deterministic.Record(at)})
	}
	return c
}

// sessions returns what tells of the begin and the end of sessions and bindings. A binding
// encloses its session.
func (l Log) sessions(tell func(Event)) func(flow.Time, *ports.Instance, flow.Info, flow.Side, compiled.Turn) {
	return func(at flow.Time, inst *ports.Instance, s flow.Info, origin flow.Side, t compiled.Turn) {
		binding := Event{At: at, Kind: EventBindingCreate, Proto: s.Proto, Instance: inst.Index, Realm: inst.Realm, Inside: s.Inside, Outside: s.Outside}
		session := binding
		session.Kind, session.Origin = EventSessionCreate, origin
		if l.Destinations {
			session.Remote = s.Remote
		}
		if t.Ends {
			binding.Kind, session.Kind = EventBindingDelete, EventSessionDelete
		}
		if t.Alone && !t.Ends {
			tell(binding)
		}
		if l.Sessions {
			tell(session)
		}
		if t.Alone && t.Ends {
			tell(binding)
		}
	}
}

// starved returns the entry of the log for want of a resource.
func starved(at flow.Time, inst *ports.Instance, what compiled.Starvation) Event {
	e := Event{At: at, Kind: EventQuotaExceeded, Instance: inst.Index, Realm: inst.Realm, Limit: what.Limit, Count: what.Count}
	switch what.Reason {
	case flow.ReasonFlowLimit:
		e.Quota = QuotaSessions
	case flow.ReasonSubscribers:
		e.Quota = QuotaSubscribers
	case flow.ReasonQuota, flow.ReasonRate, flow.ReasonSessionCap:
		e.Quota = QuotaPerUser
	default:
		e.Kind, e.Proto = EventAddressesExhausted, what.Proto
		if what.Frontend.IsValid() {
			e.Kind, e.Outside = EventPortsExhausted, netip.AddrPortFrom(what.Frontend, 0)
		}
		return e
	}
	e.Inside = netip.AddrPortFrom(what.Inside, 0)
	return e
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

// admission compiles Dataplane.Admit.
func admission(ask func(NewFlow) flow.Reason) func(flow.Side, *ports.Instance, ports.Tuple) flow.Reason {
	if ask == nil {
		return nil
	}
	return func(from flow.Side, inst *ports.Instance, t ports.Tuple) flow.Reason {
		remote := flow.NetAddr6(t.Remote)
		if t.Family == 0 {
			remote = flow.NetAddr4(uint32(t.Remote[0]))
		}
		return ask(NewFlow{
			From: from, Instance: inst.Index, Name: inst.Name, Protocol: t.Proto,
			Inside: netip.AddrPortFrom(t.InsideAddr(), t.InsidePort), Remote: netip.AddrPortFrom(remote, t.DestPort),
		})
	}
}

// Remembers reports whether at now what belongs to a flow passes unasked, because
// [Dataplane].Admit has let the flow begin, although it has no session. f is as Admit gets it; its
// Instance and From do not matter. Cost: O(instances).
func (n *NAT) Remembers(now flow.Time, f NewFlow) bool {
	known, _ := n.remembers(now, f)
	return known
}

// Entered reports whether Remembers is true of a flow, which has begun outside. It knows connections
// of TCP only where [Config].RememberEntries is true.
func (n *NAT) Entered(now flow.Time, f NewFlow) bool {
	_, entered := n.remembers(now, f)
	return entered
}

func (n *NAT) remembers(now flow.Time, f NewFlow) (known, entered bool) {
	return n.plane.Remembers(now, f.Name, permits.Flow{
		V6: f.Inside.Addr().Is6(), Proto: f.Protocol, Inside: ports.Packed(f.Inside.Addr()), Remote: ports.Packed(f.Remote.Addr()),
		InsidePort: f.Inside.Port(), RemotePort: f.Remote.Port(),
	})
}

// shielded returns hooks that do not panic: what they do is a fault then.
func (n *NAT) shielded(h Hooks) Hooks {
	if dataplane.IsStrict() {
		return h
	}
	if f := h.SessionCreated; f != nil {
		h.SessionCreated = func(now flow.Time, instance uint32, s flow.Info) {
			defer n.plane.Guard("SessionCreated", now)
			f(now, instance, s)
		}
	}
	if f := h.SessionExpired; f != nil {
		h.SessionExpired = func(at flow.Time, instance uint32, s flow.Info) {
			defer n.plane.Guard("SessionExpired", at)
			f(at, instance, s)
		}
	}
	if f := h.PortRefused; f != nil {
		h.PortRefused = func(now flow.Time, instance uint32, proto uint8, reason flow.Reason) {
			defer n.plane.Guard("PortRefused", now)
			f(now, instance, proto, reason)
		}
	}
	if f := h.SessionCut; f != nil {
		h.SessionCut = func(at flow.Time, instance uint32, s flow.Info, cause CutCause) {
			defer n.plane.Guard("SessionCut", at)
			f(at, instance, s, cause)
		}
	}
	if f := h.Event; f != nil {
		h.Event = func(e Event) {
			defer n.plane.Guard("Event", e.At)
			f(e)
		}
	}
	if f := h.ResetSent; f != nil {
		h.ResetSent = func(at flow.Time, instance uint32, s flow.Info) {
			defer n.plane.Guard("ResetSent", at)
			f(at, instance, s)
		}
	}
	return h
}
