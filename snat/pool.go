package snat

import (
	"math/rand/v2"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// instance is the state of one Instance. It lives in one shard, whose lock
// guards the pools; the rest is immutable.
type instance struct {
	index uint32
	shard int
	realm uint32
	name  string
	addr4 uint32 // own address, 0 if none
	addr6 [2]uint64

	public [2]publicAddr // by family
	direct *direct       // kept when the instance is configured anew
	alarms *alarms       // likewise

	deterministic *deterministic.Parameters // nil if there is none, and so is
	mapping       *deterministic.Mapping

	// masquerades says that sources behind the instance get its own address
	// first, so that ports are unique among them (the node of its pods).
	masquerades bool

	pools [2][ports.NumPools]pool // by family (0 is IPv4) and protocol
	homes [2][]home               // frontends by family

	random      *rand.ChaCha8 // of the choice of ports, if that is random; guarded by the shard's lock
	subscribers int           // that have sessions, where they are counted; guarded by the shard's lock

	created, failed uint64 // sessions; guarded by the shard's lock, or the inventory's if there is one
	draws           uint64 // random identifiers so far; guarded by the shard's lock
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
	frontend *frontend
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
func (p *pool) port(ordinal int) (*frontend, uint16) {
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

// ordinal is the inverse of port.
func (p *pool) ordinal(f *frontend, port uint16) int {
	for i := range p.ranges {
		r := &p.ranges[i]
		if d := int(port) - int(r.first); r.frontend == f && d >= 0 && d < r.count {
			return r.base + d
		}
	}
	panic("snat: a session uses a port that its instance does not own")
}
