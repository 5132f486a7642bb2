package snat

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
)

// Policies: when flows end, and how; what is checked of one, and the idle timeouts that
// RFCs demand at least. Read RFC 4787 section 4.3 (REQ-5) and RFC 5382 section 5 (REQ-5)
// first.

// Policy says when flows end, and how.
type Policy struct {
	// IdleTimeout ends flows without packets in either direction: established
	// TCP connections and UDP sessions. 0 means 4 minutes, the default of an
	// Azure outbound rule. Whole milliseconds, at most 24 days.
	IdleTimeout time.Duration

	// Timeouts are the timeouts of all idle classes. A field that is not set is
	// that of [AzureTimeouts] with IdleTimeout. UDPHeld needs Shared ports. The timeouts
	// that only ConntrackRules has default to those of TCPOpening, TCPHalfClosed and
	// TCPEstablished.
	Timeouts flow.Timeouts

	// EnableTCPReset sends a RST to both ends of an established TCP flow that
	// reaches its idle timeout.
	EnableTCPReset bool

	// ResetUnknown answers TCP segments that belong to no flow, such as those
	// that come after a silent expiry.
	ResetUnknown ResetUnknown

	// ResetSYN answers SYNs that begin no flow: with ResetInside those of the
	// inside that are refused, for want of a port or by a Blackhole route, instead
	// of with [ICMP].Refusals; with ResetSender unsolicited ones from the outside
	// too. The default is silence, as in Azure (a RST would make a host give up at
	// once).
	ResetSYN ResetUnknown

	// ResetRate and ResetBurst limit the RSTs that each shard with this policy
	// makes, for idle connections and as answers, in virtual time: RSTs per second
	// in the long run, and how many at once (0 means ResetRate). Each is
	// 0..1,000,000; a ResetRate of 0, the default, is no limit. Connections
	// beyond it end silently, and Stats.ResetsSuppressed counts their RSTs. Every
	// shard has a limit of its own; with Dataplane.Shards 1 it is that of the whole
	// NAT.
	ResetRate, ResetBurst int

	// PickUp lets a segment from the inside with ACK, but without SYN, FIN and
	// RST, begin a session: the connection is older than the translator, or what
	// it knew of it is lost (Linux: nf_conntrack_tcp_loose). Such a session has
	// the timeout of a half-open connection until both ends have sent an ACK, and
	// none of its ends is reset before that. The default is to drop the segment.
	PickUp bool

	// UDPPorts are idle timeouts of UDP sessions to well-known ports.
	UDPPorts PortTimeouts

	// EnforceMinimums makes an error of idle timeouts below those of the RFCs: UDP
	// 120 s (RFC 4787 REQ-5; except UDPPorts), established and half-closed TCP
	// 7,440 s (RFC 5382 REQ-5). Azure's are shorter, so it is off unless set. Those
	// of half-open and closing connections are the administrator's (RFC 7857
	// section 2.1).
	EnforceMinimums bool

	// EndRefused ends a session at once when its first reply is a RST, as Linux
	// does; else it holds its port for Timeouts.TCPReset.
	EndRefused bool

	// TCPRules says by whose rules TCP connections are followed:
	// [flow.RFCRules], the default, or [flow.ConntrackRules], those of Linux.
	// Established packets then cost some 20 ns more each, and data that follows an
	// acknowledgment moves its timer. A change concerns new connections.
	TCPRules flow.TCPRules

	// UDPRefresh says which packets keep a UDP session from ending.
	UDPRefresh UDPRefresh
}

// DefaultIdleTimeout is that of an Azure outbound rule.
const DefaultIdleTimeout = 4 * time.Minute

// AzureTimeouts returns the timeouts of a Policy that sets none but its idle timeout;
// 0 is DefaultIdleTimeout. Those after FIN and RST are what Azure has published of
// outbound connections (2019-20, the only ones). That of half-open connections is our
// choice, for there is none. Queries are not carried there, so theirs is the minimum
// of RFC 5508 REQ-2. UDPHeld is 0: no port is kept after a UDP session.
func AzureTimeouts(idle time.Duration) flow.Timeouts {
	idle = cmp.Or(idle, DefaultIdleTimeout)
	const opening, fin, rst = 30 * time.Second, 240 * time.Second, 15 * time.Second
	return flow.Timeouts{
		TCPOpening: opening, TCPEstablished: idle, TCPHalfClosed: fin, TCPClosing: fin, TCPTimeWait: fin,
		TCPReset: rst, TCPResetSent: rst, UDP: idle, UDPReplied: idle, ICMP: minQueryTimeout,
		TCPSynReceived: opening, TCPCloseWait: fin, TCPUnacknowledged: idle,
	}
}

