// Many packets at once. A batch hides the cache misses of one packet behind the work on the
// others, in the passes of package snat: read and hash all, with the locks of all their
// shards prefetch buckets and then sessions, then translate one after the other. So each
// packet meets what those before it have left, as if it had come alone.

package kubeproxy

import (
	"math/bits"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// BatchSize is how many packets go through the passes together.
const BatchSize = flow.MaxGuesses

// Item is a packet of a batch, and after TranslateBatch what has become of it.
type Item struct {
	Packet  wire.Packet // from wire.Parse
	Node    int32       // whose Translate it is for, or -1
	Then    int32       // whose Answer it is for if that has passed it, or -1
	From    Origin      // as Node sees it
	Concern Concern     // what Concerns has said
	At      uint8       // for the caller
	By      int32       // the node that Result is of; any with Pass
	Result
}

// lane is an item that may belong to a session, or begin one.
type lane struct {
	k              tuple
	node, then     *shard // of the item's nodes; nil if it has none, or nothing to ask there
	hash, thenHash uint64 // of what is sought first
	at             uint8  // index of the item
}

// batch is the scratch memory of a call.
type batch struct {
	n     int
	lanes [BatchSize]lane // the first n are in use
	locks uint64          // shards

	looks flow.Guesses // by lane, where it is first sought
	thens flow.Guesses // of the lanes that have two nodes, in their order, at the second
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// TranslateBatch does for each item, in their order, what Translate does at its Node, and
// if that passes it what Answer does at Then. Nodes must be below the number of nodes.
// Packets of one flow keep their order. No allocation.
func (p *Proxy) TranslateBatch(now flow.Time, items []Item) {
	b := batches.Get().(*batch)
	for len(items) > 0 {
		n := min(BatchSize, len(items))
		taken := b.read(p, p.tables.Load(), items[:n])
		if b.n > 0 {
			b.look(p, now)
			b.translate(items)
			b.unlock(p)
		}
		if taken < n {
			p.translateAside(now, &items[taken])
			taken++
		}
		items = items[taken:]
	}
	batches.Put(b) // the pool forgets it at the next collections
}

// read is the first pass, without a lock, and reports how many items it has taken: it
// stops at what goes aside, which does not overtake those before it.
func (b *batch) read(p *Proxy, t *tables, items []Item) (taken int) {
	n, locks, idle := 0, uint64(0), p.idle(t)
	for i := range items {
		it := &items[i]
		if aside(&it.Packet) {
			b.n, b.locks = n, locks
			return i
		}
		it.Result, it.By = passed, -1
		l := &b.lanes[n&(BatchSize-1)]
		l.at, l.node, l.then = uint8(i), nil, nil
		l.k = tupleOf(&it.Packet)
		if it.Concern == Unsure {
			it.Concern = t.concerns(&l.k)
		}
		if node := int(it.Then); uint(node) < uint(len(t.nodes)) && it.Concern&OfEndpoint != 0 {
			k := node % len(p.shards)
			l.then, l.thenHash, locks = &p.shards[k], p.hash(&l.k, uint32(node)), locks|1<<(k&63)
			l.hash = l.thenHash
		}
		if node := int(it.Node); uint(node) < uint(len(t.nodes)) && it.Concern != 0 && !idle {
			k := node % len(p.shards)
			realm := uint32(0)
			if it.Concern&ToFrontend == 0 {
				realm = uint32(node)
			}
			l.node, l.hash, locks = &p.shards[k], p.hash(&l.k, realm), locks|1<<(k&63)
		}
		if l.node != nil || l.then != nil {
			n++
		}
	}
	b.n, b.locks = n, locks
	return len(items)
}

// look takes the locks, in ascending order, and prefetches what the packets need.
func (b *batch) look(p *Proxy, now flow.Time) {
	for m := b.locks; m != 0; m &= m - 1 {
		p.shards[bits.TrailingZeros64(m)].lock(now)
	}
	b.looks.Reset()
	b.thens.Reset()
	for i := range b.lanes[:b.n] {
		l := &b.lanes[i]
		if l.node == nil {
			b.looks.Add(l.then.sessions, l.hash)
			continue
		}
		if b.looks.Add(l.node.sessions, l.hash); l.then != nil {
			b.thens.Add(l.then.sessions, l.thenHash)
		}
	}
	b.looks.Look()
	b.thens.Look()
}

// translate is the last pass: one packet after the other.
func (b *batch) translate(items []Item) {
	second := 0
	for i := range b.lanes[:b.n] {
		l := &b.lanes[i]
		it := &items[l.at]
		var g guess
		g.id, g.s = b.looks.At(i)
		if l.node != nil {
			it.Result = l.node.translate(int(it.Node), it.From, &it.Packet, &l.k, it.Concern, g)
			if l.then != nil {
				g.id, g.s = b.thens.At(second)
				second++
			}
			if it.By = it.Node; it.Action != Pass || l.then == nil {
				continue
			}
		}
		it.Result, it.By = l.then.answer(int(it.Then), &it.Packet, &l.k, g), it.Then
	}
}

func (b *batch) unlock(p *Proxy) {
	for m := b.locks; m != 0; m &= m - 1 {
		p.shards[bits.TrailingZeros64(m)].sessions.Unlock()
	}
}

// translateAside is TranslateBatch for an item that goes aside.
func (p *Proxy) translateAside(now flow.Time, it *Item) {
	it.Result, it.By = passed, -1
	if it.Node >= 0 {
		it.Result, it.By = p.Translate(now, int(it.Node), it.From, &it.Packet), it.Node
	}
	if it.Action == Pass && it.Then >= 0 {
		it.Result, it.By = p.Answer(now, int(it.Then), &it.Packet), it.Then
	}
}
