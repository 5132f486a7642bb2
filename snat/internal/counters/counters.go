// Package counters has what the shards of a translator count of packets and sessions, how often
// something counted is told, and the causes by which sessions that a configuration ends are
// counted. It refuses to know who counts.
package counters

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

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

// Add adds the counts of another shard.
func (c *Counters) Add(o *Counters) {
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

// Count counts a packet that came from a side, by what becomes of it.
func (c *Counters) Count(from flow.Side, v *flow.Verdict) {
	switch v.Action {
	case flow.Forward:
		c.Forwarded[from]++
	case flow.Bypass:
		c.Bypassed[from]++
	default:
		c.Dropped[from][v.Reason]++
	}
}

// Drop drops a packet for a reason, and counts it. instance is the one that it is about, or 0.
func (c *Counters) Drop(from flow.Side, reason flow.Reason, instance uint32, v *flow.Verdict) {
	*v = flow.Verdict{Action: flow.Drop, Reason: reason, Instance: instance}
	c.Dropped[from][reason]++
}

// End counts the end of a session of a class.
func (c *Counters) End(class flow.Class, proto uint8) {
	switch class {
	case flow.ClassTCPResetSent:
		c.Tombstones--
	case flow.ClassUDPHeld:
		c.Holds--
	default:
		c.Ended++
		c.Connections[ports.PoolIndex(proto)].Ended++
	}
}

// CutCause says why a reconfiguration, or the state of a target, ends a session.
type CutCause uint8

// The causes, in the order of the public ones.
const (
	CutReclaimed   CutCause = iota // its port is no longer granted to its instance, and its grace is over
	CutRemoved                     // its instance has been removed
	CutReaddressed                 // its inside address, or one of its node's, no longer belongs to its instance or is translated 1:1 now
	CutMemory                      // there is no memory to keep it where it belongs now
	CutForward                     // its forward is gone, or is another one's now
	CutTarget                      // its target is gone; or it is down, and the session was UDP, or a closed connection that a new one replaces
	NumCutCauses
)
