package resets

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Who says whose segments of unknown connections are answered.
type Who uint8

// Who is told.
const (
	Nobody Who = iota
	Inside     // senders on the inside
	Sender     // senders on either side
)

// Rules say which RSTs are made.
type Rules struct {
	Unknown Who // is told of segments with ACK that belong to no flow
	SYN     Who // is told of SYNs that begin none

	// Rate and Burst limit RSTs, per second in the long run and at once, 0 to MaxRate.
	// A Rate of 0 is no limit, a Burst of 0 is Rate.
	Rate, Burst int
}

// Answers reports whether a packet from a side that belongs to no flow and begins none is
// answered with a RST. Addresses are for the caller to check.
func (q *Queue) Answers(from flow.Side, p *wire.Packet) bool {
	if p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 || q.rules.Unknown|q.rules.SYN == Nobody {
		return false
	}
	t, who := p.TCP(), q.rules.Unknown
	if t.Flags()&flow.ACK == 0 {
		who = q.rules.SYN
	}
	return t.Flags()&flow.RST == 0 && who != Nobody && (who != Inside || from == flow.Inside) && wire.VerifyL4(p)
}

// Refuse queues the RST for a segment of which Answers is true, if the rate permits.
func (q *Queue) Refuse(now flow.Time, from flow.Side, instance uint32, p *wire.Packet) {
	if q.admits(now, 1) {
		q.put(reset{at: now, to: from, instance: instance, Reset: wire.ResetOf(p)})
	}
}
