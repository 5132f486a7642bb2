package flow

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"

	"github.com/seed-a61be3fe/natplane/internal/splitmix"
)

// Hasher is a keyed hash for flow keys: two rounds of a 64×64→128 bit multiply
// folded by xor. The key keeps hostile traffic from choosing buckets, as long as it
// is secret: who knows it finds keys that collide in seconds. It is immutable and
// safe for concurrent use.
type Hasher struct {
	k0, k1, k2 uint64
}

// NewHasher derives a hash key from seed with SplitMix64. It is for what must be
// the same in every run; a table that strangers fill needs a key that they cannot
// know, which [NewTable] draws.
func NewHasher(seed uint64) Hasher {
	r := splitmix.Source(seed)
	return Hasher{r.Uint64(), r.Uint64(), r.Uint64() | 1}
}

// secretHasher returns a hash with the key that fixed stands for, or if that is 0
// with one that nobody can know.
func secretHasher(fixed uint64) Hasher {
	if fixed != 0 {
		return NewHasher(fixed)
	}
	var b [24]byte
	rand.Read(b[:]) // never fails
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return Hasher{word(0), word(1), word(2) | 1}
}

// fold is one round.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Hash returns the hash of k. Its bits are uniform for any choice of bits.
func (h *Hasher) Hash(k *Key) uint64 {
	return h.HashParts(k.Src, k.Dst, uint32(k.SrcPort)<<16|uint32(k.DstPort), k.VNIProto)
}

// HashParts is Hash for a caller that has the parts of the key at hand, the ports
// together as they stand in a packet: the source in the high half.
func (h *Hasher) HashParts(src, dst, ports, vniProto uint32) uint64 {
	a, b := uint64(src)<<32|uint64(dst), uint64(ports)<<32|uint64(vniProto)
	return fold(fold(a^h.k0, b^h.k1)^b, h.k2)
}

// Hash6 returns the hash of k. The two products have keys of their own: equal
// ones would cancel, for addresses that anyone could choose.
func (h *Hasher) Hash6(k *Key6) uint64 {
	return h.HashParts6(k.Src[0], k.Src[1], k.Dst[0], k.Dst[1], uint32(k.SrcPort)<<16|uint32(k.DstPort), k.VNIProto)
}

// HashParts6 is Hash6 for a caller that has the words of the addresses at hand, and the ports
// together as HashParts wants them.
func (h *Hasher) HashParts6(srcHigh, srcLow, dstHigh, dstLow uint64, ports, vniProto uint32) uint64 {
	b := uint64(ports)<<32 | uint64(vniProto)
	x := fold(srcHigh^h.k0, dstHigh^h.k1) ^ fold(srcLow^h.k2, dstLow^h.k0)
	return fold(fold(x^h.k0, b^h.k1)^b, h.k2)
}
