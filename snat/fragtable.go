package snat

import (
	"sync"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// fragments is the table of datagrams that are in pieces. It has a lock of its
// own, taken before control and those of shards, so whole packets never wait for it.
type fragments struct {
	nat    *NAT
	limits Fragments // filled in, immutable

	mu        sync.Mutex // guards all below
	mem       slab.Memory
	datagrams slab.Slab[datagram]
	byKey     index.Index
	sources   slab.Slab[fragmentSource]
	bySource  index.Index
	owners    slab.Slab[fragmentOwner]
	byOwner   index.Index
	ranks     [numLoads][]uint32 // owners, as heaps: who has most is first
	byLeft    index.Index        // forwarded datagrams, if ICMP errors about them are translated
	pieces    slab.Slab[piece]
	cells     slab.Slab[cell]
	releases  slab.Slab[release]

	lists   [numLists]list // of datagrams, by state, the oldest first
	leaving list           // of releases, in the order of their times

	queued      int  // fragments in cells
	unfound     bool // an index has had no room for a record
	ids         fragmentIDs
	hasher      *flow.Hasher
	verdict     flow.Verdict // of the fragment that is neither dropped nor queued
	forwarded   [2]uint64    // fragments other than first ones, by the side they came from
	bypassed    [2]uint64
	maxCells    int
	lifetime    flow.Time
	emitBuffers sync.Pool // of *[maxFragment]byte

	reconsidered [2]uint64 // ICMP errors that count as dropped but were not, by the side they came from
}

// maxFragment is the length of the longest IP packet.
const maxFragment = ip6Len + 65535

// fragmentState is the list a datagram is in.
type fragmentState uint8

const (
	waiting  fragmentState = iota // for its first fragment
	open                          // the first has come, others are missing
	spent                         // complete, or discarded: nothing to lose
	numLists = 3
)

// datagram is what is known of one datagram from one side.
type datagram struct {
	key flow.Key6 // before translation
	fragmentRewrite
	since           flow.Time // when it came into its state
	ports           uint32    // of the first fragment, before translation
	source          uint32
	pieces, last    uint32        // by offset; empty once spent
	in              [numIn]linked // lists
	received, total uint16        // bytes; total is 0 until the last fragment comes
	cells           uint16        // that its queued fragments take
	count           uint16        // of pieces
	firstEnd        uint16        // where the first fragment ends
	state           fragmentState
	action          flow.Action // what became of the first fragment
	reason          flow.Reason // why all is dropped
	proto           uint8       // of the first fragment
	_               [2]byte
}

// piece is one fragment that has come.
type piece struct {
	next       uint32
	cell       uint32 // the packet if it is queued, else 0
	size       uint32 // of the packet in bytes
	start, end uint16
}

// cell is a part of a queued packet.
type cell struct {
	next uint32
	data [cellSize]byte
}

const cellSize = 252

// release is a queue of fragments on their way out.
type release struct {
	fragmentRewrite
	at     flow.Time
	next   uint32
	pieces uint32
	from   flow.Side
	action flow.Action
	_      [22]byte
}

var (
	_ [128]byte = [unsafe.Sizeof(datagram{})]byte{}
	_ [16]byte  = [unsafe.Sizeof(piece{})]byte{}
	_ [256]byte = [unsafe.Sizeof(cell{})]byte{}
	_ [64]byte  = [unsafe.Sizeof(release{})]byte{}
)

// newFragments returns the table, or nil if fragments are dropped.
func newFragments(n *NAT, c *Config) *fragments {
	if c.Fragments.Mode == FragmentsDropped {
		return nil
	}
	f := &fragments{nat: n, limits: c.Fragments.filled(), hasher: n.table.Hasher()}
	f.lifetime = flow.Time(f.limits.Lifetime)
	f.maxCells = f.limits.MaxQueuedBytes / int(unsafe.Sizeof(cell{}))
	f.datagrams.Init(&f.mem)
	f.byKey.Init(&f.mem)
	f.sources.Init(&f.mem)
	f.bySource.Init(&f.mem)
	f.owners.Init(&f.mem)
	f.byOwner.Init(&f.mem)
	f.byLeft.Init(&f.mem)
	f.pieces.Init(&f.mem)
	f.cells.Init(&f.mem)
	f.releases.Init(&f.mem)
	f.ids.init(c.Seed)
	f.emitBuffers.New = func() any { return new([maxFragment]byte) }
	return f
}

// close returns the table's memory. The table is empty afterwards.
func (f *fragments) close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mem.Release()
	f.lists, f.leaving, f.ranks, f.queued = [numLists]list{}, list{}, [numLoads][]uint32{}, 0
}

