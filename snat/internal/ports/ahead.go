package ports

import (
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Ahead hides the cache misses of many new flows behind each other: it prefetches what
// [State.Take] will read of each, step by step for all, up to the place of the session on
// the port that the flow probably gets. It changes nothing, and a wrong guess costs time
// only. It holds no state, only scratch memory; the zero value is ready.
//
// Add the flows first, then call Fetch, with the locks of all shards involved.
type Ahead struct {
	n       int
	flows   [flow.MaxGuesses]ahead
	lines   [aheadLines * flow.MaxGuesses]unsafe.Pointer
	buckets flow.Guesses
}

// ahead is one flow. The pointers are those of the steps that come next.
type ahead struct {
	sh     *State
	pool   *pool
	scope  destinations.Scope
	hash   uint64
	record *destinations.Record
	words  []uint64
	lowest int // ordinal that it will probably get
}

const (
	aheadLines = 8  // that are prefetched in one step for a flow
	lineBytes  = 64 // of a cache line

	// From so many sessions of a shard on, or instances, the caches do not hold what a new
	// flow needs.
	aheadSessions  = 8192
	aheadInstances = 256
)

// Reset forgets all flows.
func (a *Ahead) Reset() { a.n = 0 }

// Foresees reports whether what new flows need is worth looking ahead for: there is much of
// it, and they get the lowest ports that are free, which can be foreseen.
func (sh *State) Foresees() bool {
	sp := sh.space
	return (sh.Len() >= aheadSessions || len(sp.instances) >= aheadInstances) && sp.shared == nil && !sp.picky
}

// Add adds a new flow of an instance with an index, if it has a port of its own and the
// shard Foresees what that is.
func (a *Ahead) Add(sh *State, index uint32, t *Tuple) {
	sp := sh.space
	b := sp.Behavior(t.Proto)
	if !sh.Foresees() || !b.PerFlow || a.n == len(a.flows) || int(index) >= len(sp.instances) || sp.instances[index] == nil {
		return
	}
	f := &a.flows[a.n]
	a.n++
	*f = ahead{sh: sh, pool: &sp.instances[index].pools[t.Family][PoolIndex(t.Proto)]}
	scopeIn(&f.scope, index, t, b.Sharing)
}

// Fetch prefetches.
func (a *Ahead) Fetch() {
	if a.n == 0 {
		return
	}
	flows, lines := a.flows[:a.n], a.lines[:0]
	for i := range flows { // the pool, and where its record is looked for
		f := &flows[i]
		for at := uintptr(0); at < unsafe.Sizeof(pool{}); at += lineBytes {
			lines = append(lines, unsafe.Add(unsafe.Pointer(f.pool), at))
		}
		var home unsafe.Pointer
		f.hash, home = f.sh.destinations.Home(&f.scope)
		lines = append(lines, home)
	}
	slab.PrefetchEach(lines)
	lines = lines[:0]
	for i := range flows { // its ranges and shares, and the record
		f := &flows[i]
		if f.hash != 0 {
			f.record = f.sh.destinations.Guess(f.hash)
		}
		lines = append(lines, unsafe.Pointer(f.record), unsafe.Pointer(unsafe.SliceData(f.pool.ranges)))
		if len(f.pool.shares) == 0 {
			continue
		}
		shares := unsafe.Pointer(&f.pool.shares[0])
		for at := uintptr(0); at < unsafe.Sizeof(share{}); at += lineBytes {
			lines = append(lines, unsafe.Add(shares, at))
		}
	}
	slab.PrefetchEach(lines)
	lines = lines[:0]
	for i := range flows { // the bitmap of the record
		f := &flows[i]
		if f.record == nil {
			continue
		}
		f.words = f.sh.destinations.Marks(f.record, &f.scope)
		for at := 0; at < min(len(f.words), 3*lineBytes/8); at += lineBytes / 8 {
			lines = append(lines, unsafe.Pointer(&f.words[at]))
		}
	}
	slab.PrefetchEach(lines)
	a.fetchPorts(flows, lines[:0])
}

// fetchPorts prefetches the uses of the ports that the flows will probably get, and the
// index buckets of their outside sockets.
func (a *Ahead) fetchPorts(flows []ahead, lines []unsafe.Pointer) {
	a.buckets.Reset()
	for i := range flows {
		f := &flows[i]
		if len(f.pool.ranges) == 0 || f.pool.granted == 0 {
			continue
		}
		if f.words != nil {
			f.lowest = destinations.LowestClear(f.words, f.pool.granted)
		}
		for k := i - 1; k >= max(i-aheadLines, 0); k-- { // those before it take the ports before its own
			if flows[k].pool == f.pool && flows[k].scope == f.scope {
				f.lowest = min(flows[k].lowest+1, f.pool.granted-1)
				break
			}
		}
		if f.lowest < len(f.pool.uses) {
			lines = append(lines, unsafe.Pointer(&f.pool.uses[f.lowest]))
		}
		outside, port := f.pool.port(f.lowest)
		t := Tuple{Family: f.scope.Family, Proto: f.scope.Proto, Remote: f.scope.Addr, DestPort: f.scope.Port}
		a.buckets.Add(f.sh.Shard, f.sh.outsideHash(&t, outside, port))
	}
	slab.PrefetchEach(lines)
	a.buckets.Prefetch()
}
