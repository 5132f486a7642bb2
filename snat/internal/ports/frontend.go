package ports

import (
	"net/netip"
)

// BlockSize is the number of consecutive ports that instances are granted together.
const BlockSize = 8

// Frontend is one outside address and the owners of its ports.
type Frontend struct {
	Addr   netip.Addr
	Packed [2]uint64         // Addr as tuples hold it
	Owner  [NumPools]*Owners // nil where nobody owns a port

	index  uint32 // among the frontends in force, or of a layout
	counts [NumPools]portCount
}

// Owners names the owner of each block of eight ports, up to the last one that has any:
// one read finds the shard of an inbound packet. 0 stands for nobody. A nil Owners has
// none.
type Owners struct {
	shard    []uint8  // shard + 1
	instance []uint32 // instance + 1
}

// Shard returns the shard of a port's owner plus one, or 0.
func (o *Owners) Shard(port uint16) uint8 {
	if block := int(port / BlockSize); o != nil && block < len(o.shard) {
		return o.shard[block]
	}
	return 0
}

// Instance returns the index of the instance that owns a port plus one, or 0.
func (o *Owners) Instance(port uint16) uint32 {
	if block := int(port / BlockSize); o != nil && block < len(o.instance) {
		return o.instance[block]
	}
	return 0
}

// own makes an instance in a shard the owner of count ports from first on, which are whole
// blocks.
func (o *Owners) own(first uint16, count, shard int, instance uint32) {
	from, end := int(first)/BlockSize, (int(first)+count)/BlockSize
	if n := end - len(o.shard); n > 0 {
		o.shard, o.instance = append(o.shard, make([]uint8, n)...), append(o.instance, make([]uint32, n)...)
	}
	for block := from; block < end; block++ {
		o.shard[block], o.instance[block] = uint8(shard+1), instance+1
	}
}

// newFrontend returns the frontend with an address, which comes behind others.
func newFrontend(addr netip.Addr, others int) *Frontend {
	return &Frontend{Addr: addr, Packed: Packed(addr), index: uint32(others)}
}

// FrontendUse is the use of a frontend's ports of one protocol.
type FrontendUse struct {
	Allocated       int // granted to instances, those that await removal too, or shared
	AwaitingRemoval int // of these, those that only carry flows that began before
	Used            int // that some new flow cannot have
	Uses            Uses
	Peak            int // highest Used so far
}

// Use returns the use of the frontend's ports of a protocol. Others may count
// meanwhile.
func (f *Frontend) Use(protocol int) FrontendUse {
	c := &f.counts[protocol]
	return FrontendUse{
		Allocated: int(c.allocated.Load()), AwaitingRemoval: int(c.awaiting.Load()),
		Used: int(c.used.Load()), Uses: c.uses(), Peak: int(c.peak.Load()),
	}
}
