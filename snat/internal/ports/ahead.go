package ports

import (
	"math/bits"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// Ahead hides the cache misses of many new flows behind each other and behind the work on
// them: it prefetches what [State.Take] will read of each, up to the place of the session on
// the port that the flow probably gets. What comes next is known only from what came before,
// so a flow takes four steps, and each flow takes one while the others are at work: the
// memory is busy all the time, and nobody waits. It changes nothing, and a wrong guess costs
// time only. It holds no state, only scratch memory; the zero value is ready.
//
// Add the flows first, then call Fetch, then Next before each flow begins, in their order;
// all of that with the locks of all shards involved.
type Ahead struct {
	n     int
	turn  int // flow that begins next
	flows [flow.MaxGuesses]ahead
	lines [aheadLines]unsafe.Pointer
}

// ahead is one flow. The pointers are those of the steps that come next.
type ahead struct {
	sh      *State
	created unsafe.Pointer // of its instance
	pool    *pool
	scope   destinations.Scope
	hash    uint64
	record  *destinations.Record
	words   []uint64
	lowest  int // ordinal that it will probably get

	stock *stock // that it gets a port of, if all share them: then it needs no pool
}

const (
	aheadGap   = 2  // flows that begin between two steps of one
	aheadLines = 24 // more than are prefetched at once

	aheadAtOnce = 16 // flows whose shared ports are found out together
	unforeseen  = -2 // the port of a flow about which nobody has asked yet; -1 if it cannot be known
	lineBytes   = 64 // of a cache line

	// From so many sessions of a shard on, or instances, the caches do not hold what a new
	// flow needs.
	aheadSessions  = 16384
	aheadInstances = 256
)

// Reset forgets all flows.
func (a *Ahead) Reset() { a.n = 0 }

// Any reports whether a flow has been added.
func (a *Ahead) Any() bool { return a.n > 0 }

// Foresees reports whether what new flows need is worth looking ahead for: there is much of
// it, and they get the lowest ports that are free, or random ones without flows, which can be foreseen.
func (sh *State) Foresees() bool {
	sp := sh.space
	if sp.shared != nil && sp.shared.Choice != Random {
		return false
	}
	return (sh.Len() >= aheadSessions || len(sp.instances) >= aheadInstances) && !sp.picky
}

// Foresees reports whether one of some shards does, a bit for each.
func (sp *Space) Foresees(shards uint64) bool {
	for m := shards; m != 0; m &= m - 1 {
		if sp.states[bits.TrailingZeros64(m)].Foresees() {
			return true
		}
	}
	return false
}

// Add adds a new flow of an instance with an index, if it gets a port for itself and the
// shard Foresees which, and reports whether it has.
func (a *Ahead) Add(sh *State, index uint32, t *Tuple) bool {
	sp := sh.space
	b := sp.Behavior(t.Proto)
	if !sh.Foresees() || sp.shared == nil && !b.PerFlow || a.n == len(a.flows) || int(index) >= len(sp.instances) || sp.instances[index] == nil {
		return false
	}
	f := &a.flows[a.n]
	a.n++
	*f = ahead{sh: sh}
	f.created, f.pool = sp.instances[index].places(t)
	if sp.shared != nil {
		f.stock, f.scope, f.lowest = &sp.shared.stocks[t.Family][PoolIndex(t.Proto)], destinationOf(t), unforeseen
		return true
	}
	scopeIn(&f.scope, index, t, b.Sharing)
	return true
}

// places returns where a new flow counts, and its pool. The compiler would look whether the
// instance is nil by reading it, and so wait for it.
func (inst *Instance) places(t *Tuple) (created unsafe.Pointer, p *pool) {
	pools := unsafe.Add(unsafe.Pointer(inst), unsafe.Offsetof(inst.pools))
	at := uintptr(t.Family)*NumPools + uintptr(PoolIndex(t.Proto))
	return unsafe.Add(unsafe.Pointer(inst), unsafe.Offsetof(inst.created)), (*pool)(unsafe.Add(pools, at*unsafe.Sizeof(pool{})))
}

// Fetch takes the steps that the first flows need before they begin.
func (a *Ahead) Fetch() {
	for a.turn = -4 * aheadGap; a.turn < 0 && a.n > 0; {
		a.Next()
	}
}

// Next takes one step each for the flows that come after the one that begins now.
func (a *Ahead) Next() {
	lines := a.lines[:0]
	if k := a.turn + aheadGap; k >= 0 && k < a.n {
		lines = a.socket(k, lines)
	}
	if k := a.turn + 2*aheadGap; k >= 0 && k < a.n {
		lines = a.marks(k, lines)
	}
	if k := a.turn + 3*aheadGap; k >= 0 && k < a.n {
		lines = a.record(k, lines)
	}
	if k := a.turn + 4*aheadGap; k >= 0 && k < a.n {
		lines = a.pool(k, lines)
	}
	slab.PrefetchEach(lines)
	a.turn++
}

// pool is the first step: the instance and its pool, and where the record is looked for.
func (a *Ahead) pool(k int, lines []unsafe.Pointer) []unsafe.Pointer {
	f := &a.flows[k]
	lines = append(lines, f.created)
	if f.stock != nil {
		return a.shared(k, lines)
	}
	lines = appendLines(lines, unsafe.Add(unsafe.Pointer(f.pool), unsafe.Offsetof(closed{}.shut)), poolHot)
	var home unsafe.Pointer
	f.hash, home = f.sh.destinations.Home(&f.scope)
	return append(lines, home)
}

// record is the second step: the record, and the first range and share of the pool.
func (a *Ahead) record(k int, lines []unsafe.Pointer) []unsafe.Pointer {
	f := &a.flows[k]
	if f.hash != 0 {
		f.record = f.sh.destinations.Guess(f.hash)
	}
	lines = append(lines, unsafe.Pointer(f.record))
	if f.stock != nil {
		return lines
	}
	lines = append(lines, unsafe.Pointer(unsafe.SliceData(f.pool.ranges)))
	if len(f.pool.shares) > 0 {
		lines = appendLines(lines, unsafe.Pointer(&f.pool.shares[0]), shareHot)
	}
	return lines
}

// marks is the third step: the bitmap of the record.
func (a *Ahead) marks(k int, lines []unsafe.Pointer) []unsafe.Pointer {
	f := &a.flows[k]
	if f.record == nil || f.stock != nil || f.pool.granted == 0 {
		return lines
	}
	if f.words = f.sh.destinations.Marks(f.record, &f.scope); len(f.words) > 0 {
		lines = append(lines, unsafe.Pointer(&f.words[0]), unsafe.Pointer(&f.words[destinations.Around(f.words, f.record, f.pool.granted)]))
	}
	return lines
}

// socket is the last step: the uses of the port that the flow probably gets, and the index
// bucket of its outside socket.
func (a *Ahead) socket(k int, lines []unsafe.Pointer) []unsafe.Pointer {
	f := &a.flows[k]
	if f.stock != nil || len(f.pool.shares) == 0 || f.pool.granted == 0 {
		return lines
	}
	if f.words != nil {
		f.lowest = destinations.LowestClear(f.words, f.pool.granted)
	}
	for i := k - 1; i >= max(a.turn, 0); i-- { // those that have not begun take the ports before its own
		if before := &a.flows[i]; before.pool == f.pool && before.scope == f.scope {
			f.lowest = min(before.lowest+1, f.pool.granted-1)
			break
		}
	}
	lines = append(lines, unsafe.Pointer(f.pool.uses.Place(f.lowest)))
	outside, port := f.pool.socket(f.lowest)
	t := Tuple{Family: f.scope.Family, Proto: f.scope.Proto, Remote: f.scope.Addr, DestPort: f.scope.Port}
	return append(lines, f.sh.Place(f.sh.outsideHash(&t, outside, port)))
}

// shared is the first step of a flow for which all share ports, and all but the record: where that is
// looked for, the uses of the port, and the index bucket of its outside socket.
func (a *Ahead) shared(k int, lines []unsafe.Pointer) []unsafe.Pointer {
	f := &a.flows[k]
	if f.lowest == unforeseen {
		a.foresee(k)
	}
	if f.lowest < 0 {
		return lines
	}
	shelf, _ := f.stock.shelves.Split(f.lowest)
	f.scope.Instance = uint32(shelf)
	var home unsafe.Pointer
	f.hash, home = f.sh.destinations.Home(&f.scope)
	r := &f.stock.ranges[shelf]
	t := Tuple{Family: f.scope.Family, Proto: f.scope.Proto, Remote: f.scope.Addr, DestPort: f.scope.Port}
	place := f.sh.Place(f.sh.outsideHash(&t, &f.stock.shares[r.share].outside, r.portAt(f.lowest)))
	return append(lines, home, unsafe.Pointer(f.stock.uses.Place(f.lowest)), place)
}

// foresee finds out which ports the flows from k on get, a few at once.
func (a *Ahead) foresee(k int) {
	st, next := a.flows[k].stock, 0
	flows := a.flows[max(a.turn, 0):min(k+aheadAtOnce, a.n)] // those that have not begun take the ports before
	for i := range flows {
		if flows[i].stock == st {
			next++
		}
	}
	b := a.flows[k].sh.space.shared
	b.mu.Lock()
	defer b.mu.Unlock()
	b.foresee(st, next)
	next = 0
	for i := range flows {
		if f := &flows[i]; f.stock == st {
			f.lowest = b.next.at(next)
			next++
		}
	}
}

// appendLines appends the cache lines on which size bytes from p on lie. What p points to must
// have a line more than that, so that no pointer leaves it.
func appendLines(lines []unsafe.Pointer, p unsafe.Pointer, size uintptr) []unsafe.Pointer {
	for at := uintptr(0); at < size+uintptr(p)%lineBytes; at += lineBytes {
		lines = append(lines, unsafe.Add(p, at))
	}
	return lines
}
