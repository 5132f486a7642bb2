package snat

// ICMP errors that quote a fragment with an offset. It has no ports, but as long as
// its datagram is known so is the flow: the table of fragments tells what it was
// before translation. Read RFC 5508 section 4.2 first.

import (
	"encoding/binary"

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
	q := quote{lenient: n.icmp.LenientQuotes}
	wire.Parse(pkt, &p)
	q.read(&p, from)
	v4, to := p.Flags&wire.V6 == 0, addresses(&p, flow.Inside)
	left := fragments.Left{Name: fragments.Name{Src: q.src, Dst: q.dst}, From: flow.Outside - from}
	if v4 {
		h := wire.IPv4(q.b)
		left.ID, left.Proto = uint32(h.ID()), h.Protocol()
	} else {
		left.ID = wire.Fragment(q.b[q.l4:]).ID()
	}
	came, instance, ok := n.fragments.table.Recall(now, &left)
	if !ok || q.src != to.Remote || from == flow.Inside && instance != v.Instance {
		return
	}
	addr := came.Src
	if from == flow.Inside {
		addr = came.Dst
	}
	inner, outer := quotedAt(v4, from)
	changes, outers := putAddr(q.b[inner:], v4, addr), putAddr(p.B[outer:], v4, addr)
	if v4 {
		changes = changes.Add(put16(q.b[4:], uint16(came.ID)))
		sum := q.b[ip4Checksum:]
		changes = changes.Add(put16(sum, changes.ApplyIPv4(binary.BigEndian.Uint16(sum))))
		p.IPv4().Adjust(outers)
	} else {
		fragment := wire.Fragment(q.b[q.l4:])
		changes = changes.Add(wire.Delta32(fragment.ID(), came.ID)).Add(outers)
		fragment.SetID(came.ID)
	}
	p.ICMPv4().Adjust(changes) // ICMPv6 has its checksum at the same place
	n.fragments.reconsidered[from].Add(1)
	frontend := to.Remote
	if from == flow.Inside {
		frontend = addr
	}
	n.countFragment(fragments.Carried{From: from, V6: !v4, Outside: frontend, Proto: p.Proto, Len: len(p.B)})
	*v = flow.Verdict{Action: flow.Forward, To: flow.Outside - from, Instance: instance}
}

// fragmentsQuoted reports whether quotes of fragments can be translated.
func fragmentsQuoted(c *Config) bool { return c.ICMP.Errors && c.Fragments.Mode != FragmentsDropped }
