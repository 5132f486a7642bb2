package ports

import (
	"iter"
	"math/rand/v2"
	"slices"
	"unsafe"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// Instance is what an instance has of ports. It lives in one shard, whose lock guards
// the pools and what is counted; the rest is immutable.
type Instance struct {
	Name   string       // unique
	Addr6  [2]uint64    // own address, zero if none
	Public [2][2]uint64 // public address that stands for the own one, by family; zero if none

	Deterministic *deterministic.Parameters // nil if there is none, and so is
	mapping       *deterministic.Mapping

	// What every new flow reads comes last, next to the holdings: together they have
	// fewer cache lines.
	Index uint32 // in the translator; in keys of sessions it is the VNI
	Realm uint32 // address space of Addr4, Addr6 and what is behind it
	Addr4 uint32 // own address, 0 if none
	Shard int    // index of the shard that it lives in

	// Masquerades says that sources behind the instance get its own address
	// first, so that ports are unique among them (the node of its pods).
	Masquerades bool

	holdings
}

// holdings is the state of an instance's ports. It names everything by index, so that a
// copy of what it holds is a copy of the state.
type holdings struct {
	created, failed uint64 // sessions; guarded as the book says; here because each new one writes it

	pools  [2][NumPools]pool // by family (0 is IPv4) and protocol
	addrs  [2][]outsideAddr  // by family, in the order in which they are granted
	blocks [2]blocks         // by family; without any if there are none

	random      rand.ChaCha8 // of the choice of ports
	draws       bool         // random is in use
	subscribers int          // that have sessions, where they are counted

	drawn uint64 // random identifiers so far
}

// Owns reports whether an address is the instance's own.
func (inst *Instance) Owns(family uint8, addr [2]uint64) bool {
	if family == 0 {
		return inst.Addr4 != 0 && uint32(addr[0]) == inst.Addr4
	}
	return inst.Addr6 != [2]uint64{} && addr == inst.Addr6
}

// Own returns the instance's own address of a family; zero if it has none.
func (inst *Instance) Own(family uint8) [2]uint64 {
	if family == 0 {
		return [2]uint64{uint64(inst.Addr4)}
	}
	return inst.Addr6
}

// fixed returns the deterministic mapping of an instance for a family, or nil.
func (inst *Instance) fixed(family int) *deterministic.Mapping {
	if m := inst.mapping; m != nil && m.Is4() == (family == 0) {
		return m
	}
	return nil
}

// MaxPoolPorts is the largest number of ports of an instance, by family and protocol.
const MaxPoolPorts = destinations.MaxPorts

// pool is the outside ports of one instance for one family and protocol.
//
// An ordinal numbers the ports of the pool in the order in which they are
// consumed, 0 first. Guarded by the shard's lock.
type pool struct {
	closed

	// What a new flow reads is poolHot bytes, from shut on.
	instance uint32 // index of whose it is
	family   uint8
	protocol uint8
	ranges   []ordinals
	granted  int // ordinals for new flows; those from here on await removal
	shares   []share
	peak     int // highest used
	usage.Counts
	uses usage.Ports // by ordinal; without room until the first port is used

	byPort   []uint32 // indexes of ranges, by outside address and first port
	awaiting int      // ports that await removal and have sessions
	failed   uint64   // packets refused while no port was granted
}

// poolHot is how many bytes of a pool, and shareHot how many of a share, a new flow reads.
const (
	poolHot  = unsafe.Offsetof(pool{}.uses) + unsafe.Sizeof([]uint16(nil)) - unsafe.Offsetof(closed{}.shut)
	shareHot = unsafe.Offsetof(share{}.Counts) + unsafe.Offsetof(usage.Counts{}.By) + (uintptr(usage.Active)+1)*unsafe.Sizeof(uint32(0))
)

// ordinals is a run of consecutive ordinals that are consecutive ports.
type ordinals struct {
	base  int // first ordinal
	count int
	share uint32 // index of that of the frontend
	first uint16 // first port

	until flow.Time // of ports that await removal: when they are gone; else 0
}

// end returns the number of ordinals.
func (p *pool) end() int {
	if k := len(p.ranges); k > 0 {
		return p.ranges[k-1].base + p.ranges[k-1].count
	}
	return 0
}

// outside returns the outside address of a range, as tuples hold it.
func (p *pool) outside(r *ordinals) [2]uint64 { return p.shares[r.share].outside }

// socket is port where the address stays: where many flows pass, a copy takes longer than
// what is done with it.
func (p *pool) socket(ordinal int) (outside *[2]uint64, port uint16) {
	r := p.rangeOf(ordinal)
	return &p.shares[r.share].outside, r.portAt(ordinal)
}

// port returns the outside address, as tuples hold it, and the port of an ordinal.
func (p *pool) port(ordinal int) (outside [2]uint64, port uint16) {
	r := p.rangeOf(ordinal)
	return p.outside(r), r.portAt(ordinal)
}

// portAt returns the port of one of the range's ordinals.
func (r *ordinals) portAt(ordinal int) uint16 { return r.first + uint16(ordinal-r.base) }

// portAt returns the port of an ordinal.
func (p *pool) portAt(ordinal int) uint16 {
	return p.rangeOf(ordinal).portAt(ordinal)
}

// rangeOf returns the range that holds an ordinal.
func (p *pool) rangeOf(ordinal int) *ordinals {
	if len(p.ranges) == 1 {
		return &p.ranges[0]
	}
	lo, hi := 0, len(p.ranges) // lo is one that begins at or before the ordinal, hi one that does not
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; p.ranges[mid].base <= ordinal {
			lo = mid
		} else {
			hi = mid
		}
	}
	return &p.ranges[lo]
}

