package snat

import (
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
)

// Check holds the invariants of every shard against its sessions. It does
// nothing without the build tag natplane_invariants.
func (n *NAT) Check() {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		defer sh.Unlock() // also where it panics, so that Close does not wait forever
		if !n.closed.Load() {
			sh.check()
		}
	}
	if !n.closed.Load() {
		n.ports.Check()
	}
	n.fragments.table.Check()
}

// FirstDue returns the time of the first thing that Advance has to do, exactly and the
// slow way: by looking at every session.
func (n *NAT) FirstDue() (first flow.Time, what string) {
	first = ports.Never
	due := func(at flow.Time, ok bool, of string) {
		if ok && at < first {
			first, what = at, of
		}
	}
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		var ids [64]flow.ID
		for some := sh.IDs(ids[:0], 0); len(some) > 0; some = sh.IDs(ids[:0], some[len(some)-1]) {
			for _, id := range some {
				at := sh.Deadline(sh.At(id))
				due(at, at >= 0, "session")
			}
		}
		at, ok := sh.resets.NextDeadline()
		due(at, ok, "reset")
		due(sh.WakeAt, true, "resting port")
		sh.Unlock()
	}
	at, ok := n.fragments.table.NextDeadline()
	due(at, ok, "fragment")
	at, ok = n.held.NextDeadline()
	due(at, ok, "held SYN")
	at, ok = n.outbox.NextDeadline()
	due(at, ok, "packet made")
	return first, what
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
const MaxResets = resets.MaxWaiting

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
