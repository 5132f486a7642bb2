package dataplane

import (
	"math/bits"
	"slices"

	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
)

// How a shard begins, and gets its policy. A shard is made when something is placed there, so that
// a small translator takes little memory; routes lead only to those that are made. It is never unmade.

// everyShard is the set of all shards, a bit for each.
const everyShard = ^uint64(0)

// all returns the shards that are made, in the order of their numbers.
func (n *NAT) all() []*shard { return *n.made.Load() }

// makeShards makes those of a set, a bit for each, that are not made yet. The caller holds changing.
func (n *NAT) makeShards(set uint64) {
	for _, sh := range n.all() {
		set &^= 1 << sh.number
	}
	if set &= 1<<len(n.shards) - 1; set == 0 {
		return
	}
	n.control.Lock()
	defer n.control.Unlock()
	for _, sh := range n.all() {
		sh.Lock()
		defer sh.Unlock()
	}
	for ; set != 0; set &= set - 1 {
		i := bits.TrailingZeros64(set)
		sh := new(shard)
		n.shards[i] = sh
		if sh.init(n, i); n.follows != nil {
			sh.setPolicy(n.config.Policies[n.follows[i]])
		}
	}
	n.showShards()
}

// showShards lets all see which shards are made.
func (n *NAT) showShards() {
	made := slices.DeleteFunc(slices.Clone(n.shards), func(sh *shard) bool { return sh == nil })
	n.made.Store(&made)
}

// inhabited returns the set of shards that have something in a layout.
func (l *layout) inhabited() (set uint64) {
	if l.routes.Forwards.Len() > 0 {
		return everyShard
	}
	for _, inst := range l.order {
		set |= 1 << inst.Shard
	}
	return set
}

func (sh *shard) init(n *NAT, number int) {
	sh.nat, sh.number = n, number
	sh.resets.Init(&n.notice)
	sh.State.Init(n.ports, number, n.table.Shard(number), sh, &sh.mem)
}

// setPolicy replaces the policy. It does not touch timers; see
// [flow.Shard.SetTimeouts].
func (sh *shard) setPolicy(p compiled.Policy) {
	sh.policy = p
	sh.Tombstones, sh.HoldsUDP = sh.Tombstones || p.ResetIdle, p.Timeouts.UDPHeld > 0
	sh.resets.Follow(p.Resets)
	sh.SetTimeouts(p.Timeouts)
	sh.udp.Follow(p.UDP, sh.Shard)
}
