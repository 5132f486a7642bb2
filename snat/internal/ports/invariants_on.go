//go:build natplane_invariants

package ports

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/subscribers"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// Check recounts what the shard's sessions use and panics if any counter, index
// entry or port disagrees, or there are other numbers of tombstones and of UDP sessions
// that only hold their port. It is O(sessions + ports).
func (sh *State) Check(wantTombstones, wantHolds uint64) {
	type port struct {
		instance *Instance
		family   int
		proto    int
		ordinal  int
	}
	uses := map[port]usage.Port{}
	tombstones, holds := uint64(0), uint64(0)
	joined := map[uint32]uint32{}                        // sessions by claim
	people := map[subscribers.Name]*subscribers.Record{} // by name
	flows := map[destinations.Scope]uint32{}             // of shared ports, by destination and frontend
	atNodes := map[destinations.Scope]map[int]bool{}     // node ports in use, by remote
	nodePorts := uint32(0)                               // sessions with one
	ids := make([]flow.ID, 0, 1024)
	for after := flow.ID(0); ; after = ids[len(ids)-1] {
		if ids = sh.IDs(ids[:0], after); len(ids) == 0 {
			break
		}
		for _, id := range ids {
			s := sh.At(id)
			inst := sh.space.instances[s.Key.VNI()]
			t := TupleOf(id, s)
			if port := s.Data[DataNodePort]; port != 0 {
				at := nodeScopeAt(id, s, inst)
				if atNodes[at] == nil {
					atNodes[at] = map[int]bool{}
				}
				atNodes[at][strideOf(max(port, nodePortFirst))] = true
				nodePorts++
			}
			outside := OutsideOf(id, s)
			if got := sh.OutsideID(&t, &outside, s.OutsidePort); got != id {
				panic(fmt.Sprintf("ports: session %v is found as %#x, not %#x", sh.Info(id), got, id))
			}
			if got := sh.insideID(id, s); got != id && s.Track.Class != flow.ClassUDPHeld && // a socket may hold several
				(got == 0 || sh.At(got).Kind() == flow.KindForwarded == (s.Kind() == flow.KindForwarded)) { // one of each is found by its kind
				panic(fmt.Sprintf("ports: session %v is found from the inside as %#x (%v), not %#x", sh.Info(id), got, sh.Info(got), id))
			}
			node := outside == inst.Own(t.Family) || outside == inst.Public[t.Family]
			same := outside == t.Inside && s.OutsidePort == t.InsidePort
			bad := s.Kind().HoldsPort() == node
			switch s.Kind() {
			case flow.KindTracked:
				bad = !same
			case flow.KindForwarded:
				bad = node
			}
			if bad {
				panic(fmt.Sprintf("ports: session %v is of kind %v", sh.Info(id), s.Kind()))
			}
			if s.Track.Phase() == flow.TCPResetSent {
				tombstones++
				continue
			}
			if !s.Kind().HoldsPort() {
				continue
			}
			if s.Track.Class == flow.ClassUDPHeld {
				holds++
			}
			if sh.space.shared != nil {
				st, ordinal := sh.space.shared.stockOf(id, s)
				r := st.rangeOf(ordinal)
				dest := destinationOf(&t)
				flows[*dest.On(r.base / r.count)]++
				if d := sh.destinations.Record(dest.On(r.base / r.count)); d.Taken > uint32(r.count) && sh.destinations.Words(d) != nil {
					panic(fmt.Sprintf("ports: %d flows to %+v on %d ports", d.Taken, dest, r.count))
				}
				continue
			}
			_, ordinal := portOf(id, s, inst)
			k := port{inst, int(t.Family), PoolIndex(t.Proto), ordinal}
			u := uses[k]
			*u.Of(s.Track.Class)++
			uses[k] = u
			if b := sh.space.Behavior(t.Proto); !b.PerFlow {
				claim := b.claimScope(inst, &t)
				c := sh.mappings.Claimed(&claim, ordinal)
				if m := sh.mappings.At(sh.mappings.Claimant(c)); c == 0 || m.Addr != t.Inside || m.Port != t.InsidePort {
					panic(fmt.Sprintf("ports: session %v is on mapping %+v", sh.Info(id), *m))
				}
				joined[c]++
			}
			if sh.space.enrolls {
				name := subscriberOf(inst, &t)
				if people[name] == nil {
					people[name] = &subscribers.Record{}
				}
				people[name].Sessions++
				if sh.space.Behavior(t.Proto).PerFlow {
					people[name].Ports[PoolIndex(t.Proto)]++
				}
			}
		}
	}
	sh.checkNodes(atNodes, nodePorts)
	if tombstones != wantTombstones {
		panic(fmt.Sprintf("ports: %d tombstones, counted %d", tombstones, wantTombstones))
	}
	if holds != wantHolds {
		panic(fmt.Sprintf("ports: %d held UDP ports, counted %d", holds, wantHolds))
	}
	if sh.space.shared != nil {
		for s, n := range flows {
			if got := sh.destinations.Flows(&s); got != n {
				panic(fmt.Sprintf("ports: %d flows to %+v, counted %d", n, s, got))
			}
		}
		if got := sh.destinations.Len() - sh.destinations.AtNodes(); got != len(flows) {
			panic(fmt.Sprintf("ports: %d destinations, %d records", len(flows), got))
		}
	}
	for _, inst := range sh.space.instances {
		if inst == nil || inst.Shard != sh.number {
			continue
		}
		for f := range inst.pools {
			for p := range inst.pools[f] {
				pool := &inst.pools[f][p]
				counts, awaiting, sleepers := usage.Counts{}, 0, 0
				for _, s := range sh.sleepers {
					if sh.space.asleep(&s) == pool && len(pool.queue) > 0 && !pool.queue[0].Before(resting{at: s.at}) {
						sleepers++
					}
				}
				if sleepers != min(len(pool.queue), 1) {
					panic(fmt.Sprintf("ports: %s: %d wake %d ports", inst.Name, sleepers, len(pool.queue)))
				}
				for i, r := range pool.queue {
					if r.Before(pool.queue[max(i-1, 0)/2]) {
						panic(fmt.Sprintf("ports: %s: ports do not rest in order: %v", inst.Name, pool.queue))
					}
				}
				quiet := map[int]bool{}
				for _, r := range pool.queue {
					quiet[int(r.ordinal)] = true
				}
				for o := range pool.end() {
					u := pool.uses.At(o)
					if o < pool.granted && pool.shut != nil {
						if is := quiet[o] || testBit(pool.excluded, o); is != pool.isShut(o) {
							panic(fmt.Sprintf("ports: %s port %d with %+v: shut %v, want %v", inst.Name, o, u, !is, is))
						}
						if quiet[o] && u != (usage.Port{}) {
							panic(fmt.Sprintf("ports: %s port %d with %+v rests", inst.Name, o, u))
						}
					}
					want := uses[port{inst, f, p, o}]
					if u != want {
						panic(fmt.Sprintf("ports: %s port %d: %+v sessions, counted %+v", inst.Name, o, want, u))
					}
					if o >= pool.granted && u != (usage.Port{}) {
						awaiting++
					}
					if is := pool.useOf(o); is != usage.Unused {
						counts.Shift(usage.Unused, is)
					}
				}
				if awaiting != pool.awaiting {
					panic(fmt.Sprintf("ports: %s: %d ports await removal, counted %d", inst.Name, awaiting, pool.awaiting))
				}
				for i := range pool.byPort[min(1, len(pool.byPort)):] {
					a, b := &pool.ranges[pool.byPort[i]], &pool.ranges[pool.byPort[i+1]]
					if x, y := pool.outside(a), pool.outside(b); x == y && a.first >= b.first || x != y && (x[0] > y[0] || x[0] == y[0] && x[1] > y[1]) {
						panic(fmt.Sprintf("ports: %s: range %+v stands before %+v", inst.Name, *a, *b))
					}
				}
				sum := share{}
				for _, s := range pool.shares {
					sum.allocated, sum.Used = sum.allocated+s.allocated, sum.Used+s.Used
					for is, k := range s.By {
						sum.By[is] += k
					}
				}
				if sum.allocated != pool.granted+awaiting || sum.Counts != counts {
					panic(fmt.Sprintf("ports: %s: shares add up to %+v", inst.Name, sum))
				}
				if counts != pool.Counts {
					panic(fmt.Sprintf("ports: %s: ports are used %+v, counted %+v", inst.Name, counts, pool.Counts))
				}
			}
		}
	}
	for i, s := range sh.sleepers {
		if s.Before(sh.sleepers[max(i-1, 0)/2]) || s.at.Add(sh.space.rules.Quarantine.Hold) < sh.WakeAt {
			panic(fmt.Sprintf("ports: pools sleep until %v, out of order: %v", sh.WakeAt, sh.sleepers))
		}
	}
	sh.checkSubscribers(people)
	sh.checkBlocks()
	sh.mappings.Check(joined)
}

