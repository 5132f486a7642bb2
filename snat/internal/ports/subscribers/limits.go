package subscribers

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

	Sessions, SessionsPerMapping int // at the same time, of the subscriber and of one mapping

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

// Admit reports why a subscriber may not begin another session, if so. active is how many
// subscribers of its instance have sessions.
func (l *Limits) Admit(now flow.Time, active int, s *Record) flow.Reason {
	switch {
	case l.Subscribers > 0 && s.Sessions == 0 && active >= l.Subscribers:
		return flow.ReasonSubscribers
	case l.SessionsFull(s):
		return flow.ReasonSessionCap
	case l.SessionRate > 0 && s.due.Sub(now) > l.burst():
		return flow.ReasonRate
	}
	return flow.ReasonNone
}

// Spend counts a session that has begun at now against the rate of a subscriber.
func (l *Limits) Spend(now flow.Time, s *Record) {
	if l.SessionRate > 0 {
		s.due = max(s.due, now).Add(l.interval())
	}
}

// SessionsFull reports whether a subscriber has as many sessions as it may.
func (l *Limits) SessionsFull(s *Record) bool { return l.Sessions > 0 && int(s.Sessions) >= l.Sessions }

// MappingFull reports whether so many sessions are as many as a mapping may have.
func (l *Limits) MappingFull(sessions uint32) bool {
	return l.SessionsPerMapping > 0 && int(sessions) >= l.SessionsPerMapping
}

// Quota returns the limit that keeps a subscriber from another port of a kind; 0 if none
// does.
func (l *Limits) Quota(s *Record, kind int) int {
	if limit := [Kinds]int{l.TCPPorts, l.UDPPorts, l.QueryIDs}[kind]; limit > 0 && int(s.Ports[kind]) >= limit {
		return limit
	}
	total := 0
	for _, n := range s.Ports {
		total += int(n)
	}
	if l.Ports > 0 && total >= l.Ports {
		return l.Ports
	}
	return 0
}
