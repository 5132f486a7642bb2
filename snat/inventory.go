package snat

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"sync"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// A shared inventory of ports, as a NAT gateway has one: what it is and what of
// it is in use. choose.go decides which port a new flow gets.

// Shared says that all instances share the outside ports and take them on demand, as
// those of an Azure NAT gateway. TCP and UDP have separate ports, and queries of
// ICMP, if they are carried, identifiers of the same numbers. Every flow is mapped
// on its own and may share its port with flows whose remote address or port
// differs, or of queries the address. A UDP session that has ended holds its port for
// Timeouts.UDPHeld: its socket, too, gets another one towards the same remote.
//
// Memory: 12 bytes for each port of each protocol, as far as it has been used.
type Shared struct {
	// Frontends are the addresses whose ports are handed out: 1..64 of each
	// family. (An Azure NAT gateway has up to 16.)
	Frontends []netip.Addr

	// FirstPort and LastPort bound the ports, the same for all frontends:
	// 1..65535. 0 means 1024 and 65535, the 64,512 ports of an Azure NAT
	// gateway.
	FirstPort, LastPort uint16

	// Choice says which port a new flow gets: RandomPort, the default, or
	// PreservePort.
	Choice PortChoice

	// FlowsPerDestination limits the flows of one frontend to one remote
	// address and port of one protocol, those included that are over and only
	// hold their port: 1..65,536, and 65,536 is no limit. 0 means 50,000, as
	// of an Azure NAT gateway.
	FlowsPerDestination int

	// MaxFlows limits the flows of all frontends together that are not over,
	// 1..2^31-1. 0 means 2,000,000, as of an Azure NAT gateway. A closed connection
	// that is opened again on its port is not refused.
	MaxFlows int
}

// PortChoice says which of the ports that are free for its destination a new
// flow gets. A flow is refused only if there is none.
type PortChoice uint8

// The choices.
const (
	// DefaultPort stands for LowestPort where instances own ports, and for
	// RandomPort where they share them: what Azure's load balancers and NAT gateways do.
	DefaultPort PortChoice = iota

	// LowestPort takes the first free port in the order of Instance.Ports. Shared
	// ports do not offer it.
	LowestPort

	// RandomPort takes any free port, each with the same chance (RFC 6056 section
	// 3). Numbers come from Config.Seed; each instance has a sequence of its own,
	// from which nothing can be told about others. Of Shared ports it takes one
	// without flows, over all frontends (Azure documents a random port; that the
	// frontend is random as well is our choice), and if all have flows, any that
	// has none to the destination. Cost: independent of how many ports are taken.
	RandomPort

	// PreservePort keeps the source port if it is free, as Linux does, else it
	// takes a random one. Of Shared ports that is one of the source port's class:
	// 1-511, 600-1023 (for 512-1023), or from 1024. The frontend there depends on
	// source and destination address only, and a port of another class, or of
	// another frontend, is never used; where instances own ports, Allocation.Class
	// and Allocation.Pooling decide on both.
	PreservePort
	numPortChoices
)

// The defaults of Shared: Azure NAT gateway, NAT gateway resource.
const (
	DefaultFirstPort           = 1024
	DefaultLastPort            = 65535
	DefaultFlowsPerDestination = 50_000
	DefaultMaxFlows            = 2_000_000
)

// maxInventoryFrontends is how many frontends of a family an inventory can tell
// apart: one bit each in a word.
const maxInventoryFrontends = 64

// withDefaults returns c with every zero field filled in.
func (c Shared) withDefaults() Shared {
	if c.FirstPort == 0 {
		c.FirstPort = DefaultFirstPort
	}
	if c.LastPort == 0 {
		c.LastPort = DefaultLastPort
	}
	if c.Choice == DefaultPort {
		c.Choice = RandomPort
	}
	if c.FlowsPerDestination == 0 {
		c.FlowsPerDestination = DefaultFlowsPerDestination
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = DefaultMaxFlows
	}
	return c
}

