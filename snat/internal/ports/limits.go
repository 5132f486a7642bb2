package ports

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Limits on what one subscriber may have, so that none can take what the others
// need. Read RFC 6888 section 3, REQ-4, REQ-5 and REQ-11 first.

// Limits bound what a subscriber may have; 0 is no limit.
type Limits struct {
	// Ports bounds mappings and sessions that are mapped on their own, the others those
	// of one protocol.
	Ports, TCPPorts, UDPPorts, QueryIDs int

	Sessions, SessionsPerMapping int

	HalfOpen int // TCP sessions that have begun outside and whose handshake is not over

	SessionRate, SessionBurst int // sessions that begin in a second, and at once

	Subscribers int // of an instance, with sessions at the same time
}

// interval returns the time in which one session is due.
func (l *Limits) interval() time.Duration { return time.Second / time.Duration(l.SessionRate) }

// burst returns how far ahead of its rate a subscriber may be.
func (l *Limits) burst() time.Duration {
	n := l.SessionBurst
	if n == 0 {
		n = l.SessionRate
	}
	return time.Duration(n-1) * l.interval()
}

// admit reports why a subscriber may not begin another session, if so.
func (l *Limits) admit(now flow.Time, inst *Instance, s *subscriber) flow.Reason {
	switch {
	case l.Subscribers > 0 && s.sessions == 0 && inst.subscribers >= l.Subscribers:
		return flow.ReasonSubscribers
	case l.Sessions > 0 && int(s.sessions) >= l.Sessions:
		return flow.ReasonSessionCap
	case l.SessionRate > 0 && s.due.Sub(now) > l.burst():
		return flow.ReasonRate
	}
	return flow.ReasonNone
}

// quota reports why a tuple's subscriber may not have another port, if so.
func (sh *State) quota(t *Tuple) flow.Reason {
	if t.subscriber == 0 {
		return flow.ReasonNone
	}
	s, l := sh.subscribers.slab.At(t.subscriber), &sh.space.rules.Limits
	total := 0
	for p, limit := range l.portLimits() {
		if limit > 0 && p == PoolIndex(t.Proto) && int(s.ports[p]) >= limit {
			return flow.ReasonQuota
		}
		total += int(s.ports[p])
	}
	if l.Ports > 0 && total >= l.Ports {
		return flow.ReasonQuota
	}
	return flow.ReasonNone
}

// LimitReached returns the limit for which a flow of a tuple was refused, which the
// reason is about.
func (sh *State) LimitReached(inst *Instance, t *Tuple, reason flow.Reason) int {
	l, want := &sh.space.rules.Limits, subscriberOf(inst, t)
	var s subscriber
	if id := sh.subscribers.find(&want); id != 0 {
		s = *sh.subscribers.slab.At(id)
	}
	switch p := PoolIndex(t.Proto); reason {
	case flow.ReasonRate:
		return l.SessionRate
	case flow.ReasonSessionCap:
		if l.Sessions > 0 && int(s.sessions) >= l.Sessions {
			return l.Sessions
		}
		return l.SessionsPerMapping
	default:
		if limit := l.portLimits()[p]; limit > 0 && int(s.ports[p]) >= limit {
			return limit
		}
		if l.Ports > 0 && int(s.ports[TCPIndex]+s.ports[UDPIndex]+s.ports[QueryIndex]) >= l.Ports {
			return l.Ports
		}
		limit := sh.blockLimit(inst, t.Family) * sh.space.rules.BlockSize
		if m := inst.fixed(int(t.Family)); m != nil {
			limit += m.Share()
		}
		return limit
	}
}

// portLimits returns the limits of ports by protocol.
func (l *Limits) portLimits() [NumPools]int {
	return [NumPools]int{TCPIndex: l.TCPPorts, UDPIndex: l.UDPPorts, QueryIndex: l.QueryIDs}
}

// full reports whether a mapping has as many sessions as it may.
func (l *Limits) full(m *mapping) bool {
	return l.SessionsPerMapping > 0 && int(m.sessions) >= l.SessionsPerMapping
}
