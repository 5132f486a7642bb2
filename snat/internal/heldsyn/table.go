// Package heldsyn holds SYNs from the outside that nobody has asked for.
//
// Two hosts that connect to each other at the same time send a SYN each, and that of
// the other one may come first. An answer to it would end the attempt, so for a while
// there is none; only then is its sender told that nobody is there (ICMP 3/3, ICMPv6
// 1/4), if no SYN of the inside has opened the same connection meanwhile. Read RFC
// 5382 section 4.3 (REQ-4) first.
//
// It refuses to know sessions, instances and who may be answered. A [Table] has one
// lock, which is taken after that of any shard and before that of the outbox.
package heldsyn

import (
	"slices"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Table is a table of held SYNs. A nil one holds none. It is safe for concurrent use.
type Table struct {
	outbox *icmp.Outbox
	notice *flow.Notice
	max    int
	wait   time.Duration

	mu    sync.Mutex // taken after any shard's lock, before outbox's; guards all below
	all   []syn      // in the order of due
	stats Stats      // without what is read of the others
}

// syn is one of them.
type syn struct {
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

// New returns a table for at most max SYNs, each of which is held for wait. What becomes
// of them goes to outbox; notice is raised when a SYN is the only one that is held.
func New(max int, wait time.Duration, outbox *icmp.Outbox, notice *flow.Notice) *Table {
	return &Table{outbox: outbox, notice: notice, max: max, wait: wait}
}

// find returns the place of the SYN that is held of a connection.
func (h *Table) find(c *connection) (int, bool) {
	i := slices.IndexFunc(h.all, func(s syn) bool { return s.connection == *c })
	return i, i >= 0
}

// Hold holds an inbound packet if it is a SYN.
func (h *Table) Hold(now flow.Time, p *wire.Packet) {
	if h == nil || p.Proto != wire.ProtoTCP || p.Flags&wire.Fragmented != 0 {
		return
	}
	t := p.TCP()
	if t.Flags()&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN || !wire.VerifyL4(p) {
		return
	}
	src, dst := p.Addrs()
	c := connection{uint8(p.Family()), t.SrcPort(), t.DstPort(), src, dst}
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
	h.all = append(h.all, syn{c, due, icmp.PortUnreachable.Build(p, dst, 0)})
	h.check()
}

// Match forgets the SYN that is held of a connection, which now has a session.
func (h *Table) Match(now flow.Time, t *ports.Tuple, outside [2]uint64, port uint16) {
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
func (h *Table) expire(now flow.Time) {
	n := 0
	for ; n < len(h.all) && h.all[n].due <= now; n++ {
		s := h.all[n]
		h.outbox.Report(flow.Emission{At: s.due, To: flow.Outside}, func() []byte { return s.answer })
	}
	h.all = slices.Delete(h.all, 0, n)
	h.stats.Expired += uint64(n)
}

// Advance tells the senders of all SYNs that are due by now.
func (h *Table) Advance(now flow.Time) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(now)
}

// NextDeadline returns when the first SYN is due, and whether there is any.
func (h *Table) NextDeadline() (at flow.Time, ok bool) {
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

// Stats counts what has become of SYNs.
type Stats struct {
	Held      int    // at the moment
	Bytes     int    // of them
	Matched   uint64 // forgotten because the inside has opened the connection
	Expired   uint64 // whose sender has been told
	Forgotten uint64 // not held, because there was no room
}

// Stats returns the counts.
func (h *Table) Stats() (s Stats) {
	if h == nil {
		return s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s = h.stats
	s.Held = len(h.all)
	for i := range h.all {
		s.Bytes += len(h.all[i].answer)
	}
	return s
}
