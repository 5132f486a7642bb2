package ports

import "github.com/seed-a61be3fe/natplane/snat/internal/ports/destinations"

// What tests of the whole translator measure and spoil. Nothing else needs it.

// Census counts the records of a shard.
type Census struct {
	NodeRecords        int // remotes with a record of the ports at a node
	NodePortsUnknown   int // sessions with a port at a node that no record knows
	DestinationRecords int // destinations with a record of their ports
	DestinationWords   int // words of memory of all records

	// LongestMappingSearch is how many mappings have to be compared to find one by its
	// name, at most.
	LongestMappingSearch int
}

// Census counts the records of a shard. Cost: O(records).
func (sh *State) Census() (c Census) {
	d := &sh.destinations
	c.NodeRecords, c.DestinationRecords = d.AtNodes(), d.Len()-d.AtNodes()
	c.NodePortsUnknown = sh.remotes.Total()
	for r := range d.All() {
		if r.Family >= destinations.AtNode {
			c.NodePortsUnknown -= int(r.Taken)
		}
		c.DestinationWords += len(d.Words(r))
	}
	c.LongestMappingSearch = sh.mappings.LongestSearch()
	return c
}

// FreeBlocks returns how many blocks of an instance are free, by what they serve, for
// its only family and home.
func (inst *Instance) FreeBlocks() (free []int) {
	for f := range inst.blocks {
		for _, s := range inst.blocks[f].shelves {
			free = append(free, int(s.count))
		}
	}
	return free
}

// Break loses the counts of an instance's ports of a family and protocol, which must not
// happen: tests see what a translator does then.
func (inst *Instance) Break(family, protocol int) { inst.pools[family][protocol].shares = nil }
