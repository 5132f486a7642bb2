package flow

import (
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Fork returns an independent copy of t with the same sessions under the same IDs, which
// behaves like t from then on. keys and notice are its own, in the place of Config.Keys and
// Config.Notice. The locks of all shards must be held; those of the copy are not. It fails
// with [ErrClosed] if t is closed, and with [ErrMemory] if there is none. Cost: that of copying the
// memory, see [Table.Bytes].
func (t *Table) Fork(keys func(id ID, s *Session) (inside, outside uint64), notice *Notice) (*Table, error) {
	return t.ForkIn(&Room{table: t.blank()}, keys, notice)
}

// Room is memory for a copy of a [Table], taken in advance. It is used once.
type Room struct{ table *Table }

// Room returns memory for a copy of t as large as t is now, resident where t is not small, so
// that nobody waits for it while [Table.ForkIn] copies. It takes the locks of all shards, one after
// the other. Where the system has no memory the room is empty, and ForkIn takes what it needs.
// Cost: that of the memory, up to 9 µs for 4 KiB that the system has yet to find.
func (t *Table) Room() *Room {
	to, stock := t.blank(), slab.Stock{}
	for i, sh := range t.used() {
		is := new(Shard)
		sh.Lock()
		stock.Add(&is.mem, &sh.mem)
		sh.Unlock()
		to.shards[i].Store(is)
	}
	stock.Take()
	return &Room{to}
}

// blank returns a table that is to be a copy of t.
func (t *Table) blank() *Table {
	return &Table{hasher: t.hasher, seeded: t.seeded, timeouts: t.timeouts, shards: make([]atomic.Pointer[Shard], len(t.shards))}
}

// ForkIn is Fork with the memory of a room that t has given. t may have grown since.
func (t *Table) ForkIn(r *Room, keys func(id ID, s *Session) (inside, outside uint64), notice *Notice) (*Table, error) {
	to := r.table
	to.keys, to.notice = keys, notice
	for i, sh := range t.used() {
		if sh.mem.Released() {
			to.Close()
			return nil, ErrClosed
		}
		if to.shards[i].Load() == nil { // it has been used since then
			to.shards[i].Store(new(Shard))
		}
		if !slab.Available() || !sh.forkTo(to.shards[i].Load(), keys, notice) {
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
