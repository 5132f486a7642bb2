package ports

import (
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports/usage"
)

// BlockSize is the number of consecutive ports that instances are granted together.
const BlockSize = 8

// Frontend is one outside address and the owners of its ports.
type Frontend struct {
	Addr   netip.Addr
	Packed [2]uint64 // Addr as tuples hold it
	Owner  owners    // by protocol
	Index  uint32    // among the frontends in force, as long as it exists

	counts [NumPools]usage.Total
}

// Owners names the owner of each block of eight ports, up to the last one that has any:
// one read finds the shard of an inbound packet. 0 stands for nobody.
type Owners struct{ blocks []owner }

// owners are those of the ports of all protocols.
type owners [NumPools]Owners

// equal reports whether all ports have the same owners.
func (o *owners) equal(p *owners) bool {
	for i := range o {
		if !slices.Equal(o[i].blocks, p[i].blocks) {
			return false
		}
	}
	return true
}

// owner is the owner of a block of ports: the index of an instance and the number of its shard,
// each plus one; 0 is nobody.
type owner uint32

// shardShift is where the shard is. What is below is enough for the index of any instance, which
// fits the VNI of keys.
const shardShift = 24

// newOwner returns the owner that an instance in a shard is.
func newOwner(instance uint32, shard int) owner {
	return owner(instance+1) | owner(shard+1)<<shardShift
}

// Shard returns the shard of a port's owner plus one, or 0.
func (o *Owners) Shard(port uint16) uint8 {
	if block := int(port / BlockSize); block < len(o.blocks) {
		return uint8(o.blocks[block] >> shardShift)
	}
	return 0
}

// Instance returns the index of the instance that owns a port plus one, or 0.
func (o *Owners) Instance(port uint16) uint32 {
	if block := int(port / BlockSize); block < len(o.blocks) {
		return uint32(o.blocks[block] & (1<<shardShift - 1))
	}
	return 0
}

// own makes somebody, or nobody, the owner of count ports from first on, which are whole blocks.
func (o *Owners) own(first uint16, count int, who owner) {
	from, end := int(first)/BlockSize, (int(first)+count)/BlockSize
	if n := end - len(o.blocks); n > 0 {
		o.blocks = append(o.blocks, make([]owner, n)...)
	}
	for i, blocks := 0, o.blocks[from:end]; i < len(blocks); i++ {
		blocks[i] = who
	}
}

// trim ends o with the last block that has an owner, and returns how many ports have one.
func (o *Owners) trim() (ports int) {
	for n := len(o.blocks); n > 0 && o.blocks[n-1] == 0; n-- {
		o.blocks = o.blocks[:n-1]
	}
	for _, who := range o.blocks {
		if who != 0 {
			ports += BlockSize
		}
	}
	return ports
}

// newFrontend returns the frontend with an address and an index.
func newFrontend(addr netip.Addr, index int) *Frontend {
	return &Frontend{Addr: addr, Packed: Packed(addr), Index: uint32(index)}
}

// FrontendUse is the use of a frontend's ports of one protocol.
type FrontendUse struct {
	Allocated       int // granted to instances, those that await removal too, or shared
	AwaitingRemoval int // of these, those that only carry flows that began before
	Used            int // that some new flow cannot have
	Uses            usage.Uses
	Peak            int // highest Used so far
}

// Use returns the use of the frontend's ports of a protocol. Others may count
// meanwhile.
func (f *Frontend) Use(protocol int) FrontendUse {
	c := &f.counts[protocol]
	return FrontendUse{
		Allocated: int(c.Allocated.Load()), AwaitingRemoval: int(c.Awaiting.Load()),
		Used: c.Used(), Uses: c.Uses(), Peak: c.Peak(),
	}
}