// from returns the side a datagram comes from.
func (d *datagram) from() flow.Side {
	if d.key.VNI() == outsideRealm {
		return flow.Outside
	}
	return flow.Inside
}

// find returns the datagram with a key, or 0.
func (f *fragments) find(k *flow.Key6) uint32 {
	for p := f.byKey.Probe(index.Tag(f.hasher.Hash6(k))); ; {
		id := p.Next()
		if id == 0 || f.datagrams.At(id).key == *k {
			return id
		}
	}
}

// crowded reports whether another datagram finds no place.
func (f *fragments) crowded() bool { return f.datagrams.Len() >= f.limits.MaxDatagrams }

// over reports whether a datagram has reached its lifetime.
func (f *fragments) over(now flow.Time, id uint32) bool {
	return f.datagrams.At(id).since+f.lifetime <= now
}

// first decides on a first fragment; id is its datagram, or 0.
func (f *fragments) first(from flow.Side, r *routes, now flow.Time, id uint32, k *flow.Key6, e extent, p *wire.Packet) flow.Reason {
	if !f.ready() {
		return flow.ReasonMemory
	}
	ports := p.Ports()
	if id != 0 {
		d := f.datagrams.At(id)
		switch {
		case d.state == spent && d.reason != flow.ReasonNone:
			return d.reason
		case d.state == spent && (ports != d.ports || e.end != d.firstEnd):
			f.remove(id) // all of the old one has come: this is another with its identification
			id = 0
		case d.state == spent:
			return flow.ReasonFragDuplicate
		case d.state == open && ports != d.ports:
			return f.discard(now, id, flow.ReasonFragConflict)
		}
	}
	if id != 0 && f.datagrams.At(id).state == open {
		return f.place(now, id, e, 0, 0) // a copy, or an overlap
	}
	if id != 0 {
		if reason := f.place(now, id, e, 0, 0); reason != flow.ReasonNone {
			return reason
		}
	}
	v := f.nat.translateFirst(from, r, now, p)
	f.verdict = v
	if v.Action == flow.Drop {
		if id == 0 {
			if f.crowded() && !f.dispense(now) {
				return flow.ReasonNone // who has a place will not lose it for this
			}
			id = f.add(now, k, ownerOf(k), spent)
			f.datagrams.At(id).reason = v.Reason
		} else {
			f.discard(now, id, v.Reason)
		}
		return flow.ReasonNone
	}
	owner := ownerOf(k)
	if from == flow.Outside {
		owner = outsideOwner | v.Instance
	}
	came := id == 0 // before all others
	if came {
		f.limit(now, f.sourceOf(k, owner), open)
		f.room(now, owner, true)
		id = f.add(now, k, owner, open)
		f.place(now, id, e, 0, 0)
	}
	d := f.datagrams.At(id)
	d.ports, d.firstEnd, d.action, d.proto = ports, e.end, v.Action, p.Proto
	if d.instance = v.Instance; v.Action == flow.Forward {
		d.addr = addresses(p, from).Inside // which is the new one
		if h := p.IPv4(); p.Flags&wire.V6 != 0 {
			d.id = f.ids.id6()
		} else {
			d.id = f.ids.id4(h.Src(), h.Dst(), p.Proto)
		}
		d.apply(from, p)
		f.remember(id)
	}
	if !came {
		f.release(now, d)
		f.open(now, id, owner)
	}
	f.settle(now, id)
	return flow.ReasonNone
}

// insert adds an entry to an index. If that has no room it does no harm: the record is
// not found, and forgotten in time.
func (f *fragments) insert(x *index.Index, tag, id uint32) {
	if !x.Insert(tag, id) {
		f.unfound = true
	}
}

// ready reports whether there is memory for what one fragment needs, besides its cells.
func (f *fragments) ready() bool {
	const any = 1 << 31
	return f.datagrams.Ready(any) && f.sources.Ready(any) && f.owners.Ready(any) && f.pieces.Ready(any)
}

