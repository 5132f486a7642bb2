package snat

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// What a translator is told. An option of some size is in a file of its own, with
// what carries it out; validate.go checks all of it.

// BlockSize is the number of consecutive ports that are granted together; block
// boundaries are multiples of it (Azure outbound rules; Ananta, SIGCOMM 2013).
const BlockSize = 8

// Protocol selects the transport protocols that something applies to.
type Protocol uint8

// The protocols, with Azure's names.
const (
	All Protocol = iota // TCP and UDP
	TCP
	UDP
	Query // ICMP and ICMPv6 queries, in statistics only: their identifiers follow UDP's ports
	numProtocolValues
)

// PortRange is a run of whole port blocks of one frontend.
type PortRange struct {
	Frontend netip.Addr // the address whose ports they are
	Protocol Protocol   // All, the default, is TCP and UDP; Query is not possible
	First    uint16     // a multiple of BlockSize, 8 or higher
	Count    int        // ports, a positive multiple of BlockSize
}

// Instance is a backend that owns outside ports: a virtual machine, a node.
type Instance struct {
	Name string // unique, not empty; used in errors and reports

	// Addrs are the instance's own addresses, at most one per family. They
	// are what its packets carry, and the source that pods get towards
	// destinations routed as NodeAddress.
	Addrs []netip.Addr

	// PublicAddrs are public addresses of the instance alone, at most one per
	// family and only where Addrs has one of that family (Azure: instance-level
	// public IP, AKS node public IP). What the instance sends from its own
	// address to a destination routed as Translate leaves from its public
	// address: any protocol, fragments too, ports unchanged, no session, no
	// timeout. What is sent to the public address reaches the instance
	// unasked; filtering is left to others, which is our choice. Sources in
	// Inside share the address: TCP and UDP only, fragments only as
	// Dataplane.Fragments says, in sessions whose outside port is their port at the
	// instance's own address and whose timers are those of the Policy.
	//
	// Of an ICMP error the packet that it quotes gets the other address as well
	// (RFC 5508 REQ-4, REQ-5). A protocol other than TCP, UDP and ICMPv6 keeps its
	// checksum, even one that covers addresses.
	//
	// They take precedence over Ports of the same family, which then are not
	// used. They must not be a frontend, an own address, or lie in an Inside;
	// and the own address they stand for must not lie in the instance's Inside.
	PublicAddrs []netip.Addr

	// Inside are further sources behind this instance, translated to it first
	// (the pods of a node). They must not overlap those of another instance of the
	// same Realm.
	Inside []netip.Prefix

	// Realm is the inside address space that Addrs and Inside lie in, such as the
	// VNI of an overlay network; the default is 0. Addresses of different realms
	// may overlap: [NAT.Realm] is the door of each. Only those of realm 0 are known
	// outside. So in another realm new flows of what is in Inside to destinations
	// routed as NodeAddress are refused, and Route.BothWays is of no effect.
	Realm uint32

	// Ports are the outside ports of the instance in the order in which they
	// are consumed. A port belongs to one instance only. Of each address family
	// and protocol an instance can have 516,096, what eight frontends have from
	// port 1024 on; divide more of them over several instances, and what is
	// behind them likewise.
	Ports []PortRange

	// Deterministic, if not nil, gives every inside address of its family fixed
	// ports, of which no log is needed; what goes beyond them is granted in
	// [Owned].Blocks. Its Inside is the instance's, and Ports must grant all
	// ports of its Outside that are not reserved. An address that is no subscriber
	// of it has no ports (flow.ReasonNoOutbound). Sequential only. A change ends the
	// instance's sessions.
	Deterministic *deterministic.Parameters

	// Policy, if not nil, is the instance's own instead of the Config's.
	// Instances that share a policy share shards, so at most 64 different ones
	// are possible.
	Policy *Policy
}

