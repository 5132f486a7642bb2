package snat

import (
	"testing"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Check holds the invariants of every shard against its sessions. It does
// nothing without the build tag natplane_invariants.
func (n *NAT) Check() {
	for i := range n.shards {
		sh := &n.shards[i]
		sh.Lock()
		sh.check()
	}
	n.checkInventory()
	for i := range n.shards {
		n.shards[i].Unlock()
	}
	n.fragments.table.Check()
}

// FirstDue returns the time of the first thing that Advance has to do, exactly and the
// slow way: by looking at every session.
func (n *NAT) FirstDue() (first flow.Time, what string) {
	first = noEnd
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
		if len(sh.resets.waiting) > 0 {
			due(sh.resets.waiting[0].at, true, "reset")
		}
		due(sh.wakeAt, true, "resting port")
		sh.Unlock()
	}
	at, ok := n.fragments.table.NextDeadline()
	due(at, ok, "fragment")
	at, ok = n.held.nextDeadline()
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
const MaxResets = maxResets

// NumShards returns the number of shards.
func (n *NAT) NumShards() int { return len(n.shards) }

// LongestMappingSearch returns how many mappings have to be compared to find one
// by its name, at most.
func (n *NAT) LongestMappingSearch() (longest int) {
	for i := range n.shards {
		t := &n.shards[i].mappings
		for id := t.wide.Next(0); id != 0; id = t.wide.Next(id) {
			if t.wide.At(id).sessions == 0 {
				continue
			}
			k, steps := t.keyOf(id|wide), 1
			for p := t.byInside.Probe(index.Tag(k.hash(t.hasher))); p.Next() != id|wide; steps++ {
			}
			longest = max(longest, steps)
		}
	}
	return longest
}

// FreeBlocks returns how many blocks of the first instance are free, by what they
// serve, for its only family and home.
func (n *NAT) FreeBlocks() (free []int) {
	for f := range n.order[0].pools {
		if b := n.order[0].pools[f][ports.TCPIndex].blocks; b != nil {
			for _, s := range b.free[0] {
				free = append(free, len(s.blocks))
			}
		}
	}
	return free
}

// NodeRecords returns how many remotes have a record of the ports at a node.
func (n *NAT) NodeRecords() (all int) {
	for i := range n.shards {
		all += n.shards[i].destinations.nodes
	}
	return all
}

// NodePortsUnknown returns how many sessions have a port at a node that no record
// knows.
func (n *NAT) NodePortsUnknown() (unknown int) {
	for i := range n.shards {
		sh := &n.shards[i]
		if sh.remotes != nil {
			unknown += int(sh.remotes.total)
		}
		for id := sh.destinations.slab.Next(0); id != 0; id = sh.destinations.slab.Next(id) {
			if d := sh.destinations.slab.At(id); d.proto != 0 && d.family >= nodeScope {
				unknown -= int(d.taken)
			}
		}
	}
	return unknown
}

// DestinationRecords returns how many destinations have a record of their ports.
func (n *NAT) DestinationRecords() (all int) {
	for i := range n.shards {
		all += n.shards[i].destinations.slab.Len() - n.shards[i].destinations.nodes
	}
	return all
}

// DestinationWords returns the words of memory of all such records.
func (n *NAT) DestinationWords() (words int) {
	for i := range n.shards {
		t := &n.shards[i].destinations
		for id := t.slab.Next(0); id != 0; id = t.slab.Next(id) {
			if d := t.slab.At(id); d.proto != 0 && d.bits != 0 {
				words += len(t.runs.Words(d.bits))
			}
		}
	}
	return words
}
