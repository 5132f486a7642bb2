package flow

import "github.com/seed-a61be3fe/natplane/internal/slab"

// Fork returns an independent copy of t with the same sessions under the same IDs, which
// behaves like t from then on. keys and notice are its own, in the place of Config.Keys and
// Config.Notice. The locks of all shards must be held; those of the copy are not. It fails
// with [ErrClosed] if t is closed, and with [ErrMemory] if there is none. Cost: that of copying the
// memory, see [Table.Bytes].
func (t *Table) Fork(keys func(id ID, s *Session) (inside, outside uint64), notice *Notice) (*Table, error) {
	to := &Table{hasher: t.hasher, seeded: t.seeded, shards: make([]Shard, len(t.shards))}
	for i := range t.shards {
		if t.shards[i].mem.Released() {
			return nil, ErrClosed
		}
		if !slab.Available() || !t.shards[i].forkTo(&to.shards[i], keys, notice) {
			to.Close()
			return nil, ErrMemory
		}
	}
	return to, nil
}

// forkTo makes to, which is zero, a copy of sh, and reports whether there was memory.
func (sh *Shard) forkTo(to *Shard, keys func(ID, *Session) (inside, outside uint64), notice *Notice) bool {
	to.hasher, to.keys, to.notice = sh.hasher, keys, notice
	to.nextDue.Store(sh.nextDue.Load())
	to.wheel, to.told, to.timeouts, to.sessions, to.checker = sh.wheel, sh.told, sh.timeouts, sh.sessions, sh.checker
	if sh.wheel.lists != nil {
		lists := *sh.wheel.lists
		to.wheel.lists = &lists
	}
	return sh.v4.ForkTo(&to.v4, &to.mem) && sh.v6.ForkTo(&to.v6, &to.mem) && sh.index.ForkTo(&to.index, &to.mem)
}