// ordinal is the inverse of port: it returns that of a port of an outside address, as
// tuples hold it. Cost: O(log ranges).
func (p *pool) ordinal(outside [2]uint64, port uint16) int {
	o := p.find(outside, port)
	if o < 0 {
		panic("ports: a session uses a port that its instance does not own")
	}
	return o
}

// find is ordinal, and -1 if p has no such port.
func (p *pool) find(outside [2]uint64, port uint16) int {
	i := 0
	switch len(p.ranges) {
	case 0:
		return -1
	case 1:
	default:
		i = int(p.byPort[max(p.rangesUpTo(outside, port), 1)-1])
	}
	r := &p.ranges[i]
	if d := int(port) - int(r.first); d >= 0 && d < r.count && p.outside(r) == outside {
		return r.base + d
	}
	return -1
}

// rangesUpTo returns how many ranges begin at or before a port of an outside address, in
// the order of byPort.
func (p *pool) rangesUpTo(outside [2]uint64, port uint16) int {
	lo, hi := 0, len(p.byPort)
	for lo < hi {
		mid := (lo + hi) / 2
		r := &p.ranges[p.byPort[mid]]
		at := p.outside(r)
		if at == outside && r.first <= port || at[0] < outside[0] || at[0] == outside[0] && at[1] < outside[1] {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// outsideAddr is an address whose ports an instance is granted.
type outsideAddr struct {
	addr [2]uint64
	home int // of how many subscribers it is the home
}

// closed is what of a pool is shut, if anything can be: nil maps nothing.
type closed struct {
	excluded []uint64 // by ordinal
	queue    heap.Heap[resting]
	shut     []uint64 // by ordinal: resting or excluded, the latter with sessions too
}

// resting is a port in quarantine.
type resting struct {
	at      flow.Time // when it was freed
	ordinal uint32
}

// share is what one instance has of one frontend in one protocol, under the lock
// of the instance's shard. Ports that await removal are a share of their own.
type share struct {
	outside  [2]uint64
	frontend uint32 // index, as long as there are ranges
	awaiting bool

	created uint64
	usage.Counts
	allocated int
	failed    uint64
}

// blocks are those of an instance and family, under its shard's lock.
type blocks struct {
	size    int // 0 if there are none
	all     []portBlock
	shelves []blockShelf // of few kinds at each outside address
	free    []uint32     // those of one shelf after the other, with gaps
}

// portBlock is the state of a block.
type portBlock struct {
	owner uint32 // subscriber, or 0
	next  uint32 // of the same owner, in the order in which they were granted: index plus one, or 0
	busy  uint32 // ports in use, held or in quarantine, over all protocols
	place uint32 // on its shelf: index plus one, or 0
	shelf uint32 // where it is while it is free: index plus one; 0 if it cannot be granted
}

// needs are kinds of flows, one bit each, that can have a port of a free block:
// what is excluded, and a required class, decide that.
type needs uint8

// blockShelf is the free blocks at an outside address that serve the same.
type blockShelf struct {
	addr   int // index of the address
	serves needs
	first  uint32 // where it begins
	count  uint32
}

// run is consecutive ordinals of one pool: first to end-1, on consecutive ports.
type run struct{ first, end int }

func testBit(words []uint64, i int) bool { return words[i>>6]>>(i&63)&1 != 0 }

// isShut reports whether an ordinal is given to nobody.
func (p *pool) isShut(ordinal int) bool { return p.shut != nil && testBit(p.shut, ordinal) }

// share returns the index of the pool's share of an outside address, which it makes if
// there is none.
func (p *pool) share(outside [2]uint64, awaiting bool) uint32 {
	for i := range p.shares {
		if s := &p.shares[i]; s.outside == outside && s.awaiting == awaiting {
			return uint32(i)
		}
	}
	p.shares = append(p.shares, share{outside: outside, awaiting: awaiting})
	return uint32(len(p.shares) - 1)
}

// shareOf returns the share that an ordinal counts in.
func (p *pool) shareOf(ordinal int) *share { return &p.shares[p.rangeOf(ordinal).share] }

// inherit takes over the counts of what the pool has been until now.
func (p *pool) inherit(was *pool) {
	p.failed = was.failed
	for i := range was.shares {
		o := &was.shares[i]
		if o.created == 0 && o.failed == 0 {
			continue
		}
		s := &p.shares[p.share(o.outside, o.awaiting)]
		s.created, s.failed = o.created, o.failed
	}
}

// fail counts a packet that is refused for want of a port.
func (p *pool) fail() {
	if p.granted > 0 {
		p.shareOf(p.granted-1).failed++
	} else {
		p.failed++
	}
}

// add adds a range of ports, which come after those that there are. One that awaits
// removal until a time counts only while it has sessions, so it does not yet.
func (p *pool) add(f *Frontend, first uint16, count int, until flow.Time) {
	s := p.share(f.Packed, until != 0)
	p.shares[s].frontend = f.Index
	if until == 0 {
		p.shares[s].allocated += count
	}
	at := p.rangesUpTo(f.Packed, first)
	p.byPort = slices.Insert(p.byPort, at, uint32(len(p.ranges)))
	p.ranges = append(p.ranges, ordinals{base: p.end(), count: count, share: s, first: first, until: until})
}

// eachRange visits all ranges of ports of the instance.
func (inst *Instance) eachRange(visit func(*pool, *ordinals)) {
	for pool := range inst.each() {
		for i := range pool.ranges {
			visit(pool, &pool.ranges[i])
		}
	}
}

// each iterates over the pools of an instance, which has none if it is nil.
func (inst *Instance) each() iter.Seq[*pool] {
	return func(yield func(*pool) bool) {
		for i := 0; inst != nil && i < len(inst.pools)*NumPools; i++ {
			if !yield(&inst.pools[i/NumPools][i%NumPools]) {
				return
			}
		}
	}
}

// sleeper names a pool with ports in quarantine.
type sleeper struct {
	at       flow.Time // not later than the first of them was freed
	instance uint32
	family   uint8
	protocol uint8
}

// portOf returns the pool and ordinal of a session's outside port, which is the
// instance's own.
func portOf(id flow.ID, s *flow.Session, inst *Instance) (*pool, int) {
	family, outside := outsideOf(id, s)
	pool := &inst.pools[family][PoolIndex(s.Proto())]
	return pool, pool.ordinal(outside, s.OutsidePort)
}
