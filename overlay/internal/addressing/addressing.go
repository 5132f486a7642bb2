// Package addressing is the address plan of a cluster: which pod addresses and
// which address of a subnet a node gets, for how many nodes ranges have room, and at which
// node an address is ("Azure CNI Overlay networking").
//
// [Places] belong to whoever fills them. Afterwards any number of goroutines may read them;
// there is no lock. Families are 0 for IPv4 and 1 for IPv6.
package addressing

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Specification constants of the address plan.
const (
	ReservedFirst = 4 // addresses Azure keeps at the start of a subnet ..
	reservedLast  = 1 // .. and at its end: 251 of the 256 in a /24 remain

	// Pods get the addresses of their block from this offset on, in both
	// families; .0 and .1 stay free (our choice, Azure documents none).
	FirstPodOffset = 2
	PodOffsets     = 253 // offsets 2 to 254; the last address stays free too
)

// PodBlockBits is the prefix length of a node's pod block, by family. The IPv6 value is
// read off the documented example; the documents give no rule.
var PodBlockBits = [2]int{24, 80}

// Size returns how many addresses a range has, capped at the largest int32.
func Size(p netip.Prefix) int { return pow2(p.Addr().BitLen() - p.Bits()) }

// NodesPerPodCIDR returns how many pod blocks a range has.
func NodesPerPodCIDR(podCIDR netip.Prefix) int {
	return pow2(PodBlockBits[flow.Family(podCIDR.Addr())] - podCIDR.Bits())
}

// NodesPerSubnet returns how many addresses of a subnet nodes can have.
func NodesPerSubnet(subnet netip.Prefix) int { return max(0, Size(subnet)-ReservedFirst-reservedLast) }

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

// PodBlock returns the i-th pod block of a pod CIDR, which must have one.
func PodBlock(podCIDR netip.Prefix, i int) netip.Prefix {
	bits := PodBlockBits[flow.Family(podCIDR.Addr())]
	hostBits := podCIDR.Addr().BitLen() - bits
	return netip.PrefixFrom(At(podCIDR, uint64(i)<<hostBits), bits)
}

// BlockNumber is the inverse of PodBlock.
func BlockNumber(podCIDR, block netip.Prefix) int {
	o, ok := Offset(podCIDR, block.Addr())
	if !ok {
		panic(fmt.Sprintf("overlay: pod block %v lies outside of %v", block, podCIDR))
	}
	return int(o >> (block.Addr().BitLen() - block.Bits()))
}

// NodeAddr returns the i-th usable address of a subnet, which must have one.
func NodeAddr(subnet netip.Prefix, i int) netip.Addr { return At(subnet, ReservedFirst+uint64(i)) }

// IsReserved reports whether Azure keeps an address of a subnet for itself.
func IsReserved(subnet netip.Prefix, a netip.Addr) bool {
	at, ok := Offset(subnet.Masked(), a)
	return ok && at < ReservedFirst || a.Is4() && !subnet.Contains(a.Next())
}

// LastFree returns the last address of a subnet, or of its first 65,536, that is not taken, or
// the zero Addr.
func LastFree(subnet netip.Prefix, taken func(netip.Addr) bool) netip.Addr {
	size := uint64(min(1<<16, Size(subnet)))
	for at := size - reservedLast - 1; at >= ReservedFirst && at < size; at-- {
		if a := At(subnet.Masked(), at); !taken(a) {
			return a
		}
	}
	return netip.Addr{}
}

// At returns the address offset places after the first one of p, which must
// be masked. Offsets past the end of p leave p.
func At(p netip.Prefix, offset uint64) netip.Addr { return prefixes.Plus(p.Addr(), offset) }

// Offset is the inverse of At for an address a inside p. ok is false if a is of another family or
// the offset needs more than 64 bits.
func Offset(p netip.Prefix, a netip.Addr) (offset uint64, ok bool) {
	return prefixes.Distance(p.Addr(), a)
}

// Numbers gives out the lowest numbers, of addresses or blocks, that nobody has.
type Numbers struct {
	taken map[int]bool
	next  int
}

// NewNumbers returns numbers that are all free.
func NewNumbers() *Numbers { return &Numbers{taken: make(map[int]bool)} }

