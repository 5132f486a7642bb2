package snat

// ICMP and ICMPv6: what is carried, and queries. Read RFC 5508 sections 3 and 7,
// RFC 792 and RFC 4443 first; errors are in icmp_error.go, those that the
// translator makes itself in icmp_generate.go.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
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
	// With Shared ports queries are mapped so anyway, as everything is, and there is no
	// other wish.
	QueryPerDestination bool

	// RandomIDs draws identifiers from Config.Seed; the default is the lowest
	// one that is free. At most 16 are drawn, then the lowest free one serves. An
	// With Shared ports their Choice decides instead.
	RandomIDs bool

	// AllowShortTimeout permits a Policy.Timeouts.ICMP below 60 s, which RFC 5508
	// REQ-2 forbids.
	AllowShortTimeout bool

	// Errors translates errors about sessions, in both directions: Destination
	// Unreachable, Time Exceeded, Parameter Problem and Packet Too Big, with what
	// they quote, also if that is a later fragment of a datagram that
	// [Config].Fragments knows; errors in fragments themselves are dropped. No error
	// creates, refreshes or ends a session. An error from the inside must come from
	// the instance whose session it quotes (our choice), and leaves with the
	// session's outside address.
	Errors bool

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

// minQueryTimeout is the minimum of RFC 5508 REQ-2.
const minQueryTimeout = 60 * time.Second

// icmp checks Config.ICMP and the timeouts of query sessions.
func (v *validation) icmp(c *settings) {
	i := &c.ICMP
	if i.Timestamps && !i.Queries {
		v.add("ICMP.Timestamps %v: %w: needs ICMP.Queries", i.Timestamps, ErrOutOfRange)
	}
	if (i.SourceQuench || i.LenientQuotes) && !i.Errors {
		v.add("ICMP.SourceQuench %v, LenientQuotes %v: %w: they need ICMP.Errors", i.SourceQuench, i.LenientQuotes, ErrOutOfRange)
	}
	if i.TTL >= numTTLModes {
		v.add("ICMP.TTL %d: %w: 0..%d", i.TTL, ErrOutOfRange, numTTLModes-1)
	}
	if i.Refusals >= numRefusals {
		v.add("ICMP.Refusals %d: %w: 0..%d", i.Refusals, ErrOutOfRange, numRefusals-1)
	}
	if i.MTU != 0 && (i.MTU < minMTU || i.MTU > 65535) {
		v.add("ICMP.MTU %d: %w: 0 or %d..65535", i.MTU, ErrOutOfRange, minMTU)
	}
	if i.ErrorRate < 0 || i.ErrorRate > maxErrorRate {
		v.add("ICMP.ErrorRate %d: %w: 0..%d", i.ErrorRate, ErrOutOfRange, maxErrorRate)
	}
	if i.ErrorBurst < 0 || i.ErrorBurst > maxErrorRate {
		v.add("ICMP.ErrorBurst %d: %w: 0..%d", i.ErrorBurst, ErrOutOfRange, maxErrorRate)
	}
	if c.shared != nil && (i.QueryPerDestination || i.RandomIDs) {
		v.add("ICMP.QueryPerDestination %v, ICMP.RandomIDs %v: %w", i.QueryPerDestination, i.RandomIDs, ErrShared)
	}
	var families [2]bool
	for k, a := range i.RouterAddrs {
		switch {
		case !flow.IsHost(a):
			v.add("ICMP.RouterAddrs[%d] %v: %w", k, a, ErrAddress)
		case families[family(a)]:
			v.add("ICMP.RouterAddrs[%d] %v: %w: one address per family", k, a, ErrTooMany)
		default:
			families[family(a)] = true
		}
	}
	if !i.Queries || i.AllowShortTimeout {
		return
	}
	short := func(prefix string, p *Policy) {
		if d := p.Timeouts.ICMP; d > 0 && d < minQueryTimeout {
			v.add("%sTimeouts.ICMP %v: %w: below %v only with ICMP.AllowShortTimeout", prefix, d, ErrOutOfRange, minQueryTimeout)
		}
	}
	short("", &c.Policy)
	for k := range c.Instances {
		if p := c.Instances[k].Policy; p != nil {
			short(fmt.Sprintf("Instances[%d].Policy.", k), p)
		}
	}
}

