package snat

// ICMP and ICMPv6 as they are configured. Package dataplane takes messages to their
// sessions and tells senders; what the bytes mean is known to package icmp.

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// ICMP says what a translator does with ICMP and ICMPv6. Its zero value is an
// Azure load balancer's outbound rule (Azure: outbound connections, limitations):
// it carries no ICMP, makes none, and leaves TTL and hop limit alone. All of it
// is our choice to offer, after RFC 5508; nothing of it costs packets of other
// protocols anything, except a TTL mode and an MTU. Azure's NAT gateway carries no
// ICMP either, and echo only as StandardV2.
type ICMP struct {
	// Queries carries echo requests of the inside and the replies to them. The
	// identifiers of an instance at a frontend are the numbers of its UDP port
	// blocks there, in a space of their own (our choice: so the owner of a reply
	// is found like that of a datagram), those of Shared ports are the ports' (our
	// choice as well). A query session idles for Policy.Timeouts.ICMP, 60 s if that
	// is zero (RFC 5508 REQ-2). A reply must come from the address that was asked.
	Queries bool

	// Timestamps carries ICMPv4 Timestamp and Timestamp Reply (types 13 and 14)
	// like echo. It needs Queries.
	Timestamps bool

	// QueryPerDestination gives a host's identifier another one for each
	// destination, and lets hosts share one where their destinations differ. The
	// default is one for all destinations, shared with nobody (RFC 5508 REQ-1a).
	// With Shared ports it must be false, because there every flow is mapped so.
	QueryPerDestination bool

	// RandomIDs draws identifiers from Dataplane.Seed; the default is the lowest
	// one that is free. At most 16 are drawn, then the lowest free one serves. With
	// Shared ports it must be false, because there Shared.Choice decides.
	RandomIDs bool

	// AllowShortTimeout permits a Policy.Timeouts.ICMP below 60 s, which RFC 5508
	// REQ-2 forbids.
	AllowShortTimeout bool

	// Errors translates errors about sessions, in both directions: Destination
	// Unreachable, Time Exceeded, Parameter Problem and Packet Too Big, with what
	// they quote, also if that is a later fragment of a datagram that
	// [Dataplane].Fragments knows; errors in fragments themselves are dropped. No error
	// creates, refreshes or ends a session. An error from the inside must come from
	// the instance whose session it quotes (our choice), and leaves with the
	// session's outside address.
	Errors bool

	// PublicAddrs carries queries and errors of the sources that share an instance's public
	// address ([Instance].PublicAddrs) as Queries and Errors do, whatever those two say; of other
	// sources it carries nothing. The instance's own ICMP passes in any case.
	PublicAddrs bool

	// SourceQuench translates Source Quench of ICMPv4 like the other errors, which
	// hosts ignore and RFC 6633 wants no router to send. It needs Errors.
	SourceQuench bool

	// LenientQuotes translates errors whose quoted IPv4 header has a wrong checksum,
	// as Linux does; it stays as wrong as it is. The default is to drop them. It
	// needs Errors.
	LenientQuotes bool

	// TTL says whether the translator is a hop.
	TTL TTLMode

	// MTU is the largest packet in bytes that is forwarded, in either direction:
	// 1,280 (RFC 8200 section 5) to 65,535. A larger IPv6 packet, or IPv4 packet
	// with DF, is answered with Packet Too Big (of fragments only the first of a
	// datagram, RFC 1812 section 4.3.2.7). One without DF gets the verdict
	// [flow.Queued] and leaves by the sink of [NAT.Advance] in fragments, in the
	// order of offsets and with an identification of their own; [NAT.NextDeadline]
	// tells the time of its arrival (our choice: the doors stay one packet in, one
	// verdict out). No more than 4 MiB wait there, and each packet still enters
	// whole; then they are dropped with [flow.ReasonFragLimit]. 0 means no limit.
	MTU int

	// Refusals says what the sender of a flow is told that gets no port or whose
	// destination is a Blackhole.
	Refusals Refusal

	// Problems tells the senders of IPv6 packets that are dropped for what they
	// are: Parameter Problem for a fragment whose length is no multiple of 8
	// (4/0, pointing at the payload length) or that ends beyond 65,535 bytes (4/0,
	// at the fragment offset; RFC 8200 section 4.5), for a first fragment without
	// all headers (4/3; RFC 7112 section 5), for a Routing header with segments
	// left (4/0, at its type; RFC 8200 section 4.4) and an unknown Hop-by-Hop
	// option that asks for it (4/2; section 4.2), and beyond scope of source
	// address (1/2; RFC 4443 section 3.1) where a link-local address would cross.
	// The first two are about fragments with an offset too, which are never
	// answered otherwise.
	Problems bool

	// ProtocolUnreachable tells the senders of packets of protocols other than TCP,
	// UDP and ICMP: ICMP 3/2, ICMPv6 1/4 (our choice: Parameter Problem 4/1 is what
	// the packet's destination says).
	ProtocolUnreachable bool

	// SilentInside and SilentOutside suppress the errors made to a side, whatever
	// they are made for (RFC 5508 REQ-9); the packets are dropped all the same.
	SilentInside, SilentOutside bool

	// ErrorRate and ErrorBurst limit the errors made for all of these reasons, over
	// the whole NAT: errors per second in the long run, and how many at
	// once. Each is 1..1,000,000; 0 means 10 (RFC 4443 section 2.4 f).
	ErrorRate, ErrorBurst int

	// RouterAddrs are the source of errors made for the inside, at most one per
	// family. The default is the instance's first frontend, else its public, else
	// its own address (our choice). Errors to the outside come from the address
	// that the packet was sent to.
	RouterAddrs []netip.Addr
}

