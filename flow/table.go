package flow

import (
	"errors"
	"fmt"
	"iter"

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

// ErrShards is wrapped by the complaint about a number of shards out of range.
var ErrShards = errors.New("number of shards is not in 1..64")

// Config describes a table. The zero value is valid.
type Config struct {
	// Shards is the number of independently locked parts, 1..64; 0 means
	// DefaultShards. More shards let more goroutines work at once and cost 16 KiB
	// each.
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
}

// Validate reports every problem of c, naming field and value.
func (c Config) Validate() error {
	var errs []error
	if c.Shards < 0 || c.Shards > MaxShards {
		errs = append(errs, fmt.Errorf("%s %d: %w", "Shards", c.Shards, ErrShards))
	}
	if err := c.Timeouts.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", "Timeouts", err))
	}
	return errors.Join(errs...)
}

// Table is a lock-sharded flow table. Its memory, except for its first MiB, lies
// outside the garbage collected heap; Close returns it, and so does the collector when the table is
// forgotten. A Table is safe for concurrent use; see [Shard] for the lock.
type Table struct {
	hasher Hasher
	seeded Hasher // of Config.Seed, for what can be seen
	shards []Shard
}

// ErrMemory is wrapped by the complaint that the system has no memory for a table.
var ErrMemory = errors.New("the system has no memory left")

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
	t := &Table{hasher: secretHasher(c.HashKey), seeded: NewHasher(c.Seed), shards: make([]Shard, c.Shards)}
	for i := range t.shards {
		t.shards[i].init(&t.hasher, c.Timeouts, c.Notice)
	}
	return t, nil
}

// Close returns the table's memory to the system. The table is empty afterwards and
// stays so: Observe tracks nothing any more. Closing it twice is harmless.
func (t *Table) Close() {
	for i := range t.shards {
		sh := &t.shards[i]
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
func (t *Table) Shard(i int) *Shard { return &t.shards[i] }

// Len returns the number of sessions, shard by shard.
func (t *Table) Len() (n int) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.Lock()
		n += sh.Len()
		sh.Unlock()
	}
	return n
}

