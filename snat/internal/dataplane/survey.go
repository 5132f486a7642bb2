package dataplane

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Surveying: which sessions a layout may end or move is found out before it comes into
// force, in small steps between which packets go on, so that the moment itself costs what
// changes, not what there is. A survey misses nothing: until the moment, sessions that begin
// are noted as they do. It notes too many: some that are noted have ended by then, and their
// IDs may be others'.

// survey ends what is due in all shards, and notes the sessions that l may end or move.
// No lock of a shard may be held.
func (n *NAT) survey(now flow.Time, l *layout) {
	for _, sh := range n.all() {
		for more := true; more; {
			sh.Lock()
			more = sh.work(now)
			sh.Unlock()
		}
		if !l.unmoved || l.ports.Concerns(&sh.State) {
			sh.survey(l)
		}
	}
}

// survey notes the sessions of a shard, and sees to it that those that begin are, too.
func (sh *shard) survey(l *layout) {
	sh.Lock()
	sh.layout = l
	sh.Unlock()
	sh.Walk(func(id flow.ID, s *flow.Session) { l.note(sh, id, s) })
}

// note notes a session if l may end or move it. The lock of its shard must be held.
func (l *layout) note(sh *shard, id flow.ID, s *flow.Session) {
	if l.mayMove(sh, id, s) {
		l.noted[sh.number] = append(l.noted[sh.number], id)
	}
}

// mayMove reports whether l may end or move a session of a shard.
func (l *layout) mayMove(sh *shard, id flow.ID, s *flow.Session) bool {
	if s.Kind() != flow.KindForwarded {
		return l.ports.Here(&sh.State, s.Key.VNI())
	}
	if l.unmoved {
		return false
	}
	at, _, ok := l.judgeForwarded(id, s)
	return !ok || at != sh.number
}

// endSurvey leaves those sessions noted that are what they were noted for, in the order of
// their IDs. The lock of the shard must be held.
func (sh *shard) endSurvey(l *layout) {
	sh.layout = nil
	all := &l.noted[sh.number]
	slices.Sort(*all)
	*all = slices.DeleteFunc(slices.Compact(*all), func(id flow.ID) bool {
		return !sh.Has(id) || !l.mayMove(sh, id, sh.At(id))
	})
}
