package ports

import (
	"math/rand/v2"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
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
