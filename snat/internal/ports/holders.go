package ports

import (
	"iter"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/holders"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// Who holds ports: package holders is told here, where sessions get ports, keep them for
// something else, and give them back.

// CountHolders has it counted who holds ports, by rules that never change. It comes before the states of
// shards are made.
func (sp *Space) CountHolders(r holders.Rules) { sp.counts = r }

// Holders returns who holds the ports of this shard.
func (sh *State) Holders() *holders.Table { return &sh.holders }

// NameOf returns the name of the instance with an index, "" if there is none. The lock of the shard must
// be held.
func (sh *State) NameOf(index uint32) string {
	if all := sh.space.instances; int64(index) < int64(len(all)) && all[index] != nil {
		return all[index].Name
	}
	return ""
}

// useOf returns what a session of a class holds its port for.
func useOf(c flow.Class) holders.Use {
	switch {
	case !usage.Held(c):
		return holders.Active
	case c == flow.ClassTCPReset:
		return holders.HeldRST
	case c == flow.ClassUDPHeld:
		return holders.HeldUDP
	}
	return holders.HeldFIN
}

// holder makes f name the parties of a flow of an instance.
func (sh *State) holder(f *holders.Flow, instance uint32, t *Tuple) {
	f.Instance, f.Space = instance, instance
	if sh.space.shared != nil {
		f.Space = holders.AllInstances
	}
	f.Inside, f.Remote, f.Port, f.Family = t.Inside, t.Remote, t.DestPort, t.Family
	if f.Proto = Normal(t.Proto); t.isQuery() {
		f.Port = 0
	}
}

// beginsToHold counts a new flow for who holds its port.
func (sh *State) beginsToHold(now flow.Time, inst *Instance, t *Tuple) {
	var f holders.Flow
	sh.holder(&f, inst.Index, t)
	sh.holders.Begin(now, &f)
}

// holderOf makes f name the parties of a session.
func (sh *State) holderOf(f *holders.Flow, id flow.ID, s *flow.Session) {
	var t Tuple
	t.read(id, s)
	sh.holder(f, s.Key.VNI(), &t)
}

// ceasesToHold counts that a session has its port no more, or is off the books.
func (sh *State) ceasesToHold(id flow.ID, s *flow.Session) {
	var f holders.Flow
	sh.holderOf(&f, id, s)
	sh.holders.Leave(&f, useOf(s.Track.Class))
}

// holdsFor counts that a session holds its port as one of another class than until now.
func (sh *State) holdsFor(id flow.ID, s *flow.Session, was, is flow.Class) {
	var f holders.Flow
	sh.holderOf(&f, id, s)
	sh.holders.Shift(&f, useOf(was), useOf(is))
}

// holdsAgain counts a session that is booked anew.
func (sh *State) holdsAgain(id flow.ID, s *flow.Session) {
	var f holders.Flow
	sh.holderOf(&f, id, s)
	sh.holders.Enter(&f, useOf(s.Track.Class))
}

// wants counts a flow that got no port for a reason.
func (sh *State) wants(inst *Instance, t *Tuple, reason flow.Reason) {
	var f holders.Flow
	sh.holder(&f, inst.Index, t)
	why := holders.Taken
	switch reason {
	case flow.ReasonQuota, flow.ReasonSessionCap, flow.ReasonRate:
		why = holders.Limited
	case flow.ReasonNoOutbound, flow.ReasonMemory, flow.ReasonSubscribers:
		why = holders.Unrelated
	}
	sh.holders.Refuse(&f, why)
}

// looks is how many sessions of a shard Look shows.
const looks = 64

// Look shows some sessions that hold ports and are not over, at random, the same ones at the same time, as who
// holds the port, and whether nothing has passed for a while.
func (sh *State) Look(now flow.Time) iter.Seq2[holders.Flow, bool] {
	return func(yield func(holders.Flow, bool) bool) {
		for _, id := range sh.Sample(make([]flow.ID, 0, looks), uint64(now)^uint64(sh.number)<<48) {
			s := sh.At(id)
			if !s.Kind().HoldsPort() || s.Track.Class == flow.ClassTCPResetSent || usage.Held(s.Track.Class) {
				continue
			}
			var f holders.Flow
			sh.holderOf(&f, id, s)
			if !yield(f, sh.Info(id).Idle > sh.holders.IdleAfter()) {
				return
			}
		}
	}
}

// countsFor returns who counts from now on for a former instance that sh has counted for, nil if it is gone.
func (sh *State) countsFor(l *Layout, index uint32) *holders.Table {
	switch sp := sh.space; {
	case !sp.has(index) || sp.instances[index].Name != l.former[index].Name:
		return nil
	case !l.shared:
		return &sp.states[sp.instances[index].Shard].holders
	}
	return &sh.holders
}
