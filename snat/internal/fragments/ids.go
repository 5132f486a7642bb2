package fragments

// Identifications of translated fragments. Read RFC 6864 sections 4.3 and 5.3.1
// and RFC 7739 section 5 first: hosts that share an address know nothing of each
// other's identifications, so the translator, like any source, hands out its own.

import (
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
)

// IDs hands out identifications. A counter passes through a permutation
// that the seed decides: no value returns before all others have been used, and
// who sees some cannot tell the next.
//
// IPv4 has too few values for one counter. Addresses and protocol choose one of
// many; a triple that has a counter to itself gets all 65,536 values.
//
// It is safe for concurrent use. Its lock is the last that anybody takes.
type IDs struct {
	hasher flow.Hasher // immutable, as are the keys
	keys   [4]uint64

	mu    sync.Mutex // guards the counters
	next4 [2048]uint16
	next6 uint32
}

// NewIDs returns identifications that a seed decides.
func NewIDs(seed uint64) *IDs {
	g := &IDs{hasher: flow.NewHasher(^seed)}
	k := flow.Key6{}
	for i := range g.keys {
		k.Src[0] = uint64(i + 1)
		g.keys[i] = g.hasher.Hash6(&k)
	}
	return g
}

// Next4 returns the next identification for a datagram between two addresses as
// they are after translation.
func (g *IDs) Next4(src, dst uint32, proto uint8) uint16 {
	h := g.hasher.Hash(&flow.Key{Src: src, Dst: dst, VNIProto: uint32(proto)}) % uint64(len(g.next4))
	g.mu.Lock()
	g.next4[h]++
	next := g.next4[h]
	g.mu.Unlock()
	return uint16(g.permute(uint32(next), h, 8))
}

// Next6 returns the next identification of an IPv6 datagram.
func (g *IDs) Next6() uint32 {
	g.mu.Lock()
	g.next6++
	next := g.next6
	g.mu.Unlock()
	return g.permute(next, 0, 16)
}

// permute is a Feistel network on two halves of some bits each, which is a
// permutation for every tweak.
func (g *IDs) permute(v uint32, tweak uint64, half uint) uint32 {
	mask := uint32(1)<<half - 1
	left, right := v>>half&mask, v&mask
	for _, key := range g.keys {
		x := (uint64(right)<<32 | tweak) ^ key
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		left, right = right, left^uint32(x>>32)&mask
	}
	return left<<half | right
}
