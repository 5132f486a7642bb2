package snat

import (
	"math"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
)

// Limits bound what one inside address of an instance may use of the instance's
// ports. A flow that exceeds one is refused with a reason of its own; it takes
// nothing from others, and nobody's session ends to make room (RFC 6888 REQ-11 D),
// except for HalfOpen. Hooks.PortRefused tells of it. A zero field is no limit; the zero
// value is Azure's, which limits instances by their ports alone. They are
// about ports that instances own.
//
// A subscriber is an inside address, as the instance sees it before it masquerades
// it. Only what uses ports of the instance counts; flows to the instance's own or
// public address do not. A change by [NAT.Reconfigure] is in force at once for new
// flows: who has more keeps it. It books all sessions anew, in O(sessions), and
// forgives the rates of the past.
type Limits struct {
	// Ports limits the outside ports and query identifiers of a subscriber
	// together; TCPPorts, UDPPorts and QueryIDs limit one kind each
	// (flow.ReasonQuota). Each mapping counts as one, and each flow that is mapped
	// on its own as well, even if such flows share a port. A closed connection
	// counts as long as it holds its port. 0..2^31-1.
	Ports, TCPPorts, UDPPorts, QueryIDs int

	// Sessions limits the sessions of a subscriber, and SessionsPerMapping those
	// of one mapping (flow.ReasonSessionCap). 0..2^31-1.
	Sessions, SessionsPerMapping int

	// HalfOpen limits the TCP sessions of a subscriber that have begun outside and
	// whose handshake is not over, 0..1,024. A further one is admitted, and the oldest
	// gives way to it: it ends at once and silently (Stats.Evicted). So a flood of
	// SYNs to a port that admits everybody (RFC 4987 section 3) takes no more
	// sessions than that, and connections that are established lose none. Who has
	// more because of a change loses one with each that begins.
	HalfOpen int

	// SessionRate limits the new sessions of a subscriber, per second
	// (flow.ReasonRate), by a token bucket that is filled in virtual time and
	// holds SessionBurst; only sessions that begin take a token. 0..1,000,000
	// each. A SessionBurst of 0 stands for SessionRate: a second's worth, which is
	// our choice.
	SessionRate, SessionBurst int

	// Subscribers limits the inside addresses of an instance that have sessions at
	// the same time (flow.ReasonSubscribers). 0..2^31-1.
	Subscribers int
}

const maxSessionRate = 1_000_000

// limits checks Owned.Limits.
func (v *validation) limits(l *Limits) {
	for _, f := range []struct {
		name     string
		value, n int
	}{
		{"Limits.Ports", l.Ports, math.MaxInt32}, {"Limits.TCPPorts", l.TCPPorts, math.MaxInt32},
		{"Limits.UDPPorts", l.UDPPorts, math.MaxInt32}, {"Limits.QueryIDs", l.QueryIDs, math.MaxInt32},
		{"Limits.Sessions", l.Sessions, math.MaxInt32}, {"Limits.SessionsPerMapping", l.SessionsPerMapping, math.MaxInt32},
		{"Limits.HalfOpen", l.HalfOpen, subscribers.MaxHalfOpen},
		{"Limits.SessionRate", l.SessionRate, maxSessionRate}, {"Limits.SessionBurst", l.SessionBurst, maxSessionRate},
		{"Limits.Subscribers", l.Subscribers, math.MaxInt32},
	} {
		problems.Between(&v.List, f.name, f.value, 0, f.n)
	}
	if l.SessionBurst > 0 && l.SessionRate == 0 {
		v.Add("Limits.SessionBurst", l.SessionBurst, flow.ErrOutOfRange, "needs Limits.SessionRate")
	}
}