// Bytes returns the memory that sessions and indexes occupy.
func (t *Table) Bytes() (n int) {
	for i := range t.shards {
		sh := &t.shards[i]
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
		for i := range t.shards {
			sh := &t.shards[i]
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
	for i := range t.shards {
		sh := &t.shards[i]
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
	for i := range t.shards {
		sh := &t.shards[i]
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

// Observe tracks one packet of an untranslated flow: it finds the session in
// either direction or creates it, restarts its idle timer and advances its TCP
// state. from is Inside for packets of the side that sent the first one. seg is
// the TCP segment, nil for other protocols. A TCP session begins with whatever
// segment is seen first; its state remains "none" until one comes that is not a
// RST. A flow that there is no memory for is not tracked: its Info is zero. A session
// that is over is removed, and with it all others of its shard if the last call of
// Expire is more than MaxLag ago.
//
// Observe is the door for programs that want a flow table and no translator.
func (t *Table) Observe(now Time, k Key, seg *Segment) (in Info, from Side, created bool) {
	r := k.Reverse()
	hash := t.hasher.Hash(&k)
	sh := t.shardOf(t.seeded.Hash(&k), t.seeded.Hash(&r))
	sh.Lock()
	defer sh.Unlock()
	now = sh.approach(now)
	id := sh.LookupInside(&k, hash)
	if id == 0 {
		from = Outside
		id = sh.LookupInside(&r, t.hasher.Hash(&r))
	}
	if id != 0 {
		if s := sh.At(id); sh.Expired(s, TickOf(now)) {
			sh.Remove(id, s)
			id = 0
		}
	}
	if id == 0 {
		id, s := sh.New(false)
		if id == 0 {
			return Info{}, Inside, false
		}
		s.Key, s.Outside, s.OutsidePort = k, k.Src, k.SrcPort
		s.start(k.Proto(), seg)
		return sh.begin(id, s, now)
	}
	s := sh.At(id)
	s.follow(sh, id, now, from, k.Proto(), seg)
	return sh.Info(id), from, created
}

// Observe6 is Observe for IPv6.
func (t *Table) Observe6(now Time, k Key6, seg *Segment) (in Info, from Side, created bool) {
	r := k.Reverse()
	hash := t.hasher.Hash6(&k)
	sh := t.shardOf(t.seeded.Hash6(&k), t.seeded.Hash6(&r))
	sh.Lock()
	defer sh.Unlock()
	now = sh.approach(now)
	id := sh.LookupInside6(&k, hash)
	if id == 0 {
		from = Outside
		id = sh.LookupInside6(&r, t.hasher.Hash6(&r))
	}
	if id != 0 {
		if s := sh.At(id); sh.Expired(s, TickOf(now)) {
			sh.Remove(id, s)
			id = 0
		}
	}
	if id == 0 {
		id, s := sh.New(true)
		if id == 0 {
			return Info{}, Inside, false
		}
		s.Key = Key{SrcPort: k.SrcPort, DstPort: k.DstPort, VNIProto: k.VNIProto}
		s.OutsidePort = k.SrcPort
		*s.Addrs6() = Addrs6{Inside: k.Src, Remote: k.Dst, Outside: k.Src}
		s.start(k.Proto(), seg)
		return sh.begin(id, s, now)
	}
	s := sh.At(id)
	s.follow(sh, id, now, from, k.Proto(), seg)
	return sh.Info(id), from, created
}

// begin is the end of Observe for a new session.
func (sh *Shard) begin(id ID, s *Session, now Time) (in Info, from Side, created bool) {
	if !sh.Insert(id, s, now) {
		sh.Discard(id)
		return Info{}, Inside, false
	}
	return sh.Info(id), Inside, true
}

// approach brings the shard near to now, or now near to the shard; see Near.
func (sh *Shard) approach(now Time) Time {
	if sh.Near(now) {
		return now
	}
	for more := true; more; {
		var ids []ID
		ids, _, more = sh.Expire(now)
		for _, id := range ids {
			sh.Remove(id, sh.At(id))
		}
	}
	return max(now, sh.Reached().Add(-MaxLag))
}

// shardOf picks the shard of an untranslated flow, the same one for both
// directions, by the seeded hashes of both keys.
func (t *Table) shardOf(hash, reverse uint64) *Shard {
	return &t.shards[uint32(hash^reverse)%uint32(len(t.shards))]
}

// start sets the first state of an observed session.
func (s *Session) start(proto uint8, seg *Segment) {
	switch {
	case proto == protoTCP:
		s.Track.Class = ClassTCPOpening
		s.open(Inside, seg)
	case proto == protoICMP || proto == protoICMPv6:
		s.Track.Class = ClassICMP
	default:
		s.Track.Class = ClassUDP
	}
}

// open shows the tracker of an observed session its first segment, if there is
// one that can open a connection.
func (s *Session) open(from Side, seg *Segment) {
	if seg != nil && seg.Flags&RST == 0 {
		s.Track.Open(from, seg)
	}
}

// follow advances an observed session.
func (s *Session) follow(sh *Shard, id ID, now Time, from Side, proto uint8, seg *Segment) {
	switch {
	case proto == protoTCP && s.Track.Phase() == TCPNone:
		s.open(from, seg) // the class stays
	case proto == protoTCP && seg != nil:
		effect := s.Track.Update(from, seg)
		if effect&Touch != 0 {
			s.Touch(now)
		}
		if effect&Rearm != 0 {
			sh.Rearm(id, s)
		}
		return
	case from == Outside && s.Track.Class == ClassUDP:
		s.Track.Class = ClassUDPReplied
		s.Touch(now)
		sh.Rearm(id, s) // the new timeout may be the shorter one
		return
	}
	s.Touch(now)
}
