package ports

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// What can be seen of ports. The lock of the instance's shard must be held.

// PoolUse is the use of an instance's ports of one family and protocol.
type PoolUse struct {
	Allocated       int // granted, or awaiting removal and in use
	AwaitingRemoval int // of these, those that are no longer granted
	Used            int // that at least one new flow could not get
	Uses            usage.Uses
	Peak            int // highest Used so far
}

// Use returns the use of an instance's ports of a family and protocol.
func (inst *Instance) Use(family, protocol int) PoolUse {
	p := &inst.pools[family][protocol]
	return PoolUse{Allocated: p.granted + p.awaiting, AwaitingRemoval: p.awaiting, Used: int(p.Used), Uses: p.Counts.Uses(), Peak: p.peak}
}

// ShareUse is what an instance uses of one frontend's ports of one family and protocol.
type ShareUse struct {
	Frontend netip.Addr // the zero Addr for packets that were refused while no port was granted
	Awaiting bool       // these ports are no longer granted

	Allocated, Used int
	Uses            usage.Uses
	Created, Failed uint64 // flows that got a port here; packets that got none
}

// Shares appends what an instance has of the frontends, in the order of consumption,
// after what it was refused while it had none.
func (inst *Instance) Shares(all []ShareUse, family, protocol int) []ShareUse {
	p := &inst.pools[family][protocol]
	if p.failed > 0 {
		all = append(all, ShareUse{Failed: p.failed})
	}
	for i := range p.shares {
		s := &p.shares[i]
		all = append(all, ShareUse{netAddr(family, s.outside), s.awaiting, s.allocated, int(s.Used), s.Counts.Uses(), s.created, s.failed})
	}
	return all
}

// Grants reports whether a port that an instance owns is granted to it, and does not
// await removal.
func (inst *Instance) Grants(family, protocol int, outside [2]uint64, port uint16) bool {
	p := &inst.pools[family][protocol]
	return p.rangeOf(p.ordinal(outside, port)).until == 0
}

// FirstOutside returns the first outside address whose ports of a family an instance is
// given, or zero if there is none.
func (sp *Space) FirstOutside(inst *Instance, family uint8) [2]uint64 {
	for i := range inst.pools[family] {
		if p := &inst.pools[family][i]; p.granted > 0 {
			return p.outside(&p.ranges[0])
		}
	}
	if sp.shared != nil {
		if st := &sp.shared.stocks[family][UDPIndex]; len(st.ranges) > 0 {
			return st.outside(&st.ranges[0])
		}
	}
	return [2]uint64{}
}

// Paired reports whether subscribers have homes.
func (sp *Space) Paired() bool { return sp.rules.paired() }

// Bytes returns the memory that an instance's ports take, their queues not included.
func (inst *Instance) Bytes() (n int) {
	for f := range inst.pools {
		n += inst.blocks[f].bytes()
		for p := range inst.pools[f] {
			n += inst.pools[f][p].uses.Bytes() + inst.pools[f][p].closed.bytes()
		}
	}
	return n
}

// Bytes returns the memory that shared ports take, touched or not.
func (sp *Space) Bytes() int {
	if sp.shared == nil {
		return 0
	}
	return sp.shared.bytes()
}

// PortBytes returns the memory that a shard has for ports, besides what it was given by
// Init: what waits, ports in quarantine and idle subscribers, and what searches take.
func (sh *State) PortBytes() (n int) {
	n = sh.subscribers.Waiting()
	for i := range sh.sleepers {
		n += cap(sh.space.asleep(&sh.sleepers[i]).queue)
	}
	return 16*n + 8*sh.destinations.Scratch() + sh.remotes.Bytes() + sh.holders.Bytes()
}

// OnlyFrontend returns the address whose ports a flow could have got, if it is
// only one.
func (sh *State) OnlyFrontend(inst *Instance, t *Tuple) (only netip.Addr, ok bool) {
	p := sh.space.book.pool(inst, t.Family, PoolIndex(t.Proto))
	for i := range p.ranges {
		if p.outside(&p.ranges[i]) != p.outside(&p.ranges[0]) {
			return only, false
		}
	}
	if len(p.ranges) == 0 {
		return only, false
	}
	return netAddr(int(p.family), p.outside(&p.ranges[0])), true
}
