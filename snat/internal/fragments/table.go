package fragments

import (
	"math"
	"sync"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Limits bounds what a [Table] holds. All are positive.
type Limits struct {
	// Lifetime is how long a datagram is known in each of its stages.
	Lifetime flow.Time

	MaxDatagrams   int // known at a time
	MaxPerSource   int // datagrams of one source that wait, and of those that are open; at most MaxDatagrams
	MaxPerDatagram int // fragments of one datagram, below 65,536
	MaxQueuedBytes int // memory for fragments that wait, in units of 256 bytes that hold 252
}

// Config is what a [Table] needs from the translator that owns it. The callbacks run
// under the table's lock, so they must not call the table.
type Config struct {
	Limits Limits

	// Hasher places keys in the table's indexes. Its key should be one that nobody can
	// guess, or a flood can be chosen to meet in one place.
	Hasher *flow.Hasher

	// IDs are the identifications with which datagrams leave.
	IDs *IDs

	// Recall says that [Table.Recall] will be asked. It costs an index entry for each
	// datagram that is forwarded.
	Recall bool

	// Notice, unless nil, is raised when [Table.NextDeadline] may have become earlier
	// than it last was.
	Notice *flow.Notice

	// Dropped is told of fragments from a side that the table drops, those included
	// for which [Table.Decide] returns the verdict.
	Dropped func(from flow.Side, reason flow.Reason, count int)

	// Carried is told of every fragment of size bytes, other than first ones, that
	// is forwarded, when it gets its verdict or, if it has waited, when its first
	// one gets it. outside is the inside host's address as the outside sees it, and
	// valid until the callback returns. proto is what the first fragment has named.
	Carried func(from flow.Side, v6 bool, outside *[2]uint64, proto uint8, size int)
}

// Table is what is known of datagrams in pieces. Make one with [New]. A nil Table
// holds nothing and never will: it is closed, has no deadline and nothing to advance.
type Table struct {
	limits   Limits // immutable, as are those below
	maxCells int
	hasher   *flow.Hasher
	ids      *IDs
	recall   bool
	notice   *flow.Notice
	dropped  func(from flow.Side, reason flow.Reason, count int)
	carried  func(from flow.Side, v6 bool, outside *[2]uint64, proto uint8, size int)
	buffers  sync.Pool // of *[maxPacket]byte, for what leaves

	mu        sync.Mutex // guards all below
	mem       slab.Memory
	datagrams slab.Slab[datagram]
	byKey     index.Index
	sources   slab.Slab[sourceRecord]
	bySource  index.Index
	owners    slab.Slab[ownerRecord]
	byOwner   index.Index
	ranks     [numLoads][]uint32 // owners, as heaps: who has most is first
	byLeft    index.Index        // forwarded datagrams, if they may be recalled
	pieces    slab.Slab[piece]
	cells     slab.Slab[cell]
	releases  slab.Slab[release]

	lists   [numLists]list // of datagrams, by stage, the oldest first
	leaving list           // of releases, in the order of their times
	told    flow.Time      // what NextDeadline has last answered; the end of time for none

	queued    int       // fragments in cells
	unfound   bool      // an index has had no room for a record
	forwarded [2]uint64 // fragments other than first ones, by the side they came from
	bypassed  [2]uint64
}

// maxPacket is the length of the longest IP packet.
const maxPacket = 40 + 65535

// stage is the list a datagram is in.
type stage uint8

const (
	waiting  stage = iota // for its first fragment
	open                  // the first has come, others are missing
	spent                 // complete, or discarded: nothing to lose
	numLists = 3
)

// datagram is what is known of one datagram from one side.
type datagram struct {
	key flow.Key6 // before translation; see keyOf
	rewrite
	since           flow.Time // when it came into its stage
	ports           uint32    // of the first fragment, before translation
	source          uint32
	pieces, last    uint32        // by offset; empty once spent
	in              [numIn]linked // lists
	received, total uint16        // bytes; total is 0 until the last fragment comes
	cells           uint16        // that its queued fragments take
	count           uint16        // of pieces
	firstEnd        uint16        // where the first fragment ends
	stage           stage
	action          flow.Action // what became of the first fragment
	reason          flow.Reason // why all is dropped
	proto           uint8       // of the first fragment
	_               [2]byte
}

var _ [128]byte = [unsafe.Sizeof(datagram{})]byte{}

// New returns an empty table. It takes memory as that is needed.
func New(c Config) *Table {
	t := unmade(c)
	t.datagrams.Init(&t.mem)
	t.byKey.Init(&t.mem)
	t.sources.Init(&t.mem)
	t.bySource.Init(&t.mem)
	t.owners.Init(&t.mem)
	t.byOwner.Init(&t.mem)
	t.byLeft.Init(&t.mem)
	t.pieces.Init(&t.mem)
	t.cells.Init(&t.mem)
	t.releases.Init(&t.mem)
	return t
}

// unmade returns a table without memory.
func unmade(c Config) *Table {
	t := &Table{
		limits: c.Limits, maxCells: c.Limits.MaxQueuedBytes / int(unsafe.Sizeof(cell{})),
		hasher: c.Hasher, ids: c.IDs, recall: c.Recall, notice: c.Notice, dropped: c.Dropped, carried: c.Carried, told: math.MaxInt64,
	}
	t.buffers.New = func() any { return new([maxPacket]byte) }
	return t
}

// Close returns the table's memory. The table is empty afterwards; its counts stay.
func (t *Table) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mem.Release()
	t.lists, t.leaving, t.ranks, t.queued = [numLists]list{}, list{}, [numLoads][]uint32{}, 0
}