// other decides on a fragment that is not the first; id is its datagram, or 0.
func (f *fragments) other(now flow.Time, id uint32, k *flow.Key6, e extent, p *wire.Packet) flow.Reason {
	if !f.ready() {
		return flow.ReasonMemory
	}
	if id != 0 {
		switch d := f.datagrams.At(id); d.state {
		case spent:
			if d.reason != flow.ReasonNone {
				return d.reason
			}
			return flow.ReasonFragDuplicate
		case open:
			if reason := f.place(now, id, e, 0, 0); reason != flow.ReasonNone {
				return reason
			}
			from := d.from()
			f.verdict = flow.Verdict{Action: d.action, To: flow.Outside - from, Instance: d.instance}
			f.count(d, len(p.B))
			if d.action == flow.Forward {
				d.apply(from, p)
			}
			f.settle(now, id)
			return flow.ReasonNone
		}
	}
	if !f.space(now, cellsOf(len(p.B)), id) {
		return flow.ReasonFragLimit
	}
	if id == 0 {
		owner := ownerOf(k)
		f.limit(now, f.sourceOf(k, owner), waiting)
		if !f.room(now, owner, false) {
			return flow.ReasonFragLimit
		}
		id = f.add(now, k, owner, waiting)
	}
	stored := f.store(p.B)
	if stored == 0 {
		return flow.ReasonMemory
	}
	if reason := f.place(now, id, e, stored, len(p.B)); reason != flow.ReasonNone {
		f.free(stored)
		return reason
	}
	f.queued++
	f.verdict = flow.Verdict{Action: flow.Queued}
	return flow.ReasonNone
}

// count counts a fragment of size bytes that leaves and is not a first one.
func (f *fragments) count(d *datagram, size int) {
	from := d.from()
	if d.action != flow.Forward {
		f.bypassed[from]++
		return
	}
	f.forwarded[from]++
	frontend := d.addr
	if from == flow.Outside {
		frontend = d.key.Dst
	}
	f.countTraffic(from, uint8(d.key.VNIProto) != 0, frontend, d.proto, size) // over IPv6 the key has no protocol
}

// add makes a datagram of an owner in a state. There must be room.
func (f *fragments) add(now flow.Time, k *flow.Key6, owner uint32, state fragmentState) uint32 {
	id := f.datagrams.Alloc()
	d := f.datagrams.At(id)
	d.key, d.state = *k, state
	f.join(d, owner)
	f.insert(&f.byKey, index.Tag(f.hasher.Hash6(k)), id)
	f.enter(now, id)
	return id
}

// open notes that the first fragment of a datagram that waits has come, and that it
// is an owner's.
func (f *fragments) open(now flow.Time, id uint32, owner uint32) {
	d := f.datagrams.At(id)
	f.leave(id)
	f.part(d)
	f.limit(now, f.sourceOf(&d.key, owner), open)
	f.join(d, owner)
	d.state = open
	f.enter(now, id)
}

// remove forgets a datagram, which has nothing queued.
func (f *fragments) remove(id uint32) {
	f.freePieces(id)
	f.leave(id)
	d := f.datagrams.At(id)
	f.part(d)
	f.byKey.Discard(index.Tag(f.hasher.Hash6(&d.key)), id)
	f.forget(id)
	f.datagrams.Free(id)
}

// place notes that a fragment has come. It refuses a copy, and discards the
// datagram where fragments overlap or disagree about where it ends (RFC 5722,
// here for IPv4 too).
func (f *fragments) place(now flow.Time, id uint32, e extent, stored uint32, size int) flow.Reason {
	d := f.datagrams.At(id)
	var after uint32
	if d.last != 0 && f.pieces.At(d.last).end <= e.start {
		after = d.last // in order
	} else {
		for at := d.pieces; at != 0; at = f.pieces.At(at).next {
			q := f.pieces.At(at)
			if q.start >= e.end {
				break
			}
			if q.start == e.start && q.end == e.end && e.more == (d.total != q.end) {
				return flow.ReasonFragDuplicate
			}
			if q.end > e.start {
				return f.discard(now, id, flow.ReasonFragOverlap)
			}
			after = at
		}
	}
	if d.total != 0 && (!e.more || e.end >= d.total) || !e.more && after != d.last {
		return f.discard(now, id, flow.ReasonFragOverlap)
	}
	if int(d.count) >= f.limits.MaxPerDatagram {
		return flow.ReasonFragLimit
	}
	if !e.more {
		d.total = e.end
	}
	at := f.pieces.Alloc()
	q := f.pieces.At(at)
	*q = piece{cell: stored, size: uint32(size), start: e.start, end: e.end}
	if after == 0 {
		q.next, d.pieces = d.pieces, at
	} else {
		prev := f.pieces.At(after)
		q.next, prev.next = prev.next, at
	}
	if q.next == 0 {
		d.last = at
	}
	d.count++
	d.received += e.end - e.start
	if stored != 0 {
		f.charge(d, cellsOf(size))
	}
	return flow.ReasonNone
}

