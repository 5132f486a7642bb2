package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The door for whoever decides which flows may begin, such as network security groups.

// admitted asks whether a flow that a side begins may do so: ReasonNone, or why not.
// Whatever begins a session asks before it takes anything; only the session of a datagram
// that moves to another target is gone by then, since its own target takes none. The lock
// of the shard must be held.
func (sh *shard) admitted(from flow.Side, inst *instance, t *ports.Tuple) flow.Reason {
	return sh.nat.routes.Load().admits(from, inst, t)
}

// admits is admitted without a lock.
func (r *routes) admits(from flow.Side, inst *instance, t *ports.Tuple) flow.Reason {
	if r.admit == nil { // no call is needed to tell
		return flow.ReasonNone
	}
	return r.ask(from, inst, t)
}

// ask asks Config.Admit, which is set.
func (r *routes) ask(from flow.Side, inst *instance, t *ports.Tuple) flow.Reason {
	return r.admit(from, &inst.Instance, *t)
}

// admitsSender is admits for what an instance, the remote of t, sends to a forward's
// frontend and port: it leaves the instance before it comes in.
func (r *routes) admitsSender(t *ports.Tuple, frontend [2]uint64, port uint16) flow.Reason {
	sent := ports.Tuple{Family: t.Family, Proto: t.Proto, Inside: t.Remote, InsidePort: t.DestPort, Remote: frontend, DestPort: port}
	source := r.Source(&sent)
	if source == 0 {
		return flow.ReasonNone
	}
	index, _ := addresses.Unpack(source)
	return r.admits(flow.Inside, r.instances[index], &sent)
}

// admitsUnseen is admits for a packet from a side to which no session belongs and that
// begins none. inside is the inside address. Of TCP a SYN tells that it begins something; of
// all else the flows that may begin are remembered, so that answers are known. What follows a
// first fragment is of no use without it.
func (n *NAT) admitsUnseen(r *routes, now flow.Time, from flow.Side, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if r.admit == nil || p.Flags&wire.NonFirst != 0 {
		return flow.ReasonNone
	}
	t := headers.Addresses(p, from)
	switch {
	case p.Proto == wire.ProtoTCP && p.TCP().Flags()&(flow.SYN|flow.ACK) != flow.SYN:
		return flow.ReasonNone
	case p.Proto == wire.ProtoTCP || p.Proto == wire.ProtoUDP:
		t = tupleOf(p, from)
	case icmp.Quotes(p):
		t.Inside = inside
		return n.admitsError(r, now, from, inst, p, &t)
	case wire.IsICMP(p.Proto):
		t.InsidePort = icmp.QueryID(p)
	}
	if t.Inside = inside; t.Proto == wire.ProtoTCP {
		return r.ask(from, inst, &t)
	}
	f := permitted(inst, &t)
	if n.permits.Passes(now, f) {
		return flow.ReasonNone
	}
	reason := r.ask(from, inst, &t)
	if reason == flow.ReasonNone {
		n.permits.Grant(now, f)
	}
	return reason
}

// admitsError is admitsUnseen for an ICMP error with a tuple without ports. It passes unasked
// if it is about a flow that is remembered, or of TCP.
func (n *NAT) admitsError(r *routes, now flow.Time, from flow.Side, inst *instance, p *wire.Packet, t *ports.Tuple) flow.Reason {
	if q, ok := icmp.Concerns(p, from); ok {
		about := *t
		if about.Proto = q.Proto; from == flow.Outside { // what the inside has sent
			about.Remote, about.InsidePort, about.DestPort = q.Dst, q.SrcPort, q.DstPort
		} else {
			about.Remote, about.InsidePort, about.DestPort = q.Src, q.DstPort, q.SrcPort
		}
		if q.Proto == wire.ProtoTCP || n.permits.Knows(now, permitted(inst, &about)) {
			return flow.ReasonNone
		}
	}
	return r.ask(from, inst, t)
}

// permitted names a flow that is remembered without a session.
func permitted(inst *instance, t *ports.Tuple) permits.Flow {
	return permits.Flow{
		Inside: t.Inside, Remote: t.Remote, InsidePort: t.InsidePort, RemotePort: t.DestPort,
		Instance: inst.Index, Proto: t.Proto, V6: t.Family == 1,
	}
}

// Remembers reports whether at now a flow of an instance, by name, is remembered that has no
// session.
func (n *NAT) Remembers(now flow.Time, name string, t *ports.Tuple) bool {
	n.control.RLock()
	defer n.control.RUnlock()
	i := slices.IndexFunc(n.order, func(inst *instance) bool { return inst.Name == name })
	return i >= 0 && n.permits.Knows(now, permitted(n.order[i], t))
}

// revokePermits forgets the flows of instances that are removed, or have lost the address.
func (n *NAT) revokePermits(l *layout) {
	if !slices.ContainsFunc(l.former, func(inst *instance) bool {
		return inst != nil && (l.successor(inst) == nil || l.ports.Affected[inst.Index])
	}) {
		return
	}
	n.permits.Revoke(func(f *permits.Flow) bool {
		if int(f.Instance) >= len(l.former) || l.former[f.Instance] == nil || l.successor(l.former[f.Instance]) == nil {
			return true
		}
		family := uint8(0)
		if f.V6 {
			family = 1
		}
		in := l.routes.realm(l.routes.instances[f.Instance].Realm)
		source := in.Source(&ports.Tuple{Family: family, Inside: f.Inside})
		index, _ := addresses.Unpack(source)
		return source == 0 || index != f.Instance
	})
}

// tupleOf reads the tuple of a TCP or UDP packet from a side.
func tupleOf(p *wire.Packet, from flow.Side) ports.Tuple {
	t, both := headers.Addresses(p, from), p.Ports()
	t.InsidePort, t.DestPort = uint16(both>>16), uint16(both)
	if from == flow.Outside {
		t.InsidePort, t.DestPort = t.DestPort, t.InsidePort
	}
	return t
}