// checkSubscribers compares the records of subscribers with what their sessions
// have been counted to be.
func (sh *State) checkSubscribers(people map[subscribers.Name]*subscribers.Record) {
	if !sh.space.enrolls {
		if n := sh.subscribers.Len(); n > 0 {
			panic(fmt.Sprintf("ports: %d subscribers for nothing", n))
		}
		return
	}
	for _, m := range sh.mappings.All() {
		people[subscribers.Name{Addr: m.Addr, Instance: m.Instance, Family: m.Family}].Ports[PoolIndex(m.Proto)]++
	}
	idle, active, halfOpen := 0, map[uint32]int{}, 0
	homes := map[*outsideAddr]int{}
	for s := range sh.subscribers.All() {
		n := s.Name()
		if s.Sessions == 0 {
			if s.IsIdle() || s.NumBlocks > 0 {
				idle++
			}
			if s.Home != 0 {
				homes[&sh.space.instances[n.Instance].addrs[n.Family][s.Home-1]]++
			}
			continue
		}
		want := people[n]
		if want == nil || want.Sessions != s.Sessions || want.Ports != s.Ports {
			panic(fmt.Sprintf("ports: subscriber %+v, counted %+v", *s, want))
		}
		halfOpen += sh.checkHalfOpen(s)
		active[n.Instance]++
		if s.Home != 0 {
			homes[&sh.space.instances[n.Instance].addrs[n.Family][s.Home-1]]++
		}
	}
	if n := sh.subscribers.NumHalfOpen(); n != halfOpen {
		panic(fmt.Sprintf("ports: %d half-open sessions in rings, counted %d", halfOpen, n))
	}
	if n := sh.subscribers.Len(); n != len(people)+idle {
		panic(fmt.Sprintf("ports: %d subscribers, %d of them idle, counted %d", n, idle, len(people)))
	}
	for _, inst := range sh.space.instances {
		if inst == nil || inst.Shard != sh.number {
			continue
		}
		if inst.subscribers != active[inst.Index] {
			panic(fmt.Sprintf("ports: %s has %d subscribers, counted %d", inst.Name, active[inst.Index], inst.subscribers))
		}
		for f := range inst.addrs {
			for i := range inst.addrs[f] {
				if h := &inst.addrs[f][i]; h.home != homes[h] {
					panic(fmt.Sprintf("ports: %d subscribers at %v, counted %d", homes[h], netAddr(f, h.addr), h.home))
				}
			}
		}
	}
}

