package snat

import (
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// What is configured and counted of held SYNs. Package heldsyn holds them.

// HoldSYN says what becomes of TCP SYNs from the outside that belong to no session
// and may not begin one by [Behavior].Filtering. They are dropped in any case. The
// zero value forgets them, and nobody is told, as in Azure.
//
// With Max above 0, such a SYN is held if the frontend port it is sent to is granted
// to an instance or is a Shared port. If a SYN of the inside opens the same connection
// within Wait, it is forgotten; the remote will send it again, and it then finds a
// session. Else its sender is told by ICMP 3/3 or ICMPv6 1/4, which [NAT.Advance]
// hands out, within [ICMP].ErrorRate and unless [ICMP] is silent to the outside. A SYN
// that comes again while it is held changes nothing, nor does one with a wrong
// checksum. A Policy.ResetSYN to the outside is an error, since that would answer at
// once.
type HoldSYN struct {
	// Max is the number of SYNs that are held at a time, 0..1,024, of at most
	// 1,280 bytes each; 0, the default, is none. Further ones are forgotten, so
	// a flood of them costs memory for no more. Jool holds 10 by default.
	Max int

	// Wait is how long a SYN is held: whole milliseconds from 6 s, the minimum of
	// RFC 5382 REQ-4, to 1 min (our choice). 0 means 6 s.
	Wait time.Duration
}

// HeldSYNStats counts the SYNs of HoldSYN.
type HeldSYNStats struct {
	Held      int    // at the moment
	Matched   uint64 // forgotten because the inside has opened the connection
	Expired   uint64 // whose time was over; Stats.ICMPErrors or ICMPErrorsSuppressed includes them
	Forgotten uint64 // that were not held because there were Max already
}

// Limits of HoldSYN.
const (
	minHoldSYN  = 6 * time.Second // RFC 5382 REQ-4
	maxHoldSYN  = time.Minute
	maxHeldSYNs = 1024
)

// holdSYN checks HoldSYN.
func (v *validation) holdSYN(h HoldSYN) {
	problems.Between(&v.List, "HoldSYN.Max", h.Max, 0, maxHeldSYNs)
	if h.Wait != 0 && (h.Wait < minHoldSYN || h.Wait > maxHoldSYN || h.Wait%flow.Tick != 0) {
		v.Add("HoldSYN.Wait", h.Wait, flow.ErrOutOfRange, "whole milliseconds, %v..%v", minHoldSYN, maxHoldSYN)
	}
}
