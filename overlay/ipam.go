// Capacity of ranges, and how they may grow; package addressing has the arithmetic.

package overlay

import (
	"fmt"
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/internal/addressing"
)

// NodesPerPodCIDR returns how many nodes a pod CIDR serves: the number of its
// /24 blocks (IPv6: /80), so 256 for a /16 and 0 for less than a block. The
// result is capped at the largest int32; it is 0 for an invalid prefix.
func NodesPerPodCIDR(podCIDR netip.Prefix) int {
	if !podCIDR.IsValid() {
		return 0
	}
	return addressing.NodesPerPodCIDR(podCIDR)
}

// NodesPerSubnet returns how many nodes a subnet has room for: all its addresses
// except the first four and the last, so 251 for a /24. The result is capped at
// the largest int32; it is 0 for an invalid prefix.
func NodesPerSubnet(subnet netip.Prefix) int {
	if !subnet.IsValid() {
		return 0
	}
	return addressing.NodesPerSubnet(subnet)
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
