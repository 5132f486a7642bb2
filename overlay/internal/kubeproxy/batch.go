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
	Node    int32       // whose Translate it is for, or -1; Leave has left out one that can only pass it
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
	src, dst, ports uint32 // the addresses only of whole packets of IPv4
	then            bool   // there is something to ask at the item's Then; see second
}

// second is the rest of a lane that has something to ask at the item's Then.
type second struct {
	node *shard
	hash uint64
}

// Batch is up to BatchSize packets of a proxy. Begin empties it, Arrive, Leave and Add fill it,
// then comes Run, then Items tells what has become of them. The zero Batch is ready. It is one
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

// Arrive adds packets that have arrived from other machines, as verdicts say at which node,
// if they are of concern: those from the index first to before the one that it returns, which
// is not plain TCP or UDP, without options and extension headers, or not forwarded to the
// inside. That is for Add, or there is none. The headers of those forwarded must have been
// checked, for nothing is parsed here. There may be no more than BatchSize packets, and as
// many verdicts.
func (b *Batch) Arrive(first int, pkts [][]byte, verdicts []flow.Verdict) (next int) {
	t, p, n, locks := b.tables, b.proxy, b.n, b.locks
	verdicts = verdicts[:len(pkts)]
	for i := first; i < len(pkts); i++ {
		pkt, v := pkts[i], &verdicts[i]
		if v.Action != flow.Forward || v.To != flow.Inside || len(pkt) < 28 || uint(v.Instance) >= uint(len(t.nodes)) {
			b.n, b.locks = n, locks
			return i
		}
		h := (*[28]byte)(pkt)
		proto := uint32(h[9])
		if h[0] != 0x45 || h[6]&0x3f|h[7] != 0 || proto != TCP && proto != UDP {
			b.n, b.locks = n, locks
			if !b.arrive6(i, pkt, v.Instance) {
				return i
			}
			n, locks = b.n, b.locks
			continue
		}
		src, dst, ports := binary.BigEndian.Uint32(h[ip4Src:]), binary.BigEndian.Uint32(h[ip4Dst:]), binary.BigEndian.Uint32(h[20:])
		c, vniProto := ToFrontend|OfEndpoint, proto // the latter matters where it belongs to no session of the frontend
		if !t.toFrontend(uint64(dst), 0, uint16(ports)) {
			if c, vniProto = OfEndpoint, proto|v.Instance<<8; !t.sockets.has(mixWords(uint64(src), 0, uint16(ports>>16))) {
				continue
			}
		}
		it, l, k := &b.items[n&(BatchSize-1)], &b.lanes[n&(BatchSize-1)], p.shardIndex(v.Instance)
		it.Packet.B, it.Packet.L4, it.Packet.Proto, it.Packet.Flags = pkt[:binary.BigEndian.Uint16(h[2:])], 20, uint8(proto), 0
		it.Node, it.Then, it.From, it.Concern, it.At = int32(v.Instance), -1, FromWire, c, uint8(i)
		it.Result = passed
		l.node, l.then = &p.shards[k&63], false
		l.src, l.dst, l.ports = src, dst, ports
		l.hash = p.hasher.HashParts(src, dst, ports, vniProto)
		n, locks = n+1, locks|1<<(k&63)
	}
	b.n, b.locks = n, locks
	return len(pkts)
}

// arrive6 is Arrive for a packet of IPv6: it reports false for one that is for Add.
func (b *Batch) arrive6(at int, pkt []byte, node uint32) bool {
	if len(pkt) < 48 {
		return false
	}
	h := (*[48]byte)(pkt)
	proto, t, p := uint32(h[6]), b.tables, b.proxy
	if h[0]>>4 != 6 || proto != TCP && proto != UDP {
		return false
	}
	srcHigh, srcLow := binary.BigEndian.Uint64(h[ip6Src:]), binary.BigEndian.Uint64(h[ip6Src+8:])
	dstHigh, dstLow := binary.BigEndian.Uint64(h[ip6Dst:]), binary.BigEndian.Uint64(h[ip6Dst+8:])
	ports := binary.BigEndian.Uint32(h[40:])
	c, vniProto := ToFrontend|OfEndpoint, proto
	if !t.toFrontend(dstHigh, dstLow, uint16(ports)) {
		if c, vniProto = OfEndpoint, proto|node<<8; !t.sockets.has(mixWords(srcHigh, srcLow, uint16(ports>>16))) {
			return true
		}
	}
	i, sh := b.n&(BatchSize-1), p.shardIndex(node)
	it, l := &b.items[i], &b.lanes[i]
	it.Packet.B, it.Packet.L4, it.Packet.Proto, it.Packet.Flags = pkt[:40+int(binary.BigEndian.Uint16(h[4:]))], 40, uint8(proto), wire.V6
	it.Node, it.Then, it.From, it.Concern, it.At = int32(node), -1, FromWire, c, uint8(at)
	it.Result = passed
	l.node, l.then = &p.shards[sh&63], false
	l.ports = ports
	l.hash = p.hasher.HashParts6(srcHigh, srcLow, dstHigh, dstLow, ports, vniProto)
	b.n, b.locks = b.n+1, b.locks|1<<(sh&63)
	return true
}

