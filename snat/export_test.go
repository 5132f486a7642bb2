package snat

import (
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
)

// Check holds the invariants of every shard against its sessions. It does
// nothing without the build tag natplane_invariants.
func (n *NAT) Check() { n.plane.Check() }

// FirstDue returns the time of the first thing that Advance has to do, exactly and the
// slow way: by looking at every session.
func (n *NAT) FirstDue() (first flow.Time, what string) { return n.plane.FirstDue() }

func init() { dataplane.Strict(true) }

// Lenient lets faults be counted, as they are outside of tests, until the test ends.
// It comes before New.
func Lenient(t testing.TB) {
	was := dataplane.Strict(false)
	t.Cleanup(func() { dataplane.Strict(was) })
}

// MaxResets is how many resets wait in a shard for Advance at most.
const MaxResets = resets.MaxWaiting

// NumShards returns the number of shards.
func (n *NAT) NumShards() int { return n.plane.NumShards() }

// Census counts the records of ports in all shards, and finds the longest search.
func (n *NAT) Census() (all ports.Census) {
	n.plane.Shards(func(of *ports.State) {
		c := of.Census()
		all.NodeRecords += c.NodeRecords
		all.NodePortsUnknown += c.NodePortsUnknown
		all.DestinationRecords += c.DestinationRecords
		all.DestinationWords += c.DestinationWords
		all.LongestMappingSearch = max(all.LongestMappingSearch, c.LongestMappingSearch)
	})
	return all
}

// FreeBlocks returns how many blocks of the first instance are free, by what they
// serve, for its only family and home.
func (n *NAT) FreeBlocks() (free []int) {
	n.plane.Instances(func(_ *ports.State, inst *ports.Instance, _ [2]uint64) {
		if free == nil {
			free = inst.FreeBlocks()
		}
	})
	return free
}
