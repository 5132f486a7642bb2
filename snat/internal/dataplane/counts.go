package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What is counted of packets and sessions.

// dropEarly counts a packet that is dropped before its shard is known.
func (n *NAT) dropEarly(from flow.Side, r flow.Reason, v *flow.Verdict) bool {
	if n.closed.Load() {
		r = flow.ReasonClosed
	}
	n.early.Drop(from, r, 1)
	*v = flow.Verdict{Action: flow.Drop, Reason: r}
	return false
}

// count counts a verdict of the slow path.
func (sh *shard) count(from flow.Side, v *flow.Verdict) {
	switch v.Action {
	case flow.Forward:
		sh.counters.Forwarded[from]++
	case flow.Bypass:
		sh.counters.Bypassed[from]++
	default:
		sh.counters.Dropped[from][v.Reason]++
	}
}

// dropPacket drops a packet for a reason, and counts it. inst is the instance that it is
// about, or 0.
func (sh *shard) dropPacket(from flow.Side, reason flow.Reason, inst uint32, v *flow.Verdict) {
	*v = flow.Verdict{Action: flow.Drop, Reason: reason, Instance: inst}
	sh.counters.Dropped[from][reason]++
}

// countEnd counts the end of a session of a class.
func (sh *shard) countEnd(class flow.Class, proto uint8) {
	switch class {
	case flow.ClassTCPResetSent:
		sh.counters.Tombstones--
	case flow.ClassUDPHeld:
		sh.counters.Holds--
	default:
		sh.counters.Ended++
		sh.counters.Connections[ports.PoolIndex(proto)].Ended++
	}
}
