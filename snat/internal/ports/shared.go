package ports

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/chance"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// Ports that all instances share, as those of a NAT gateway: which they are and what of
// them is in use. choose.go decides which port a new flow gets.

// Share makes the ports those of c, which all instances share from then on. The rules
// must have been set, and nothing may use a port yet.
func (sp *Space) Share(c Shared) {
	b := &shared{Shared: c, shards: uint64(len(sp.states))}
	b.random = chance.Seeded(sp.rules.Seed)
	b.key = b.random.Uint64() | 1
	count := int(b.LastPort) - int(b.FirstPort) + 1
	for _, addr := range b.Frontends {
		f := newFrontend(addr, len(sp.frontends))
		sp.frontends, sp.order = append(sp.frontends, f), append(sp.order, f)
		for protocol := range b.numStocks() {
			st := &b.stocks[flow.Family(addr)][protocol]
			st.family, st.protocol = uint8(flow.Family(addr)), uint8(protocol)
			st.add(f, b.FirstPort, count, 0)
			st.shelves.Add(count)
			f.counts[protocol].Allocated.Store(int64(count))
			f.Owner[protocol].blocks = slices.Repeat([]owner{1 << shardShift}, 65536/BlockSize) // somebody's: whose depends on the remote
		}
	}
	for f := range b.stocks {
		for p := range b.stocks[f] {
			st := &b.stocks[f][p]
			st.granted = len(st.ranges) * count
			st.makeUses()
		}
	}
	sp.shared, sp.book = b, b
}

// numStocks returns how many protocols have ports that are shared, or identifiers.
func (b *shared) numStocks() int {
	if b.Queries {
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
	b := sp.shared
	hi, lo := bits.Mul64(addr^uint64(port)<<32^uint64(proto)<<48, b.key)
	shard, _ := bits.Mul64((hi^lo)*0x9e3779b97f4a7c15, b.shards)
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

func (b *shared) exchange(sh *State, id flow.ID, s *flow.Session, _ *Instance, was, is flow.Class) {
	st, ordinal := b.stockOf(id, s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !usage.Held(was) {
		b.flows--
	}
	if !usage.Held(is) {
		b.flows++
	}
	sh.exchange(&st.pool, ordinal, was, is)
}

// claim counts a new flow on a port, unless there are too many. b.mu must be
// held.
func (b *shared) claim(sh *State, st *stock, ordinal int, now flow.Time) bool {
	if b.flows >= b.MaxFlows {
		return false
	}
	b.flows++
	if st.isFree(ordinal) {
		b.next.forget()
		st.shelves.Take(st.shelves.Split(ordinal))
	}
	sh.occupy(&st.pool, ordinal, flow.ClassTCPOpening, now)
	return true
}

// claimAnother is claim for a flow on a port that has others.
func (b *shared) claimAnother(sh *State, st *stock, ordinal int, now flow.Time) flow.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.claim(sh, st, ordinal, now) {
		return flow.ReasonFlowLimit
	}
	return flow.ReasonNone
}

// unclaim counts down a flow of a class on a port.
func (b *shared) unclaim(sh *State, st *stock, ordinal int, c flow.Class) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !usage.Held(c) {
		b.flows--
	}
	if !sh.end(&st.pool, ordinal, c) {
		was := st.useOf(ordinal)
		st.uses.Remove(ordinal, c)
		sh.shift(&st.pool, ordinal, was, sh.EndedAt)
	}
	if st.isFree(ordinal) {
		b.next.forget()
		st.shelves.Put(st.shelves.Split(ordinal))
	}
}

// stockOf returns the stock and ordinal of a session's port.
func (b *shared) stockOf(id flow.ID, s *flow.Session) (*stock, int) {
	family, outside := outsideOf(id, s)
	st := &b.stocks[family][PoolIndex(s.Proto())]
	return st, st.ordinal(outside, s.OutsidePort)
}

func (b *shared) count(counter *uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*counter++
}

func (b *shared) read(counter *uint64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return *counter
}

func (b *shared) refused(*Instance, uint8, int) {}

func (b *shared) pool(_ *Instance, family uint8, protocol int) *pool {
	return &b.stocks[family][protocol].pool
}

// bytes returns the memory that shared ports take, touched or not.
func (b *shared) bytes() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for f := range b.stocks {
		for p := range b.stocks[f] {
			st := &b.stocks[f][p]
			n += st.uses.Bytes() + st.shelves.Bytes()
		}
	}
	return n
}

// SharedUse is the use of the shared ports of one frontend and protocol.
type SharedUse struct {
	Frontend netip.Addr // whose ports they are
	Protocol int        // index of the pool
	FrontendUse
	Free int // ports without any flow
}

// SharedUses returns the use of the ports that all instances share, in the order of the
// frontends and then of protocols; nil if instances own theirs. It is consistent in
// itself. Cost: O(frontends), under their lock.
func (sp *Space) SharedUses() (all []SharedUse) {
	b := sp.shared
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var next [2]int // by family
	for _, addr := range b.Frontends {
		family := flow.Family(addr)
		for p := range b.numStocks() {
			st := &b.stocks[family][p]
			f := sp.frontends[st.shares[next[family]].frontend]
			all = append(all, SharedUse{addr, p, f.Use(p), st.shelves.Free()[next[family]]})
		}
		next[family]++
	}
	return all
}