// checkHalfOpen panics if the ring of a subscriber has a session that is not its own or
// not half-open, and returns how many there are.
func (sh *State) checkHalfOpen(u *subscribers.Record) int {
	all, n := sh.subscribers.HalfOpen(u), u.Name()
	for _, id := range all {
		s := sh.At(id)
		if t := TupleOf(id, s); !isHalfOpen(s, s.Track.Class) || t.Inside != n.Addr || s.Key.VNI() != n.Instance {
			panic(fmt.Sprintf("ports: session %v is in the ring of %+v", sh.Info(id), *u))
		}
	}
	return len(all)
}

// Check recounts what all sessions use of the ports that all share and panics if
// any count or free port disagrees. It needs the locks of all shards.
func (sp *Space) Check() {
	b := sp.shared
	if b == nil {
		return
	}
	uses := map[*stock]map[int]usage.Port{}
	flows := 0
	ids := make([]flow.ID, 0, 1024)
	for _, sh := range sp.states {
		for after := flow.ID(0); ; after = ids[len(ids)-1] {
			if ids = sh.IDs(ids[:0], after); len(ids) == 0 {
				break
			}
			for _, id := range ids {
				s := sh.At(id)
				if s.Track.Class == flow.ClassTCPResetSent || !s.Kind().HoldsPort() {
					continue
				}
				st, ordinal := sh.space.shared.stockOf(id, s)
				if uses[st] == nil {
					uses[st] = map[int]usage.Port{}
				}
				u := uses[st][ordinal]
				if *u.Of(s.Track.Class)++; !usage.Held(s.Track.Class) {
					flows++
				}
				uses[st][ordinal] = u
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if flows != b.flows {
		panic(fmt.Sprintf("ports: %d active flows on shared ports, counted %d", flows, b.flows))
	}
	for f := range b.stocks {
		for p := range b.stocks[f] {
			st := &b.stocks[f][p]
			want, inUse := uses[st], 0
			for _, r := range st.ranges {
				for at := range st.uses.Used(r.base, r.count) {
					inUse++
					if o := r.base + at; st.uses.At(o) != want[o] {
						panic(fmt.Sprintf("ports: shared port %d: %+v sessions, counted %+v", o, want[o], st.uses.At(o)))
					}
				}
			}
			if inUse != len(want) {
				panic(fmt.Sprintf("ports: %d shared ports have sessions, counted %d", len(want), inUse))
			}
			st.shelves.Check(st.used)
		}
	}
}

// insideID returns the session that the inside of s would be found to use.
func (sh *State) insideID(id flow.ID, s *flow.Session) flow.ID {
	h := &sh.hasher
	if id.Is6() {
		k := s.KeyInside6()
		return sh.LookupInside6(&k, h.Hash6(&k))
	}
	return sh.LookupInside(&s.Key, h.Hash(&s.Key))
}

// checkNodes panics if a record takes a port at a node for taken that no session
// has, or if sessions with one are miscounted.
func (sh *State) checkNodes(inUse map[destinations.Scope]map[int]bool, sessions uint32) {
	if k := &sh.remotes; k.Total() != int(sessions) {
		panic(fmt.Sprintf("ports: %d sessions have node ports, counted %+v", sessions, k))
	}
	dests, nodes := &sh.destinations, 0
	for d := range dests.All() {
		if d.Family < destinations.AtNode {
			continue
		}
		nodes++
		bits, n := dests.Marked(d, nodePortCount), uint32(0)
		for at := range nodePortCount {
			if testBit(bits, at) {
				n++
				if !inUse[d.Scope][at] {
					panic(fmt.Sprintf("ports: node port %d is nobody's towards %+v", strode(at), d.Scope))
				}
			}
		}
		if n == 0 || n != d.Taken {
			panic(fmt.Sprintf("ports: %d node ports are marked towards %+v, counted %d", n, d.Scope, d.Taken))
		}
	}
	if nodes != dests.AtNodes() {
		panic(fmt.Sprintf("ports: %d records of nodes, counted %d", nodes, dests.AtNodes()))
	}
}

// CheckCost returns how many ports Check recounts.
func (sh *State) CheckCost() (ports int) {
	for _, inst := range sh.space.instances {
		if inst == nil || inst.Shard != sh.number {
			continue
		}
		for pool := range inst.each() {
			ports += pool.end()
		}
	}
	return ports
}
