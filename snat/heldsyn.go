package snat

// SYNs from the outside that nobody has asked for. Read RFC 5382 section 4.3
// (REQ-4) first.
//
// Two hosts that connect to each other at the same time send a SYN each, and that
// of the other one may come first. An answer to it would end the attempt, so for
// six seconds there is none; only then is the sender told, if no SYN of the inside
// has opened the same connection meanwhile.

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// HoldSYN says what becomes of TCP SYNs from the outside that belong to no session
// and may not begin one by [Behavior].Filtering. They are dropped in any case. The
// zero value forgets them, and nobody is told, as in Azure.
//
// With Max above 0, each to a port of a frontend that is granted to an instance, or is
// of Shared ports, is held. If a
// SYN of the inside opens the same connection within Wait, it is forgotten; the
// remote will send it again, and it then finds a session. Else its sender is told
// by ICMP 3/3 or ICMPv6 1/4, which [NAT.Advance] hands out, within [ICMP].ErrorRate
// and unless [ICMP] is silent to the outside. A SYN that comes again while it is
// held changes nothing, nor does one with a wrong checksum. A Policy.ResetSYN to
// the outside is an error, since that would answer at once.
type HoldSYN struct {
	// Max is the number of SYNs that are held at a time, 0..1,024, of at most
	// 1,280 bytes each; 0, the default, is none. Further ones are forgotten, so
	// a flood of them costs memory for no more. Jool holds 10 by default.
	Max int

	// Wait is how long a SYN is held: whole milliseconds from 6 s, the minimum of
	// RFC 5382 REQ-4, to 1 min (our choice). 0 means 6 s.
	Wait time.Duration
}

// Limits of HoldSYN.
const (
	minHoldSYN  = 6 * time.Second // RFC 5382 REQ-4
	maxHoldSYN  = time.Minute
	maxHeldSYNs = 1024
)

// HeldSYNStats counts the SYNs of HoldSYN.
type HeldSYNStats struct {
	Held      int    // at the moment
	Matched   uint64 // forgotten because the inside has opened the connection
	Expired   uint64 // whose time was over; Stats.ICMPErrors or ICMPErrorsSuppressed includes them
	Forgotten uint64 // that were not held because there were Max already
}

// holdSYN checks HoldSYN.
func (v *validation) holdSYN(h HoldSYN) {
	problems.Between(&v.List, "HoldSYN.Max", h.Max, 0, maxHeldSYNs)
	if h.Wait != 0 && (h.Wait < minHoldSYN || h.Wait > maxHoldSYN || h.Wait%flow.Tick != 0) {
		v.Add("HoldSYN.Wait", h.Wait, flow.ErrOutOfRange, "whole milliseconds, %v..%v", minHoldSYN, maxHoldSYN)
	}
}

// heldUnanswered checks that nobody answers what HoldSYN holds.
func (v *validation) heldUnanswered(c *Config) {
	h := c.HoldSYN
	if h.Max > 0 && slices.ContainsFunc(c.policies(), func(p Policy) bool { return p.ResetSYN == ResetSender }) {
		v.Add("HoldSYN.Max", h.Max, flow.ErrOutOfRange, "not with Policy.ResetSYN %v", ResetSender)
	}
}

// heldSYNs is the table of held SYNs, which is nil where none are held.
type heldSYNs struct {
	outbox *icmp.Outbox
	notice *flow.Notice
	max    int
	wait   time.Duration

	mu    sync.Mutex // taken after any shard's lock, before outbox's; guards all below
	all   []heldSYN  // in the order of due
	stats HeldSYNStats
}

// heldSYN is one of them.
type heldSYN struct {
	connection
	due    flow.Time
	answer []byte // that is sent then
}

// connection names a TCP connection as the outside sees it.
type connection struct {
	family                  uint8
	remotePort, outsidePort uint16
	remote, outside         [2]uint64
}

// newHeldSYNs returns the table for a configuration.
func newHeldSYNs(n *NAT, c HoldSYN) *heldSYNs {
	if c.Max == 0 {
		return nil
	}
	return &heldSYNs{outbox: &n.outbox, notice: &n.notice, max: c.Max, wait: cmp.Or(c.Wait, minHoldSYN)}
}

// find returns the place of the SYN that is held of a connection.
func (h *heldSYNs) find(c *connection) (int, bool) {
	i := slices.IndexFunc(h.all, func(s heldSYN) bool { return s.connection == *c })
	return i, i >= 0
}

// hold holds an inbound packet if it is a SYN.
func (h *heldSYNs) hold(now flow.Time, p *wire.Packet) {
	if h == nil || p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 {
		return
	}
	t := p.TCP()
	if t.Flags()&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN || !wire.VerifyL4(p) {
		return
	}
	a := addresses(p, flow.Outside)
	c := connection{a.Family, t.SrcPort(), t.DstPort(), a.Remote, a.Inside}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(now)
	if _, ok := h.find(&c); ok {
		return
	}
	if len(h.all) == h.max {
		h.stats.Forgotten++
		return
	}
	due := now.Add(h.wait)
	if n := len(h.all); n > 0 {
		due = max(due, h.all[n-1].due) // whoever raced with us has seen a later now
	} else {
		h.notice.Raise()
	}
	h.all = append(h.all, heldSYN{c, due, icmp.PortUnreachable.Build(p, a.Inside, 0)})
	h.check()
}

// match forgets the SYN that is held of a connection, which now has a session.
func (h *heldSYNs) match(now flow.Time, t *ports.Tuple, outside [2]uint64, port uint16) {
	if h == nil || t.Proto != wire.ProtoTCP {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(now)
	if i, ok := h.find(&connection{t.Family, t.DestPort, port, t.Remote, outside}); ok {
		h.all = slices.Delete(h.all, i, i+1)
		h.stats.Matched++
		h.check()
	}
}

// expire tells the senders of all SYNs that are due. mu must be held.
func (h *heldSYNs) expire(now flow.Time) {
	n := 0
	for ; n < len(h.all) && h.all[n].due <= now; n++ {
		s := h.all[n]
		h.outbox.Report(flow.Emission{At: s.due, To: flow.Outside}, func() []byte { return s.answer })
	}
	h.all = slices.Delete(h.all, 0, n)
	h.stats.Expired += uint64(n)
}

// advance is expire for whoever does not hold mu.
func (h *heldSYNs) advance(now flow.Time) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(now)
}

// nextDeadline returns when the first SYN is due, and whether there is any.
func (h *heldSYNs) nextDeadline() (at flow.Time, ok bool) {
	if h == nil {
		return 0, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return 0, false
	}
	return h.all[0].due, true
}

// addTo adds the counts to those of all.
func (h *heldSYNs) addTo(s *Stats) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.HeldSYNs = h.stats
	s.HeldSYNs.Held = len(h.all)
	for i := range h.all {
		s.Bytes += len(h.all[i].answer)
	}
}
