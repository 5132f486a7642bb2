// Package addressing is the address plan of a cluster: which block of pod addresses and
// which address of a subnet a node gets, for how many nodes ranges have room, and at which
// node an address is ("Azure CNI Overlay networking").
//
// [Places] and [Blocks] belong to whoever fills them. Afterwards any number of goroutines
// may read them; there is no lock. Families are 0 for IPv4 and 1 for IPv6.
package addressing

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

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

// Offset is the inverse of At for an address a inside p. ok is false if
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

// Free returns the lowest number that nobody has, which somebody has from now on.
func (n *Numbers) Free() int {
	for n.taken[n.next] {
		n.next++
	}
	n.next++
	return n.next - 1
}

// Blocks says whose the pod blocks of the pod CIDRs are.
type Blocks struct {
	cidrs  []netip.Prefix
	owners [2][]int32 // nodes, by family and number of the block; -1 is nobody
}

// NewBlocks returns the blocks of pod CIDRs, one a family, which nobody has.
func NewBlocks(podCIDRs []netip.Prefix) Blocks { return Blocks{cidrs: podCIDRs} }

// Own notes that a pod block of a family is a node's.
func (b *Blocks) Own(family int, block netip.Prefix, node int) {
	n := BlockNumber(b.cidrs[family], block)
	for n >= len(b.owners[family]) {
		b.owners[family] = append(b.owners[family], -1)
	}
	b.owners[family][n] = int32(node)
}

// Locate returns the node whose pod block contains a, and the offset there.
func (b *Blocks) Locate(a netip.Addr) (node int, offset uint64, ok bool) {
	for f, cidr := range b.cidrs {
		if !cidr.Contains(a) {
			continue
		}
		hostBits := a.BitLen() - PodBlockBits[f]
		o, ok := Offset(cidr, a)
		block := o >> hostBits
		if !ok || block >= uint64(len(b.owners[f])) || b.owners[f][block] < 0 {
			return 0, 0, false
		}
		return int(b.owners[f][block]), o & (1<<hostBits - 1), true
	}
	return 0, 0, false
}

// Places are the nodes of addresses plus one, of their own and by pod block. They say what
// Blocks and the addresses of nodes say, and faster: for every packet of a Service.
type Places struct {
	hosts4, blocks4 prefixes.Addrs4
	hosts6, blocks6 prefixes.Addrs6
}

// Add adds the address and the pod block of a node.
func (p *Places) Add(node int, a netip.Addr, block netip.Prefix) {
	if is := uint32(node) + 1; a.Is4() {
		p.hosts4.Put(flow.Addr4(a), is)
		p.blocks4.Put(flow.Addr4(block.Addr())>>(32-PodBlockBits[0]), is)
	} else {
		p.hosts6.Put(flow.Addr6(a), is)
		p.blocks6.Put(podBlock6(flow.Addr6(block.Addr())), is)
	}
}

// podBlock6 returns the address of the pod block of IPv6 that an address would be in.
func podBlock6(a [2]uint64) [2]uint64 {
	a[1] &^= 1<<(128-PodBlockBits[1]) - 1
	return a
}

// Of returns the node at which an address of a packet is, or -1, and whether it is the
// node's own. The offsets are those of the address in the headers; the packet has it.
func (p *Places) Of(pkt []byte, at4, at6 int) (node int, host bool) {
	if pkt[0]>>4 == 4 {
		a := binary.BigEndian.Uint32(pkt[at4:])
		if is := p.hosts4.Get(a); is != 0 {
			return int(is) - 1, true
		}
		return int(p.blocks4.Get(a>>(32-PodBlockBits[0]))) - 1, false
	}
	a := [2]uint64{binary.BigEndian.Uint64(pkt[at6:]), binary.BigEndian.Uint64(pkt[at6+8:])}
	if is := p.hosts6.Get(a); is != 0 {
		return int(is) - 1, true
	}
	return int(p.blocks6.Get(podBlock6(a))) - 1, false
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