// Nodes says at which node an address is, its own or one of a pod: -1 is none. The words of
// an address of IPv6 are its halves.
type Nodes interface {
	At4(a uint32) (node int, host bool)
	At6(high, low uint64) (node int, host bool)
}

// Leave adds packets that pods and nodes send, if they are of concern and plain, as Arrive
// does: those from the index first to before the one that it returns, with its concern. The
// node of the sender translates them, and if that passes them that of the receiver; the sender's
// is not asked about an answer to another node of which it can know nothing.
func (b *Batch) Leave(first int, pkts [][]byte, nodes Nodes) (next int, c Concern) {
	t, p, n, locks := b.tables, b.proxy, b.n, b.locks
	known := uint(len(t.nodes))
	for i := first; i < len(pkts); i++ {
		pkt := pkts[i]
		if len(pkt) < 28 {
			b.n, b.locks = n, locks
			return i, t.ask(pkt)
		}
		h := (*[28]byte)(pkt)
		if proto := h[9]; h[0] != 0x45 || h[6]&0x3f|h[7] != 0 || proto != TCP && proto != UDP {
			b.n, b.locks = n, locks
			if c := b.leave6(i, pkt, nodes); c != added {
				return i, c
			}
			n, locks = b.n, b.locks
			continue
		}
		src, dst, ports := binary.BigEndian.Uint32(h[ip4Src:]), binary.BigEndian.Uint32(h[ip4Dst:]), binary.BigEndian.Uint32(h[20:])
		c := Concern(0)
		if t.toFrontend(uint64(dst), 0, uint16(ports)) {
			c = ToFrontend
		}
		if t.sockets.has(mixWords(uint64(src), 0, uint16(ports>>16))) {
			c |= OfEndpoint
		}
		it, l := &b.items[n&(BatchSize-1)], &b.lanes[n&(BatchSize-1)]
		if c == 0 || t.idle || wire.Parse(pkt, &it.Packet) != wire.OK {
			b.n, b.locks = n, locks
			return i, c
		}
		node, host := nodes.At4(src)
		then, toHost := nodes.At4(dst)
		if toHost && c == OfEndpoint && then != node && !p.sees(uint64(dst), 0) {
			node = -1
		}
		it.Result = passed
		it.Node, it.Then, it.From, it.Concern, it.At = int32(node), -1, FromPod, c, uint8(i)
		if host {
			it.From = FromHost
		}
		// As seek does, which is a call for each packet.
		proto, realm := uint32(h[9]), uint32(0)
		l.src, l.dst, l.ports = src, dst, ports
		if l.node, l.then = nil, false; uint(node) < known {
			if c&ToFrontend == 0 {
				realm = uint32(node)
			}
			k := p.shardIndex(uint32(node)) & 63
			l.node, locks = &p.shards[k], locks|1<<k
		}
		if then != node {
			if it.Then = int32(then); uint(then) < known && c&OfEndpoint != 0 {
				k, second := p.shardIndex(uint32(then))&63, &b.thens[n&(BatchSize-1)]
				l.then, second.node, locks = true, &p.shards[k], locks|1<<k
				second.hash = p.hasher.HashParts(src, dst, ports, uint32(then)<<8|proto)
			}
		}
		l.hash = p.hasher.HashParts(src, dst, ports, realm<<8|proto)
		n++
	}
	b.n, b.locks = n, locks
	return len(pkts), 0
}

// added is what leave6 returns of a packet that it has added.
const added Concern = 1 << 7

// leave6 is Leave for a packet that is not plain IPv4.
func (b *Batch) leave6(at int, pkt []byte, nodes Nodes) Concern {
	t, p := b.tables, b.proxy
	if len(pkt) < 48 || pkt[0]>>4 != 6 || pkt[6] != TCP && pkt[6] != UDP {
		return t.ask(pkt)
	}
	h := (*[48]byte)(pkt)
	srcHigh, srcLow := binary.BigEndian.Uint64(h[ip6Src:]), binary.BigEndian.Uint64(h[ip6Src+8:])
	dstHigh, dstLow := binary.BigEndian.Uint64(h[ip6Dst:]), binary.BigEndian.Uint64(h[ip6Dst+8:])
	ports := binary.BigEndian.Uint32(h[40:])
	c := t.plain(srcHigh, srcLow, dstHigh, dstLow, ports)
	it, l := &b.items[b.n&(BatchSize-1)], &b.lanes[b.n&(BatchSize-1)]
	if c == 0 || t.idle || wire.Parse(pkt, &it.Packet) != wire.OK {
		return c
	}
	node, host := nodes.At6(srcHigh, srcLow)
	then, toHost := nodes.At6(dstHigh, dstLow)
	if toHost && c == OfEndpoint && then != node && !p.sees(dstHigh, dstLow) {
		node = -1
	}
	realm, proto := b.leave(it, l, uint8(at), c, node, then, host), uint32(it.Packet.Proto)
	l.ports = ports
	l.hash = p.hasher.HashParts6(srcHigh, srcLow, dstHigh, dstLow, ports, realm<<8|proto)
	if l.then {
		b.thens[b.n&(BatchSize-1)].hash = p.hasher.HashParts6(srcHigh, srcLow, dstHigh, dstLow, ports, uint32(then)<<8|proto)
	}
	b.n++
	return added
}

