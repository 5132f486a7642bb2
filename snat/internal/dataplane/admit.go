package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/headers"
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
// begins none. Only of a SYN it is known that it begins something. inside is the inside
// address.
func (r *routes) admitsUnseen(from flow.Side, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if r.admit == nil || p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 || p.TCP().Flags()&(flow.SYN|flow.ACK) != flow.SYN {
		return flow.ReasonNone
	}
	t := tupleOf(p, from)
	t.Inside = inside
	return r.admits(from, inst, &t)
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
