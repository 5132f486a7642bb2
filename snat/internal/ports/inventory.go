package ports

import (
	"math/bits"
	"net/netip"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
)

// A shared inventory of ports, as a NAT gateway has one: what it is and what of
// it is in use. choose.go decides which port a new flow gets.

// Share makes the ports those of c, which all instances share from then on. The rules
// must have been set, and nothing may use a port yet.
func (sp *Space) Share(c Shared) {
	inv := &inventory{Shared: c, shards: uint64(len(sp.states))}
	inv.random = sharedRandom(sp.rules.Seed)
	inv.key = inv.random.Uint64() | 1
	count := int(inv.LastPort) - int(inv.FirstPort) + 1
	for _, addr := range inv.Frontends {
		f := newFrontend(addr, len(sp.frontends))
		sp.frontends = append(sp.frontends, f)
		for protocol := range inv.numStocks() {
			st := &inv.stocks[flow.Family(addr)][protocol]
			st.family, st.protocol = uint8(flow.Family(addr)), uint8(protocol)
			st.add(f, inv.FirstPort, count, 0)
			st.addShelf(count)
			f.counts[protocol].allocated.Store(int64(count))
			f.Owner[protocol] = new(Owners)
			for block := range f.Owner[protocol].Shard {
				f.Owner[protocol].Shard[block] = 1 // somebody's: whose depends on the remote
			}
		}
	}
	for f := range inv.stocks {
		for p := range inv.stocks[f] {
			st := &inv.stocks[f][p]
			st.uses = make([]portUse, len(st.ranges)*count)
			st.granted = len(st.uses)
		}
	}
	sp.shared, sp.book = inv, inv
}

// numStocks returns how many protocols have ports in the inventory, or identifiers.
func (inv *inventory) numStocks() int {
	if inv.Queries {
		return NumPools
	}
	return NumProtocols
}

// ByRemote reports whether all instances share the ports, so that sessions are in the
// shard of their remote, which ShardOf tells, and not in that of their instance.
func (sp *Space) ByRemote() bool { return sp.shared != nil }

// ShardOf returns the shard of all flows with a remote, where instances share ports: of
// IPv6 addr is a hash of the address.
func (sp *Space) ShardOf(addr uint64, port uint16, proto uint8) uint8 {
	inv := sp.shared
	hi, lo := bits.Mul64(addr^uint64(port)<<32^uint64(proto)<<48, inv.key)
	shard, _ := bits.Mul64((hi^lo)*0x9e3779b97f4a7c15, inv.shards)
	return uint8(shard)
}

// IsShared reports whether a port is one of those that all instances share.
func (sp *Space) IsShared(port uint16) bool {
	return sp.shared != nil && port >= sp.shared.FirstPort && port <= sp.shared.LastPort
}

// MaxFlows returns how many flows may share the ports, 0 if instances own them.
func (sp *Space) MaxFlows() int {
	if sp.shared == nil {
		return 0
	}
	return sp.shared.MaxFlows
}

func (inv *inventory) exchange(sh *State, id flow.ID, s *flow.Session, _ *Instance, was, is flow.Class) {
	st, ordinal := inv.stockOf(id, s)
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !Held(was) {
		inv.flows--
	}
	if !Held(is) {
		inv.flows++
	}
	sh.exchange(&st.pool, ordinal, was, is)
}

func (inv *inventory) count(counter *uint64) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	*counter++
}

func (inv *inventory) read(counter *uint64) uint64 {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return *counter
}

func (inv *inventory) refused(*Instance, uint8, int) {}

func (inv *inventory) pool(_ *Instance, family uint8, protocol int) *pool {
	return &inv.stocks[family][protocol].pool
}

// bytes returns the memory that the inventory holds, touched or not.
func (inv *inventory) bytes() (n int) {
	for f := range inv.stocks {
		for p := range inv.stocks[f] {
			st := &inv.stocks[f][p]
			n += len(st.uses)*int(unsafe.Sizeof(portUse{})) + len(st.busy)*8 + len(st.groups)*2
		}
	}
	return n
}

// SharedUse is the use of the shared ports of one frontend and protocol.
type SharedUse struct {
	Frontend netip.Addr
	Protocol int
	FrontendUse
	Free int // ports without any flow
}

// SharedUses returns the use of the ports that all instances share, in the order of the
// frontends and then of protocols; nil if instances own theirs. It is consistent in
// itself. Cost: O(frontends), under the inventory's lock.
func (sp *Space) SharedUses() (all []SharedUse) {
	inv := sp.shared
	if inv == nil {
		return nil
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	var next [2]int // by family
	for _, addr := range inv.Frontends {
		family := flow.Family(addr)
		for p := range inv.numStocks() {
			st := &inv.stocks[family][p]
			f := sp.frontends[st.shares[next[family]].frontend]
			all = append(all, SharedUse{addr, p, f.Use(p), st.free[next[family]]})
		}
		next[family]++
	}
	return all
}
