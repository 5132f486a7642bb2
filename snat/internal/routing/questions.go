package routing

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/instances"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What is asked of routes, about a flow, a session or a packet. Nothing here needs a lock.

// Over reports whether a grace has ended by now, so that other routes are in force.
func (r *Routes) Over(now flow.Time) bool { return r.Until <= now && r.Until != ports.Never }

// IsTargeted reports whether an instance is a target that answers from its own socket, or
// has been one.
func (r *Routes) IsTargeted(inst *instances.Instance) bool {
	return r.targeted[inst.Index/64]>>(inst.Index%64)&1 != 0
}

// Admits asks whether a flow that a side begins may do so: ReasonNone, or why not.
// Whatever begins a session asks before it takes anything; only the session of a datagram
// that moves to another target is gone by then, since its own target takes none.
func (r *Routes) Admits(from flow.Side, inst *instances.Instance, t *ports.Tuple) flow.Reason {
	if r.Admit == nil { // no call is needed to tell
		return flow.ReasonNone
	}
	return r.Ask(from, inst, t)
}

// Ask asks Admit, which is set.
func (r *Routes) Ask(from flow.Side, inst *instances.Instance, t *ports.Tuple) flow.Reason {
	return r.Admit(from, &inst.Instance, *t)
}

// AdmitsSender is Admits for what an instance, the remote of t, sends to a forward's
// frontend and port: it leaves the instance before it comes in.
func (r *Routes) AdmitsSender(t *ports.Tuple, frontend [2]uint64, port uint16) flow.Reason {
	sent := ports.Tuple{Family: t.Family, Proto: t.Proto, Inside: t.Remote, InsidePort: t.DestPort, Remote: frontend, DestPort: port}
	source := r.Source(&sent)
	if source == 0 {
		return flow.ReasonNone
	}
	index, _ := addresses.Unpack(source)
	return r.Admits(flow.Inside, r.Instances[index], &sent)
}

// Forwarding returns the number, plus one, of the forward that a session belongs to, or 0.
func (r *Routes) Forwarding(id flow.ID, s *flow.Session) uint32 {
	return r.Forwards.At(r.FrontAt(id.Is6(), ports.OutsideOf(id, s))-1, s.Proto(), s.OutsidePort)
}

// ShardOf returns the shard of the flows between a forward, by its number plus one, and
// the remote of a tuple.
func (r *Routes) ShardOf(number uint32, t *ports.Tuple) uint8 {
	addr := t.Remote[0]
	if t.Family == 1 {
		addr = prefixes.Hash6(t.Remote)
	}
	return r.Forwards.Shard(number, addr, t.DestPort, t.Proto)
}

// QuotedForward returns the shard of the forwarded flow that an error to target, a frontend,
// quotes an answer of, and whether there may be such a flow.
func (r *Routes) QuotedForward(q icmp.Quote, target uint32) (shard uint8, ok bool) {
	if q.Proto != wire.ProtoTCP && q.Proto != wire.ProtoUDP {
		return 0, false
	}
	number := r.Forwards.At(target, q.Proto, q.SrcPort)
	if number == 0 {
		return 0, false
	}
	t := ports.Tuple{Proto: q.Proto, Remote: q.Dst, DestPort: q.DstPort}
	if r.Frontends[target].Addr.Is6() {
		t.Family = 1
	}
	return r.ShardOf(number, &t), true
}

// SenderOf returns the instance that a fragment from inside comes from, or why a
// fragment is dropped whatever datagram it belongs to.
func (r *Routes) SenderOf(from flow.Side, p *wire.Packet) (sender uint32, reason flow.Reason) {
	var inst, target uint32
	switch v4 := p.Flags&wire.V6 == 0; {
	case from == flow.Outside && v4:
		target = r.Outside4.Get(p.IPv4().Dst())
	case from == flow.Outside:
		target = r.Outside6.Get(headers.Words(p.B[headers.IP6Dst:]))
	case v4:
		inst = r.Inside4.Get(p.IPv4().Src())
	default:
		inst = r.Inside6.Get(headers.Words(p.B[headers.IP6Src:]))
	}
	switch {
	case from == flow.Outside && target == 0:
		if t := headers.Addresses(p, from); r.Tracks && r.Source(&t) != 0 {
			return 0, flow.ReasonNone
		}
		return 0, flow.ReasonNotOurs
	case from == flow.Outside:
		return 0, flow.ReasonNone
	case inst == 0:
		t := headers.Addresses(p, from)
		if r.Forwards.Floats(r.Front(&t) - 1) {
			return FloatingSender, flow.ReasonNone
		}
		return 0, r.Stranger(&t)
	}
	sender, _ = addresses.Unpack(inst)
	return sender, flow.ReasonNone
}

// MayBeForwarded reports whether a fragment may have come in by a forward of all ports, or
// be of an answer, as far as addresses tell.
func (r *Routes) MayBeForwarded(from flow.Side, p *wire.Packet) bool {
	t := headers.Addresses(p, from)
	if r.Forwards.Opens(r.Front(&t) - 1) { // its destination, or the source of a floating target's answer
		return true
	}
	packed := r.Source(&t)
	index, _ := addresses.Unpack(packed)
	return from == flow.Inside && packed != 0 && r.IsTargeted(r.Instances[index])
}

// Complete fills in the port at the own address of an instance that does not share it,
// so that no session keeps it: the inside port.
func (r *Routes) Complete(s *flow.Info) {
	if s.Data[ports.DataNodePort] != 0 || s.Class == flow.ClassUDPHeld || int64(s.VNI) >= int64(len(r.Instances)) || r.Instances[s.VNI] == nil {
		return
	}
	inst, a := r.Instances[s.VNI], s.Inside.Addr()
	if a.Is4() && inst.Owns(0, [2]uint64{uint64(flow.Addr4(a))}) || a.Is6() && inst.Owns(1, flow.Addr6(a)) {
		s.Data[ports.DataNodePort] = s.Inside.Port()
	}
}
