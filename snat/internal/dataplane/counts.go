package dataplane

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What is counted of packets and sessions.

// Counters are the counts of one shard, under its lock, or of several together.
type Counters struct {
	Forwarded [2]uint64                  // packets, by the side they came from
	Bypassed  [2]uint64                  // likewise
	Dropped   [2][flow.NumReasons]uint64 // packets, by side and reason

	Created, Ended uint64                      // sessions
	Refused        uint64                      // flows without a port
	Connections    [ports.NumPools]Connections // by protocol
	Expired        [flow.NumClasses]uint64     // sessions, by idle class
	Cut            [NumCutCauses]uint64        // sessions, by cause
	Evicted        uint64                      // half-open sessions
	Tombstones     uint64                      // sessions that are reset and only answer stragglers
	Holds          uint64                      // records of UDP sessions that are over and only hold their port
	OutOfWindow    uint64                      // TCP segments that do not fit their session
	BadChecksum    uint64                      // TCP segments whose checksum is wrong and that a session would have heeded
	OddMTU         uint64                      // translated ICMP errors from outside that tell an MTU below the least
}

// Connections counts the sessions of one protocol.
type Connections struct {
	Created, Ended, Refused uint64 // sessions; Refused: flows without a port
	Ported                  uint64 // of Created, those with an outside port
}

// add adds the counts of another shard.
func (c *Counters) add(o *Counters) {
	for side := range 2 {
		c.Forwarded[side] += o.Forwarded[side]
		c.Bypassed[side] += o.Bypassed[side]
		for r, k := range o.Dropped[side] {
			c.Dropped[side][r] += k
		}
	}
	c.Created += o.Created
	c.Ended += o.Ended
	c.Refused += o.Refused
	for p, k := range o.Connections {
		of := &c.Connections[p]
		of.Created += k.Created
		of.Ended += k.Ended
		of.Refused += k.Refused
		of.Ported += k.Ported
	}
	for class, k := range o.Expired {
		c.Expired[class] += k
	}
	for cause, k := range o.Cut {
		c.Cut[cause] += k
	}
	c.Evicted += o.Evicted
	c.Tombstones += o.Tombstones
	c.Holds += o.Holds
	c.OutOfWindow += o.OutOfWindow
	c.BadChecksum += o.BadChecksum
	c.OddMTU += o.OddMTU
}

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

// used reports whether there is anything to count.
func (d *direct) used() bool {
	return d.forwarded[0].Load()|d.forwarded[1].Load()|d.bypassed[0].Load()|d.bypassed[1].Load() != 0
}