// leave fills in who is asked about the next item, and returns the realm of what the first
// of them seeks.
func (b *Batch) leave(it *Item, l *lane, at uint8, c Concern, node, then int, host bool) (realm uint32) {
	it.Result = passed
	it.Node, it.Then, it.From, it.Concern, it.At = int32(node), -1, FromPod, c, at
	if host {
		it.From = FromHost
	}
	if then != node {
		it.Then = int32(then)
	}
	return b.seek(it, l)
}

// seek fills in the shards of an item's nodes, and returns the realm of what the first of
// them seeks.
func (b *Batch) seek(it *Item, l *lane) (realm uint32) {
	nodes := uint32(len(b.tables.nodes))
	l.node, l.then = nil, false
	if uint32(it.Node) < nodes && it.Concern != 0 && !b.tables.idle {
		if it.Concern&ToFrontend == 0 {
			realm = uint32(it.Node)
		}
		k := b.proxy.shardIndex(uint32(it.Node)) & 63
		l.node = &b.proxy.shards[k]
		b.locks |= 1 << k
	}
	if uint32(it.Then) < nodes && it.Concern&OfEndpoint != 0 {
		k := b.proxy.shardIndex(uint32(it.Then)) & 63
		l.then, b.thens[b.n&(BatchSize-1)].node = true, &b.proxy.shards[k]
		b.locks |= 1 << k
	}
	return realm
}

// Next returns the next item to fill in and Add, which may already be full of what was.
func (b *Batch) Next() *Item { return &b.items[b.n&(BatchSize-1)] }

// Add adds the item that Next has returned: its Result and By need not be set. Nodes must be
// below the number of nodes.
func (b *Batch) Add() {
	i := b.n & (BatchSize - 1)
	it, l, p := &b.items[i], &b.lanes[i], b.proxy
	it.Result = passed
	if aside(&it.Packet) {
		l.node, l.then = nil, false
		b.alone |= 1 << i
		b.n++
		return
	}
	k := tupleOf(&it.Packet)
	if it.Concern == Unsure {
		it.Concern = b.tables.concerns(&k)
	}
	realm := b.seek(it, l)
	l.src, l.dst, l.ports = uint32(k.src[0]), uint32(k.dst[0]), it.Packet.Ports()
	l.hash = p.hash(&k, realm)
	if l.then {
		b.thens[i].hash = p.hash(&k, uint32(it.Then))
	}
	b.n++
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
		if l.node != nil {
			id, s := b.looks.At(look)
			look++
			switch it.By = it.Node; {
			case it.Concern&ToFrontend != 0 && l.forward(l.node, it, id, s):
			case it.Concern == OfEndpoint && id != 0 && l.reply(l.node, it, it.Node, id, s):
			default:
				l.translate(l.node, it, id, s)
			}
			if !l.then {
				continue
			}
			id, s = b.later.At(later)
			if later++; it.Action == Pass {
				l.answer(b.thens[i&(BatchSize-1)].node, it, id, s)
			}
		} else if l.then {
			id, s := b.looks.At(look)
			look++
			l.answer(b.thens[i&(BatchSize-1)].node, it, id, s)
		}
	}
}

// translate is shard.translate for what forward and reply do not take, faster where there is no session.
func (l *lane) translate(sh *shard, it *Item, id flow.ID, s *flow.Session) {
	if it.Concern == OfEndpoint && id == 0 && sh.sessions.Absent(l.hash) {
		return
	}
	k := tupleOf(&it.Packet)
	it.Result = sh.translate(int(it.Node), it.From, &it.Packet, &k, it.Concern, guess{id, s})
}

// answer is shard.answer likewise.
func (l *lane) answer(sh *shard, it *Item, id flow.ID, s *flow.Session) {
	if it.By = it.Then; l.reply(sh, it, it.Then, id, s) {
		return
	}
	k := tupleOf(&it.Packet)
	it.Result = sh.answer(int(it.Then), &it.Packet, &k, guess{id, s})
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
