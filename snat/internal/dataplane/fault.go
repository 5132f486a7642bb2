package dataplane

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Faults: what must not happen, a broken invariant of ours or a hook that panics. A
// translator of many must not fall with one session, so wherever packets go that
// begin or end something, and wherever sessions end, a panic is caught: the session
// at hand is dropped, the fault is counted and told of, and all else goes on. What
// else the session had, its port, may be lost with it.
//
// The way of the packets of established flows is short, and not guarded: there is
// nothing on it that could panic. Tests, and all builds with the tag
// natplane_invariants, do not catch anything.

// fault is the end of what has panicked with a session, or with none if id is 0.
func (sh *shard) fault(at flow.Time, what any, id flow.ID) {
	if strict {
		panic(what)
	}
	text := fmt.Sprint(what)
	if s := sh.At(id); s.Proto() != 0 {
		text = fmt.Sprintf("%s; dropped: %+v", text, sh.Info(id))
		sh.drop(id, s)
	}
	sh.nat.tellFault(at, text)
}

// drop ends a session that something is wrong with.
func (sh *shard) drop(id flow.ID, s *flow.Session) {
	class, proto := s.Track.Class, s.Proto()
	if inst := sh.nat.instances[s.Key.VNI()]; inst != nil && s.Data[ports.DataNodePort] != 0 {
		sh.Drop(id, s, sh.NodeHash(id, s, &inst.Instance))
	} else {
		sh.Drop(id, s)
	}
	sh.counters.End(class, proto)
}

// spare is deferred where a packet from a side begins or ends something. id is the
// session that it belongs to, or 0.
func (sh *shard) spare(m *moment, from flow.Side, id flow.ID, v *flow.Verdict) {
	if what := recover(); what != nil {
		sh.fault(m.now, what, id)
		sh.counters.Drop(from, flow.ReasonFault, 0, v)
	}
}

// tellFault counts a fault and tells of it.
func (n *NAT) tellFault(at flow.Time, text string) {
	n.faults.Add(1)
	if h := n.config.Hooks.Fault; h != nil {
		defer func() { _ = recover() }() // whose hook for faults panics is not to be helped
		h(at, text)
	}
}

// Guard is deferred where a hook runs that may panic at time at: then that is a fault.
func (n *NAT) Guard(hook string, at flow.Time) {
	if what := recover(); what != nil {
		n.tellFault(at, fmt.Sprintf("hook %s: %v", hook, what))
	}
}

// Strict makes faults panic from now on, everywhere, or not; it returns whether they did.
// Tests want it. No packet may be on its way meanwhile.
func Strict(on bool) (was bool) {
	was, strict = strict, on
	return was
}

// IsStrict reports whether faults panic.
func IsStrict() bool { return strict }