// Policy says when flows end, and how.
type Policy struct {
	// IdleTimeout ends flows without packets in either direction: established
	// TCP connections and UDP sessions. 0 means 4 minutes, the default of an
	// Azure outbound rule. Whole milliseconds, at most 24 days.
	IdleTimeout time.Duration

	// Timeouts are the timeouts of all idle classes. A field that is not set is
	// that of [AzureTimeouts] with IdleTimeout. UDPHeld needs Shared ports. Those that
	// only ConntrackRules has are those of TCPOpening, TCPHalfClosed and TCPEstablished,
	// if they are not set.
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

// RouteAction says what happens to new flows towards a destination.
type RouteAction uint8

// The route actions.
const (
	Translate   RouteAction = iota // source-NAT to a frontend
	NodeAddress                    // source-NAT to the instance's own address, if the source is not already that
	PassThrough                    // leave the packet alone
	Blackhole                      // drop
	numRouteActions
)

// Route is one row of the destination table. The longest prefix wins; among rows
// with the same one those with ports come first, then those with a protocol. A
// destination without a row is translated.
//
// Cost: rows are found by search, not one by one, so a new flow or a stray packet
// takes about the same time for a hundred thousand of them. [NAT.Reconfigure] lays n
// rows out in O(n log n).
type Route struct {
	Prefix netip.Prefix // of the remote address, without host bits
	Action RouteAction  // what happens to new flows; zero is Translate

	// Protocol narrows the row to TCP or UDP; All, the default, is any protocol.
	Protocol Protocol

	// FirstPort and LastPort narrow the row to TCP and UDP with a remote port
	// between them, 1..65535. FirstPort 0, the default, is all ports, LastPort 0
	// is FirstPort alone.
	FirstPort, LastPort uint16

	// BothWays makes a no-NAT rule of a PassThrough row (RFC 6888 REQ-6): what
	// comes from there, by its source address and port, to an inside address
	// passes untranslated too, asked for or not, for nothing is remembered. In
	// both directions it then covers protocols that are not translated, and
	// fragments unless there is a row with ports for that prefix. Inside addresses of a
	// [Realm] other than 0 cannot be told apart from outside and get nothing.
	BothWays bool
}

// Config describes a translator. The zero value of every field is a documented
// default; New copies what it keeps. [NAT.Reconfigure] lists the fields that cannot
// change later.
type Config struct {
	// Instances are the backends whose packets are translated, at most 16,777,214.
	Instances []Instance

	// Routes say what happens to new flows by their destination. None means that all
	// are translated.
	Routes []Route

	// Ports says who has the outside ports, and how they are given to flows: *Owned,
	// where each instance has its own, or *Shared. nil is &Owned{}, an Azure load
	// balancer. A copy of a Config has the same one.
	Ports Ports

	// Policy is that of all instances that have none of their own.
	Policy

	// Dataplane is how the translator runs and what it carries besides TCP and UDP.
	Dataplane
}

// Ports says who has the outside ports: an [Owned] or a [Shared].
type Ports interface{ isPorts() }

// Owned says that every instance has ports of its own, those of Instance.Ports, and how
// it gives them to flows. The zero value is what an Azure load balancer does.
type Owned struct {
	// TCP and UDP say how flows are mapped and filtered, and when they share
	// ports.
	TCP, UDP Behavior

	// Allocation says which of its ports an instance gives to new flows. The zero
	// value is Azure's: the lowest port that is free.
	Allocation Allocation

	// Blocks lets inside addresses have ports in blocks only; the zero value does
	// not.
	Blocks PortBlocks

	// Limits bound what one inside address may use; the zero value does not.
	Limits Limits

	// Hairpin lets hosts of the inside reach each other by their outside sockets
	// (RFC 4787 REQ-9): TCP, UDP and, with ICMP.Errors, errors about them. The
	// source that the receiver sees is the sender's outside socket, and its
	// filter decides as if the packet came from outside. A packet is counted in
	// both directions. What a host sends to its own mapping, and fragments, are
	// dropped; so is everything to a public address. It needs ShareNever for
	// both protocols. The default is to drop them all as
	// [flow.ReasonHairpin], as Azure does.
	Hairpin bool
}

func (*Owned) isPorts()  {}
func (*Shared) isPorts() {}

// Dataplane is what every layer hands down to the translator unchanged, whatever the
// product: how it runs, what it carries besides TCP and UDP, and whom it tells. The
// zero value is what Azure does, in silence.
type Dataplane struct {
	// Shards is the number of locks, 1..64. 0 means 8; more are made if there
	// are more different policies. What becomes of packets does not depend on it,
	// except where Policy.ResetRate is reached.
	Shards int

	// Seed decides everything that is random. The same seed and the same
	// calls give the same bytes.
	Seed uint64

	// HashKey is the key of the hash that finds sessions and all other records.
	// Nothing that can be seen depends on it, except how long things take. 0, the
	// default, draws a secret one from the system: who knows the key can choose
	// packets whose records collide, and then the NAT is slow and may refuse them
	// ([flow.ReasonMemory]). Another value makes also that repeatable.
	HashKey uint64

	// ICMP says what happens to ICMP and ICMPv6. The zero value drops it.
	ICMP ICMP

	// Fragments says what happens to IP fragments; the zero value drops them.
	Fragments Fragments

	// HoldSYN says what becomes of unsolicited SYNs from the outside; the zero
	// value drops them silently.
	HoldSYN HoldSYN

	// Lenient says which malformed packets pass nevertheless; the zero value is
	// none.
	Lenient Leniency

	// ReclaimGrace is how long flows may go on that use ports which a
	// [NAT.Reconfigure] takes away from their instance. Meanwhile these ports
	// carry no new connections and are shown as AwaitingRemoval, unless another
	// instance gets them: then their flows end at once. 0, the default, ends
	// them at once in every case. In both cases the end is silent. Azure does
	// not publish what it does; that flows are dropped without RST, and when, is
	// our choice. Whole milliseconds, at most 24 days.
	ReclaimGrace time.Duration

	// CountTraffic counts packets, bytes and SYNs by frontend, protocol and
	// direction, for [NAT.Traffic]. It costs each translated packet 5 to 30
	// nanoseconds, so it is off unless set.
	CountTraffic bool

	// Log says which events Hooks.Event is told of.
	Log Log

	// Hooks are called when something happens; nil ones cost nothing.
	Hooks Hooks
}

// settings is a Config taken apart by who has the ports.
type settings struct {
	Config
	Owned          // zero if they are shared
	shared *Shared // nil if instances own them
}

// settings takes c apart.
func (c Config) settings() settings {
	s := settings{Config: c}
	switch p := c.Ports.(type) {
	case *Owned:
		if p != nil {
			s.Owned = *p
		}
	case *Shared:
		s.shared = cmp.Or(p, &Shared{})
	}
	return s
}

// Hooks are callbacks on events. They run under a lock, mostly that of the
// instance's shard: they must be quick and must not call back into the translator.
// Those of different shards may run at the same time.
type Hooks struct {
	// SessionCreated is called after a session has been created.
	SessionCreated func(now flow.Time, instance uint32, s flow.Info)
	// SessionExpired is called when a session has reached its idle timeout, or gives
	// way (Limits.HalfOpen). Its class tells the cause.
	SessionExpired func(at flow.Time, instance uint32, s flow.Info)
	// PortRefused is called when a flow is refused for want of a port.
	PortRefused func(now flow.Time, instance uint32, proto uint8, reason flow.Reason)
	// SessionCut is called when a reconfiguration ends a session, silently.
	SessionCut func(at flow.Time, instance uint32, s flow.Info, cause CutCause)
	// Event is told what RFC 8158 wants logged; see [Log]. Telling it allocates
	// nothing, except for the parameters of deterministic mappings.
	Event func(Event)
	// ResetSent is called when an idle connection is reset at both ends.
	ResetSent func(at flow.Time, instance uint32, s flow.Info)
	// Fault is told what [Stats].Faults counts, in words that are worth a report:
	// it must not happen. The text names the session that was dropped, if any.
	Fault func(at flow.Time, text string)
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
