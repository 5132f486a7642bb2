// Many packets at once. A batch hides the cache misses of one packet behind the work on the
// others, in the passes of package snat: read and hash all, with the locks of all their
// shards prefetch buckets and then sessions, then translate one after the other. So each
// packet meets what those before it have left, as if it had come alone.

package kubeproxy

import (
	"encoding/binary"
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
	node, then      *shard // of the item's nodes; nil if it has none, or nothing to ask there
	hash, thenHash  uint64 // of what is sought first
	src, dst, ports uint32 // of whole packets of IPv4
	at              uint8  // index of the item
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
	n, locks := 0, uint64(0)
	for i := range items {
		it := &items[i]
		if aside(&it.Packet) {
			b.n, b.locks = n, locks
			return i
		}
		it.Action, it.Reason, it.New, it.Result.Node = Pass, flow.ReasonNone, false, -1
		l := &b.lanes[n&(BatchSize-1)]
		l.at, l.node, l.then = uint8(i), nil, nil
		if it.Concern == Unsure || it.Packet.Flags&wire.V6 != 0 {
			locks |= l.read(p, t, it)
		} else {
			h := it.Packet.B[:ip4Dst+4]
			l.src, l.dst, l.ports = binary.BigEndian.Uint32(h[ip4Src:]), binary.BigEndian.Uint32(h[ip4Dst:]), it.Packet.Ports()
			proto := uint32(it.Packet.Proto)
			if node := int(it.Then); uint(node) < uint(len(t.nodes)) && it.Concern&OfEndpoint != 0 {
				k := node % len(p.shards)
				l.then, locks = &p.shards[k], locks|1<<(k&63)
				l.thenHash = p.hasher.HashParts(l.src, l.dst, l.ports, uint32(node)<<8|proto)
			}
			if node := int(it.Node); uint(node) < uint(len(t.nodes)) && it.Concern != 0 && !t.idle {
				k := node % len(p.shards)
				l.node, locks = &p.shards[k], locks|1<<(k&63)
				if it.Concern&ToFrontend == 0 {
					proto |= uint32(node) << 8
				}
				l.hash = p.hasher.HashParts(l.src, l.dst, l.ports, proto)
			}
		}
		if l.node != nil || l.then != nil {
			n++
		}
	}
	b.n, b.locks = n, locks
	return len(items)
}

// read is the first pass for an item of IPv6, or whose concern is not known, and returns
// the locks that it needs.
func (l *lane) read(p *Proxy, t *tables, it *Item) (locks uint64) {
	k := tupleOf(&it.Packet)
	if it.Concern == Unsure {
		it.Concern = t.concerns(&k)
	}
	if !k.is6 {
		l.src, l.dst, l.ports = uint32(k.src[0]), uint32(k.dst[0]), it.Packet.Ports()
	}
	if node := int(it.Then); uint(node) < uint(len(t.nodes)) && it.Concern&OfEndpoint != 0 {
		l.then, l.thenHash, locks = p.shardOf(node), p.hash(&k, uint32(node)), 1<<(node%len(p.shards)&63)
	}
	if node := int(it.Node); uint(node) < uint(len(t.nodes)) && it.Concern != 0 && !t.idle {
		realm := uint32(0)
		if it.Concern&ToFrontend == 0 {
			realm = uint32(node)
		}
		l.node, l.hash, locks = p.shardOf(node), p.hash(&k, realm), locks|1<<(node%len(p.shards)&63)
	}
	return locks
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
			b.looks.Add(l.then.sessions, l.thenHash)
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
			it.By = it.Node
			l.translate(l.node, it, g)
			if l.then == nil {
				continue
			}
			g.id, g.s = b.thens.At(second)
			if second++; it.Action != Pass {
				continue
			}
		}
		it.By = it.Then
		if it.Packet.Flags == 0 && !g.id.Is6() && l.then.isAnswer4(l, g.s, uint32(it.Then)<<8|uint32(it.Packet.Proto)) && l.then.lives(g.s) {
			it.Result = l.then.reply(int(it.Then), &it.Packet, g.id, g.s)
			continue
		}
		k := tupleOf(&it.Packet)
		it.Result = l.then.answer(int(it.Then), &it.Packet, &k, g)
	}
}

// translate is shard.translate for a lane, faster if the guess is right.
func (l *lane) translate(sh *shard, it *Item, g guess) {
	if it.Packet.Flags == 0 && !g.id.Is6() {
		vniProto := uint32(it.Node)<<8 | uint32(it.Packet.Proto)
		if s := g.s; it.Concern&ToFrontend != 0 {
			if s.Key.Dst == l.src && s.Outside == l.dst && uint32(s.Key.DstPort)<<16|uint32(s.OutsidePort) == l.ports && s.Key.VNIProto == vniProto && sh.lives(s) {
				r, again := sh.forward(int(it.Node), &it.Packet, g.id, s)
				if it.Result = r; !again {
					return
				}
			}
		} else if sh.isAnswer4(l, s, vniProto) && sh.lives(s) {
			it.Result = sh.reply(int(it.Node), &it.Packet, g.id, s)
			return
		}
	}
	k := tupleOf(&it.Packet)
	it.Result = sh.translate(int(it.Node), it.From, &it.Packet, &k, it.Concern, g)
}

// isAnswer4 is isAnswer for a lane and a session of IPv4.
func (sh *shard) isAnswer4(l *lane, s *flow.Session, vniProto uint32) bool {
	return s.Key.Src == l.src && uint32(s.Key.SrcPort)<<16|uint32(s.Data[dataSeenPort]) == l.ports && s.Key.VNIProto == vniProto && sh.proxy.seenAddr4(s) == l.dst
}

func (b *batch) unlock(p *Proxy) {
	for m := b.locks; m != 0; m &= m - 1 {
		p.shards[bits.TrailingZeros64(m)].sessions.Unlock()
	}
}

// translateAside is TranslateBatch for an item that goes aside.
func (p *Proxy) translateAside(now flow.Time, it *Item) {
	it.Result, it.By = passed, it.Node
	if it.Node >= 0 {
		it.Result, it.By = p.Translate(now, int(it.Node), it.From, &it.Packet), it.Node
	}
	if it.Action == Pass && it.Then >= 0 {
		it.Result, it.By = p.Answer(now, int(it.Then), &it.Packet), it.Then
	}
}