// Take marks a number as somebody's.
func (n *Numbers) Take(number int) { n.taken[number] = true }

// TakeAddr marks an address of a subnet as somebody's; others do not matter.
func (n *Numbers) TakeAddr(subnet netip.Prefix, a netip.Addr) {
	if at, ok := Offset(subnet, a); ok && subnet.Contains(a) {
		n.Take(int(at) - ReservedFirst)
	}
}

// Free returns the lowest number that nobody has, which somebody has from now on.
func (n *Numbers) Free() int {
	for n.taken[n.next] {
		n.next++
	}
	n.next++
	return n.next - 1
}

// Collapse returns the ranges that consist of some numbers of a subnet's addresses, as
// [NodeAddr] counts them: ascending, and as few as possible.
func Collapse(subnet netip.Prefix, numbers []int) (ranges []netip.Prefix) {
	slices.Sort(numbers)
	for i := 0; i < len(numbers); {
		first := NodeAddr(subnet, numbers[i])
		bits, size := first.BitLen(), 1
		for i+2*size <= len(numbers) && numbers[i+2*size-1] == numbers[i]+2*size-1 {
			p := netip.PrefixFrom(first, bits-1)
			if p.Masked().Addr() != first {
				break
			}
			bits, size = bits-1, 2*size
		}
		ranges = append(ranges, netip.PrefixFrom(first, bits))
		i += size
	}
	return ranges
}

// Holding is what a node has in one family: its address of a subnet, and a block of a pod CIDR
// or addresses of the subnet that it keeps for pods.
type Holding struct {
	Subnet  netip.Prefix
	PodCIDR netip.Prefix // the zero Prefix if it keeps addresses of the subnet
	Kept    int          // how many of these

	Addr netip.Addr     // the zero Addr if it has nothing yet
	Pods []netip.Prefix // the block, or the ranges that the kept addresses make
}

// Give gives those who have nothing the lowest addresses and blocks that nobody has, in their order,
// but not addresses that are reserved. There must be as many.
func Give(all []Holding, reserved []netip.Addr) {
	blocks, subnets := NewNumbers(), make(map[netip.Prefix]*Numbers)
	for i := range all {
		h := &all[i]
		if subnets[h.Subnet] == nil {
			subnets[h.Subnet] = NewNumbers()
			for _, a := range reserved {
				subnets[h.Subnet].TakeAddr(h.Subnet, a)
			}
		}
		if !h.Addr.IsValid() {
			continue
		}
		subnets[h.Subnet].TakeAddr(h.Subnet, h.Addr)
		for _, r := range h.Pods {
			if h.PodCIDR.IsValid() {
				blocks.Take(BlockNumber(h.PodCIDR, r))
				continue
			}
			for a := r.Addr(); r.Contains(a); a = a.Next() {
				subnets[h.Subnet].TakeAddr(h.Subnet, a)
			}
		}
	}
	for i := range all {
		h := &all[i]
		if h.Addr.IsValid() {
			continue
		}
		free := subnets[h.Subnet]
		h.Addr = NodeAddr(h.Subnet, free.Free())
		if h.PodCIDR.IsValid() {
			h.Pods = []netip.Prefix{PodBlock(h.PodCIDR, blocks.Free())}
			continue
		}
		kept := make([]int, h.Kept)
		for k := range kept {
			kept[k] = free.Free()
		}
		h.Pods = Collapse(h.Subnet, kept)
	}
}

// Places are the nodes of addresses: of their own, and of their pods by the ranges of these.
type Places struct {
	// Whole says that every address of a range may be a pod's. Otherwise a range is a pod
	// block, whose first two addresses and the last stay free.
	Whole bool

	hosts4 prefixes.Addrs4 // nodes plus one
	hosts6 prefixes.Addrs6
	pods4  prefixes.Disjoint4
	pods6  prefixes.Disjoint6
	ranges [][]netip.Prefix // of pods, by node
}

