// Snapshots of shards: what they remember besides sessions, and what they have counted.

package kubeproxy

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
)

// archiveShard writes or reads what a shard remembers besides sessions. If there are other shards than
// there were, each thing goes to the shard of its node.
func (p *Proxy) archiveShard(a *snapshot.Archive, i int, apart bool) {
	a.Section("shard of proxies")
	sh := &p.shards[i%len(p.shards)]
	var now flow.Time
	var counts Counts
	if a.Writing() {
		now, counts = sh.now, sh.counts
	}
	snapshot.Num(a, &now)
	snapshot.Nums(a, &counts.Sessions, &counts.Packets)
	for r := range a.Len(len(counts.Drops), len(counts.Drops)) { // later versions may have more reasons
		snapshot.Num(a, &counts.Drops[r])
	}
	if !a.Writing() {
		a.Check(now >= 0, "the time %d", now)
		sh.now = max(sh.now, now)
		sh.tick = flow.TickOf(sh.now)
		sh.counts.Sessions += counts.Sessions
		sh.counts.Packets += counts.Packets
		for r, n := range counts.Drops {
			sh.counts.Drops[r] += n
		}
	}
	shardOf := func(node int32) *shard {
		if !a.Check(node >= 0 && int(node) < len(p.nodes), "node %d", node) {
			return sh
		}
		of := p.shardOf(int(node))
		a.Check(apart || of == sh, "what is of node %d is in shard %d", node, i)
		return of
	}
	archiveTimed(a, &sh.affinity, func(k *affinityKey, v *stuck) *affinities {
		snapshot.Nums(a, &k.client[0], &k.client[1])
		snapshot.Nums(a, &k.port, &v.slot, &v.serial)
		snapshot.Num(a, &k.node)
		a.Check(int(v.slot) < len(*p.slots.chunks.Load())*chunkLen, "slot %d", v.slot)
		return &shardOf(k.node).affinity
	})
	archiveTimed(a, &sh.pieces, func(k *pieceKey, v *piece) *pieces {
		snapshot.Nums(a, &k.src[0], &k.src[1], &k.dst[0], &k.dst[1], &v.src[0], &v.src[1], &v.dst[0], &v.dst[1])
		snapshot.Num(a, &k.id)
		snapshot.Num(a, &k.proto)
		a.Bool(&k.is6)
		snapshot.Num(a, &v.r.Action)
		snapshot.Num(a, &v.r.Reason)
		snapshot.Nums(a, &k.node, &v.r.Node)
		a.Check(v.r.Action <= Reply && v.r.Node >= -1 && int(v.r.Node) < len(p.nodes), "what becomes of a fragment")
		return &shardOf(k.node).pieces
	})
}

// archiveTimed writes or reads elements: each does it with one, and says where it belongs.
func archiveTimed[K comparable, V any](a *snapshot.Archive, t *timed[K, V], each func(*K, *V) *timed[K, V]) {
	next := t.next % max(len(t.keys), 1) // as sweep does
	n := a.Len(len(t.keys), maxEntries)
	snapshot.Num(a, &next)
	a.Check(next >= 0 && next < max(n, 1), "element %d of %d", next, n)
	for i := range n {
		var k K
		var e timedElement[V]
		if a.Writing() {
			k, e = t.keys[i], t.of[t.keys[i]]
		}
		of := each(&k, &e.v)
		snapshot.Num(a, &e.due)
		if a.Writing() {
			continue
		}
		if _, twice := of.of[k]; !a.Check(!twice, "the same twice") {
			return
		}
		of.keys, of.of[k] = append(of.keys, k), e
	}
	if !a.Writing() {
		t.next = next % max(len(t.keys), 1)
	}
}
