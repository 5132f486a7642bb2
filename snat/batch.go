package snat

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
)

// Batches hide the cache misses of one packet behind the work on the others.
// A batch goes through four passes, and only the first is outside the locks:
//
//  1. parse, find instance and shard, hash
//  2. prefetch the index bucket of each packet
//  3. read the bucket, prefetch the session it hints at
//  4. compare the session's key, track, rewrite; take the slow path if it is not
//     the right one
//
// The locks of all shards that occur in the batch are taken in ascending order
// between passes 1 and 2 and held to the end. A hint from pass 3 may be stale
// in pass 4, because an earlier packet of the batch has created or removed
// sessions; the comparison of the key tells.

// batchSize is the number of packets that go through the passes together: more
// and their state no longer fits into the first-level cache.
const batchSize = 64

// batch is the scratch memory of one call.
type batch struct {
	lanes [batchSize]lane
	lines [2 * batchSize]unsafe.Pointer
	live  [batchSize]uint8 // lanes without a verdict yet
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// OutboundBatch is Outbound for many packets at once: verdicts[i] is that of
// pkts[i]. It panics if there are fewer verdicts than packets. Packets of one
// flow keep their order. Goroutines that work on different instances seldom
// wait for each other, if their batches do not mix shards.
func (n *NAT) OutboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	n.batch(flow.Inside, now, pkts, verdicts)
}

// InboundBatch is Inbound for many packets at once. See OutboundBatch.
func (n *NAT) InboundBatch(now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	n.batch(flow.Outside, now, pkts, verdicts)
}

func (n *NAT) batch(from flow.Side, now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	verdicts = verdicts[:len(pkts)]
	b := batches.Get().(*batch)
	for len(pkts) > 0 {
		k := min(batchSize, len(pkts))
		b.run(n, from, now, pkts[:k], verdicts[:k])
		pkts, verdicts = pkts[k:], verdicts[k:]
	}
	for i := range b.lanes {
		b.lanes[i].p.B = nil // do not keep the caller's buffers
	}
	batches.Put(b)
}

// run takes up to batchSize packets through the passes.
func (b *batch) run(n *NAT, from flow.Side, now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	r := n.routes.Load()
	live, locks := 0, uint64(0)
	for i, pkt := range pkts {
		l := &b.lanes[i]
		var ok bool
		if from == flow.Inside {
			ok = n.parseOutbound(r, l, pkt, &verdicts[i])
		} else {
			ok = n.parseInbound(r, l, pkt, &verdicts[i])
		}
		if ok {
			b.live[live] = uint8(i)
			live++
			locks |= 1 << l.shard
		}
	}
	for m := locks; m != 0; m &= m - 1 {
		n.shards[bits.TrailingZeros64(m)].Lock()
	}
	lanes := b.live[:live]
	for k, i := range lanes {
		l := &b.lanes[i&(batchSize-1)]
		b.lines[k] = n.shards[l.shard].Home(l.hash)
	}
	slab.PrefetchEach(b.lines[:live])
	lines := b.lines[live:live]
	for k, i := range lanes {
		l := &b.lanes[i&(batchSize-1)]
		l.s = nil
		if l.id = flow.Hint(b.lines[k], l.hash); l.id != 0 {
			l.s = n.shards[l.shard].At(l.id)
			lines = append(lines, unsafe.Pointer(l.s))
		}
	}
	slab.PrefetchEach(lines)
	tick := flow.TickOf(now)
	if from == flow.Inside {
		for _, i := range lanes {
			l := &b.lanes[i&(batchSize-1)]
			n.shards[l.shard].processOutbound(r, now, tick, l, &verdicts[i])
		}
	} else {
		for _, i := range lanes {
			l := &b.lanes[i&(batchSize-1)]
			n.shards[l.shard].processInbound(now, tick, l, &verdicts[i])
		}
	}
	for m := locks; m != 0; m &= m - 1 {
		n.shards[bits.TrailingZeros64(m)].Unlock()
	}
}
