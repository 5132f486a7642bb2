package snat

import (
	"testing"

	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Check holds the invariants of every shard against its sessions. It does
// nothing without the build tag natplane_invariants.
func (n *NAT) Check() {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		sh.Check(sh.counters.tombstones, sh.counters.holds)
	}
	if !n.closed.Load() {
		n.ports.Check()
	}
	for i := range n.shards {
		n.shards[i].Unlock()
	}
	n.fragments.table.Check()
}

func init() { strict = true }

// Lenient lets faults be counted, as they are outside of tests, until the test ends.
// It comes before New.
func Lenient(t testing.TB) {
	was := strict
	strict = false
	t.Cleanup(func() { strict = was })
}

// MaxResets is how many resets wait in a shard for Advance at most.
const MaxResets = maxResets

// NumShards returns the number of shards.
func (n *NAT) NumShards() int { return len(n.shards) }

// Census counts the records of ports in all shards, and finds the longest search.
func (n *NAT) Census() (all ports.Census) {
	for i := range n.shards {
		c := n.shards[i].Census()
		all.NodeRecords += c.NodeRecords
		all.NodePortsUnknown += c.NodePortsUnknown
		all.DestinationRecords += c.DestinationRecords
		all.DestinationWords += c.DestinationWords
		all.LongestMappingSearch = max(all.LongestMappingSearch, c.LongestMappingSearch)
	}
	return all
}

// FreeBlocks returns how many blocks of the first instance are free, by what they
// serve, for its only family and home.
func (n *NAT) FreeBlocks() []int { return n.order[0].FreeBlocks() }
