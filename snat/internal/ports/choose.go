package ports

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/bitmap"
	"github.com/seed-a61be3fe/natplane/internal/splitmix"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
)

// How a new flow gets one of the ports that all share. It must not share a port with
// another flow to the same destination; that is a question for its own shard,
// where all flows to the destination are. A port without any flow is a question
// for them all, and the first one asked: its answer is a port that is free
// for every destination, in one step.
//
// Only if there is none left do ports get a second user. Random ones are tried
// against the session index first, which succeeds at once for a destination with
// few flows. Where that fails too often, a frontend is chosen by the room it has,
// and the destination earns a bitmap of what it has been seen to use there, which
// finds a free port in one step, however many are taken.
//
// A destination has a record for every frontend on which it has flows, with
// their exact number. So it is known without a search whether a frontend has
// room, and a flow is refused if and only if none has.

// probes is how many random ports are tried, each time, before something better
// is done.
const probes = 16

// smallRange is how many ports are asked for one by one, because a destination that
// uses all of them is not worth a bitmap of all ports.
const smallRange = 64

// destinationOf returns the scope of a tuple's remote, to be completed by On.
func destinationOf(t *Tuple) destinations.Scope {
	return destinations.Scope{Proto: Normal(t.Proto), Family: t.Family, Addr: t.Remote, Port: t.DestPort}
}

// takeShared is how all that share ports take one.
func (sh *State) takeShared(now flow.Time, t *Tuple) (outside [2]uint64, port uint16, _ flow.Reason) {
	b := sh.space.shared
	st := &b.stocks[t.Family][PoolIndex(t.Proto)]
	if len(st.ranges) == 0 {
		return outside, 0, flow.ReasonNoOutbound
	}
	dest := destinationOf(t)
	sh.destinations.BeginSearch()
	d, ordinal, reason := sh.chooseFresh(now, st, &dest)
	if reason == flow.ReasonNone && ordinal < 0 {
		if b.Choice == Preserve {
			ordinal, reason = sh.preserve(st, t, &dest, &d)
		} else {
			ordinal, reason = sh.reuse(st, t, &dest, &d)
		}
		if reason == flow.ReasonNone {
			reason = b.claimAnother(sh, st, ordinal, now)
		}
	}
	if reason != flow.ReasonNone {
		return outside, 0, sh.destinations.Blame(reason)
	}
	shelf, offset := st.shelves.Split(ordinal)
	r := &st.ranges[shelf]
	if !sh.destinations.Add(dest.On(shelf), r.count, offset) {
		sh.EndedAt = now
		b.unclaim(sh, st, ordinal, flow.ClassTCPOpening)
		return outside, 0, flow.ReasonMemory
	}
	outside, port = st.outside(r), r.portAt(ordinal)
	if sh.Tombstones {
		if id := sh.OutsideID(t, &outside, port); id != 0 {
			sh.owner.End(id, sh.At(id)) // a tombstone, which holds no port
		}
	}
	return outside, port, flow.ReasonNone
}

// chooseFresh takes a port without flows, if one is to be found; else the ordinal is
// -1, and d is what further choices depend on.
func (sh *State) chooseFresh(now flow.Time, st *stock, dest *destinations.Scope) (d splitmix.Source, ordinal int, reason flow.Reason) {
	b := sh.space.shared
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ordinal = splitmix.Source(b.random.Uint64()), -1
	if b.flows >= b.MaxFlows {
		b.next.forget()
		return d, ordinal, flow.ReasonFlowLimit
	}
	if b.Choice == Random {
		if shelf, port := sh.fresh(st, dest, &d); shelf >= 0 {
			b.flows++
			st.shelves.Take(shelf, port)
			r := &st.ranges[shelf]
			ordinal = r.base + port
			sh.begin(&st.pool, r, ordinal, now)
		}
	}
	return d, ordinal, flow.ReasonNone
}

// fresh returns a random port without flows, by its frontend and offset, on frontends that have not
// reached their limit for the destination; the frontend is -1 if there is none. It is as foreseen, if
// it was. Their lock must be held.
func (sh *State) fresh(st *stock, dest *destinations.Scope, d *splitmix.Source) (shelf, port int) {
	b := sh.space.shared
	limit := uint32(b.FlowsPerDestination)
	if ordinal, ok := b.next.take(st); ok {
		if shelf, port = st.shelves.Split(ordinal); sh.destinations.Flows(dest.On(shelf)) < limit {
			return shelf, port
		}
		b.next.forget()
	}
	for closed := uint64(0); ; closed |= 1 << shelf {
		k := 0
		if shelf, k = st.choose(closed, d); shelf < 0 {
			return shelf, 0
		}
		if sh.destinations.Flows(dest.On(shelf)) < limit {
			return shelf, st.shelves.At(shelf, k)
		}
	}
}

