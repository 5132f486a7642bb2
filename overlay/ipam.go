// Address arithmetic: which pod block and which address a node gets, and how
// many nodes ranges have room for ("Azure CNI Overlay networking").

package overlay

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
)

// Specification constants of the address plan.
const (
	reservedFirst = 4 // addresses Azure keeps at the start of a subnet ..
	reservedLast  = 1 // .. and at its end: 251 of the 256 in a /24 remain

	// Pods get the addresses of their block from this offset on, in both
	// families; .0 and .1 stay free (our choice, Azure documents none).
	firstPodOffset = 2
	podOffsets     = 253 // offsets 2 to 254; the last address stays free too
)

// podBlockBits is the prefix length of a node's pod block. The IPv6 value is
// read off the documented example; the documents give no rule.
var podBlockBits = [numFamilies]int{24, 80}

// NodesPerPodCIDR returns how many nodes a pod CIDR serves: the number of its
// /24 blocks (IPv6: /80), so 256 for a /16 and 0 for less than a block. The
// result is capped at the largest int32; it is 0 for an invalid prefix.
func NodesPerPodCIDR(podCIDR netip.Prefix) int {
	if !podCIDR.IsValid() {
		return 0
	}
	return pow2(podBlockBits[familyOf(podCIDR.Addr())] - podCIDR.Bits())
}

// NodesPerSubnet returns how many nodes a subnet has room for: all its addresses
// except the first four and the last, so 251 for a /24. The result is capped at
// the largest int32; it is 0 for an invalid prefix.
func NodesPerSubnet(subnet netip.Prefix) int {
	if !subnet.IsValid() {
		return 0
	}
	return max(0, pow2(subnet.Addr().BitLen()-subnet.Bits())-reservedFirst-reservedLast)
}

// CheckPodCIDRExpansion returns nil if AKS allows the pod CIDR of a running
// cluster to be changed from one range to the other: IPv4 only, and the new
// range must be larger and contain the old one, as 10.244.0.0/16 does
// 10.244.0.0/18. Otherwise the error wraps [ErrFamily] or [flow.ErrOutOfRange]
// ("Expand pod CIDR space in Azure CNI Overlay").
func CheckPodCIDRExpansion(from, to netip.Prefix) error {
	switch {
	case !from.IsValid() || !to.IsValid() || !from.Addr().Is4() || !to.Addr().Is4():
		return fmt.Errorf("pod CIDR %v to %v: %w: only IPv4 ranges can be expanded", from, to, ErrFamily)
	case to.Bits() >= from.Bits() || !to.Contains(from.Addr()):
		return fmt.Errorf("pod CIDR %v to %v: %w: the new range must be larger and contain the old one", from, to, flow.ErrOutOfRange)
	}
	return nil
}

// pow2 returns 2^n capped at the largest int32, and 0 for negative n.
func pow2(n int) int {
	switch {
	case n < 0:
		return 0
	case n > 30:
		return math.MaxInt32
	}
	return 1 << n
}

// podBlock returns the i-th pod block of a pod CIDR, which must have one.
func podBlock(podCIDR netip.Prefix, i int) netip.Prefix {
	bits := podBlockBits[familyOf(podCIDR.Addr())]
	hostBits := podCIDR.Addr().BitLen() - bits
	return netip.PrefixFrom(addrAt(podCIDR, uint64(i)<<hostBits), bits)
}

// blockNumber is the inverse of podBlock.
func blockNumber(podCIDR, block netip.Prefix) int {
	o, ok := offsetOf(podCIDR, block.Addr())
	if !ok {
		panic(fmt.Sprintf("overlay: pod block %v lies outside of %v", block, podCIDR))
	}
	return int(o >> (block.Addr().BitLen() - block.Bits()))
}

// nodeAddr returns the i-th usable address of a subnet, which must have one.
func nodeAddr(subnet netip.Prefix, i int) netip.Addr {
	return addrAt(subnet, reservedFirst+uint64(i))
}

// addrAt returns the address offset places after the first one of p, which must
// be masked. Offsets past the end of p leave p.
func addrAt(p netip.Prefix, offset uint64) netip.Addr { return prefixes.Plus(p.Addr(), offset) }

// offsetOf is the inverse of addrAt for an address a inside p. ok is false if
// the offset needs more than 64 bits.
func offsetOf(p netip.Prefix, a netip.Addr) (offset uint64, ok bool) {
	return prefixes.Distance(p.Addr(), a)
}
