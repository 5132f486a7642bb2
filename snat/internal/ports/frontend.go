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

// Owners names the owner of each block of eight ports: one read finds the shard
// of an inbound packet. 0 stands for nobody.
type Owners struct {
	Shard    [65536 / BlockSize]uint8  // shard + 1
	Instance [65536 / BlockSize]uint32 // instance + 1
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