// inventory is the state of Shared ports. Instances do not own ports here, so
// sessions are sharded by their remote, which packets of both directions name:
// all that compete for a port towards one destination are in one shard, under
// one lock. What shards share is which ports have flows at all.
type inventory struct {
	Shared        // immutable
	key    uint64 // of shardOf; odd
	shards uint64

	mu     sync.Mutex               // taken after a shard's lock, never before
	random rand.ChaCha8             // guarded by mu, and so is all below
	flows  int                      // active sessions
	stocks [2][ports.NumPools]stock // by family and protocol; of identifiers empty unless queries are carried
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

// newInventory builds the state of n's inventory, and its routes.
func (n *NAT) newInventory(r *routes, c *Shared) {
	inv := &inventory{Shared: c.withDefaults(), shards: uint64(len(n.shards))}
	var seed [32]byte
	for i := range 4 {
		binary.LittleEndian.PutUint64(seed[8*i:], n.config.Seed+uint64(i)*0x9e3779b97f4a7c15)
	}
	inv.random = *rand.NewChaCha8(seed)
	inv.key = inv.random.Uint64() | 1
	count := int(inv.LastPort) - int(inv.FirstPort) + 1
	for _, addr := range inv.Frontends {
		f := &frontend{addr: addr, use: new([ports.NumPools]portCount)}
		r.frontends = append(r.frontends, f)
		if addr.Is4() {
			f.packed[0] = uint64(flow.Addr4(addr))
			r.outside4.Put(uint32(f.packed[0]), uint32(len(r.frontends)))
		} else {
			f.packed = flow.Addr6(addr)
			r.outside6.Put(f.packed, uint32(len(r.frontends)))
		}
		for protocol := range n.numStocks() {
			st := &inv.stocks[flow.Family(addr)][protocol]
			st.protocol = protocol
			st.ranges = append(st.ranges, ordinals{frontend: f, base: len(st.shelves) * count, count: count, first: inv.FirstPort})
			st.shelves = append(st.shelves, newShelf(count))
			f.use[protocol].allocated.Store(int64(count))
			f.owner[protocol] = new(owners)
			for block := range f.owner[protocol].shard {
				f.owner[protocol].shard[block] = 1 // somebody's: whose depends on the remote
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
	n.inventory = inv
}

// shardOf returns the shard of all flows with a remote.
func (inv *inventory) shardOf(addr uint64, port uint16, proto uint8) uint8 {
	hi, lo := bits.Mul64(addr^uint64(port)<<32^uint64(proto)<<48, inv.key)
	shard, _ := bits.Mul64((hi^lo)*0x9e3779b97f4a7c15, inv.shards)
	return uint8(shard)
}

// shardTo returns the shard of the flow of a packet from a side.
func (inv *inventory) shardTo(from flow.Side, l *lane) uint8 {
	switch {
	case from == flow.Inside && l.is6:
		return inv.shardOf(prefixes.Hash6(l.key6.Dst), l.key6.DstPort, l.p.Proto)
	case from == flow.Inside:
		return inv.shardOf(uint64(l.key.Dst), l.key.DstPort, l.p.Proto)
	case l.is6:
		return inv.shardOf(prefixes.Hash6(l.key6.Src), l.key6.SrcPort, l.p.Proto)
	}
	return inv.shardOf(uint64(l.key.Src), l.key.SrcPort, l.p.Proto)
}

// take counts a new flow on a port, unless there are too many. inv.mu must be
// held.
func (inv *inventory) take(sh *shard, st *stock, ordinal int, now flow.Time) bool {
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

// takeAnother is take for a flow on a port that has others.
func (inv *inventory) takeAnother(sh *shard, st *stock, ordinal int, now flow.Time) flow.Reason {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !inv.take(sh, st, ordinal, now) {
		return flow.ReasonFlowLimit
	}
	return flow.ReasonNone
}

// release counts down a flow of a class on a port.
func (inv *inventory) release(sh *shard, st *stock, ordinal int, c flow.Class) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !held(c) {
		inv.flows--
	}
	was := st.useOf(ordinal)
	*st.uses[ordinal].of(c)--
	sh.shift(&st.pool, ordinal, was, sh.endedAt)
	if st.uses[ordinal] == (portUse{}) {
		r := st.rangeOf(ordinal)
		st.shelves[r.base/r.count].put(ordinal - r.base)
	}
}

// hold counts what a flow uses its port for, which has been of another class.
func (inv *inventory) hold(sh *shard, st *stock, ordinal int, was, is flow.Class) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if !held(was) {
		inv.flows--
	}
	if !held(is) {
		inv.flows++
	}
	sh.exchange(&st.pool, ordinal, was, is)
}

// stockOf returns the stock and ordinal of a session's port.
func (sh *shard) stockOf(id flow.ID, s *flow.Session) (*stock, int) {
	r, f, outside := sh.nat.routes.Load(), 0, uint32(0)
	if id.Is6() {
		f, outside = 1, r.outside6.Get(s.Addrs6().Outside)
	} else {
		outside = r.outside4.Get(s.Outside)
	}
	st := &sh.nat.inventory.stocks[f][ports.PoolIndex(s.Proto())]
	return st, st.ordinal(r.frontends[outside-1], s.OutsidePort)
}

// countFlow counts a flow of an instance, whose counters the lock of its shard
// guards, or with an inventory the lock of that.
func (sh *shard) countFlow(counter *uint64) {
	if inv := sh.nat.inventory; inv != nil {
		inv.mu.Lock()
		defer inv.mu.Unlock()
	}
	*counter++
}

// read returns a counter that countFlow counts.
func (sh *shard) read(counter *uint64) uint64 {
	if inv := sh.nat.inventory; inv != nil {
		inv.mu.Lock()
		defer inv.mu.Unlock()
	}
	return *counter
}

// protoHeld stands for UDP in the keys of sessions that are over and only hold
// their port (IANA reserves 255). No packet has it, so none finds them.
const protoHeld = 255

// holdUDP turns a UDP session that ended at at into the record that holds its
// port from its remote, or ends it if there is no memory for that.
func (sh *shard) holdUDP(id flow.ID, s *flow.Session, at flow.Time) {
	inst := sh.nat.instances[s.Key.VNI()]
	if s.Data[dataNodePort] != 0 {
		sh.leaveNode(id, s, inst)
		sh.UnindexExtra(sh.nodeHash(id, s, inst), id)
	}
	sh.hold(id, s, inst, s.Track.Class, flow.ClassUDPHeld)
	was, addrs := *s, flow.Addrs6{}
	if id.Is6() {
		addrs = *s.Addrs6()
	}
	is6 := id.Is6()
	sh.Remove(id, s)
	id, s = sh.New(is6)
	s.Key, s.Outside, s.OutsidePort = was.Key, was.Outside, was.OutsidePort
	s.Key.VNIProto = s.Key.VNI()<<8 | protoHeld
	s.SetKind(was.Kind())
	s.Track.Class = flow.ClassUDPHeld
	if is6 {
		*s.Addrs6() = addrs
	}
	if sh.enter(at, id, s, inst, false) {
		sh.counters.holds++
	}
	sh.counters.ended++
	sh.counters.connections[ports.UDPIndex].ended++
}

// SharedPortStats is the use of one frontend's ports of one protocol.
// Allocated = Free + Used and Used = PortUses.Total() always.
type SharedPortStats struct {
	Frontend  netip.Addr // whose ports they are
	Protocol  Protocol   // TCP, UDP or Query
	Allocated int        // all ports of the frontend that are handed out
	Free      int        // ports without any flow
	Used      int        // ports that some new flow cannot have
	PortUses             // Used by what for
	Peak      int        // highest Used so far
}

// SharedPorts returns the use of the ports that all instances share, in the order of their
// frontends, TCP before UDP before, if they are carried, Query; nil if instances own them. It is consistent in itself. Cost:
// O(frontends), under the inventory's lock.
func (n *NAT) SharedPorts() []SharedPortStats {
	inv := n.inventory
	if inv == nil {
		return nil
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	var all []SharedPortStats
	var next [2]int // by family
	for _, f := range n.routes.Load().frontends {
		fam := flow.Family(f.addr)
		for p := range n.numStocks() {
			s := SharedPortStats{
				Frontend: f.addr, Protocol: Protocol(p) + TCP,
				Allocated: int(f.use[p].allocated.Load()), Free: inv.stocks[fam][p].shelves[next[fam]].free,
				Used: int(f.use[p].used.Load()), PortUses: f.use[p].portUses(), Peak: int(f.use[p].peak.Load()),
			}
			all = append(all, s)
		}
		next[fam]++
	}
	return all
}

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

// normal returns the protocol that a session's key stands for.
func normal(proto uint8) uint8 {
	if proto == protoHeld {
		return wire.ProtoUDP
	}
	return proto
}