// timeouts returns p.Timeouts with everything set.
func (p *Policy) timeouts() flow.Timeouts {
	t := p.Timeouts
	t.TCPSynReceived = cmp.Or(t.TCPSynReceived, t.TCPOpening)
	t.TCPCloseWait = cmp.Or(t.TCPCloseWait, t.TCPHalfClosed)
	t.TCPUnacknowledged = cmp.Or(t.TCPUnacknowledged, t.TCPEstablished)
	return t.Or(AzureTimeouts(p.IdleTimeout))
}

// policy checks a policy whose fields are named with a prefix.
func (v *validation) policy(prefix string, p *Policy) {
	v.timeout(prefix+"IdleTimeout", p.IdleTimeout)
	v.Include(prefix+"Timeouts", p.Timeouts.Validate())
	if !p.TCPRules.Valid() {
		v.Add(prefix+"TCPRules", uint8(p.TCPRules), flow.ErrOutOfRange, "RFCRules or ConntrackRules")
	}
	problems.Constant(&v.List, prefix+"ResetUnknown", p.ResetUnknown, numResetUnknowns)
	problems.Constant(&v.List, prefix+"ResetSYN", p.ResetSYN, numResetUnknowns)
	for _, f := range []struct {
		name  string
		value int
	}{{"ResetRate", p.ResetRate}, {"ResetBurst", p.ResetBurst}} {
		problems.Between(&v.List, prefix+f.name, f.value, 0, resets.MaxRate)
	}
	v.udpPorts(prefix, &p.UDPPorts)
	if p.EnforceMinimums {
		v.minimums(prefix, p)
	}
	problems.Constant(&v.List, prefix+"UDPRefresh", p.UDPRefresh, numUDPRefreshes)
}

// Specification constants: what Policy.EnforceMinimums enforces.
const (
	minUDPIdle        = 120 * time.Second  // RFC 4787 REQ-5
	minTCPEstablished = 7440 * time.Second // RFC 5382 REQ-5
)

// minQueryTimeout is the minimum of RFC 5508 REQ-2.
const minQueryTimeout = 60 * time.Second

// minimums complains about timeouts of a policy below those of the RFCs.
func (v *validation) minimums(prefix string, p *Policy) {
	t := p.timeouts()
	for _, f := range []struct {
		name       string
		value, min time.Duration
	}{
		{"TCPEstablished", t.TCPEstablished, minTCPEstablished},
		{"TCPHalfClosed", t.TCPHalfClosed, minTCPEstablished},
		{"UDP", t.UDP, minUDPIdle},
		{"UDPReplied", t.UDPReplied, minUDPIdle},
	} {
		if f.value < f.min {
			v.Add(prefix+"Timeouts."+f.name, f.value, flow.ErrOutOfRange, "at least %v with EnforceMinimums", f.min)
		}
	}
}

// ResetUnknown says who is told with a RST that a connection does not exist.
//
// A segment with ACK is answered, to its sender only, with the sequence number
// it acknowledges (Policy.ResetUnknown), a SYN with one that acknowledges it
// (Policy.ResetSYN; RFC 9293 section 3.10.7.1). A RST, a fragment, a segment
// with a wrong checksum, one from or to an address that may not begin a flow, and
// one to a port that is granted to nobody are not answered, nor is one to an instance's
// own address. The packet itself is
// dropped in any case. The RST has the DSCP of the segment and is handed out by
// Advance; 65,536 can wait in a shard, and further ones are counted as
// Stats.ResetsSuppressed. The instance of one to the outside is 0.
type ResetUnknown uint8

// Who is told.
const (
	ResetNone   ResetUnknown = iota // nobody; the default, Azure load balancers
	ResetInside                     // senders on the inside; AWS NAT gateways
	ResetSender                     // senders on either side; Azure NAT gateways
	numResetUnknowns
)
