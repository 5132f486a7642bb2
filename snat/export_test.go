package snat

import "testing"

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
	if n.fragments != nil {
		n.fragments.mu.Lock()
		n.fragments.check()
		n.fragments.mu.Unlock()
	}
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
