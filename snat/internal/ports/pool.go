package ports

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
)

// Instance is what an instance has of ports. It lives in one shard, whose lock guards
// the pools and what is counted; the rest is immutable.
type Instance struct {
	Index  uint32
	Shard  int
	Realm  uint32
	Name   string
	Addr4  uint32 // own address, 0 if none
	Addr6  [2]uint64
	Public [2][2]uint64 // public address that stands for the own one, by family; zero if none

	Deterministic *deterministic.Parameters // nil if there is none, and so is
	mapping       *deterministic.Mapping

	// Masquerades says that sources behind the instance get its own address
	// first, so that ports are unique among them (the node of its pods).
	Masquerades bool

	pools [2][NumPools]pool // by family (0 is IPv4) and protocol
	homes [2][]home         // frontends by family

	random      *rand.ChaCha8 // of the choice of ports, if that is random
	subscribers int           // that have sessions, where they are counted

	created, failed uint64 // sessions; guarded as the book says
	draws           uint64 // random identifiers so far
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

// pool is the outside ports of one instance for one family and protocol.
//
// An ordinal numbers the ports of the pool in the order in which they are
// consumed, 0 first. Guarded by the shard's lock.
type pool struct {
	protocol int
	ranges   []ordinals
	uses     []portUse // by ordinal
	granted  int       // ordinals for new flows; those from here on await removal
	awaiting int       // ports that await removal and have sessions
	portCounts
	peak int // highest used

	shares []*share
	failed uint64 // packets refused while no port was granted

	closed
	blocks *blocks // nil if there are none
}

// ordinals is a run of consecutive ordinals that are consecutive ports.
type ordinals struct {
	frontend *Frontend
	share    *share // of the frontend; set when the range is put into force
	base     int    // first ordinal
	count    int
	first    uint16 // first port

	until flow.Time // of ports that await removal: when they are gone; else 0
}

// end returns the number of ordinals.
func (p *pool) end() int {
	if k := len(p.ranges); k > 0 {
		return p.ranges[k-1].base + p.ranges[k-1].count
	}
	return 0
}

// port returns the frontend and port of an ordinal.
func (p *pool) port(ordinal int) (*Frontend, uint16) {
	r := p.rangeOf(ordinal)
	return r.frontend, r.first + uint16(ordinal-r.base)
}

// rangeOf returns the range that holds an ordinal.
func (p *pool) rangeOf(ordinal int) *ordinals {
	if len(p.ranges) == 1 {
		return &p.ranges[0]
	}
	i, found := slices.BinarySearchFunc(p.ranges, ordinal, func(r ordinals, o int) int { return r.base - o })
	if !found {
		i--
	}
	return &p.ranges[i]
}

// ordinal is the inverse of port: it returns that of a port of an outside address, as
// tuples hold it. Cost: O(ranges).
func (p *pool) ordinal(outside [2]uint64, port uint16) int {
	for i := range p.ranges {
		r := &p.ranges[i]
		if d := int(port) - int(r.first); d >= 0 && d < r.count && r.frontend.Packed == outside {
			return r.base + d
		}
	}
	panic("ports: a session uses a port that its instance does not own")
}

// home is a frontend of an instance, where subscribers are at home if they are
// paired with one.
type home struct {
	frontend    *Frontend
	subscribers int
}

// closed is what of a pool is shut, if anything can be: nil maps nothing.
type closed struct {
	shut     []uint64 // by ordinal: resting or excluded, the latter with sessions too
	excluded []uint64 // by ordinal
	queue    heap.Heap[resting]
}

// resting is a port in quarantine.
type resting struct {
	at      flow.Time // when it was freed
	ordinal uint32
}

// share is what one instance has of one frontend in one protocol, under the lock
// of the instance's shard. Ports that await removal are a share of their own.
type share struct {
	frontend netip.Addr
	awaiting bool

	allocated int
	portCounts
	created, failed uint64
}

// blocks are those of an instance and family, under its shard's lock.
type blocks struct {
	inst   *Instance
	family int
	size   int
	all    []portBlock
	free   [][]blockShelf // by home; of few kinds
}

// portBlock is the state of a block.
type portBlock struct {
	owner   uint32 // subscriber, or 0
	next    uint32 // of the same owner, in the order in which they were granted: index plus one, or 0
	busy    uint32 // ports in use, held or resting, over all protocols
	place   uint32 // on its shelf: index plus one, or 0
	home    uint16
	dynamic bool  // can be granted
	serves  needs // what it has a port for while it is free
}

// needs are kinds of flows, one bit each, that can have a port of a free block:
// what is excluded, and a required class, decide that.
type needs uint8

// blockShelf is the free blocks of a home that serve the same.
type blockShelf struct {
	serves needs
	blocks []uint32
}

// run is consecutive ordinals of one pool: first to end-1, on consecutive ports.
type run struct{ first, end int }

func testBit(words []uint64, i int) bool { return words[i>>6]>>(i&63)&1 != 0 }

// isShut reports whether an ordinal is given to nobody.
func (p *pool) isShut(ordinal int) bool { return p.shut != nil && testBit(p.shut, ordinal) }

// grant makes the instance the owner of a range of ports, which come after those
// that it has.
func (p *pool) grant(inst *Instance, f *Frontend, protocol int, first uint16, count int) *ordinals {
	p.protocol = protocol
	p.ranges = append(p.ranges, ordinals{frontend: f, base: p.end(), count: count, first: first})
	if f.Owner[protocol] == nil {
		f.Owner[protocol] = new(Owners)
	}
	for b := range count / BlockSize {
		block := int(first)/BlockSize + b
		f.Owner[protocol].Shard[block] = uint8(inst.Shard + 1)
		f.Owner[protocol].Instance[block] = inst.Index + 1
	}
	return &p.ranges[len(p.ranges)-1]
}

// sleeper is a pool with resting ports.
type sleeper struct {
	at   flow.Time // not later than the first of them was freed
	pool *pool
}
