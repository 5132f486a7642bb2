package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/addresses"
	"github.com/seed-a61be3fe/natplane/snat/internal/counters"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Cutting: which sessions a reconfiguration ends, and why.

// cutOrKeep cuts the sessions that cannot go on, takes those that have to be booked
// anew off the books, and forgets the destinations of their instances.
func (sh *shard) cutOrKeep(now flow.Time, l *layout) {
	if !l.ports.Concerns(&sh.State) {
		return
	}
	sh.EndedAt = now
	first := len(l.kept)
	for _, id := range l.noted[sh.number] {
		s := sh.At(id)
		if s.Kind() == flow.KindForwarded {
			continue
		}
		old := l.former[s.Key.VNI()]
		over := s.Track.Phase() == flow.TCPResetSent || s.Track.Class == flow.ClassUDPHeld
		cause, ok := sh.judge(now, l, id, s, old)
		switch {
		case ok:
			l.kept = append(l.kept, kept{sh: sh, id: id})
			continue
		case !over:
			sh.tellCut(now, l, id, s, cause)
		}
		sh.remove(id, s)
	}
	sh.NoteHomes(l.ports)
	for i := range l.kept[first:] {
		k := &l.kept[first+i]
		k.booking = sh.Detach(k.id)
	}
	sh.Forget(now, l.ports)
}

// tellCut counts a session that is cut, which is not a tombstone, and tells of it.
func (sh *shard) tellCut(now flow.Time, l *layout, id flow.ID, s *flow.Session, cause counters.CutCause) {
	l.changes.Of(l.former[s.Key.VNI()].Name).Cut[cause]++
	sh.tellEnd(now, id, s, cause)
}

// tellEnd is tellCut without the report of a reconfiguration.
func (sh *shard) tellEnd(now flow.Time, id flow.ID, s *flow.Session, cause counters.CutCause) {
	index := s.Key.VNI()
	sh.counters.Cut[cause]++
	if h := sh.nat.config.Hooks.Cut; h != nil {
		h(now, index, sh.Info(id), cause)
	}
	sh.logEnd(now, id, s)
}

// judge reports whether a session can go on, and the cause if not.
func (sh *shard) judge(now flow.Time, l *layout, id flow.ID, s *flow.Session, old *instance) (counters.CutCause, bool) {
	next := l.successor(old)
	if next == nil {
		return counters.CutRemoved, false
	}
	if sh.nat.ports.ByRemote() {
		return counters.CutReaddressed, false // nothing else of it can have changed
	}
	t := ports.TupleOf(id, s)
	inside, outside := l.routes.Realm(next.Realm).Source(&t), l.routes.FrontAt(id.Is6(), ports.OutsideOf(id, s))
	moved := old.Own(t.Family) != next.Own(t.Family) || old.Public[t.Family] != next.Public[t.Family]
	if inside != l.routes.Mark(next) || next.Realm != old.Realm || s.Data[ports.DataNodePort] != 0 && moved {
		return counters.CutReaddressed, false
	}
	if !s.Kind().HoldsPort() {
		return 0, true
	}
	if !next.Deterministic.Equal(old.Deterministic) {
		return counters.CutReclaimed, false
	}
	grace := now.Add(sh.nat.config.ReclaimGrace)
	taken := outside > addresses.PublicFlag || l.routes.Forwards.Takes(outside-1, s.Proto(), s.OutsidePort)
	if !l.ports.Keep(now, id, s, &old.Instance, &next.Instance, grace, taken) {
		return counters.CutReclaimed, false
	}
	return 0, true
}

// cutUnbooked cuts a session that is on no books, for want of memory, and returns false.
// settled says that its node port, if it has one, is counted and an entry of its own.
func (sh *shard) cutUnbooked(now flow.Time, l *layout, id flow.ID, settled bool) bool {
	s := sh.At(id)
	index := s.Key.VNI()
	if s.Track.Phase() == flow.TCPResetSent {
		sh.counters.Tombstones--
	} else {
		sh.tellCut(now, l, id, s, counters.CutMemory)
		sh.counters.Ended++
		sh.counters.Connections[ports.PoolIndex(s.Proto())].Ended++
	}
	if inst := sh.nat.instances[index]; settled && s.Data[ports.DataNodePort] != 0 {
		sh.ReleaseNodePort(id, s, &inst.Instance)
		sh.UnindexExtra(sh.NodeHash(id, s, &inst.Instance), id)
	}
	sh.Remove(id, s)
	return false
}
