// What a shard remembers for a time besides sessions: which endpoint a client keeps, and
// what becomes of the later fragments of a datagram.

package kubeproxy

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// affinityKey is a client of a port of a Service on a node.
type affinityKey struct {
	client address
	port   uint32
	node   int32
}

// stuck is the endpoint that a client keeps.
type stuck struct{ slot, serial uint32 }

type affinities = timed[affinityKey, stuck]

// pieceKey is a datagram in pieces on a node.
type pieceKey struct {
	src, dst address
	id       uint32
	proto    uint8
	is6      bool
	node     int32
}

// piece is what becomes of the fragments.
type piece struct {
	src, dst address
	r        Result
}

type pieces = timed[pieceKey, piece]

const (
	pieceLife = 30 * time.Second // nf_conntrack_frag: ipfrag_time
	maxPieces = 4096             // datagrams in pieces of one shard
)

// timed is a map whose elements end. Every change looks at two others, so that those that
// have ended do not stay.
type timed[K comparable, V any] struct {
	of   map[K]timedElement[V]
	keys []K
	next int // in keys, where to look next
}

type timedElement[V any] struct {
	v   V
	due flow.Time
}

func (t *timed[K, V]) init() { t.of = make(map[K]timedElement[V]) }

// get returns an element that has not ended.
func (t *timed[K, V]) get(now flow.Time, k K) (v V, ok bool) {
	e, ok := t.of[k]
	return e.v, ok && e.due > now
}

// put lets an element be there until due.
func (t *timed[K, V]) put(now flow.Time, k K, v V, due flow.Time) {
	for range 2 {
		t.sweep(now)
	}
	if _, ok := t.of[k]; !ok {
		t.keys = append(t.keys, k)
	}
	t.of[k] = timedElement[V]{v, due}
}

// sweep looks at one element.
func (t *timed[K, V]) sweep(now flow.Time) {
	if len(t.keys) == 0 {
		return
	}
	t.next %= len(t.keys)
	k := t.keys[t.next]
	if t.of[k].due > now {
		t.next++
		return
	}
	last := len(t.keys) - 1
	t.keys[t.next] = t.keys[last]
	t.keys = t.keys[:last]
	delete(t.of, k)
}

// fragmentKey returns the datagram that a fragment is of.
func fragmentKey(pkt *wire.Packet, node int) pieceKey {
	k := pieceKey{proto: pkt.Proto, is6: pkt.Flags&wire.V6 != 0, node: int32(node)}
	src, dst := pkt.Addrs()
	k.src, k.dst = src, dst
	if f, ok := pkt.Fragment(); k.is6 && ok {
		k.id = f.ID()
	} else if !k.is6 {
		k.id = uint32(pkt.IPv4().ID())
	}
	return k
}

// firstPiece remembers what becomes of a first fragment, and reports whether there was
// room.
func (sh *shard) firstPiece(pkt *wire.Packet, was, is *tuple, node int, r Result) bool {
	k := fragmentKey(pkt, node)
	if _, ok := sh.pieces.of[k]; !ok && len(sh.pieces.keys) >= maxPieces {
		for range maxPieces / 64 {
			sh.pieces.sweep(sh.now)
		}
		if len(sh.pieces.keys) >= maxPieces {
			return false
		}
	}
	r.New = false
	sh.pieces.put(sh.now, k, piece{is.src, is.dst, r}, sh.now+flow.Time(pieceLife))
	return true
}

// laterPiece takes a fragment with an offset. It goes where the first one of its datagram
// went; one to a Service whose first fragment has not come is dropped.
func (p *Proxy) laterPiece(now flow.Time, node int, t *tables, pkt *wire.Packet) Result {
	k := fragmentKey(pkt, node)
	if !t.addrs.has(mix(k.dst, 0)) && !t.hosts.has(mix(k.src, 0)) {
		return passed
	}
	sh := p.shardOf(node)
	sh.lock(now)
	defer sh.sessions.Unlock()
	if e, ok := sh.pieces.get(sh.now, k); ok {
		rewrite(pkt, &tuple{src: k.src, dst: k.dst}, &tuple{src: e.src, dst: e.dst})
		sh.counts.Packets++
		return e.r
	}
	if p.services[k.dst] > 0 {
		return sh.drop(flow.ReasonFragment)
	}
	return passed
}
