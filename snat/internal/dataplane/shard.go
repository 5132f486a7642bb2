package dataplane

import (
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
)

// How a shard begins, and gets its policy.

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
