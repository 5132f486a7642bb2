package snat

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The counts of packets and of ended sessions.

// dropEarly counts a packet that is dropped before its shard is known.
func (n *NAT) dropEarly(from flow.Side, r flow.Reason, v *flow.Verdict) bool {
	if n.closed.Load() {
		r = flow.ReasonClosed
	}
	n.early[from][r].Add(1)
	*v = flow.Verdict{Action: flow.Drop, Reason: r}
	return false
}

// count counts a verdict of the slow path.
func (sh *shard) count(from flow.Side, v flow.Verdict) flow.Verdict {
	switch v.Action {
	case flow.Forward:
		sh.counters.forwarded[from]++
	case flow.Bypass:
		sh.counters.bypassed[from]++
	default:
		sh.counters.dropped[from][v.Reason]++
	}
	return v
}

// countEnd counts the end of a session of a class.
func (sh *shard) countEnd(class flow.Class, proto uint8) {
	switch class {
	case flow.ClassTCPResetSent:
		sh.counters.tombstones--
	case flow.ClassUDPHeld:
		sh.counters.holds--
	default:
		sh.counters.ended++
		sh.counters.connections[ports.PoolIndex(proto)].ended++
	}
}

// used reports whether there is anything to count.
func (d *direct) used() bool {
	return d.forwarded[0].Load()|d.forwarded[1].Load()|d.bypassed[0].Load()|d.bypassed[1].Load() != 0
}
