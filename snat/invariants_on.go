//go:build natplane_invariants

package snat

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
)

// check recounts what the shard's sessions use and panics if any counter, index
// entry or port disagrees. It is O(sessions + ports).
func (sh *shard) check() {
	type use struct{ active, held uint32 }
	type port struct {
		instance *instance
		family   int
		proto    int
		ordinal  int
	}
	uses := map[port]use{}
	tombstones, udp := uint64(0), 0
	ids := make([]flow.ID, 0, 1024)
	for after := flow.ID(0); ; after = ids[len(ids)-1] {
		if ids = sh.IDs(ids[:0], after); len(ids) == 0 {
			break
		}
		for _, id := range ids {
			s := sh.At(id)
			inst := sh.nat.instances[s.Key.VNI()]
			t := tupleOf(id, s)
			outside := [2]uint64{uint64(s.Outside)}
			if id.Is6() {
				outside = s.Addrs6().Outside
			}
			if got := sh.outsideID(&t, outside, s.OutsidePort); got != id {
				panic(fmt.Sprintf("snat: session %v is found as %#x, not %#x", sh.Info(id), got, id))
			}
			if got := sh.insideID(id, s); got != id {
				panic(fmt.Sprintf("snat: session %v is found from the inside as %#x, not %#x", sh.Info(id), got, id))
			}
			if s.Track.Phase() == flow.TCPResetSent {
				tombstones++
				continue
			}
			if sh.atNode(id, s, inst) {
				continue
			}
			_, ordinal := sh.portOf(id, s, inst)
			k := port{inst, int(t.family), protoIndex(t.proto), ordinal}
			u := uses[k]
			if held(s.Track.Class) {
				u.held++
			} else {
				u.active++
			}
			uses[k] = u
			if k.proto == udpIndex {
				udp++
			}
		}
	}
	if tombstones != sh.counters.tombstones {
		panic(fmt.Sprintf("snat: %d tombstones, counted %d", tombstones, sh.counters.tombstones))
	}
	for _, inst := range sh.nat.instances {
		if inst == nil || &sh.nat.shards[inst.shard] != sh {
			continue
		}
		for f := range inst.pools {
			for p := range inst.pools[f] {
				pool := &inst.pools[f][p]
				used, heldPorts, awaiting := 0, 0, 0
				for o, u := range pool.uses {
					want := uses[port{inst, f, p, o}]
					if u != (portUse(want)) {
						panic(fmt.Sprintf("snat: %s port %d: %+v sessions, counted %+v", inst.name, o, want, u))
					}
					if o >= pool.granted && u != (portUse{}) {
						awaiting++
					}
					switch {
					case u.active > 0:
						used++
					case u.held > 0:
						heldPorts++
					}
				}
				if awaiting != pool.awaiting {
					panic(fmt.Sprintf("snat: %s: %d ports await removal, counted %d", inst.name, awaiting, pool.awaiting))
				}
				sum := share{}
				for _, s := range pool.shares {
					sum.allocated, sum.used, sum.held = sum.allocated+s.allocated, sum.used+s.used, sum.held+s.held
				}
				if sum != (share{allocated: pool.granted + awaiting, used: used, held: heldPorts}) {
					panic(fmt.Sprintf("snat: %s: shares add up to %+v", inst.name, sum))
				}
				if used != pool.used || heldPorts != pool.held {
					panic(fmt.Sprintf("snat: %s: %d used and %d held ports, counted %d and %d", inst.name, used, heldPorts, pool.used, pool.held))
				}
			}
		}
	}
	sessions := 0
	for i := uint32(1); i < sh.mappings.mappings.Cap(); i++ {
		sessions += int(sh.mappings.mappings.At(i).sessions)
	}
	if sessions != udp {
		panic(fmt.Sprintf("snat: %d UDP sessions, %d in mappings", udp, sessions))
	}
}

// insideID returns the session that the inside of s would be found to use.
func (sh *shard) insideID(id flow.ID, s *flow.Session) flow.ID {
	h := sh.nat.table.Hasher()
	if id.Is6() {
		k := s.KeyInside6()
		return sh.LookupInside6(&k, h.Hash6(&k))
	}
	return sh.LookupInside(&s.Key, h.Hash(&s.Key))
}