// reuse returns a random port that has flows, but none to the destination.
func (sh *State) reuse(st *stock, t *Tuple, dest *destinations.Scope, d *splitmix.Source) (int, flow.Reason) {
	limit := sh.space.shared.FlowsPerDestination
	for range probes { // nearly always the first will do
		ordinal := d.Below(st.uses.Len())
		r := st.rangeOf(ordinal)
		if int(sh.destinations.Flows(dest.On(r.base/r.count))) < limit && !sh.taken(st, r, t, ordinal-r.base) {
			return ordinal, flow.ReasonNone
		}
	}
	var room [MaxSharedFrontends]int
	total, reason := 0, flow.ReasonPorts
	for i := range st.ranges {
		flows := int(sh.destinations.Flows(dest.On(i)))
		if flows >= st.ranges[i].count {
			continue
		}
		if flows >= limit {
			reason = flow.ReasonDestinationLimit
			continue
		}
		room[i] = st.ranges[i].count - flows
		total += room[i]
	}
	if total == 0 {
		return 0, reason
	}
	i, k := 0, d.Below(total)
	for ; k >= room[i]; i++ {
		k -= room[i]
	}
	r := &st.ranges[i]
	offset, ok := sh.unused(st, r, t, dest.On(i), 0, r.count, d)
	if sh.destinations.Short() {
		return 0, flow.ReasonMemory
	}
	if !ok {
		panic("ports: a destination counts fewer flows than it has")
	}
	return r.base + offset, flow.ReasonNone
}

// preserve returns the port that Preserve means.
func (sh *State) preserve(st *stock, t *Tuple, dest *destinations.Scope, d *splitmix.Source) (int, flow.Reason) {
	pair := flow.Key6{Src: t.Inside, Dst: t.Remote}
	i := int(sh.space.seeded.Hash6(&pair) % uint64(len(st.ranges)))
	r, s := &st.ranges[i], dest.On(i)
	if int(sh.destinations.Flows(s)) >= sh.space.shared.FlowsPerDestination {
		return 0, flow.ReasonDestinationLimit
	}
	first, count := int(r.first), r.count
	if own := int(t.InsidePort) - first; own >= 0 && own < count && !sh.taken(st, r, t, own) {
		return r.base + own, flow.ReasonNone
	}
	lo, hi := 1024, 65536
	switch {
	case t.isQuery():
		lo = 0 // identifiers have no classes
	case t.InsidePort < 512:
		lo, hi = 1, 512
	case t.InsidePort < 1024:
		lo, hi = 600, 1024
	}
	lo, hi = max(lo-first, 0), min(hi-first, count)
	if lo >= hi {
		return 0, flow.ReasonPorts
	}
	if offset, ok := sh.unused(st, r, t, s, lo, hi, d); ok {
		return r.base + offset, flow.ReasonNone
	}
	return 0, flow.ReasonPorts
}

// taken reports whether a flow to the tuple's remote uses or holds a port, given
// by its offset in a range.
func (sh *State) taken(st *stock, r *ordinals, t *Tuple, offset int) bool {
	outside, port := st.outside(r), r.first+uint16(offset)
	if id := sh.OutsideID(t, &outside, port); id != 0 && sh.At(id).Track.Phase() != flow.TCPResetSent {
		return true
	}
	if t.Proto != wire.ProtoUDP || !sh.HoldsUDP {
		return false
	}
	over := *t
	over.Proto = ProtoHeld
	return sh.OutsideID(&over, &outside, port) != 0
}

// unused returns a random port of a range, by its offset from lo to hi-1, that is
// not taken for the tuple's remote, and whether there is one. s is the scope of
// the remote on the range's frontend.
func (sh *State) unused(st *stock, r *ordinals, t *Tuple, s *destinations.Scope, lo, hi int, d *splitmix.Source) (int, bool) {
	for range probes {
		if o := lo + d.Below(hi-lo); !sh.taken(st, r, t, o) {
			return o, true
		}
	}
	start := lo + d.Below(hi-lo)
	if hi-lo <= smallRange {
		for i := range hi - lo {
			if o := lo + (start-lo+i)%(hi-lo); !sh.taken(st, r, t, o) {
				return o, true
			}
		}
		return 0, false
	}
	// Something is taken, so there is a record.
	words := sh.destinations.Bitmap(sh.destinations.Record(s), r.count)
	if words == nil {
		return 0, false
	}
	for _, part := range [2][2]int{{start, hi}, {lo, start}} {
		for o := part[0]; ; {
			var ok bool
			if o, ok = bitmap.FirstZeroFrom(words, r.count, o); !ok || o >= part[1] {
				break
			}
			if !sh.taken(st, r, t, o) {
				return o, true
			}
			bitmap.Set(words, r.count, o)
		}
	}
	return 0, false
}

func (b *shared) release(sh *State, id flow.ID, s *flow.Session, _ *Instance) {
	t := TupleOf(id, s)
	st, ordinal := b.stockOf(id, s)
	r := st.rangeOf(ordinal)
	dest := destinationOf(&t)
	sh.destinations.Drop(dest.On(r.base/r.count), r.count, ordinal-r.base)
	b.unclaim(sh, st, ordinal, s.Track.Class)
}
