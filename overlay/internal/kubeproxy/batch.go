// Many packets at once. A batch hides the cache misses of one packet behind the work on the
// others, in the passes of package snat: read and hash all, with the locks of all their
// shards prefetch buckets and then sessions, then translate one after the other. So each
// packet meets what those before it have left, as if it had come alone.

package kubeproxy

import (
	"encoding/binary"
	"math/bits"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// BatchSize is how many packets go through the passes together.
const BatchSize = flow.MaxGuesses

// Item is a packet of a batch, and after Run what has become of it.
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

// lane is what of an item may belong to a session, or begin one.
type lane struct {
	node            *shard // of the item's Node; nil if it has none, or nothing to ask there
	hash            uint64 // of what is sought there first
	src, dst, ports uint32 // of whole packets of IPv4
	then            bool   // there is something to ask at the item's Then; see second
}

// second is the rest of a lane that has something to ask at the item's Then.
type second struct {
	node *shard
	hash uint64
}

// Batch is up to BatchSize packets of a proxy. Begin empties it, Arrive and Add fill it, then
// comes Run, then Items tells what has become of them. The zero Batch is ready. It is one
// goroutine's, and only scratch memory: use it again and again.
type Batch struct {
	proxy  *Proxy
	tables *tables
	n      int
	items  [BatchSize]Item // the first n are in use
	lanes  [BatchSize]lane // likewise
	thens  [BatchSize]second
	locks  uint64 // shards of the lanes
	alone  uint64 // items that are no lane's: they go aside

	looks flow.Guesses // of the lanes, where each is first sought
	later flow.Guesses // of the lanes that have two nodes, at the second
}

// Begin makes the batch an empty one of a proxy.
func (b *Batch) Begin(p *Proxy) {
	b.proxy, b.tables = p, p.tables.Load()
	b.n, b.locks, b.alone = 0, 0, 0
}

// Items returns the items, in the order in which they were added.
func (b *Batch) Items() []Item { return b.items[:b.n] }

// Arrive adds a packet that has arrived at a node from another machine, if it is of concern
// and not more: it reports false for one that is not plain TCP or UDP over IPv4, which is
// for Add. The packet's headers must have been checked, for nothing is parsed here.
func (b *Batch) Arrive(at uint8, pkt []byte, node int32) bool {
	t := b.tables
	if len(pkt) < 28 || pkt[0] != 0x45 || pkt[6]&0x3f|pkt[7] != 0 {
		return false
	}
	proto := uint32(pkt[9])
	if proto != wire.ProtoTCP && proto != wire.ProtoUDP {
		return false
	}
	src, dst, ports := binary.BigEndian.Uint32(pkt[ip4Src:]), binary.BigEndian.Uint32(pkt[ip4Dst:]), binary.BigEndian.Uint32(pkt[20:])
	var c Concern
	switch {
	case t.toFrontend(address{uint64(dst)}, uint16(ports)):
		c = ToFrontend | OfEndpoint // which matters where it belongs to no session of the frontend
	case t.sockets.has(mix(address{uint64(src)}, uint16(ports>>16))):
		c = OfEndpoint
	}
	if c == 0 || t.idle || uint(node) >= uint(len(t.nodes)) {
		return true
	}
	i := b.n & (BatchSize - 1)
	b.n++
	it, l := &b.items[i], &b.lanes[i]
	it.Packet = wire.Packet{B: pkt[:binary.BigEndian.Uint16(pkt[2:])], L4: 20, Proto: uint8(proto)}
	it.Node, it.Then, it.From, it.Concern, it.At = node, -1, FromWire, c, at
	it.Action = Pass
	l.src, l.dst, l.ports = src, dst, ports
	if c&ToFrontend == 0 {
		proto |= uint32(node) << 8
	}
	l.hash = b.proxy.hasher.HashParts(src, dst, ports, proto)
	k := b.proxy.shardIndex(uint32(node))
	l.node, l.then = &b.proxy.shards[k], false
	b.locks |= 1 << (k & 63)
	return true
}

// Next returns the next item to fill in and Add, which may already be full of what was.
func (b *Batch) Next() *Item { return &b.items[b.n&(BatchSize-1)] }

// Add adds the item that Next has returned: its Result and By need not be set. Nodes must be
// below the number of nodes.
func (b *Batch) Add() {
	i := b.n & (BatchSize - 1)
	b.n++
	it, l, p := &b.items[i], &b.lanes[i], b.proxy
	it.Result = passed
	l.node, l.then = nil, false
	if aside(&it.Packet) {
		b.alone |= 1 << i
		return
	}
	k := tupleOf(&it.Packet)
	if it.Concern == Unsure {
		it.Concern = b.tables.concerns(&k)
	}
	if !k.is6 {
		l.src, l.dst, l.ports = uint32(k.src[0]), uint32(k.dst[0]), it.Packet.Ports()
	}
	nodes := uint(len(b.tables.nodes))
	if node := int(it.Then); uint(node) < nodes && it.Concern&OfEndpoint != 0 {
		l.then, b.thens[i] = true, second{p.shardOf(node), p.hash(&k, uint32(node))}
		b.locks |= 1 << (p.shardIndex(uint32(node)) & 63)
	}
	if node := int(it.Node); uint(node) < nodes && it.Concern != 0 && !b.tables.idle {
		realm := uint32(0)
		if it.Concern&ToFrontend == 0 {
			realm = uint32(node)
		}
		l.node, l.hash = p.shardOf(node), p.hash(&k, realm)
		b.locks |= 1 << (p.shardIndex(uint32(node)) & 63)
	}
}

// Run does for each item, in their order, what Translate does at its Node, and if that
// passes it what Answer does at Then. No allocation.
func (b *Batch) Run(now flow.Time) {
	for first := 0; first < b.n; {
		end := min(b.n, first+bits.TrailingZeros64(b.alone>>first))
		if end > first && b.locks != 0 {
			b.look(now, first, end)
			b.translate(first, end)
			b.unlock()
		}
		if end < b.n {
			b.runAside(now, &b.items[end])
		}
		first = end + 1
	}
}

// look takes the locks, in ascending order, and prefetches what some of the packets need.
func (b *Batch) look(now flow.Time, first, end int) {
	for m := b.locks; m != 0; m &= m - 1 {
		b.proxy.shards[bits.TrailingZeros64(m)].lock(now)
	}
	b.looks.Reset()
	b.later.Reset()
	for i := first; i < end; i++ {
		l := &b.lanes[i&(BatchSize-1)]
		if l.node != nil {
			b.looks.Add(l.node.sessions, l.hash)
		}
		if l.then {
			to, t := &b.looks, &b.thens[i&(BatchSize-1)]
			if l.node != nil {
				to = &b.later
			}
			to.Add(t.node.sessions, t.hash)
		}
	}
	b.looks.Look()
	b.later.Look()
}

// translate is the last pass: one packet after the other.
func (b *Batch) translate(first, end int) {
	look, later := 0, 0
	for i := first; i < end; i++ {
		l, it := &b.lanes[i&(BatchSize-1)], &b.items[i&(BatchSize-1)]
		if l.node == nil && !l.then {
			continue
		}
		var g guess
		g.id, g.s = b.looks.At(look)
		look++
		if l.node != nil {
			it.By = it.Node
			l.translate(l.node, it, g)
			if !l.then {
				continue
			}
			g.id, g.s = b.later.At(later)
			if later++; it.Action != Pass {
				continue
			}
		}
		it.By = it.Then
		l.answer(b.thens[i&(BatchSize-1)].node, it, g)
	}
}

// translate is shard.translate for a lane, faster if the guess is right.
func (l *lane) translate(sh *shard, it *Item, g guess) {
	if it.Packet.Flags == 0 && !g.id.Is6() {
		vniProto := uint32(it.Node)<<8 | uint32(it.Packet.Proto)
		if s := g.s; it.Concern&ToFrontend != 0 {
			if l.isSent(s, vniProto) && sh.lives(s) {
				r, again := sh.forward(int(it.Node), &it.Packet, g.id, s)
				if it.Result = r; !again {
					return
				}
			}
		} else if l.isAnswer(sh, s, vniProto) && sh.lives(s) {
			it.Result = sh.reply(int(it.Node), &it.Packet, g.id, s)
			return
		}
	}
	k := tupleOf(&it.Packet)
	it.Result = sh.translate(int(it.Node), it.From, &it.Packet, &k, it.Concern, g)
}

// answer is shard.answer likewise.
func (l *lane) answer(sh *shard, it *Item, g guess) {
	if it.Packet.Flags == 0 && !g.id.Is6() && l.isAnswer(sh, g.s, uint32(it.Then)<<8|uint32(it.Packet.Proto)) && sh.lives(g.s) {
		it.Result = sh.reply(int(it.Then), &it.Packet, g.id, g.s)
		return
	}
	k := tupleOf(&it.Packet)
	it.Result = sh.answer(int(it.Then), &it.Packet, &k, g)
}

// isSent is shard.isSent for a lane and a session of IPv4.
func (l *lane) isSent(s *flow.Session, vniProto uint32) bool {
	return s.Key.Dst == l.src && s.Outside == l.dst && uint32(s.Key.DstPort)<<16|uint32(s.OutsidePort) == l.ports && s.Key.VNIProto == vniProto
}

// isAnswer is shard.isAnswer likewise.
func (l *lane) isAnswer(sh *shard, s *flow.Session, vniProto uint32) bool {
	return s.Key.Src == l.src && uint32(s.Key.SrcPort)<<16|uint32(s.Data[dataSeenPort]) == l.ports && s.Key.VNIProto == vniProto && sh.proxy.seenAddr4(s) == l.dst
}

func (b *Batch) unlock() {
	for m := b.locks; m != 0; m &= m - 1 {
		b.proxy.shards[bits.TrailingZeros64(m)].sessions.Unlock()
	}
}

// runAside is Run for an item that goes aside.
func (b *Batch) runAside(now flow.Time, it *Item) {
	it.By = it.Node
	if it.Node >= 0 {
		it.Result = b.proxy.Translate(now, int(it.Node), it.From, &it.Packet)
	}
	if it.Action == Pass && it.Then >= 0 {
		it.Result, it.By = b.proxy.Answer(now, int(it.Then), &it.Packet), it.Then
	}
}
