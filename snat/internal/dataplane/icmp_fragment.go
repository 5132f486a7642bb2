package dataplane

// ICMP errors that quote a fragment with an offset. It has no ports, but as long as
// its datagram is known so is the flow: the table of fragments tells what it was
// before translation. Read RFC 5508 section 4.2 first.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
)

// reconsider translates an error from a side that was dropped because it quotes a
// fragment with an offset, if the fragment's datagram is known. The quote gets the
// address and the identification that its sender or receiver knows. No lock may be
// held.
func (n *NAT) reconsider(from flow.Side, now flow.Time, pkt []byte, v *flow.Verdict) {
	var p wire.Packet
	wire.Parse(pkt, &p)
	q, _ := n.messages.Read(&p, from)
	_, to := p.Addrs()
	left := fragments.Left{Name: fragments.Name{Src: q.Src, Dst: q.Dst, ID: q.FragmentID()}, From: flow.Outside - from}
	v6 := p.Flags&wire.V6 != 0
	if !v6 {
		left.Proto = q.Proto
	}
	came, instance, ok := n.fragments.table.Recall(now, &left)
	if !ok || q.Src != to || from == flow.Inside && instance != v.Instance {
		return
	}
	addr, frontend := came.Src, to
	if from == flow.Inside {
		addr, frontend = came.Dst, came.Dst
	}
	q.TranslateFragment(&p, from, addr, came.ID)
	n.fragments.corrections.Reconsidered[from].Add(1)
	n.countFragment(from, v6, &frontend, p.Proto, len(p.B))
	*v = flow.Verdict{Action: flow.Forward, To: flow.Outside - from, Instance: instance}
}
