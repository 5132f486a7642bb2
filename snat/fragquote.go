package snat

// ICMP errors that quote a fragment with an offset. It has no ports, but as long as
// its datagram is known (fragtable.go) so is the flow: the identification with which
// it left is found here. Read RFC 5508 section 4.2 and RFC 6864 section 5.3 first.

import (
	"encoding/binary"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// leftKey returns what identifies the fragments of a datagram from a side once they
// are translated: addresses, identification, and over IPv4 the protocol.
func leftKey(from flow.Side, src, dst [2]uint64, id uint32, proto uint8) flow.Key6 {
	return flow.Key6{Src: src, Dst: dst, SrcPort: uint16(id >> 16), DstPort: uint16(id), VNIProto: uint32(from)<<8 | uint32(proto)}
}

// left is leftKey for a datagram that has been forwarded.
func (d *datagram) left() flow.Key6 {
	src, dst := d.key.Src, d.key.Dst
	if d.from() == flow.Inside {
		src = d.addr
	} else {
		dst = d.addr
	}
	return leftKey(d.from(), src, dst, d.id, uint8(d.key.VNIProto))
}

// remember enters a datagram that has been forwarded into the index of those, if
// anybody will ask.
func (f *fragments) remember(id uint32) {
	if f.nat.icmp.Errors {
		k := f.datagrams.At(id).left()
		f.insert(&f.byLeft, index.Tag(f.hasher.Hash6(&k)), id)
	}
}

// forget undoes remember.
func (f *fragments) forget(id uint32) {
	if d := f.datagrams.At(id); f.nat.icmp.Errors && d.action == flow.Forward {
		k := d.left()
		f.byLeft.Discard(index.Tag(f.hasher.Hash6(&k)), id)
	}
}

// findLeft returns the forwarded datagram with a key that is known at a time, or nil.
func (f *fragments) findLeft(now flow.Time, k *flow.Key6) *datagram {
	for p := f.byLeft.Probe(index.Tag(f.hasher.Hash6(k))); ; {
		id := p.Next()
		if id == 0 {
			return nil
		}
		if d := f.datagrams.At(id); d.left() == *k && !f.over(now, id) {
			return d
		}
	}
}

// reconsider translates an error from a side that was dropped because it quotes a
// fragment with an offset, if the fragment's datagram is known. The quote gets the
// address and the identification that its sender or receiver knows.
func (f *fragments) reconsider(from flow.Side, now flow.Time, pkt []byte, lenient bool, v *flow.Verdict) {
	var p wire.Packet
	q := quote{lenient: lenient}
	wire.Parse(pkt, &p)
	q.read(&p, from)
	v4, to := p.Flags&wire.V6 == 0, addresses(&p, flow.Inside)
	var k flow.Key6
	if v4 {
		h := wire.IPv4(q.b)
		k = leftKey(flow.Outside-from, q.src, q.dst, uint32(h.ID()), h.Protocol())
	} else {
		k = leftKey(flow.Outside-from, q.src, q.dst, wire.Fragment(q.b[q.l4:]).ID(), 0)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now, expireAtDoor)
	d := f.findLeft(now, &k)
	if d == nil || q.src != to.Remote || from == flow.Inside && d.instance != v.Instance {
		return
	}
	addr, id := d.key.Src, uint32(d.key.SrcPort)<<16|uint32(d.key.DstPort)
	if from == flow.Inside {
		addr = d.key.Dst
	}
	inner, outer := quotedAt(v4, from)
	changes, outers := putAddr(q.b[inner:], v4, addr), putAddr(p.B[outer:], v4, addr)
	if v4 {
		changes = changes.Add(put16(q.b[4:], uint16(id)))
		sum := q.b[ip4Checksum:]
		changes = changes.Add(put16(sum, changes.ApplyIPv4(binary.BigEndian.Uint16(sum))))
		p.IPv4().Adjust(outers)
	} else {
		fragment := wire.Fragment(q.b[q.l4:])
		changes = changes.Add(wire.Delta32(fragment.ID(), id)).Add(outers)
		fragment.SetID(id)
	}
	p.ICMPv4().Adjust(changes) // ICMPv6 has its checksum at the same place
	f.reconsidered[from]++
	frontend := to.Remote
	if from == flow.Inside {
		frontend = addr
	}
	f.countTraffic(from, v4, frontend, p.Proto, len(p.B))
	*v = flow.Verdict{Action: flow.Forward, To: flow.Outside - from, Instance: d.instance}
}

// fragmentsQuoted reports whether quotes of fragments can be translated.
func fragmentsQuoted(c *Config) bool { return c.ICMP.Errors && c.Fragments.Mode != FragmentsDropped }