// settle moves an open datagram whose last missing fragment has come to the spent
// ones.
func (f *fragments) settle(now flow.Time, id uint32) {
	if d := f.datagrams.At(id); d.received == d.total {
		f.freePieces(id)
		f.spend(now, id)
	}
}

// discard drops what is queued of a datagram and all of it that is still to
// come, and returns the reason.
func (f *fragments) discard(now flow.Time, id uint32, reason flow.Reason) flow.Reason {
	d := f.datagrams.At(id)
	if dropped := f.freePieces(id); dropped > 0 {
		f.nat.dropFragments(d.from(), reason, dropped)
	}
	d.reason = reason
	f.spend(now, id)
	return reason
}

// spend moves a datagram to those that have nothing to lose.
func (f *fragments) spend(now flow.Time, id uint32) {
	f.leave(id)
	f.datagrams.At(id).state = spent
	f.enter(now, id)
}

// freePieces frees the pieces of a datagram, and reports how many were queued.
func (f *fragments) freePieces(id uint32) (queued int) {
	d := f.datagrams.At(id)
	for at := d.pieces; at != 0; {
		q := *f.pieces.At(at)
		f.pieces.Free(at)
		if q.cell != 0 {
			f.free(q.cell)
			queued++
		}
		at = q.next
	}
	f.charge(d, -int(d.cells))
	d.pieces, d.last, d.count = 0, 0, 0
	f.queued -= queued
	return queued
}

// store copies a packet into cells, and returns 0 if there is no memory.
func (f *fragments) store(b []byte) (head uint32) {
	link := &head
	for len(b) > 0 {
		if *link = f.cells.Alloc(); *link == 0 {
			f.free(head)
			return 0
		}
		c := f.cells.At(*link)
		b = b[copy(c.data[:], b):]
		link = &c.next
	}
	return head
}

// free frees the cells of a packet.
func (f *fragments) free(at uint32) {
	for at != 0 {
		next := f.cells.At(at).next
		f.cells.Free(at)
		at = next
	}
}

// release puts what is queued of a datagram on its way out, or drops what there is no
// memory for.
func (f *fragments) release(now flow.Time, d *datagram) {
	var id, piece uint32
	var link *uint32
	lost := 0
	for at := d.pieces; at != 0; at = f.pieces.At(at).next {
		q := f.pieces.At(at)
		if q.cell == 0 {
			continue
		}
		if id == 0 {
			if id = f.releases.Alloc(); id != 0 {
				r := f.releases.At(id)
				*r = release{fragmentRewrite: d.fragmentRewrite, at: now, from: d.from(), action: d.action}
				link = &r.pieces
			}
		}
		if piece = 0; id != 0 {
			piece = f.pieces.Alloc()
		}
		if piece == 0 {
			f.free(q.cell)
			q.cell = 0
			lost++
			continue
		}
		out := f.pieces.At(piece)
		out.cell, out.size, q.cell = q.cell, q.size, 0
		*link, link = piece, &out.next
		f.count(d, int(q.size))
	}
	f.charge(d, -int(d.cells))
	if lost > 0 {
		f.queued -= lost
		f.nat.dropFragments(d.from(), flow.ReasonMemory, lost)
	}
	switch {
	case id == 0:
		return
	case f.releases.At(id).pieces == 0:
		f.releases.Free(id)
		return
	case f.leaving.tail == 0:
		f.leaving.head = id
	default:
		f.releases.At(f.leaving.tail).next = id
	}
	f.leaving.tail = id
}

// Work that is done for datagrams that have reached their lifetime: at a door, so
// that they are forgotten even if nobody calls Advance, and in a step of Advance.
// The unit is a datagram or one of its fragments; what begins with a datagram is
// finished. Nothing else depends on when it is done.
const (
	expireAtDoor = 8
	expireStep   = 2048
)

