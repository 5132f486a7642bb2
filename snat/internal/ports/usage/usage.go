// Package usage counts what ports are used for. It refuses to know which ports there are, whose
// they are, and who has them.
//
// A port is in use as long as at least one new flow could not get it: because an active flow is
// on it, because flows that are over keep it from their destinations, or because it is kept from
// everybody. It counts once, as the first of these. Counts are kept up to date by the step, at a
// cost that does not depend on how many ports there are.
//
//   - [Port] counts the sessions on one port: active ones, and those that are over. [Ports] has those
//     of all ports of a pool, in 2 bytes each as long as these suffice.
//   - [Use] is what a port is used for, [Counts] ports by use, [Uses] such counts as they are
//     reported.
//   - [Total] counts the ports of one outside address, over all shards, with the highest number
//     so far, which may have to be taken back.
//
// All but a Total are guarded by whoever has them. A Total is safe for concurrent use, but for
// what says otherwise.
package usage

import "github.com/seed-a61be3fe/natplane/flow"

// Use is what a port is used for.
type Use uint8

// The uses of a port, in the order in which they count.
const (
	Unused   Use = iota
	Active       // by a flow that is not over
	HeldFIN      // kept from the destinations of connections that were closed
	HeldRST      // kept from the destinations of connections that were reset
	HeldUDP      // kept from the destinations of UDP flows that are over
	Resting      // kept from everybody for a while
	Excluded     // kept from everybody for good
	numUses
)

// Port counts the sessions on one port.
type Port struct {
	Active uint32
	Held   uint32 // closed, or UDP flows that are over, but still keeping the port from their destination
	Reset  uint32 // likewise, after a RST
}

// Of returns the count of sessions of a class.
func (p *Port) Of(c flow.Class) *uint32 {
	switch {
	case !Held(c):
		return &p.Active
	case c == flow.ClassTCPReset:
		return &p.Reset
	}
	return &p.Held
}

// Counts counts ports by use.
type Counts struct {
	Used uint32          // in use, for whatever
	By   [numUses]uint32 // of these; that of Unused stays 0
}

// Shift counts a port that was used for one thing and is for another.
func (c *Counts) Shift(was, is Use) {
	if was == Unused {
		c.Used++
	} else {
		c.By[was]--
	}
	if is == Unused {
		c.Used--
	} else {
		c.By[is]++
	}
}

// Uses returns the counts as they are reported.
func (c *Counts) Uses() Uses {
	return Uses{
		Active: int(c.By[Active]), HeldFIN: int(c.By[HeldFIN]), HeldRST: int(c.By[HeldRST]), HeldUDP: int(c.By[HeldUDP]),
		Resting: int(c.By[Resting]), Excluded: int(c.By[Excluded]),
	}
}

// Uses are ports in use by what uses them: ports that at least one new flow could not
// get. A port that serves several purposes counts once, for the first in this order.
type Uses struct {
	Active   int // by a flow that is not over
	HeldFIN  int // kept from the destinations of connections that were closed
	HeldRST  int // kept from the destinations of connections that were reset
	HeldUDP  int // kept from the destinations of UDP flows that are over
	Resting  int // kept from everybody for a while
	Excluded int // kept from everybody for good
}

// Add adds the ports in use of others.
func (u *Uses) Add(o Uses) {
	u.Active += o.Active
	u.HeldFIN += o.HeldFIN
	u.HeldRST += o.HeldRST
	u.HeldUDP += o.HeldUDP
	u.Resting += o.Resting
	u.Excluded += o.Excluded
}

// held returns the number of ports in use on which no flow is active.
func (u Uses) held() int { return u.HeldFIN + u.HeldRST + u.HeldUDP + u.Resting + u.Excluded }
