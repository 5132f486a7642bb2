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

// admitsAgain is [routing.Routes.Admits] for a SYN that begins another connection on the sockets of a closed one,
// and goes on in its session. From outside, a row may drop it.
func (sh *shard) admitsAgain(m *moment, from flow.Side, l *lane, id flow.ID, s *flow.Session) flow.Reason {
	t := ports.TupleOf(id, s)
	if from == flow.Outside && m.routes.To(&t) == addresses.Blackhole {
		return flow.ReasonRoute
	}
	if l.hairpin && from == flow.Outside && s.Kind() == flow.KindForwarded {
		if reason := m.routes.AdmitsSender(&t, ports.OutsideOf(id, s), s.OutsidePort); reason != flow.ReasonNone {
			return reason
		}
	}
	return m.routes.Admits(from, sh.nat.instances[s.Key.VNI()], &t)
}

// admitsUnseen is [routing.Routes.Admits] for a packet from a side to which no session belongs and that
// begins none. inside is the inside address. What may begin is remembered (package permits), and
// with carries all that passes: an instance's public address carries it one to one.
func (n *NAT) admitsUnseen(r *routes, now flow.Time, from flow.Side, inst *instance, p *wire.Packet, inside [2]uint64, carries bool) flow.Reason {
	if r.Admit == nil && !carries {
		return flow.ReasonNone
	}
	var ask func(permits.Flow) flow.Reason
	if r.Admit != nil {
		ask = func(f permits.Flow) flow.Reason {
			t := ports.Tuple{Proto: f.Proto, Inside: f.Inside, Remote: f.Remote, InsidePort: f.InsidePort, DestPort: f.RemotePort, Family: f.Family()}
			return r.Ask(from, inst, &t)
		}
	}
	return n.permits.Admit(now, from, p, inst.Index, inside, carries, ask)
}

// admitsBy is admitsUnseen for a packet from inside that leaves as it is by a row of routes: one
// that passes on asks nobody.
func (n *NAT) admitsBy(r *routes, row *addresses.Effect, now flow.Time, inst *instance, p *wire.Packet, inside [2]uint64) flow.Reason {
	if row.PassOn {
		return flow.ReasonNone
	}
	return n.admitsUnseen(r, now, flow.Inside, inst, p, inside, false)
}

// admitsPublic is admitsUnseen for a packet that an instance's public address carries one to one.
func (n *NAT) admitsPublic(r *routes, now flow.Time, from flow.Side, inst *instance, l *lane, inside [2]uint64) flow.Reason {
	if r.Entries && l.carried != nil && l.carried.Add(&n.permits, from, &l.p, inst.Index, &inside, r.Admit != nil) {
		return flow.ReasonNone
	}
	return n.admitsUnseen(r, now, from, inst, &l.p, inside, r.Entries)
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
		source := l.routes.Realm(l.routes.Instances[f.Instance].Realm).Source(&t)
		index, _ := addresses.Unpack(source)
		return source == 0 || index != f.Instance
	})
}
