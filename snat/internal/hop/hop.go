// Package hop is what a router does with packets besides translating them: it looks at
// TTL and size before, counts down and splits after, and tells the senders of what it
// drops.
//
// It refuses to know who owns an address, which flows there are, and whether one may
// answer a sender: its owner asks the [Hop] at the right moment, with addresses that it
// has checked. A Hop never changes after Init, and may be used under any lock: what it
// makes goes to an [icmp.Outbox], which has a lock of its own.
//
// A packet that may not be forwarded is found by [Hop.Unfit] before it is translated, so
// that the error quotes it as it was sent. Of one that has been translated
// [Hop.Forward] counts down the hops, and splits it if it is too long.
//
// Read RFC 1812 sections 4.3.2 and 5.3.1, RFC 4443 section 2.4 and RFC 1191 first.
package hop

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
	"github.com/seed-a61be3fe/natplane/snat/internal/heldsyn"
	"github.com/seed-a61be3fe/natplane/snat/internal/icmp"
)

// Config says what a hop is.
type Config struct {
	CountsDown          bool         // it is a router: TTL and hop limit, and tells where they end
	MTU                 int          // largest packet in bytes; 0 is no limit
	Problems            bool         // senders are told what is wrong with IPv6 packets
	ProtocolUnreachable bool         // senders are told of protocols that are not carried
	Refusal             *icmp.Report // what the senders of refused flows are told; nil is nothing
}

// Hop is a hop. The zero value is transparent: nothing is unfit for it, and it leaves
// packets as they are.
type Hop struct {
	Config
	looks  bool // there may be unfit packets
	outbox *icmp.Outbox
	held   *heldsyn.Table
	ids    *fragments.IDs
}

// Init makes h what c says. What it makes goes to outbox, after the answers of held that
// are due; ids are for what it splits, and needed with an MTU.
func (h *Hop) Init(c Config, outbox *icmp.Outbox, held *heldsyn.Table, ids *fragments.IDs) {
	*h = Hop{Config: c, looks: c.CountsDown || c.MTU > 0, outbox: outbox, held: held, ids: ids}
}

// Unfit returns what is wrong with forwarding a packet, whoever sent it, or nil.
func (h *Hop) Unfit(p *wire.Packet) *icmp.Report {
	if !h.looks {
		return nil
	}
	return h.unfit(p)
}

func (h *Hop) unfit(p *wire.Packet) *icmp.Report {
	ttl, fragmentable := p.B[7], false
	if p.Flags&wire.V6 == 0 {
		ttl, fragmentable = p.B[8], p.B[6]>>5&wire.IPv4DF == 0
	}
	switch {
	case h.CountsDown && ttl <= 1:
		return &icmp.HopsExceeded
	case h.MTU > 0 && len(p.B) > h.MTU && !fragmentable:
		return &icmp.TooBig
	}
	return nil
}

// Answers reports whether a packet that the parser refuses goes on all the same, so that
// its sender can be told: a router's, without hops.
func (h *Hop) Answers(reason flow.Reason) bool { return reason == flow.ReasonTTL && h.CountsDown }

// Forward counts down the TTL or hop limit of a packet with the verdict that it is
// forwarded. It queues the fragments of one that exceeds the MTU and may be fragmented,
// and makes its verdict say so (RFC 4787 REQ-13a), or if there is no room that it is
// dropped. A fragment is split further and keeps its identification, which is that of its
// datagram.
func (h *Hop) Forward(now flow.Time, pkt []byte, v *flow.Verdict) {
	if pkt[0]>>4 != 4 {
		if h.CountsDown {
			pkt[7]--
		}
		return
	}
	ip := wire.IPv4(pkt)
	if h.CountsDown {
		ip.RewriteTTL(ip.TTL() - 1)
	}
	size := int(ip.TotalLength())
	if h.MTU == 0 || size <= h.MTU {
		return
	}
	id := ip.ID()
	if ip.FragmentOffset() == 0 && ip.Flags()&wire.IPv4MF == 0 {
		id = h.ids.Next4(ip.Src(), ip.Dst(), ip.Protocol())
	}
	if v.Action = flow.Queued; !h.outbox.Add(flow.Emission{At: now, To: v.To, Instance: v.Instance}, ip[:size].Split(h.MTU, id)) {
		*v = flow.Verdict{Action: flow.Drop, Reason: flow.ReasonFragLimit, Instance: v.Instance}
	}
}

// Report queues an error for the sender of p, quoting p as it was sent, unless p is one
// that is never answered or there have been too many. Addresses have been checked (RFC
// 1812 section 4.3.2.7); src is that of the error, or zero if there is none. It returns
// the reason of r.
func (h *Hop) Report(now flow.Time, to flow.Side, instance uint32, p *wire.Packet, src [2]uint64, r *icmp.Report) flow.Reason {
	if h.outbox.Silent(to) || !r.Answers(p) {
		return r.Reason
	}
	if from, _ := p.Addrs(); src == [2]uint64{} || src == from {
		h.outbox.Suppress()
		return r.Reason
	}
	h.held.Advance(now) // what was due before takes its turn before
	h.outbox.Report(flow.Emission{At: now, To: to, Instance: instance}, func() []byte { return r.Build(p, src, h.MTU) })
	return r.Reason
}

// Problem parses a packet that was dropped for a reason, and returns what its sender is
// told and whether it is told at all. The packet is as it came.
func (h *Hop) Problem(pkt []byte, reason flow.Reason, p *wire.Packet) (r icmp.Report, told bool) {
	told = h.Problems
	if reason == flow.ReasonUnsupportedProto {
		told = h.ProtocolUnreachable
	}
	if !told {
		return r, false
	}
	wire.Parse(pkt, p)
	return icmp.ProblemOf(reason, p)
}
