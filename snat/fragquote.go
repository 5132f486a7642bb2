package snat

// ICMP errors that quote a fragment with an offset. It has no ports, but as long as
// its datagram is known (fragtable.go) so is the flow: the identification with which
// it left is found here. Read RFC 5508 section 4.2 and RFC 6864 section 5.3 first.

import (
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
func (f *fragments) reconsider(from flow.Side, now flow.Time, pkt []byte, v *flow.Verdict) {
	var p wire.Packet
	wire.Parse(pkt, &p)
	q, _ := f.nat.messages.Read(&p, from)
	v4, proto := p.Flags&wire.V6 == 0, q.Proto
	if !v4 {
		proto = 0
	}
	k := leftKey(flow.Outside-from, q.Src, q.Dst, q.FragmentID(), proto)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now, expireAtDoor)
	d := f.findLeft(now, &k)
	_, to := p.Addrs()
	if d == nil || q.Src != to || from == flow.Inside && d.instance != v.Instance {
		return
	}
	addr, id, frontend := d.key.Src, uint32(d.key.SrcPort)<<16|uint32(d.key.DstPort), to
	if from == flow.Inside {
		addr, frontend = d.key.Dst, d.key.Dst
	}
	q.TranslateFragment(&p, from, addr, id)
	f.reconsidered[from]++
	f.countTraffic(from, v4, frontend, p.Proto, len(p.B))
	*v = flow.Verdict{Action: flow.Forward, To: flow.Outside - from, Instance: d.instance}
}

// fragmentsQuoted reports whether quotes of fragments can be translated.
func fragmentsQuoted(c *Config) bool { return c.ICMP.Errors && c.Fragments.Mode != FragmentsDropped }