// from returns the side a datagram comes from.
func (d *datagram) from() flow.Side {
	if d.key.VNI() == outsider {
		return flow.Outside
	}
	return flow.Inside
}

// find returns the datagram with a key, or 0.
func (t *Table) find(k *flow.Key6) uint32 {
	for p := t.byKey.Probe(index.Tag(t.hasher.Hash6(k))); ; {
		id := p.Next()
		if id == 0 || t.datagrams.At(id).key == *k {
			return id
		}
	}
}

// crowded reports whether another datagram finds no place.
func (t *Table) crowded() bool { return t.datagrams.Len() >= t.limits.MaxDatagrams }

// insert adds an entry to an index. If that has no room it does no harm: the record is
// not found, and forgotten in time.
func (t *Table) insert(x *index.Index, tag, id uint32) {
	if !x.Insert(tag, id) {
		t.unfound = true
	}
}

// ready reports whether there is memory for what one fragment needs, besides its cells.
func (t *Table) ready() bool {
	const any = 1 << 31
	return t.datagrams.Ready(any) && t.sources.Ready(any) && t.owners.Ready(any) && t.pieces.Ready(any)
}

// add makes a datagram of an owner in a stage. There must be room.
func (t *Table) add(now flow.Time, k *flow.Key6, owner uint32, stage stage) uint32 {
	id := t.datagrams.Alloc()
	d := t.datagrams.At(id)
	d.key, d.stage = *k, stage
	t.join(d, owner)
	t.insert(&t.byKey, index.Tag(t.hasher.Hash6(k)), id)
	t.enter(now, id)
	return id
}

// open notes that the first fragment of a datagram that waits has come, and that it
// is an owner's.
func (t *Table) open(now flow.Time, id uint32, owner uint32) {
	d := t.datagrams.At(id)
	t.leave(id)
	t.part(d)
	t.limit(now, t.sourceOf(&d.key, owner), open)
	t.join(d, owner)
	d.stage = open
	t.enter(now, id)
}

// remove forgets a datagram, which has nothing queued.
func (t *Table) remove(id uint32) {
	t.freePieces(id)
	t.leave(id)
	d := t.datagrams.At(id)
	t.part(d)
	t.byKey.Discard(index.Tag(t.hasher.Hash6(&d.key)), id)
	t.forget(id)
	t.datagrams.Free(id)
}

// Stats is what a table holds and has done.
type Stats struct {
	Datagrams   int // known, complete and discarded ones included
	Queued      int // fragments that wait for their first, or for Advance
	QueuedBytes int // memory of the queued fragments
	Bytes       int // memory of all

	// Fragments other than first ones that got the verdict of theirs, by the side
	// they came from.
	Forwarded, Bypassed [2]uint64
}

// Stats returns what the table holds and has done.
func (t *Table) Stats() Stats {
	if t == nil {
		return Stats{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Datagrams: t.datagrams.Len(), Queued: t.queued,
		QueuedBytes: t.cells.Len() * int(unsafe.Sizeof(cell{})),
		Bytes:       t.mem.Bytes() + 4*(cap(t.ranks[datagramLoad])+cap(t.ranks[cellLoad])),
		Forwarded:   t.forwarded, Bypassed: t.bypassed,
	}
}

// Check panics if a counter, a list or an index entry is not true, in builds that check
// invariants; others do nothing. Cost: O(datagrams + fragments).
func (t *Table) Check() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.check()
}
