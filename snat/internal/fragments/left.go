package fragments

// What an ICMP error quotes of a fragment with an offset. That has no ports, but as
// long as its datagram is known so is the flow: the identification with which it left
// is found here. Read RFC 5508 section 4.2 and RFC 6864 section 5.3 first.

import (
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/index"
)

// Name is what the fragments of a datagram have in common.
type Name struct {
	Src, Dst [2]uint64 // IPv4 addresses stand in the first word
	ID       uint32
}

// Left is a datagram as it left: translated.
type Left struct {
	Name
	From  flow.Side
	Proto uint8 // of the IPv4 header; 0 over IPv6
}

// key returns the key of a datagram that left in the index of those.
func (l *Left) key() flow.Key6 {
	return flow.Key6{Src: l.Src, Dst: l.Dst, SrcPort: uint16(l.ID >> 16), DstPort: uint16(l.ID), VNIProto: uint32(l.From)<<8 | uint32(l.Proto)}
}

// Recall returns the name with which a datagram came that has been forwarded and left
// as l, and the instance of its verdict, if the table knows it at a time.
func (t *Table) Recall(now flow.Time, l *Left) (came Name, instance uint32, ok bool) {
	k := l.key()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire(now, expireAtDoor)
	d := t.findLeft(now, &k)
	if d == nil {
		return Name{}, 0, false
	}
	return Name{d.key.Src, d.key.Dst, uint32(d.key.SrcPort)<<16 | uint32(d.key.DstPort)}, d.instance, true
}

// left returns the key of a datagram that has been forwarded in the index of those.
func (d *datagram) left() flow.Key6 {
	l := Left{Name{d.key.Src, d.key.Dst, d.id}, d.from(), uint8(d.key.VNIProto)}
	if l.From == flow.Inside {
		l.Src = d.addr
	} else {
		l.Dst = d.addr
	}
	return l.key()
}

// remember enters a datagram that has been forwarded into the index of those, if
// anybody will ask.
func (t *Table) remember(id uint32) {
	if t.recall {
		k := t.datagrams.At(id).left()
		t.insert(&t.byLeft, index.Tag(t.hasher.Hash6(&k)), id)
	}
}

// forget undoes remember.
func (t *Table) forget(id uint32) {
	if d := t.datagrams.At(id); t.recall && d.action == flow.Forward {
		k := d.left()
		t.byLeft.Discard(index.Tag(t.hasher.Hash6(&k)), id)
	}
}

// findLeft returns the forwarded datagram with a key that is known at a time, or nil.
func (t *Table) findLeft(now flow.Time, k *flow.Key6) *datagram {
	for p := t.byLeft.Probe(index.Tag(t.hasher.Hash6(k))); ; {
		id := p.Next()
		if id == 0 {
			return nil
		}
		if d := t.datagrams.At(id); d.left() == *k && !t.over(now, id) {
			return d
		}
	}
}