// Add adds a node by its addresses and the ranges of its pods, IPv4 first.
func (p *Places) Add(node int, addrs []netip.Addr, pods []netip.Prefix) {
	is := uint32(node) + 1
	for _, a := range addrs {
		if a.Is4() {
			p.hosts4.Put(flow.Addr4(a), is)
		} else {
			p.hosts6.Put(flow.Addr6(a), is)
		}
	}
	for _, r := range pods {
		if r.Addr().Is4() {
			p.pods4.Put(r, is)
		} else {
			p.pods6.Put(r, is)
		}
	}
	for node >= len(p.ranges) {
		p.ranges = append(p.ranges, nil)
	}
	p.ranges[node] = pods
}

// Of returns the node at which an address of a packet is, or -1, and whether it is the
// node's own. The offsets are those of the address in the headers; the packet has it.
func (p *Places) Of(pkt []byte, at4, at6 int) (node int, host bool) {
	if pkt[0]>>4 == 4 {
		return p.At4(binary.BigEndian.Uint32(pkt[at4:]))
	}
	return p.At6(binary.BigEndian.Uint64(pkt[at6:]), binary.BigEndian.Uint64(pkt[at6+8:]))
}

// At4 is Of for an address of IPv4.
func (p *Places) At4(a uint32) (node int, host bool) {
	if is := p.hosts4.Get(a); is != 0 {
		return int(is) - 1, true
	}
	is := p.pods4.First(a)
	if is == 0 {
		is = p.pods4.Others(a)
	}
	return int(is) - 1, false
}

// At6 is Of for the halves of an address of IPv6.
func (p *Places) At6(high, low uint64) (node int, host bool) {
	if is := p.hosts6.GetWords(high, low); is != 0 {
		return int(is) - 1, true
	}
	return int(p.pods6.GetWords(high, low)) - 1, false
}

// Locate returns the node one of whose pods may have an address, and the address's offset
// there.
func (p *Places) Locate(a netip.Addr) (node int, offset uint64, ok bool) {
	var is uint32
	if a.Is4() {
		is = p.pods4.Get(flow.Addr4(a))
	} else if a.Is6() {
		is = p.pods6.Get(flow.Addr6(a))
	}
	if is == 0 {
		return 0, 0, false
	}
	offset = p.first()
	for _, r := range p.ranges[is-1] {
		if r.Contains(a) {
			o, _ := Offset(r, a)
			return int(is) - 1, offset + o, true
		}
		if r.Addr().Is4() == a.Is4() {
			offset += uint64(Size(r))
		}
	}
	return 0, 0, false // it has a zone
}

// PodAddrs returns the addresses of a node's pod at an offset, one per family.
func (p *Places) PodAddrs(node, offset int) (addrs []netip.Addr) {
	left := [2]int{offset - int(p.first()), offset - int(p.first())}
	var done [2]bool
	for _, r := range p.ranges[node] {
		f := flow.Family(r.Addr())
		if n := Size(r); !done[f] && left[f] < n {
			addrs, done[f] = append(addrs, At(r, uint64(left[f]))), true
		} else {
			left[f] -= n
		}
	}
	return addrs
}

// Room returns how many pods a node has addresses for.
func (p *Places) Room(node int) (n int) {
	if !p.Whole {
		return PodOffsets
	}
	for _, r := range p.ranges[node] {
		n += Size(r)
	}
	return n
}

// first returns the offset of the first address of a node's ranges.
func (p *Places) first() uint64 {
	if p.Whole {
		return FirstPodOffset
	}
	return 0
}

// Ends returns the source and the destination of a packet, zero if it is too short to tell.
func Ends(pkt []byte) (src, dst netip.Addr) {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(pkt[12:16])), netip.AddrFrom4([4]byte(pkt[16:20]))
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
	}
	return src, dst
}

// Unfollowed reports whether a packet is of a protocol that has neither ports nor identifiers
// that a node could follow: other than TCP, UDP and ICMP.
func Unfollowed(pkt []byte) bool {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return !followed(pkt[9])
	case len(pkt) >= 40 && pkt[0]>>4 == 6 && !followed(pkt[6]):
		var p wire.Packet
		return wire.Parse(pkt, &p) == wire.UnsupportedProto // or headers precede one that is followed
	}
	return false
}

func followed(proto uint8) bool {
	return proto == wire.ProtoTCP || proto == wire.ProtoUDP || wire.IsICMP(proto)
}
