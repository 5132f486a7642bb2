//go:build natplane_invariants

package ports

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// checkBlocks recounts the ports of every block, and panics if a block is not
// where it should be or a session uses a port that is not its subscriber's.
func (sh *State) checkBlocks() {
	owned := map[uint32]uint32{} // by subscriber
	for _, inst := range sh.space.instances {
		if inst == nil || inst.Shard != sh.number {
			continue
		}
		for f := range inst.pools {
			b := &inst.blocks[f]
			for k := range b.all {
				blk, busy := &b.all[k], uint32(0)
				for p := range inst.pools[f] {
					pool := &inst.pools[f][p]
					for o := b.run(k).first; o < b.run(k).end && o < pool.granted; o++ {
						if !pool.isFree(o) || pool.isShut(o) && !testBit(pool.excluded, o) {
							busy++
						}
					}
				}
				if busy != blk.busy {
					panic(fmt.Sprintf("ports: block %d of %s: %d ports busy, counted %d", k, inst.Name, busy, blk.busy))
				}
				if want := blk.shelf != 0 && blk.owner == 0 && busy == 0; want != (blk.place != 0) || want && b.free[b.shelves[blk.shelf-1].first+blk.place-1] != uint32(k) {
					panic(fmt.Sprintf("ports: block %d of %s: %+v, free %v", k, inst.Name, *blk, want))
				}
				if blk.owner != 0 {
					owned[blk.owner]++
				}
			}
		}
	}
	for id, n := range owned {
		who := sh.subscribers.At(id)
		b := sh.space.instances[who.Name().Instance].blocks[who.Name().Family]
		listed := uint32(0)
		for k := who.Blocks; k != 0; k = b.all[k-1].next {
			if listed++; b.all[k-1].owner != id || listed > n {
				panic(fmt.Sprintf("ports: subscriber %v: block %d is of %d", who.Name(), k-1, b.all[k-1].owner))
			}
		}
		if listed != n || n != who.NumBlocks {
			panic(fmt.Sprintf("ports: subscriber %v: %d blocks, %d in its list, counted %d", who.Name(), n, listed, who.NumBlocks))
		}
	}
	for _, id := range sh.IDs(make([]flow.ID, 0, sh.Len()), 0) {
		s := sh.At(id)
		inst := sh.space.instances[s.Key.VNI()]
		if s.Track.Phase() == flow.TCPResetSent || !s.Kind().HoldsPort() || sh.space.shared != nil {
			continue
		}
		t := TupleOf(id, s)
		p, ordinal := portOf(id, s, inst)
		if ordinal >= p.granted {
			continue
		}
		outside, port := p.port(ordinal)
		b := &inst.blocks[t.Family]
		whose, kind := netip.Addr{}, deterministic.Dynamic
		if m := inst.fixed(int(t.Family)); m != nil {
			whose, kind = m.Inside(netip.AddrPortFrom(netAddr(int(t.Family), outside), port))
		}
		if kind == deterministic.Dynamic && b.size > 0 {
			whose = netAddr(int(t.Family), sh.subscribers.At(b.all[ordinal/b.size].owner).Name().Addr)
		} else if kind == deterministic.Dynamic {
			continue
		}
		if whose != t.InsideAddr() {
			panic(fmt.Sprintf("ports: %v uses port %d of %v", t.InsideAddr(), port, whose))
		}
	}
}
