package snat

// Packets that exceed the MTU. Read RFC 791 section 3.2 (fragmentation procedure),
// RFC 4787 REQ-13a and RFC 6864 section 5.3 (identifications) first.

import (
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// splits numbers the datagrams that we fragment. Their identifications come from
// where those of translated fragments do, so that they never meet.
type splits struct {
	mu  sync.Locker
	ids *fragmentIDs // guarded by mu

	lost [2]atomic.Uint64 // packets that were translated, but not split for want of memory, by side
}

// addTo takes from the counts of forwarded packets what was counted there before it
// was lost.
func (s *splits) addTo(all *Stats) {
	all.Outbound.Forwarded -= s.lost[flow.Inside].Load()
	all.Inbound.Forwarded -= s.lost[flow.Outside].Load()
}

// numberSplits prepares the splitting of packets, if there is an MTU.
func (n *NAT) numberSplits(seed uint64) {
	switch {
	case n.icmp.MTU == 0:
	case n.fragments != nil:
		n.splits.mu, n.splits.ids = &n.fragments.mu, &n.fragments.ids
	default:
		n.splits.mu, n.splits.ids = new(sync.Mutex), new(fragmentIDs)
		n.splits.ids.init(seed)
	}
}

// split queues the fragments of h, an IPv4 packet that has been translated and may
// be fragmented, and makes its verdict say so. A fragment is split further and
// keeps its identification, which is that of its datagram. No lock may be held.
func (n *NAT) split(from flow.Side, now flow.Time, h wire.IPv4, v *flow.Verdict) {
	offset, more, id := h.FragmentOffset(), h.Flags()&wire.IPv4MF != 0, h.ID()
	if offset == 0 && !more {
		n.splits.mu.Lock()
		id = uint16(n.splits.ids.id4(h.Src(), h.Dst(), h.Protocol()))
		n.splits.mu.Unlock()
	}
	var parts []flow.Emission
	header, rest := h[:h.HeaderLen()], h[h.HeaderLen():]
	for len(rest) > 0 {
		size, last := len(rest), !more
		if room := n.icmp.MTU - len(header); size > room {
			size, last = room&^7, false
		}
		b := append(append(make(wire.IPv4, 0, len(header)+size), header...), rest[:size]...)
		b.SetTotalLength(uint16(len(b)))
		b.SetID(id)
		b.SetFragment(0, offset)
		if !last {
			b.SetFragment(wire.IPv4MF, offset)
		}
		b.ComputeChecksum()
		parts = append(parts, flow.Emission{At: now, To: v.To, Instance: v.Instance, Packet: b})
		if offset == 0 {
			header = laterHeader(header)
		}
		offset, rest = offset+size, rest[size:]
	}
	if v.Action = flow.Queued; !n.outbox.Add(parts...) {
		n.splits.lost[from].Add(1)
		n.early[from][flow.ReasonFragLimit].Add(1)
		*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFragLimit, Instance: v.Instance}
	}
}

// laterHeader returns the header of all fragments but the first: it has only those
// options that say that they are to be copied (RFC 791 section 3.1).
func laterHeader(first wire.IPv4) wire.IPv4 {
	const copied = 0x80
	b := append(make(wire.IPv4, 0, len(first)), first[:ip4Len]...)
	for opts := first[ip4Len:]; len(opts) > 0 && opts[0] != 0; {
		size := 1
		if opts[0] != 1 { // all but a no-operation has a length, which the parser has checked
			size = int(opts[1])
		}
		if opts[0]&copied != 0 {
			b = append(b, opts[:size]...)
		}
		opts = opts[size:]
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	b.SetVersionAndHeaderLen(len(b))
	return b
}
