package flow

// Idle classes and their timeouts. Every session belongs to one class at a
// time; the class alone decides how long the session may idle. The numbers are
// those of RFC 4787 section 4.3, RFC 5382 section 5, RFC 5508 section 3.2 and
// RFC 7857 section 2; other sets (Azure's among them) are configuration.

import (
	"fmt"
	"time"

	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Class is the idle class of a session, an index into the table of timeouts.
type Class uint8

// The built-in classes. ClassNone, the zero value, has no timeout: a session
// must be given a class before its timer is armed. Callers may define classes
// of their own from FirstCustomClass to NumClasses-1.
const (
	ClassNone           Class = iota
	ClassTCPOpening           // SYN seen, not yet an ACK from both ends
	ClassTCPEstablished       // ACK seen from both ends, no FIN
	ClassTCPHalfClosed        // FIN seen from one end
	ClassTCPClosing           // FIN seen from both ends, not yet both acknowledged
	ClassTCPTimeWait          // both FINs acknowledged
	ClassTCPReset             // a RST that belongs to the connection was forwarded
	ClassTCPResetSent         // we sent the RSTs; a tombstone answers stragglers
	ClassUDP                  // no datagram has come back yet
	ClassUDPReplied           // datagrams seen in both directions
	ClassICMP                 // query and reply
	ClassUDPHeld              // over; a translator keeps its port from its remote

	// By ConntrackRules only.
	ClassTCPSynReceived    // SYN-ACK seen, not yet the ACK
	ClassTCPCloseWait      // FIN seen from one end, then an ACK
	ClassTCPUnacknowledged // established, with unacknowledged data, no window, no reply, or the same segment again and again
	numBuiltinClasses
)

// The bounds of the table of timeouts.
const (
	FirstCustomClass Class = 16 // the classes below it are ours
	NumClasses       int   = 32
)

// The names fill their array exactly, so a class without one does not compile.
var classNames = [...]string{
	ClassNone: "none", ClassTCPOpening: "tcp-opening", ClassTCPEstablished: "tcp-established",
	ClassTCPHalfClosed: "tcp-half-closed", ClassTCPClosing: "tcp-closing", ClassTCPTimeWait: "tcp-time-wait",
	ClassTCPReset: "tcp-reset", ClassTCPResetSent: "tcp-reset-sent", ClassUDP: "udp",
	ClassUDPReplied: "udp-replied", ClassICMP: "icmp", ClassUDPHeld: "udp-held",
	ClassTCPSynReceived: "tcp-syn-received", ClassTCPCloseWait: "tcp-close-wait", ClassTCPUnacknowledged: "tcp-unacknowledged",
}

var _ = [1]struct{}{}[len(classNames)-int(numBuiltinClasses)]

// String returns the name of a built-in class, "custom-0" for FirstCustomClass,
// "custom-1" for the next and so on, and "class(n)" for what is no class.
func (c Class) String() string {
	switch {
	case c < numBuiltinClasses:
		return classNames[c]
	case c >= FirstCustomClass && int(c) < NumClasses:
		return fmt.Sprintf("custom-%d", c-FirstCustomClass)
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// MaxTimeout is the longest idle timeout: what ticks modulo 2^32 permit, with a
// margin on both sides (see [Shard.Near]).
const MaxTimeout = 24 * 24 * time.Hour

// Timeouts says how long a session of each built-in class may idle before it
// expires. Every field is a whole number of milliseconds, at most MaxTimeout. A field
// that is zero is not set, everywhere: what keeps the sessions then puts its default
// there, and its documentation says which. A [Table] takes [RFCTimeouts].
type Timeouts struct {
	// TCPOpening covers the handshake and sessions picked up in midstream.
	TCPOpening time.Duration
	// TCPEstablished covers connections with an ACK from both ends and no FIN.
	TCPEstablished time.Duration
	// TCPHalfClosed covers connections that only one end has closed; data
	// still flows towards it.
	TCPHalfClosed time.Duration
	// TCPClosing runs from the second FIN; segments do not restart it.
	TCPClosing time.Duration
	// TCPTimeWait runs from the moment both FINs are acknowledged; segments
	// do not restart it.
	TCPTimeWait time.Duration
	// TCPReset runs from a RST that belongs to the connection.
	TCPReset time.Duration
	// TCPResetSent is how long a connection that we reset answers the
	// challenge ACKs of its ends (RFC 5961 section 9).
	TCPResetSent time.Duration
	// UDP covers UDP sessions no datagram has come back on. Below 120 s breaks
	// RFC 4787 REQ-5.
	UDP time.Duration
	// UDPReplied covers UDP sessions used in both directions. Below 120 s breaks
	// RFC 4787 REQ-5.
	UDPReplied time.Duration
	// ICMP covers ICMP query sessions. Below 60 s breaks RFC 5508 REQ-2.
	ICMP time.Duration
	// UDPHeld is how long a translator keeps the outside port of a UDP session
	// that has ended from its remote, if it does so at all.
	UDPHeld time.Duration

	// TCPSynReceived covers connections whose SYN-ACK has not been acknowledged.
	// Like the fields below it is of no use by RFCRules.
	TCPSynReceived time.Duration
	// TCPCloseWait covers connections closed by one end, once there has been an
	// ACK since; TCPHalfClosed covers them until then. ConntrackRules only.
	TCPCloseWait time.Duration
	// TCPUnacknowledged covers established connections while data is
	// unacknowledged, after a window of 0 or the same segment four times, and as
	// long as nothing comes back. It stands for two numbers of Linux
	// (nf_conntrack_tcp_timeout_unacknowledged, _max_retrans). Longer than
	// TCPEstablished it means that. ConntrackRules only.
	TCPUnacknowledged time.Duration
}

// RFCTimeouts returns the values that the RFCs give, which are long enough for any
// application; what they leave open is from Linux or our choice.
func RFCTimeouts() Timeouts {
	return Timeouts{
		TCPOpening:     240 * time.Second,  // RFC 5382 REQ-5, partially open; RFC 7857 section 2.1 keeps it apart from closing
		TCPEstablished: 7440 * time.Second, // RFC 5382 REQ-5: 2 hours 4 minutes
		TCPHalfClosed:  7440 * time.Second, // RFC 5382 counts them as established
		TCPClosing:     240 * time.Second,  // RFC 5382 REQ-5
		TCPTimeWait:    120 * time.Second,  // RFC 6888 REQ-8 keeps a port from reuse so long; RFC 5382 REQ-5 has no minimum
		TCPReset:       240 * time.Second,  // RFC 7857 section 2.2
		TCPResetSent:   30 * time.Second,   // our choice
		UDP:            300 * time.Second,  // RFC 4787 REQ-5 c
		UDPReplied:     300 * time.Second,  // RFC 4787 REQ-5 c
		ICMP:           60 * time.Second,   // RFC 5508 REQ-2
		UDPHeld:        120 * time.Second,  // RFC 6888 REQ-8

		TCPSynReceived:    60 * time.Second,  // Linux
		TCPCloseWait:      60 * time.Second,  // Linux
		TCPUnacknowledged: 300 * time.Second, // Linux
	}
}

// ConntrackTimeouts returns those of Linux's nf_conntrack (nf_conntrack-sysctl.rst), which
// are for ConntrackRules. TCPResetSent and UDPHeld, which Linux does not have, are not set.
func ConntrackTimeouts() Timeouts {
	return Timeouts{
		TCPOpening: 120 * time.Second, TCPSynReceived: 60 * time.Second, TCPEstablished: 432_000 * time.Second,
		TCPHalfClosed: 120 * time.Second, TCPCloseWait: 60 * time.Second, TCPClosing: 30 * time.Second,
		TCPTimeWait: 120 * time.Second, TCPReset: 10 * time.Second, TCPUnacknowledged: 300 * time.Second,
		UDP: 30 * time.Second, UDPReplied: 120 * time.Second, ICMP: 30 * time.Second,
	}
}

// timeoutFields pairs each class with the name of its field, in class order.
var timeoutFields = [numBuiltinClasses]string{
	ClassTCPOpening: "TCPOpening", ClassTCPEstablished: "TCPEstablished", ClassTCPHalfClosed: "TCPHalfClosed",
	ClassTCPClosing: "TCPClosing", ClassTCPTimeWait: "TCPTimeWait", ClassTCPReset: "TCPReset",
	ClassTCPResetSent: "TCPResetSent", ClassUDP: "UDP", ClassUDPReplied: "UDPReplied", ClassICMP: "ICMP",
	ClassUDPHeld: "UDPHeld", ClassTCPSynReceived: "TCPSynReceived", ClassTCPCloseWait: "TCPCloseWait",
	ClassTCPUnacknowledged: "TCPUnacknowledged",
}

// byClass lists the fields in class order.
func (t *Timeouts) byClass() [numBuiltinClasses]*time.Duration {
	return [numBuiltinClasses]*time.Duration{
		ClassTCPOpening: &t.TCPOpening, ClassTCPEstablished: &t.TCPEstablished, ClassTCPHalfClosed: &t.TCPHalfClosed,
		ClassTCPClosing: &t.TCPClosing, ClassTCPTimeWait: &t.TCPTimeWait, ClassTCPReset: &t.TCPReset,
		ClassTCPResetSent: &t.TCPResetSent, ClassUDP: &t.UDP, ClassUDPReplied: &t.UDPReplied, ClassICMP: &t.ICMP,
		ClassUDPHeld: &t.UDPHeld, ClassTCPSynReceived: &t.TCPSynReceived, ClassTCPCloseWait: &t.TCPCloseWait,
		ClassTCPUnacknowledged: &t.TCPUnacknowledged,
	}
}

// Validate reports every field that is neither zero nor a whole number of
// milliseconds up to MaxTimeout. Each complaint names the field and its value
// and wraps ErrTimeout.
func (t Timeouts) Validate() error {
	var l problems.List
	for c, d := range t.byClass() {
		if d != nil && (*d < 0 || *d > MaxTimeout || *d%Tick != 0) {
			l.Add(timeoutFields[c], *d, ErrTimeout, "")
		}
	}
	return l.Err()
}

// Or returns t with every field that is not set taken from defaults.
func (t Timeouts) Or(defaults Timeouts) Timeouts {
	from := defaults.byClass()
	for c, d := range t.byClass() {
		if d != nil && *d == 0 {
			*d = *from[c]
		}
	}
	return t
}

// ticks returns the timeouts by class in ticks, RFCTimeouts filled in. The entries
// of ClassNone and of classes that are not built in are zero.
func (t Timeouts) ticks() (ticks [NumClasses]uint32) {
	t = t.Or(RFCTimeouts())
	t.TCPUnacknowledged = min(t.TCPUnacknowledged, t.TCPEstablished)
	for c, d := range t.byClass() {
		if d != nil {
			ticks[c] = uint32(*d / Tick)
		}
	}
	return ticks
}
