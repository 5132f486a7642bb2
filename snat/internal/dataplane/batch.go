package dataplane

import (
	"math/bits"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/forwards"
	"github.com/seed-a61be3fe/natplane/snat/internal/permits"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Batches hide the cache misses of one packet behind the work on the others.
// A batch goes through four passes, and only the first is outside the locks:
//
//  1. parse, find instance and shard, hash; what public addresses carry one to one has its
//     verdict, and what it does to permits is done for all together afterwards
//  2. prefetch the index bucket of each packet
//  3. read the bucket, prefetch the session it hints at
//  4. compare the session's key, track, rewrite; take the slow path if it is not the
//     right one, while what the next new flows will need is prefetched
//
// The locks of all shards that occur in the batch are taken in ascending order
// between passes 1 and 2 and held to the end. A hint from pass 3 may be stale
// in pass 4, because an earlier packet of the batch has created or removed
// sessions; the comparison of the key tells.

// batchSize is the number of packets that go through the passes together.
const batchSize = flow.MaxGuesses

// batch is the scratch memory of one call.
type batch struct {
	moment
	n       int             // packets that have no verdict after pass 1
	lanes   [batchSize]lane // the first n are in use; so below
	looks   flow.Guesses
	ahead   ports.Ahead
	known   forwards.Recent // by routes
	carried permits.Batch
	locks   uint64 // shards
	from    flow.Side
	realm   uint32 // of the packets, if from the inside
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// Batch is the door of many packets from a side, of one realm: verdicts[i] is that of
// pkts[i]. It panics if there are fewer verdicts than packets.
func (n *NAT) Batch(from flow.Side, realm uint32, now flow.Time, pkts [][]byte, verdicts []flow.Verdict) {
	b := batches.Get().(*batch)
	b.from, b.realm = from, realm
	b.known.Reset()
	b.moment = moment{routes: n.routes.Load().Realm(realm), now: now, tick: flow.TickOf(now)}
	for len(pkts) > 0 {
		if b.routes.Timed {
			b.stamp()
		}
		k := min(batchSize, len(pkts))
		k = b.parse(n, pkts[:k], verdicts)
		b.carried.Settle(&n.permits, b.now)
		for b.locate(n); !b.look(n); b.locate(n) {
			b.parseAgain(n, pkts, verdicts)
		}
		switch {
		case from == flow.Outside:
			b.processInbound(verdicts)
		case b.routes.Forwards.Len() > 0:
			b.processForwards(n, verdicts)
		case !n.ports.ByRemote():
			b.processOutbound(verdicts)
		default:
			b.processShared(n, pkts, verdicts)
		}
		if b.routes.CountTraffic {
			b.count(verdicts)
		}
		b.unlock(n)
		b.carried.Settle(&n.permits, b.now)
		if n.routed {
			for i := range k {
				n.hop(b.routes, from, now, pkts[i], &verdicts[i])
			}
		}
		pkts, verdicts = pkts[k:], verdicts[k:]
	}
	batches.Put(b) // the pool forgets it, and the caller's buffers with it, at the next collections
}

// parse is pass 1, and reports how many packets it has taken: it stops at what goes
// aside, a fragment or a hairpin, which does not overtake the packets before it. The
// passes are functions of their own, so that each loop has its variables in registers.
func (b *batch) parse(n *NAT, pkts [][]byte, verdicts []flow.Verdict) (taken int) {
	live, locks, from := 0, uint64(0), b.from
	_ = verdicts[len(pkts)-1] // panics here, once, and not in the loop
	for i := range pkts {
		l, v, ok := &b.lanes[live&(batchSize-1)], &verdicts[i], false
		if problem := wire.Parse(pkts[i], &l.p); from == flow.Inside {
			if number := b.known.Of(problem, &l.p); number != 0 {
				n.readFloating(b.routes, l, number)
				ok = true
			} else if ok = n.parseOutbound(b.routes, l, problem, v); l.floating && !l.is6 {
				b.known.Put(l.key.Src, l.key.SrcPort, l.p.Proto, l.forward)
			}
		} else {
			ok = n.parseInbound(b.routes, l, problem, v)
		}
		if ok {
			l.at = uint8(i)
			locks |= 1 << (l.shard & 63)
			live++
		} else if v.Action == undecided {
			if live > 0 {
				b.n, b.locks = live, locks
				return i
			}
			n.aside(from, b.routes, b.now, l, v)
		}
	}
	b.n, b.locks = live, locks
	return len(pkts)
}

// stamp gives all lanes the time of the call, which those need that a permit may be for, and where
// what they do to permits is put off.
func (b *batch) stamp() {
	for i := range b.lanes {
		b.lanes[i].now, b.lanes[i].carried = b.now, &b.carried
	}
}

// parseAgain repeats pass 1 with the routes now in force, for the packets that have no
// verdict.
func (b *batch) parseAgain(n *NAT, pkts [][]byte, verdicts []flow.Verdict) {
	b.routes = n.renew(b.now).Realm(b.realm)
	b.known.Reset()
	b.stamp()
	live, locks := 0, uint64(0)
	for i := range b.lanes[:b.n] {
		l, at := &b.lanes[live], b.lanes[i].at
		l.answer, l.floating = noAnswer, false
		if n.parse(b.from, b.routes, l, wire.Parse(pkts[at], &l.p), &verdicts[at]) {
			l.at = at
			locks |= 1 << (l.shard & 63)
			live++
		} else if verdicts[at].Action == undecided {
			n.aside(b.from, b.routes, b.now, l, &verdicts[at])
		}
	}
	b.n, b.locks = live, locks
}

// locate is NAT.locate for all packets, after pass 1.
func (b *batch) locate(n *NAT) {
	if b.from == flow.Inside && b.routes.Forwards.Len() > 0 {
		b.locks |= b.owners()
	}
	if !b.routes.Locates {
		return
	}
	b.locks = 0
	for i := range b.lanes[:b.n] {
		l := &b.lanes[i]
		n.locate(b.from, b.routes, l)
		b.locks |= 1 << (l.shard & 63)
	}
	b.locks |= b.owners()
}

// owners returns the shards of the instances that may have sent what is sought as answers
// elsewhere.
func (b *batch) owners() (locks uint64) {
	for i := range b.lanes[:b.n] {
		if l := &b.lanes[i]; l.answer != noAnswer {
			locks |= 1 << (l.own & 63)
		}
	}
	return locks
}

// look takes the locks and does passes 2 and 3. It reports false, without a lock,
// if the configuration has changed since pass 1.
func (b *batch) look(n *NAT) bool {
	for m := b.locks; m != 0; m &= m - 1 {
		n.shards[bits.TrailingZeros64(m)].Lock()
	}
	if n.steady.Load() != b.routes.Whole && !n.inForce(b.routes, b.now) {
		b.unlock(n)
		return false
	}
	for m := b.locks; m != 0; m &= m - 1 {
		if sh := n.shards[bits.TrailingZeros64(m)]; !sh.Near(b.now) {
			b.now = sh.approach(b.now)
			b.tick = flow.TickOf(b.now)
		}
	}
	b.settled = false
	b.looks.Reset()
	lanes := b.lanes[:b.n]
	for i := range lanes {
		l := &lanes[i]
		l.sh = n.shards[l.shard]
		b.looks.Add(l.sh.Shard, l.hash)
	}
	b.looks.Look()
	for i := range lanes {
		lanes[i].id, lanes[i].s = b.looks.At(i)
	}
	if b.ahead.Reset(); b.from == flow.Inside && b.n > 1 && n.ports.Foresees(b.locks) {
		b.lookAhead()
	}
	return true
}

// lookAhead begins to prefetch what the packets without a session need that begin flows.
func (b *batch) lookAhead() {
	lanes := b.lanes[:b.n]
	for i := range lanes {
		l := &lanes[i]
		if l.foreseen = false; l.id == 0 && l.answer == noAnswer && !wire.IsICMP(l.p.Proto) {
			var t ports.Tuple
			l.tuple(&t)
			l.foreseen = b.ahead.Add(&l.sh.State, l.inst, &t)
		}
	}
	b.ahead.Fetch()
}

// processOutbound is pass 4.
func (b *batch) processOutbound(verdicts []flow.Verdict) {
	lanes, foresees := b.lanes[:b.n], b.ahead.Any()
	for i := range lanes {
		l := &lanes[i]
		if foresees && l.foreseen {
			b.ahead.Next()
		}
		l.sh.processOutbound(&b.moment, l, &verdicts[l.at])
	}
}

// processForwards is pass 4 of a batch from the inside where there are forwards. What is no
// answer after all goes to the shard of its instance, whose lock is held as well.
func (b *batch) processForwards(n *NAT, verdicts []flow.Verdict) {
	lanes := b.lanes[:b.n]
	for i := range lanes {
		l, v := &lanes[i], &verdicts[lanes[i].at]
		if b.ahead.Any() && l.foreseen {
			b.ahead.Next()
		}
		switch {
		case l.floating:
			l.floating = false
			l.sh.processFloating(&b.moment, l, v)
			continue
		case l.answer == noAnswer:
			l.sh.processOutbound(&b.moment, l, v)
			continue
		}
		if l.answer == quotedAnswer {
			l.sh.processOutbound(&b.moment, l, v)
		} else {
			l.sh.processAnswer(&b.moment, l, v)
		}
		if l.answer = noAnswer; v.Action != undecided {
			continue
		}
		l.asked = true
		if n.parseOutbound(b.routes, l, wire.OK, v) {
			n.locate(b.from, b.routes, l)
			l.sh, l.id, l.s = n.shards[l.shard], 0, nil
			l.sh.processOutbound(&b.moment, l, v)
		}
		l.asked = false
	}
}

// processShared is pass 4 with shared ports, which may have to let go of the locks so
// that all shards end what is due. The hints of the packets that follow are lost then,
// and if the translator has been closed or reconfigured meanwhile, so is all.
func (b *batch) processShared(n *NAT, pkts [][]byte, verdicts []flow.Verdict) {
	lanes, foresees := b.lanes[:b.n], b.ahead.Any()
	for i := range lanes {
		l := &lanes[i]
		if foresees && l.foreseen {
			b.ahead.Next()
		}
		l.sh.processOutbound(&b.moment, l, &verdicts[l.at])
		if verdicts[l.at].Action != undecided {
			continue
		}
		b.unlock(n)
		n.catchUp(b.now)
		for m := b.locks; m != 0; m &= m - 1 {
			n.shards[bits.TrailingZeros64(m)].Lock()
		}
		if !n.inForce(b.routes, b.now) {
			if b.n = i; b.routes.CountTraffic { // what has been decided
				b.count(verdicts)
			}
			b.unlock(n)
			b.n, b.locks = 0, 0
			for k := range lanes[i:] {
				l, at := lane{}, lanes[i+k].at
				n.pass(b.from, n.renew(b.now).Realm(b.realm), b.now, &l, wire.Parse(pkts[at], &l.p), &verdicts[at])
			}
			return
		}
		for k := range lanes[i:] {
			lanes[i+k].id, lanes[i+k].s = 0, nil
		}
		l.caughtUp = true
		l.sh.processOutbound(&b.moment, l, &verdicts[l.at])
		l.caughtUp = false
	}
}

// processInbound is pass 4 of the other direction.
func (b *batch) processInbound(verdicts []flow.Verdict) {
	lanes := b.lanes[:b.n]
	for i := range lanes {
		l := &lanes[i]
		l.sh.processInbound(&b.moment, l, &verdicts[l.at])
	}
}

func (b *batch) unlock(n *NAT) {
	for m := b.locks; m != 0; m &= m - 1 {
		n.shards[bits.TrailingZeros64(m)].Unlock()
	}
}

// count counts the packets of a batch, after they have their verdicts and before the
// locks are released.
func (b *batch) count(verdicts []flow.Verdict) {
	for i := range b.lanes[:b.n] {
		l := &b.lanes[i]
		l.count(b.from, b.routes, &verdicts[l.at])
	}
}
