package permits

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/slab"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// Batch is what packets of one time, that instances with public addresses of their own have let
// through, do to permits: it is put off, and done for all together. Add does for a packet what Meet
// and Carry do, where nobody is to be asked about it, and Settle must follow before the time is
// another one. Since all a packet does is to prolong its flow's permit to that time, or to give it one,
// once, it makes no difference which other packets of that time look at permits in between. The
// zero Batch is empty. It is one goroutine's, and scratch memory only.
type Batch struct {
	n      int
	flows  [MaxBatch]Flow
	hashes [MaxBatch]uint64
	sides  [MaxBatch]flow.Side
	lines  slab.Lines
}

// MaxBatch is how many packets a Batch takes before it is full.
const MaxBatch = 64

// Add puts off what a packet from a side does, of an instance with an inside address, and reports
// whether it has. It has not if the packet is not a whole one of TCP or UDP, if it is a SYN, which may
// have to be asked about and begins something, or if there is no room. With asks somebody is asked
// about flows without a permit, so that a datagram must look at its own now.
func (b *Batch) Add(t *Table, from flow.Side, p *wire.Packet, instance uint32, inside *[2]uint64, asks bool) bool {
	if b.n >= MaxBatch || p.Flags&wire.Fragmented != 0 {
		return false
	}
	switch p.Proto {
	case wire.ProtoTCP:
		if p.TCPHeader()[13]&(flow.SYN|flow.ACK) == flow.SYN {
			return false
		}
	case wire.ProtoUDP:
		if asks {
			return false
		}
	default:
		return false
	}
	f := &b.flows[b.n]
	if f.V6 = p.Flags&wire.V6 != 0; f.V6 {
		if h := p.IPv6(); from == flow.Outside {
			f.Remote[0], f.Remote[1] = h.SrcWords()
		} else {
			f.Remote[0], f.Remote[1] = h.DstWords()
		}
	} else if h := p.IPv4(); from == flow.Outside {
		f.Remote[0], f.Remote[1] = uint64(h.Src()), 0
	} else {
		f.Remote[0], f.Remote[1] = uint64(h.Dst()), 0
	}
	f.Inside[0], f.Inside[1] = inside[0], inside[1]
	f.InsidePort, f.RemotePort = sockets(from, p.Ports())
	f.Instance, f.Proto = instance, p.Proto
	b.hashes[b.n], b.sides[b.n] = f.hash(t.Key), from
	b.n++
	return true
}

// Settle does what has been put off, at the time of all packets.
func (b *Batch) Settle(t *Table, now flow.Time) {
	if b.n > 0 {
		b.settle(t, now)
	}
}

func (b *Batch) settle(t *Table, now flow.Time) {
	for i := range b.n {
		if s := t.slots(b.hashes[i]); s != nil {
			slab.AddLine(&b.lines, &(*s)[b.hashes[i]&uint64(len(*s)-1)])
		}
	}
	b.lines.Prefetch()
	for i := range b.n {
		t.carry(now, &b.flows[i], b.hashes[i], b.sides[i])
	}
	b.n = 0
}

// carry is Carry for a packet that has been put off: a datagram that nothing is known of begins a
// flow, and so does one from inside of a flow that was passed on.
func (t *Table) carry(now flow.Time, f *Flow, hash uint64, from flow.Side) {
	by, ok := t.lookBy(now, f, hash, true)
	if f.Proto == wire.ProtoUDP && (!ok || by == passedOn && from == flow.Inside) {
		t.rememberBy(now, f, hash, begun(from))
	}
}