// expire forgets what has reached its lifetime, as far as some work goes. It reports
// whether that was all.
func (f *fragments) expire(now flow.Time, work int) (done bool) {
	for _, l := range &f.lists {
		for id := l.head; id != 0 && f.over(now, id); {
			if work <= 0 {
				return false
			}
			d := f.datagrams.At(id)
			next := d.in[inState].next
			work -= 1 + int(d.count)
			f.end(now, id)
			id = next
		}
	}
	return true
}

// end forgets a datagram that has reached its lifetime.
func (f *fragments) end(now flow.Time, id uint32) {
	if f.datagrams.At(id).state == waiting {
		f.discard(now, id, flow.ReasonFragTimeout)
	}
	f.remove(id)
}

// emitStep is how many fragments advance emits at most if it must not be away for
// long.
const emitStep = 64

// advance forgets what has reached its lifetime, a step of it, and emits queued
// fragments, not more than a number of them. It reports whether nothing is left.
func (f *fragments) advance(now flow.Time, emit flow.Sink, most int) (done bool) {
	if f == nil {
		return true
	}
	f.mu.Lock()
	done = f.expire(now, expireStep)
	f.mem.Tidy(int64(now))
	f.check()
	idle := f.leaving.head == 0
	f.mu.Unlock()
	if idle {
		return done
	}
	buf := f.emitBuffers.Get().(*[maxFragment]byte)
	defer f.emitBuffers.Put(buf)
	for range most {
		r, pkt := f.next(buf)
		if pkt == nil {
			return done
		}
		if emit == nil {
			continue
		}
		var p wire.Packet
		if problem := wire.Parse(pkt, &p); problem != wire.OK {
			panic("snat: a queued fragment is damaged: " + flow.Reason(problem).String())
		}
		if r.action == flow.Forward {
			r.apply(r.from, &p)
		}
		v := flow.Verdict{Action: r.action, To: flow.Outside - r.from, Instance: r.instance}
		if f.nat.routed {
			f.nat.hop(f.nat.routes.Load(), r.from, r.at, pkt, &v)
		}
		if v.Action == flow.Forward || v.Action == flow.Bypass {
			emit(flow.Emission{At: r.at, To: v.To, Instance: r.instance, Packet: pkt})
		}
	}
	return false
}

// next takes the next fragment that leaves, or nil.
func (f *fragments) next(buf *[maxFragment]byte) (release, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.leaving.head
	if id == 0 {
		return release{}, nil
	}
	r := f.releases.At(id)
	out := *r
	at := r.pieces
	q := *f.pieces.At(at)
	pkt := buf[:0]
	for c := q.cell; c != 0; c = f.cells.At(c).next {
		pkt = append(pkt, f.cells.At(c).data[:min(cellSize, int(q.size)-len(pkt))]...)
	}
	f.free(q.cell)
	f.pieces.Free(at)
	f.queued--
	if r.pieces = q.next; r.pieces == 0 {
		if f.leaving.head = r.next; f.leaving.head == 0 {
			f.leaving.tail = 0
		}
		f.releases.Free(id)
	}
	return out, pkt
}

// nextDeadline is the part of NextDeadline that fragments have.
func (f *fragments) nextDeadline() (at flow.Time, ok bool) {
	if f == nil {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lists {
		if l.head != 0 {
			if d := f.datagrams.At(l.head).since + f.lifetime; !ok || d < at {
				at, ok = d, true
			}
		}
	}
	if f.leaving.head != 0 {
		at, ok = f.releases.At(f.leaving.head).at, true
	}
	return at, ok
}

// addTo adds what fragments have done to the statistics.
func (f *fragments) addTo(s *Stats) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for side, p := range []*PacketStats{flow.Inside: &s.Outbound, flow.Outside: &s.Inbound} {
		p.Forwarded += f.forwarded[side]
		p.Bypassed += f.bypassed[side]
		p.Forwarded += f.reconsidered[side]
		p.Drops[flow.ReasonICMPInnerFragment] -= f.reconsidered[side]
	}
	s.Fragments = FragmentStats{
		Datagrams: f.datagrams.Len(), Queued: f.queued,
		QueuedBytes: f.cells.Len() * int(unsafe.Sizeof(cell{})),
	}
	s.Bytes += f.mem.Bytes() + 4*(cap(f.ranks[datagramLoad])+cap(f.ranks[cellLoad]))
}
