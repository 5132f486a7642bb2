package flow

import (
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

const (
	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58

	// DefaultShards is the number of shards when Config.Shards is 0.
	DefaultShards = 8
	// MaxShards is the largest number of shards.
	MaxShards = 64
)

// Config describes a table. The zero value is valid.
type Config struct {
	// Shards is the number of independently locked parts, 1..64; 0 means
	// DefaultShards. More shards let more goroutines work at once. Each costs 1 KiB from its
	// first use on, and 16 KiB once it has a session.
	Shards int
	// Timeouts are the idle timeouts by class. What is not set is that of
	// RFCTimeouts.
	Timeouts Timeouts
	// Seed decides into which shard [Table.Observe] puts a flow, and so the order
	// of [Table.Sessions].
	Seed uint64
	// HashKey is the key of the hash that finds sessions. Nothing that can be seen
	// depends on it, except how long things take. 0, the default, draws a secret one
	// from the system: who knows the key can choose flows that collide, and then a
	// table is slow and may refuse them. Another value makes also that repeatable.
	HashKey uint64
	// Notice, unless nil, is raised when a session's timer is armed for a time before
	// that which its shard's NextDeadline has last answered.
	Notice *Notice
	// Keys, unless nil, says under which two hashes a session is found, for an owner to
	// whom the keys of the record are not those that packets have. It must say the same
	// from Insert to Remove, and is called with the shard locked. Such a table is looked up
	// with Candidates and [Guesses]; the methods that take a Key find nothing for certain.
	Keys func(id ID, s *Session) (inside, outside uint64)
}

// Validate reports every problem of c, naming field and value.
func (c Config) Validate() error {
	var l problems.List
	problems.Between(&l, "Shards", c.Shards, 0, MaxShards)
	l.Include("Timeouts", c.Timeouts.Validate())
	return l.Err()
}

// Table is a lock-sharded flow table. Its memory, except for its first MiB, lies
// outside the garbage collected heap; Close returns it, and so does the collector when the table is
// forgotten. A Table is safe for concurrent use; see [Shard] for the lock.
type Table struct {
	hasher Hasher
	seeded Hasher                  // of Config.Seed, for what can be seen
	shards []atomic.Pointer[Shard] // nil until it is used

	timeouts Timeouts // of shards that are not made yet; immutable, as are the others
	notice   *Notice
	keys     func(id ID, s *Session) (inside, outside uint64)
}

// NewTable returns an empty table, or an error that names every bad field or says
// that there is no memory.
func NewTable(c Config) (*Table, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("flow: %w", err)
	}
	if !slab.Available() {
		return nil, fmt.Errorf("flow: %w", ErrMemory)
	}
	if c.Shards == 0 {
		c.Shards = DefaultShards
	}
	return &Table{
		hasher: secretHasher(c.HashKey), seeded: NewHasher(c.Seed), shards: make([]atomic.Pointer[Shard], c.Shards),
		timeouts: c.Timeouts, notice: c.Notice, keys: c.Keys,
	}, nil
}

// Close returns the table's memory to the system. The table is empty afterwards and
// stays so: Observe tracks nothing any more. Closing it twice is harmless.
func (t *Table) Close() {
	for i := range t.shards {
		sh := t.Shard(i) // which is closed, too, if it is used later
		sh.Lock()
		sh.Close()
		sh.Unlock()
	}
}

// Hasher returns the hash that the table's index is built on. Its key is secret
// unless Config.HashKey fixes it: let nothing that can be seen depend on it.
func (t *Table) Hasher() *Hasher { return &t.hasher }

// NumShards returns the number of shards.
func (t *Table) NumShards() int { return len(t.shards) }

// Shard returns shard i.
func (t *Table) Shard(i int) *Shard {
	if sh := t.shards[i].Load(); sh != nil {
		return sh
	}
	return t.makeShard(i)
}

// makeShard makes shard i, unless somebody else has.
func (t *Table) makeShard(i int) *Shard {
	sh := new(Shard)
	sh.init(t.hasher, t.timeouts, t.notice)
	sh.keys = t.keys
	t.shards[i].CompareAndSwap(nil, sh)
	return t.shards[i].Load()
}

// used iterates over the shards that have been used, and their numbers.
func (t *Table) used() iter.Seq2[int, *Shard] {
	return func(yield func(int, *Shard) bool) {
		for i := range t.shards {
			if sh := t.shards[i].Load(); sh != nil && !yield(i, sh) {
				return
			}
		}
	}
}

// Len returns the number of sessions, shard by shard.
func (t *Table) Len() (n int) {
	for _, sh := range t.used() {
		sh.Lock()
		n += sh.Len()
		sh.Unlock()
	}
	return n
}

// Bytes returns the memory that sessions and indexes occupy.
func (t *Table) Bytes() (n int) {
	for _, sh := range t.used() {
		sh.Lock()
		n += sh.Bytes()
		sh.Unlock()
	}
	return n
}

// Sessions iterates over copies of all sessions. No lock is held while the loop
// body runs; sessions inserted or removed meanwhile may or may not be seen.
func (t *Table) Sessions() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		ids := make([]ID, 0, 256)
		infos := make([]Info, 0, 256)
		for _, sh := range t.used() {
			for after := ID(0); ; after = ids[len(ids)-1] {
				sh.Lock()
				ids = sh.IDs(ids[:0], after)
				infos = infos[:0]
				for _, id := range ids {
					infos = append(infos, sh.Info(id))
				}
				sh.Unlock()
				for _, in := range infos {
					if !yield(in) {
						return
					}
				}
				if len(ids) == 0 {
					break
				}
			}
		}
	}
}

// NextDeadline returns the earliest time at which [Table.Expire] may have work
// to do; see [Shard.NextDeadline].
func (t *Table) NextDeadline() (at Time, ok bool) {
	for _, sh := range t.used() {
		sh.Lock()
		d, found := sh.NextDeadline()
		sh.Unlock()
		if found && (!ok || d < at) {
			at, ok = d, true
		}
	}
	return at, ok
}

// Expire removes every session idle at now and reports how many. expired, if
// not nil, is called for each of them before it is removed, with the shard
// locked. Locks are released between batches of 64.
func (t *Table) Expire(now Time, expired func(at Time, in Info)) (n int) {
	for _, sh := range t.used() {
		for more := true; more; {
			sh.Lock()
			var ids []ID
			var at Time
			ids, at, more = sh.Expire(now)
			for _, id := range ids {
				if expired != nil {
					expired(at, sh.Info(id))
				}
				sh.Remove(id, sh.At(id))
			}
			n += len(ids)
			if !more {
				sh.Tidy(now)
			}
			sh.Unlock()
		}
	}
	return n
}