// TTLMode says what happens to the TTL or hop limit of forwarded packets.
type TTLMode uint8

// The TTL modes.
const (
	TTLTransparent TTLMode = iota // left alone, as Azure does, and a packet that arrives with 0 is dropped; the default
	TTLRouter                     // counted down; a packet that arrives with 0 or 1 is answered with Time Exceeded
	numTTLModes
)

// Refusal says how the sender of a refused flow is told.
type Refusal uint8

// The refusals.
const (
	RefuseSilently        Refusal = iota // not at all, as Azure does; the default
	RefuseHostUnreachable                // ICMP 3/1, ICMPv6 1/3
	RefuseProhibited                     // ICMP 3/13, ICMPv6 1/1 (RFC 5508 REQ-8)
	numRefusals
)

// maxErrorRate bounds ICMP.ErrorRate and ErrorBurst.
const maxErrorRate = 1_000_000

// icmp checks Dataplane.ICMP.
func (v *validation) icmp(i *ICMP) {
	if i.Timestamps && !i.Queries {
		v.Add("ICMP.Timestamps", i.Timestamps, flow.ErrOutOfRange, "needs ICMP.Queries")
	}
	if (i.SourceQuench || i.LenientQuotes) && !i.Errors {
		v.Add("ICMP.SourceQuench", problems.Rawf("%v, LenientQuotes %v", i.SourceQuench, i.LenientQuotes), flow.ErrOutOfRange, "they need ICMP.Errors")
	}
	problems.Constant(&v.List, "ICMP.TTL", i.TTL, numTTLModes)
	problems.Constant(&v.List, "ICMP.Refusals", i.Refusals, numRefusals)
	if i.MTU != 0 && (i.MTU < icmp.MinMTU || i.MTU > 65535) {
		v.Add("ICMP.MTU", i.MTU, flow.ErrOutOfRange, "0 or %d..65535", icmp.MinMTU)
	}
	problems.Between(&v.List, "ICMP.ErrorRate", i.ErrorRate, 0, maxErrorRate)
	problems.Between(&v.List, "ICMP.ErrorBurst", i.ErrorBurst, 0, maxErrorRate)
	for range v.onePerFamily(func(j int) string { return problems.Index("ICMP.RouterAddrs", j) }, i.RouterAddrs) {
	}
}

// same reports whether two configurations are equal.
func (c *ICMP) same(o *ICMP) bool {
	a, b := *c, *o
	a.RouterAddrs, b.RouterAddrs = nil, nil
	return reflect.DeepEqual(a, b) && slices.Equal(c.RouterAddrs, o.RouterAddrs)
}

// rules returns which messages are carried.
func (c *ICMP) rules() icmp.Rules {
	return icmp.Rules{Queries: c.Queries, Timestamps: c.Timestamps, Errors: c.Errors, SourceQuench: c.SourceQuench, LenientQuotes: c.LenientQuotes}
}

// defaultErrorRate is how many errors are made per second, and at once (RFC 4443 section
// 2.4 f).
const defaultErrorRate = 10
