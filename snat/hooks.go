package snat

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Hooks are callbacks on events. They run under a lock, mostly that of the
// instance's shard: they must be quick and must not call back into the translator.
// Those of different shards may run at the same time.
type Hooks struct {
	// SessionCreated is called after a session has been created.
	SessionCreated func(now flow.Time, instance uint32, s flow.Info)
	// SessionExpired is called when a session has reached its idle timeout, gives
	// way (Limits.HalfOpen; or closed, to the next connection on its sockets, which goes
	// elsewhere) or is ended by [NAT.ResetTo]. Its class tells what it was.
	SessionExpired func(at flow.Time, instance uint32, s flow.Info)
	// PortRefused is called when a flow is refused for want of a port.
	PortRefused func(now flow.Time, instance uint32, proto uint8, reason flow.Reason)
	// SessionCut is called when a reconfiguration, or the state of a target, ends a
	// session, silently.
	SessionCut func(at flow.Time, instance uint32, s flow.Info, cause CutCause)
	// Event is told what RFC 8158 wants logged; see [Log]. Telling it allocates
	// nothing, except for the parameters of deterministic mappings.
	Event func(Event)
	// ResetSent is called when a connection is reset at both ends, because it was idle or by
	// [NAT.ResetTo].
	ResetSent func(at flow.Time, instance uint32, s flow.Info)
	// Fault is told what [Stats].Faults counts, in words that are worth a report:
	// it must not happen. The text names the session that was dropped, if any.
	Fault func(at flow.Time, text string)
}

// CutCause says why a reconfiguration, or the state of a target, ended a session.
type CutCause uint8

// The causes.
const (
	CutReclaimed   CutCause = iota // its port is no longer granted to its instance, and its grace is over
	CutRemoved                     // its instance has been removed
	CutReaddressed                 // its inside address, or one of its node's, no longer belongs to its instance or is translated 1:1 now
	CutMemory                      // there is no memory to keep it where it belongs now
	CutForward                     // its forward is gone, or is another one's now
	CutTarget                      // its target is gone; or it is down, and the session was UDP, or a closed connection that a new one replaces

	// NumCutCauses is the number of causes.
	NumCutCauses
)

var cutCauseNames = [...]string{"reclaimed", "removed", "readdressed", "memory", "forward", "target"}

var _ = [1]struct{}{}[len(cutCauseNames)-int(NumCutCauses)] // one name per cause

// String returns "reclaimed", "removed", "readdressed", "memory", "forward" or "target".
func (c CutCause) String() string {
	if c < NumCutCauses {
		return cutCauseNames[c]
	}
	return "cause(?)"
}

// NewFlow is a flow that is about to begin, as [Dataplane].Admit is asked about it. Its
// addresses are those of the inside: it has been translated already if it comes from
// outside, and not yet if it leaves; a Floating forward leaves the frontend there. An ICMP
// query has its identifier in the place of the inside port, and remote port 0.
type NewFlow struct {
	From           flow.Side      // who begins
	Instance       uint32         // whose it is, as in flow.Verdict
	Name           string         // of that instance
	Protocol       uint8          // IP protocol
	Inside, Remote netip.AddrPort // its ends
}