// same reports whether two configurations are equal.
func (c *ICMP) same(o *ICMP) bool {
	a, b := *c, *o
	a.RouterAddrs, b.RouterAddrs = nil, nil
	return reflect.DeepEqual(a, b) && slices.Equal(c.RouterAddrs, o.RouterAddrs)
}

// on reports whether any ICMP is carried.
func (c *ICMP) on() bool { return c.Queries || c.Errors }

// carries reports whether messages of a kind and type may cross.
func (c *ICMP) carries(k icmpKind, typ uint8) bool {
	switch k {
	case icmpError:
		return c.Errors
	case icmpRequest, icmpReply:
		return c.Queries && (c.Timestamps || typ != timestamp && typ != timestampReply)
	}
	return false
}

// isICMP reports whether a protocol is ICMP or ICMPv6.
func isICMP(proto uint8) bool { return proto == wire.ProtoICMP || proto == wire.ProtoICMPv6 }

// icmpKind is what a message is to a translator.
type icmpKind uint8

const (
	icmpOther   icmpKind = iota // never crosses
	icmpRequest                 // a query
	icmpReply                   // the answer to one
	icmpError                   // quotes a packet, and is translated by it
)

// Message types that package wire has no name for (RFC 792).
const (
	sourceQuench   = 4
	redirect       = 5
	timestamp      = 13
	timestampReply = 14
	redirect6      = 137 // RFC 4861
)

// kindOf returns the kind of the ICMP message that b, two bytes or more, starts with.
func kindOf(proto uint8, b []byte) icmpKind {
	typ, query := b[0], b[1] == 0
	if proto == wire.ProtoICMPv6 {
		switch {
		case typ >= wire.ICMPv6Unreachable && typ <= wire.ICMPv6ParameterProblem:
			return icmpError
		case typ == wire.ICMPv6EchoRequest && query:
			return icmpRequest
		case typ == wire.ICMPv6EchoReply && query:
			return icmpReply
		}
		return icmpOther
	}
	switch typ {
	case wire.ICMPv4Unreachable, wire.ICMPv4TimeExceeded, wire.ICMPv4ParameterProblem:
		return icmpError
	case wire.ICMPv4EchoRequest, timestamp:
		if query {
			return icmpRequest
		}
	case wire.ICMPv4EchoReply, timestampReply:
		if query {
			return icmpReply
		}
	}
	return icmpOther
}

// message returns the kind, type and, of a query, the identifier of the message
// in p, which must be ICMP.
func (c *ICMP) message(p *wire.Packet) (k icmpKind, typ uint8, id uint16) {
	b := p.B[p.L4:]
	if k, typ = kindOf(p.Proto, b), b[0]; c.SourceQuench && p.Proto == wire.ProtoICMP && typ == sourceQuench {
		k = icmpError
	}
	return k, typ, binary.BigEndian.Uint16(b[4:])
}

// isError reports whether p is an ICMP error that a translator can translate.
func (c *ICMP) isError(p *wire.Packet) bool {
	return p.Flags&wire.Fragmented == 0 && c.isErrorMessage(p)
}

// isErrorMessage is isError for a packet or a first fragment.
func (c *ICMP) isErrorMessage(p *wire.Packet) bool {
	if !isICMP(p.Proto) {
		return false
	}
	kind, _, _ := c.message(p)
	return kind == icmpError
}

// noPorts is what a lane's key has for the ports of an ICMP message, messagePort
// each: a session of a query has remote port 0, so the key fits none, and the
// message leaves the way of the others where they have no session.
const (
	messagePort = 1
	noPorts     = messagePort<<16 | messagePort
)

