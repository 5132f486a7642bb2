package snat

import (
	"github.com/seed-a61be3fe/natplane/snat/internal/resets"
	"github.com/seed-a61be3fe/natplane/snat/internal/udp"
)

// How a shard begins, and gets its policy.

func (sh *shard) init(n *NAT, number int) {
	sh.nat, sh.number = n, number
	sh.resets.Init(&n.notice)
	sh.State.Init(n.ports, number, n.table.Shard(number), sh, &sh.mem)
	sh.setPolicy(Policy{})
}

// setPolicy replaces the policy. It does not touch timers; see
// [flow.Shard.SetTimeouts].
func (sh *shard) setPolicy(p Policy) {
	timeouts := p.timeouts()
	sh.policy = p
	sh.Tombstones, sh.HoldsUDP = p.EnableTCPReset, timeouts.UDPHeld > 0
	sh.resets.Follow(resets.Rules{Unknown: resets.Who(p.ResetUnknown), SYN: resets.Who(p.ResetSYN), Rate: p.ResetRate, Burst: p.ResetBurst})
	sh.SetTimeouts(timeouts)
	sh.udp.Follow(p.udp(), sh.Shard)
}

// udp returns the rules for UDP that p means.
func (p *Policy) udp() udp.Rules {
	t := p.timeouts()
	r := udp.Rules{Refresh: udp.Refresh(p.UDPRefresh), RepliedSooner: t.UDPReplied < t.UDP}
	for i, row := range p.UDPPorts {
		r.Ports[i] = udp.Port(row)
	}
	return r
}
