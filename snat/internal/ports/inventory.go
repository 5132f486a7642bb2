package ports

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// A shared inventory of ports, as a NAT gateway has one: what it is and what of
// it is in use. choose.go decides which port a new flow gets.

// MaxSharedFrontends is how many frontends of a family an inventory can tell
// apart: one bit each in a word.
const MaxSharedFrontends = 64

// inventory is the state of Shared ports. Instances do not own ports here, so
// sessions are sharded by their remote, which packets of both directions name:
// all that compete for a port towards one destination are in one shard, under
// one lock. What shards share is which ports have flows at all.
type inventory struct {
	Shared        // immutable
	key    uint64 // of shardOf; odd
	shards uint64

	mu     sync.Mutex         // taken after a shard's lock, never before
	random rand.ChaCha8       // guarded by mu, and so is all below
	flows  int                // active sessions
	stocks [2][NumPools]stock // by family and protocol; of identifiers empty unless queries are carried
}

// stock is the inventory's ports of one family and protocol. Each frontend has
// one range of ordinals; range i has shelf i. The inventory's lock guards it.
type stock struct {
	pool
	shelves []shelf
}

// shelf knows which ports of one frontend have a flow, active or held. Ports are
// named by their offset from the first. A new flow is given the k-th free one in
// their order, so that what it gets does not depend on the order in which others
// have ended, or in which that was noticed.
type shelf struct {
	busy   []uint64 // a bit for each port; those beyond the last are set
	groups []uint16 // ports in use in each group of words
	free   int
}

// groupWords is how many words of a shelf are counted together.
const groupWords = 16

func newShelf(ports int) shelf {
	words := (ports + 63) / 64
	s := shelf{busy: make([]uint64, words), groups: make([]uint16, (words+groupWords-1)/groupWords), free: ports}
	for port := ports; port < 64*words; port++ {
		s.busy[port>>6] |= 1 << (port & 63)
		s.groups[port>>6/groupWords]++
	}
	return s
}

// at returns the k-th free port. Cost: one step for each 1,024 ports.
func (s *shelf) at(k int) int {
	group := 0
	for ; ; group++ {
		words := min(groupWords, len(s.busy)-group*groupWords)
		free := 64*words - int(s.groups[group])
		if k < free {
			break
		}
		k -= free
	}
	for w := group * groupWords; ; w++ {
		free := ^s.busy[w]
		if n := bits.OnesCount64(free); k >= n {
			k -= n
			continue
		}
		for ; k > 0; k-- {
			free &= free - 1
		}
		return w<<6 + bits.TrailingZeros64(free)
	}
}

// take removes a free port.
func (s *shelf) take(port int) {
	s.free--
	s.busy[port>>6] |= 1 << (port & 63)
	s.groups[port>>6/groupWords]++
}

// put adds a port to the free ones.
func (s *shelf) put(port int) {
	s.free++
	s.busy[port>>6] &^= 1 << (port & 63)
	s.groups[port>>6/groupWords]--
}

// Shared says what ports all instances share, and how they are given to flows.
type Shared struct {
	Frontends           []netip.Addr
	FirstPort, LastPort uint16 // the same for all frontends
	Choice              Choice // Random or Preserve
	FlowsPerDestination int    // of one frontend to one remote address and port
	MaxFlows            int    // of all together that are not over
	Queries             bool   // there are identifiers of the same numbers
}

// Share makes the ports those of c, which all instances share from then on. The rules
// must have been set, and nothing may use a port yet.
func (sp *Space) Share(c Shared) {
	inv := &inventory{Shared: c, shards: uint64(len(sp.states))}
	var seed [32]byte
	for i := range 4 {
		binary.LittleEndian.PutUint64(seed[8*i:], sp.rules.Seed+uint64(i)*0x9e3779b97f4a7c15)
	}
	inv.random = *rand.NewChaCha8(seed)
	inv.key = inv.random.Uint64() | 1
	count := int(inv.LastPort) - int(inv.FirstPort) + 1
	for _, addr := range inv.Frontends {
		f := newFrontend(addr, nil)
		sp.frontends = append(sp.frontends, f)
		for protocol := range inv.numStocks() {
			st := &inv.stocks[flow.Family(addr)][protocol]
			st.protocol = protocol
			st.ranges = append(st.ranges, ordinals{frontend: f, base: len(st.shelves) * count, count: count, first: inv.FirstPort})
			st.shelves = append(st.shelves, newShelf(count))
			f.use[protocol].allocated.Store(int64(count))
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
			st.divide()
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

// claim counts a new flow on a port, unless there are too many. inv.mu must be
// held.
func (inv *inventory) claim(sh *State, st *stock, ordinal int, now flow.Time) bool {
	if inv.flows >= inv.MaxFlows {
		return false
	}
	inv.flows++
	if st.uses[ordinal] == (portUse{}) {
		r := st.rangeOf(ordinal)
		st.shelves[r.base/r.count].take(ordinal - r.base)
	}
	sh.occupy(&st.pool, ordinal, flow.ClassTCPOpening, now)
	return true
}

// claimAnother is claim for a flow on a port that has others.
func (inv *inventory) claimAnother(sh *State, st *stock, ordinal int, now flow.Time) flow.Reason {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !inv.claim(sh, st, ordinal, now) {
		return flow.ReasonFlowLimit
	}
	return flow.ReasonNone
}

// unclaim counts down a flow of a class on a port.
func (inv *inventory) unclaim(sh *State, st *stock, ordinal int, c flow.Class) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !Held(c) {
		inv.flows--
	}
	was := st.useOf(ordinal)
	*st.uses[ordinal].of(c)--
	sh.shift(&st.pool, ordinal, was, sh.EndedAt)
	if st.uses[ordinal] == (portUse{}) {
		r := st.rangeOf(ordinal)
		st.shelves[r.base/r.count].put(ordinal - r.base)
	}
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

// stockOf returns the stock and ordinal of a session's port.
func (inv *inventory) stockOf(id flow.ID, s *flow.Session) (*stock, int) {
	family, outside := outsideOf(id, s)
	st := &inv.stocks[family][PoolIndex(s.Proto())]
	return st, st.ordinal(outside, s.OutsidePort)
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

// ProtoHeld stands for UDP in the keys of sessions that are over and only hold
// their port (IANA reserves 255). No packet has it, so none finds them.
const ProtoHeld = 255

// bytes returns the memory that the inventory holds, touched or not.
func (inv *inventory) bytes() (n int) {
	for f := range inv.stocks {
		for p := range inv.stocks[f] {
			n += len(inv.stocks[f][p].uses) * int(unsafe.Sizeof(portUse{}))
			for i := range inv.stocks[f][p].shelves {
				n += len(inv.stocks[f][p].shelves[i].busy)*8 + len(inv.stocks[f][p].shelves[i].groups)*2
			}
		}
	}
	return n
}

// Normal returns the protocol that a session's key stands for.
func Normal(proto uint8) uint8 {
	if proto == ProtoHeld {
		return wire.ProtoUDP
	}
	return proto
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
			f := st.ranges[next[family]].frontend
			all = append(all, SharedUse{addr, p, f.Use(p), st.shelves[next[family]].free})
		}
		next[family]++
	}
	return all
}
