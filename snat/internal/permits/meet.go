package permits

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// How says what is to be done about a packet without a session.
type How uint8

// What is to be done.
const (
	Passes How = iota // nobody is asked
	Asked             // somebody is, and what may begin gets a permit
	Single            // somebody is, about this packet alone
)

// Meet says what is to be done about a packet from a side to which no session belongs, of an
// instance with an inside address, and names the flow that is to be asked about. Of TCP a SYN
// tells that it begins something, so it is asked about alone, and nothing else is. All else
// passes with a permit, which it prolongs, and without one is asked about. An ICMP error is asked
// about alone, unless it is about TCP or a flow with a permit. What follows a first fragment
// passes: it is of no use without it.
func (t *Table) Meet(now flow.Time, from flow.Side, p *wire.Packet, instance uint32, inside [2]uint64) (f Flow, how How) {
	if p.Flags&wire.NonFirst != 0 {
		return f, Passes
	}
	a := headers.Addresses(p, from)
	f = Flow{Inside: inside, Remote: a.Remote, Instance: instance, Proto: p.Proto, V6: p.Flags&wire.V6 != 0}
	switch {
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		both := p.Ports()
		f.InsidePort, f.RemotePort = uint16(both>>16), uint16(both)
		if from == flow.Outside {
			f.InsidePort, f.RemotePort = f.RemotePort, f.InsidePort
		}
	case icmp.Quotes(p):
		if t.isAbout(now, from, p, f) {
			return f, Passes
		}
		return f, Single
	case wire.IsICMP(p.Proto):
		f.InsidePort = icmp.QueryID(p)
	}
	switch {
	case p.Proto == wire.ProtoTCP && p.TCP().Flags()&(flow.SYN|flow.ACK) == flow.SYN:
		return f, Single
	case p.Proto == wire.ProtoTCP || t.Passes(now, f):
		return f, Passes
	}
	return f, Asked
}

// isAbout reports whether an error, whose own flow is f, is about a flow with a permit, or about
// TCP.
func (t *Table) isAbout(now flow.Time, from flow.Side, p *wire.Packet, f Flow) bool {
	q, ok := icmp.Concerns(p, from)
	if !ok {
		return false
	}
	if f.Proto = q.Proto; from == flow.Outside { // what the inside has sent
		f.Remote, f.InsidePort, f.RemotePort = q.Dst, q.SrcPort, q.DstPort
	} else {
		f.Remote, f.InsidePort, f.RemotePort = q.Src, q.DstPort, q.SrcPort
	}
	return q.Proto == wire.ProtoTCP || t.Knows(now, f)
}
