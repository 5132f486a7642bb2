package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The door for whoever decides which flows may begin, such as network security groups.

// admits asks whether a flow that a side begins may do so: ReasonNone, or why not.
// Whatever begins a session asks before it takes anything; only the session of a datagram
// that moves to another target is gone by then, since its own target takes none.
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

// admitsAgain is admits for a SYN that begins another connection on the sockets of a closed one,
// and goes on in its session. From outside, a row may drop it.
func (sh *shard) admitsAgain(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session) flow.Reason {
	t := ports.TupleOf(id, s)
	if from == flow.Outside && m.routes.To(&t) == addresses.Blackhole {
		return flow.ReasonRoute
	}
	if l.hairpin && from == flow.Outside && s.Kind() == flow.KindForwarded {
		if reason := m.routes.admitsSender(&t, ports.OutsideOf(id, s), s.OutsidePort); reason != flow.ReasonNone {
			return reason
		}
	}
	return m.routes.admits(from, sh.nat.instances[s.Key.VNI()], &t)
}

// admitsUnseen is admits for a packet from a side to which no session belongs and that
// begins none. inside is the inside address. What may begin is remembered (package permits).
func (n *NAT) admitsUnseen(r *routes, now flow.Time, from flow.Side, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if r.admit == nil {
		return flow.ReasonNone
	}
	f, how := n.permits.Meet(now, from, p, inst.Index, inside)
	reason := r.admitsMet(from, inst, p, &f, how)
	if reason == flow.ReasonNone && how == permits.Asked {
		n.permits.Grant(now, f, from)
	}
	return reason
}

// admitsMet is admits for a packet of which the permits have said f and how.
func (r *routes) admitsMet(from flow.Side, inst *instance, p *wire.Packet, f *permits.Flow, how permits.How) flow.Reason {
	if r.admit == nil || how == permits.Passes {
		return flow.ReasonNone
	}
	t := ports.Tuple{Proto: f.Proto, Inside: f.Inside, Remote: f.Remote, InsidePort: f.InsidePort, DestPort: f.RemotePort, Family: p.Family()}
	return r.ask(from, inst, &t)
}

// admitsBy is admitsUnseen for a packet from inside that leaves as it is by a row of routes: one
// that passes on asks nobody.
func (n *NAT) admitsBy(r *routes, row *addresses.Effect, now flow.Time, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if row.PassOn {
		return flow.ReasonNone
	}
	return n.admitsUnseen(r, now, flow.Inside, inst, p, inside)
}

// admitsPublic is admitsUnseen for a packet that an instance's public address carries one to one.
func (n *NAT) admitsPublic(r *routes, now flow.Time, from flow.Side, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if !r.entries {
		return n.admitsUnseen(r, now, from, inst, p, inside)
	}
	f, how := n.permits.Meet(now, from, p, inst.Index, inside)
	reason := r.admitsMet(from, inst, p, &f, how)
	if reason == flow.ReasonNone {
		n.permits.Carry(now, from, p, &f, how)
	}
	return reason
}

// Remembers reports whether at now a flow of an instance, by name, is remembered that has no
// session, and entered whether it has begun outside. The instance in f is not.
func (n *NAT) Remembers(now flow.Time, name string, f permits.Flow) (known, entered bool) {
	n.control.RLock()
	defer n.control.RUnlock()
	i := slices.IndexFunc(n.order, func(inst *instance) bool { return inst.Name == name })
	if i < 0 {
		return false, false
	}
	f.Instance = n.order[i].Index
	return n.permits.Knows(now, f), n.permits.Entered(now, f)
}

// revokePermits forgets the flows of instances that are removed, or have lost the address, or
// have another public one for it.
func (n *NAT) revokePermits(l *layout) {
	n.permits.Revoke(func(f *permits.Flow) bool {
		t := ports.Tuple{Family: f.Family(), Inside: f.Inside}
		if int(f.Instance) >= len(l.former) || l.former[f.Instance] == nil {
			return true
		}
		was := l.former[f.Instance]
		if is, had := l.successor(was), was.Public[t.Family]; is == nil || had != [2]uint64{} && is.Public[t.Family] != had {
			return true
		}
		source := l.routes.realm(l.routes.instances[f.Instance].Realm).Source(&t)
		index, _ := addresses.Unpack(source)
		return source == 0 || index != f.Instance
	})
}
