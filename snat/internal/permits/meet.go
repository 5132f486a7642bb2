package permits

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
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
// about alone, unless it is about TCP or a flow with a permit, and so is a stray: what comes from
// outside of a flow that is passed on. What follows a first fragment passes: it is of no use without it.
func (t *Table) Meet(now flow.Time, from flow.Side, p *wire.Packet, instance uint32, inside [2]uint64) (f Flow, how How) {
	if p.Flags&wire.NonFirst != 0 {
		return f, Passes
	}
	f = flowOf(from, p, instance, inside)
	switch {
	case icmp.Quotes(p):
		if q, ok := about(from, p, f); ok && (q.Proto == wire.ProtoTCP || t.Knows(now, q)) {
			return f, Passes
		}
		return f, Single
	case isSYN(p):
		return f, Single
	case p.Proto == wire.ProtoTCP:
		return f, Passes
	}
	switch by, ok := t.look(now, &f, true); {
	case ok && by != passedOn:
		return f, Passes
	case ok && from == flow.Outside:
		return f, Single
	}
	return f, Asked
}

// Carry notes a packet from a side that an instance with a public address of its own has let through
// one to one, and of which Meet has said f and how: what may begin a flow gives it a permit, a SYN
// from outside too, and all else prolongs it.
func (t *Table) Carry(now flow.Time, from flow.Side, p *wire.Packet, f *Flow, how How) {
	switch {
	case how == Asked || isSYN(p) && (from == flow.Outside || t.Entered(now, *f)):
		t.Grant(now, *f, from)
	case p.Proto == wire.ProtoTCP:
		t.look(now, f, true)
	}
}

// Admit asks about a packet from a side to which no session belongs, if Meet says so and ask is
// there, and remembers it if it passes: with carries as Carry does, else only what may begin a flow.
// It returns why the packet may not pass, or flow.ReasonNone.
func (t *Table) Admit(now flow.Time, from flow.Side, p *wire.Packet, instance uint32, inside [2]uint64, carries bool, ask func(Flow) flow.Reason) flow.Reason {
	f, how := t.Meet(now, from, p, instance, inside)
	if ask != nil && how != Passes {
		if reason := ask(f); reason != flow.ReasonNone {
			return reason
		}
	}
	if carries {
		t.Carry(now, from, p, &f, how)
	} else if how == Asked {
		t.Grant(now, f, from)
	}
	return flow.ReasonNone
}

// Answers reports whether a packet from inside belongs to a flow that has begun outside, as what
// Carry has noted tells, or is an error about one. What begins something itself does not: a SYN, a query.
// What does not is passed on, and of UDP, where nothing else tells who has begun, that is remembered.
// A fragment goes the way of the first one of its datagram, if that has come before it. Cost: two
// locks, without allocation unless it is a fragment or of a flow that is passed on.
func (t *Table) Answers(now flow.Time, p *wire.Packet, instance uint32, inside [2]uint64) bool {
	f := flowOf(flow.Inside, p, instance, inside)
	datagram := f
	if p.Flags&wire.Fragmented != 0 {
		id := identification(p)
		datagram.Proto, datagram.InsidePort, datagram.RemotePort = fragment, uint16(id>>16), uint16(id)
		if p.Flags&wire.NonFirst != 0 {
			return t.Entered(now, datagram)
		}
	}
	quotes := icmp.Quotes(p)
	if quotes {
		f, _ = about(flow.Inside, p, f)
	}
	by, ok := t.look(now, &f, false)
	answers := ok && by == byOutside && !isRequest(p)
	switch {
	case answers && isSYN(p): // the sockets have another connection now
		t.Grant(now, f, flow.Inside)
		answers = false
	case answers && !quotes:
		t.Passes(now, f)
	case p.Proto == wire.ProtoUDP && (!ok || by == passedOn):
		t.remember(now, f, passedOn)
	}
	switch {
	case p.Flags&wire.Fragmented == 0:
	case answers:
		t.Grant(now, datagram, flow.Outside)
	case t.Knows(now, datagram): // another one has had the number
		t.Grant(now, datagram, flow.Inside)
	}
	return answers
}

// fragment is the protocol number of the Fragment header (RFC 8200), which no flow has.
const fragment = 44

// identification returns that of a fragment.
func identification(p *wire.Packet) uint32 {
	if f, is6 := p.Fragment(); is6 {
		return f.ID()
	}
	return uint32(p.IPv4().ID())
}

// flowOf returns the flow of a packet from a side, of an instance with an inside address. What
// follows a first fragment has no ports.
func flowOf(from flow.Side, p *wire.Packet, instance uint32, inside [2]uint64) Flow {
	remote, dst := p.Addrs()
	if from == flow.Inside {
		remote = dst
	}
	f := Flow{Inside: inside, Remote: remote, Instance: instance, Proto: p.Proto, V6: p.Flags&wire.V6 != 0}
	switch {
	case p.Flags&wire.NonFirst != 0:
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		f.InsidePort, f.RemotePort = sockets(from, p.Ports())
	case wire.IsICMP(p.Proto):
		f.InsidePort = icmp.QueryID(p)
	}
	return f
}

// sockets returns both ports of a packet from a side, which stand in it together.
func sockets(from flow.Side, both uint32) (inside, remote uint16) {
	if from == flow.Outside {
		return uint16(both), uint16(both >> 16)
	}
	return uint16(both >> 16), uint16(both)
}

// about returns the flow that an error is about, whose own flow is f.
func about(from flow.Side, p *wire.Packet, f Flow) (Flow, bool) {
	q, ok := icmp.Concerns(p, from)
	if f.Proto = q.Proto; from == flow.Outside { // what the inside has sent
		f.Remote, f.InsidePort, f.RemotePort = q.Dst, q.SrcPort, q.DstPort
	} else {
		f.Remote, f.InsidePort, f.RemotePort = q.Src, q.DstPort, q.SrcPort
	}
	return f, ok
}

// isSYN reports whether a packet begins a connection.
func isSYN(p *wire.Packet) bool {
	return p.Proto == wire.ProtoTCP && p.Flags&wire.NonFirst == 0 && p.TCP().Flags()&(flow.SYN|flow.ACK) == flow.SYN
}

// isRequest reports whether a packet, whole or a first fragment, is a query of ICMP and not its reply.
func isRequest(p *wire.Packet) bool {
	return wire.IsICMP(p.Proto) && icmp.KindOf(p.Proto, p.B[p.L4:]) == icmp.Request
}
