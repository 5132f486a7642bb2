package icmp

// What a message is. Read RFC 5508 sections 3 and 7 first.

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Kind is what a message is to a translator.
type Kind uint8

// The kinds.
const (
	Other   Kind = iota // never crosses
	Request             // a query
	Reply               // the answer to one
	Error               // quotes a packet, and is translated by it
)

// Message types that package wire has no name for (RFC 792).
const (
	sourceQuench   = 4
	redirect       = 5
	timestamp      = 13
	timestampReply = 14
	redirect6      = 137 // RFC 4861
)

// KindOf returns the kind of the message of a protocol that b, two bytes or more,
// starts with. Source Quench is of the kind [Other]; see [Rules].
func KindOf(proto uint8, b []byte) Kind {
	typ, query := b[0], b[1] == 0
	if proto == wire.ProtoICMPv6 {
		switch {
		case typ >= wire.ICMPv6Unreachable && typ <= wire.ICMPv6ParameterProblem:
			return Error
		case typ == wire.ICMPv6EchoRequest && query:
			return Request
		case typ == wire.ICMPv6EchoReply && query:
			return Reply
		}
		return Other
	}
	switch typ {
	case wire.ICMPv4Unreachable, wire.ICMPv4TimeExceeded, wire.ICMPv4ParameterProblem:
		return Error
	case wire.ICMPv4EchoRequest, timestamp:
		if query {
			return Request
		}
	case wire.ICMPv4EchoReply, timestampReply:
		if query {
			return Reply
		}
	}
	return Other
}

// isError reports whether a message type is that of an error or a redirect,
// translated here or not.
func isError(proto, typ uint8) bool {
	if proto == wire.ProtoICMPv6 {
		return typ < wire.ICMPv6EchoRequest || typ == redirect6
	}
	switch typ {
	case wire.ICMPv4Unreachable, sourceQuench, redirect, wire.ICMPv4TimeExceeded, wire.ICMPv4ParameterProblem:
		return true
	}
	return false
}

// Quotes reports whether a packet, or the first fragment of one, is a message that
// quotes a packet. That of a redirect of IPv6 is an option, and never crosses a router.
func Quotes(p *wire.Packet) bool {
	if !wire.IsICMP(p.Proto) || p.Flags&wire.NonFirst != 0 {
		return false
	}
	typ := p.B[p.L4]
	return isError(p.Proto, typ) && !(p.Proto == wire.ProtoICMPv6 && typ == redirect6)
}

// Rules say which messages a translator carries. The zero value carries none.
type Rules struct {
	Queries       bool // echo requests and replies
	Timestamps    bool // with Queries: those of ICMP (types 13 and 14) as well
	Errors        bool // those that quote packets of sessions
	SourceQuench  bool // with Errors: Source Quench is one of them
	LenientQuotes bool // with Errors: a quoted IPv4 header may have a wrong checksum
}

// Public returns the rules for what shares the public address of an instance, if that carries messages
// whatever the rules say, else r.
func (r Rules) Public(carries bool) Rules {
	r.Queries, r.Errors = r.Queries || carries, r.Errors || carries
	return r
}

// Any reports whether any message is carried.
func (r *Rules) Any() bool { return r.Queries || r.Errors }

// Message is what a packet says of itself as a message.
type Message struct {
	Kind    Kind
	Carried bool   // it may cross
	ID      uint16 // the identifier of a query
}

// Classify reads p, which must be ICMP or ICMPv6, whole or a first fragment.
func (r *Rules) Classify(p *wire.Packet) Message {
	b := p.B[p.L4:]
	m := Message{Kind: KindOf(p.Proto, b), ID: binary.BigEndian.Uint16(b[4:])}
	if r.SourceQuench && p.Proto == wire.ProtoICMP && b[0] == sourceQuench {
		m.Kind = Error
	}
	switch m.Kind {
	case Error:
		m.Carried = r.Errors
	case Request, Reply:
		m.Carried = r.Queries && (r.Timestamps || b[0] != timestamp && b[0] != timestampReply)
	}
	return m
}

// QueryID returns the identifier of a query or of its reply, and 0 of any other message, which
// may be whole or a first fragment.
func QueryID(p *wire.Packet) uint16 {
	b := p.B[p.L4:]
	if k := KindOf(p.Proto, b); k != Request && k != Reply {
		return 0
	}
	return binary.BigEndian.Uint16(b[4:])
}

// Begins reports why a message may not begin a flow, if so. Only a query may.
func (r *Rules) Begins(p *wire.Packet) flow.Reason {
	switch m := r.Classify(p); {
	case !r.Any():
		return flow.ReasonUnsupportedProto
	case !m.Carried:
		return flow.ReasonICMPType
	case m.Kind == Reply:
		return flow.ReasonNoFlow
	case m.Kind == Error:
		return flow.ReasonICMPNoFlow
	}
	return flow.ReasonNone
}

// IsError reports whether p, of any protocol, is a whole error that can be translated.
// Whether it is carried is another question.
func (r *Rules) IsError(p *wire.Packet) bool {
	return p.Flags&wire.Fragmented == 0 && wire.IsICMP(p.Proto) && r.Classify(p).Kind == Error
}

// CarriesError reports whether p, a packet or a first fragment of any protocol, is an
// error that is carried.
func (r *Rules) CarriesError(p *wire.Packet) bool {
	return r.Errors && wire.IsICMP(p.Proto) && r.Classify(p).Kind == Error
}