// outboundICMP is firstOutbound for ICMP: of an instance's messages only queries
// have sessions.
func (sh *shard) outboundICMP(m *moment, l *lane, t *ports.Tuple) flow.Verdict {
	n := sh.nat
	t.InsidePort, t.DestPort = 0, 0
	if n.unfitAt(&l.p) != nil {
		return sh.outbound(m.routes, m.now, n.instances[l.inst], &l.p, t)
	}
	if kind, typ, ident := n.icmp.message(&l.p); kind == icmpRequest && n.icmp.carries(kind, typ) {
		t.InsidePort = ident
		if id := sh.insideOf(t, l.inst); id != 0 {
			s := sh.At(id)
			if sh.Expired(s, m.tick) {
				id, s = sh.settle(m, id, s, func() flow.ID { return sh.insideOf(t, l.inst) })
			}
			if id != 0 {
				s.TouchTick(m.tick)
				outboundQuery(&l.p, s)
				return flow.Verdict{Action: flow.Forward, To: flow.Outside, Instance: l.inst}
			}
		}
	}
	return sh.outbound(m.routes, m.now, n.instances[l.inst], &l.p, t)
}

// firstICMP reports why a message that is not an error may not begin a flow, if so.
func (n *NAT) firstICMP(p *wire.Packet) flow.Reason {
	switch kind, typ, _ := n.icmp.message(p); {
	case !n.icmp.on():
		return flow.ReasonUnsupportedProto
	case !n.icmp.carries(kind, typ):
		return flow.ReasonICMPType
	case kind == icmpReply:
		return flow.ReasonNoFlow
	}
	return flow.ReasonNone
}

// parseInboundICMP is the end of parseInbound for protocols other than TCP and
// UDP, to target, which is one of our addresses. A public address gets what no
// session of what is behind it can want.
func (n *NAT) parseInboundICMP(r *routes, l *lane, target uint32, v *flow.Verdict) bool {
	proto := l.p.Proto
	if !isICMP(proto) || !n.icmp.on() {
		return n.inboundSessionless(r, l, flow.ReasonUnsupportedProto, v)
	}
	kind, typ, port := n.icmp.message(&l.p)
	wanted := n.icmp.carries(kind, typ) && kind != icmpRequest
	if target--; target >= publicFlag {
		l.inst = target &^ (nodeFlag | publicFlag)
		inst := r.instances[l.inst]
		if target&nodeFlag == 0 && !(inst.Masquerades && wanted) {
			return n.inboundDirect(r, l, inst, v)
		}
		l.shard = uint8(inst.Shard)
	}
	reason := r.unsolicited(l)
	q := quote{lenient: n.icmp.LenientQuotes}
	switch {
	case kind == icmpRequest && n.icmp.carries(kind, typ):
		return n.dropEarly(flow.Outside, reason, v)
	case !wanted:
		return n.dropEarly(flow.Outside, flow.ReasonICMPType, v)
	case target >= publicFlag:
		return true
	case kind == icmpError:
		if reason == flow.ReasonNoFlow {
			reason = flow.ReasonICMPNoFlow
		}
		if why := q.receive(&l.p); why != flow.ReasonNone {
			return n.dropEarly(flow.Outside, why, v)
		}
		proto, port = q.proto, q.srcPort
	}
	o := r.frontends[target].Owner[ports.PoolIndex(proto)]
	if o == nil || o.Shard[port/BlockSize] == 0 {
		return n.dropEarly(flow.Outside, reason, v)
	}
	l.shard = o.Shard[port/BlockSize] - 1
	return true
}

// exceptionalInbound handles inbound packets that processInbound finds no session
// for although they have one: ICMP, and what may not be forwarded. If it returns
// false the packet has none.
func (sh *shard) exceptionalInbound(m *moment, l *lane, v *flow.Verdict) bool {
	p, n := &l.p, sh.nat
	unfit, public := n.unfitAt(p), m.routes.publicOf(l)
	if unfit == nil && !isICMP(p.Proto) {
		return false
	}
	*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonNoFlow}
	if n.icmp.isError(p) {
		if unfit != nil {
			v.Reason = unfit.reason
			return true
		}
		*v = sh.inboundError(m, l)
		return v.Action == flow.Forward || public == nil
	}
	s := sh.wanted(m, l)
	switch {
	case s != nil:
		v.Instance = s.Key.VNI()
	case public != nil:
		v.Instance = public.Index
	default:
		return true
	}
	if unfit != nil {
		v.Reason = n.complain(m.now, flow.Outside, v.Instance, p, addresses(p, flow.Outside).Inside, unfit)
		return true
	}
	if s == nil {
		return false
	}
	s.TouchTick(m.tick)
	inboundQuery(p, s)
	*v = flow.Verdict{Action: flow.Forward, To: flow.Inside, Instance: v.Instance}
	return true
}

// wanted returns the live session that an inbound packet belongs to, or nil.
func (sh *shard) wanted(m *moment, l *lane) *flow.Session {
	p := &l.p
	t := addresses(p, flow.Outside)
	outside, port := t.Inside, uint16(0)
	switch {
	case p.Flags&wire.NonFirst != 0:
		return nil
	case isICMP(p.Proto):
		_, _, port = sh.nat.icmp.message(p)
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		ports := p.Ports()
		t.DestPort, port = uint16(ports>>16), uint16(ports)
	}
	id := sh.OutsideID(&t, outside, port)
	if id == 0 {
		return nil
	}
	s := sh.At(id)
	if sh.Expired(s, m.tick) {
		id, s = sh.settle(m, id, s, func() flow.ID { return sh.OutsideID(&t, outside, port) })
	}
	if id == 0 || s.Track.Class == flow.ClassTCPResetSent {
		return nil
	}
	return s
}

// insideOf returns the session of a tuple in an instance, or 0.
func (sh *shard) insideOf(t *ports.Tuple, inst uint32) flow.ID {
	h := sh.nat.table.Hasher()
	if t.Family == 0 {
		k := flow.Key{
			Src: uint32(t.Inside[0]), Dst: uint32(t.Remote[0]),
			SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: inst<<8 | uint32(t.Proto),
		}
		return sh.LookupInside(&k, h.Hash(&k))
	}
	k := flow.Key6{Src: t.Inside, Dst: t.Remote, SrcPort: t.InsidePort, DstPort: t.DestPort, VNIProto: inst<<8 | uint32(t.Proto)}
	return sh.LookupInside6(&k, h.Hash6(&k))
}

// outboundQuery rewrites the source and identifier of a query as s decides. The
// checksum of ICMP does not cover the addresses, that of ICMPv6 does.
func outboundQuery(p *wire.Packet, s *flow.Session) {
	if p.Flags&wire.V6 == 0 {
		p.IPv4().SetSrc(s.Outside)
		p.IPv4().Adjust(wire.Delta(s.Data[dataL3]))
		p.ICMPv4().RewriteID(s.OutsidePort)
		return
	}
	putWords(p.B[ip6Src:], s.Addrs6().Outside)
	p.ICMPv6().SetID(s.OutsidePort)
	p.ICMPv6().Adjust(wire.Delta(s.Data[dataL4]))
}

// inboundQuery rewrites the destination and identifier of a reply as s decides.
func inboundQuery(p *wire.Packet, s *flow.Session) {
	if p.Flags&wire.V6 == 0 {
		p.IPv4().SetDst(s.Key.Src)
		p.IPv4().Adjust(wire.Delta(s.Data[dataL3]).Reverse())
		p.ICMPv4().RewriteID(s.Key.SrcPort)
		return
	}
	putWords(p.B[ip6Dst:], s.Addrs6().Inside)
	p.ICMPv6().SetID(s.Key.SrcPort)
	p.ICMPv6().Adjust(wire.Delta(s.Data[dataL4]).Reverse())
}

// putWords is the inverse of words.
func putWords(b []byte, a [2]uint64) {
	binary.BigEndian.PutUint64(b, a[0])
	binary.BigEndian.PutUint64(b[8:], a[1])
}
