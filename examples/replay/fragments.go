// Fragments: which belong together, and those that wait in the translator.

package main

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// datagram names a fragmented datagram, for as long as its identification is not
// used again.
type datagram struct {
	src, dst netip.Addr
	proto    uint8 // 0 for IPv6, where it does not count
	id       uint32
}

// head is the first fragment of a datagram, which has the ports.
type head struct {
	at       int // index in the capture
	proto    uint8
	src, dst netip.AddrPort
}

// datagrams are the first fragments of a capture, in its order.
type datagrams map[datagram][]head

// datagramsOf finds the first fragments of a capture.
func datagramsOf(packets []capture.Packet) datagrams {
	d := make(datagrams)
	var b []byte
	for i := range packets {
		b = packets[i].AppendTo(b[:0])
		if f := locate(b); f.isHead() {
			k := f.datagram(b)
			src, dst := f.endpoints(b)
			d[k] = append(d[k], head{i, f.proto, src, dst})
		}
	}
	return d
}

// datagram returns the datagram that b, a fragment of this form, is of.
func (f *form) datagram(b []byte) datagram {
	src, dst := f.endpoints(b)
	k := datagram{src: src.Addr(), dst: dst.Addr()}
	if f.v4 {
		k.proto, k.id = b[9], uint32(binary.BigEndian.Uint16(b[f.id:]))
	} else {
		k.id = binary.BigEndian.Uint32(b[f.id:])
	}
	return k
}

// headOf returns the first fragment of the datagram that packet i is another one
// of: of those with its identification, the one that is nearest in the capture.
func (d datagrams) headOf(i int, f *form, packet []byte) (head, bool) {
	if !f.isTail() {
		return head{}, false
	}
	heads := d[f.datagram(packet)]
	n, _ := slices.BinarySearchFunc(heads, i, func(h head, i int) int { return cmp.Compare(h.at, i) })
	switch {
	case len(heads) == 0:
		return head{}, false
	case n == len(heads) || n > 0 && i-heads[n-1].at < heads[n].at-i:
		n--
	}
	return heads[n], true
}

// identities are the identifications that the outside gives to datagrams for us. To
// it several inside hosts are one, so what it sends them must not have the same.
type identities struct {
	given map[identity]uint32
	taken map[datagram]bool   // as the outside sends them
	next  map[datagram]uint32 // by everything but identification: what to try, all below are taken
}

// identity is a datagram of the capture on its way to an address outside.
type identity struct {
	datagram
	outside netip.Addr
}

func newIdentities() identities {
	return identities{make(map[identity]uint32), make(map[datagram]bool), make(map[datagram]uint32)}
}

// of returns the identification that the datagram k has on its way to an address
// outside: its own, if no other one has that.
func (all *identities) of(k datagram, outside netip.Addr) uint32 {
	i := identity{k, outside}
	id, known := all.given[i]
	if known {
		return id
	}
	const last = 1<<16 - 1 // of IPv4, and more than enough for IPv6
	k.dst = outside
	if all.taken[k] {
		pair := k
		pair.id = 0
		for k.id = all.next[pair]; k.id < last && all.taken[k]; {
			k.id++
		}
		all.next[pair] = k.id
	}
	all.given[i], all.taken[k] = k.id, true
	return k.id
}

// left is what datagrams of the capture, by their fragments, have become on the
// other side: that is what an error about one of them quotes there.
type left map[datagram]struct {
	src netip.Addr
	id  uint32
}

// note notes what has become of packet, a fragment of this form.
func (l left) note(f *form, packet, b []byte) {
	if f.id != 0 {
		became := f.datagram(b)
		l[f.datagram(packet)] = struct {
			src netip.Addr
			id  uint32
		}{became.src, became.id}
	}
}

// waiting is a packet of the capture that waits in the translator.
type waiting struct {
	packet []byte // without padding
	src    netip.AddrPort
	number int
}

// queue is all that waits, by what of it will be the same when it leaves: a key
// made by queueKey.
type queue map[string][]waiting

// queueKey returns a fragment of this form, on its way to a side, without what
// a translator changes in it.
func queueKey(to flow.Side, f *form, b []byte) string {
	const v4TTL, v6HopLimit, v4Checksum = 8, 7, 10
	k := append(f.normal(b[:f.length]), byte(to))
	if f.v6 {
		k[v6HopLimit] = 0
	} else {
		k[v4TTL], k[v4Checksum], k[v4Checksum+1] = 0, 0, 0
	}
	if to == flow.Outside {
		at, n := f.sourceAt()
		clear(k[at : at+n])
	}
	return string(k)
}

// wait notes a packet that the translator has queued.
func (q queue) wait(to flow.Side, f *form, w waiting) {
	k := queueKey(to, f, w.packet)
	q[k] = append(q[k], w)
}

// take returns the packet that b, of this form, has been before it waited.
func (q queue) take(to flow.Side, f *form, b []byte) (w waiting, ok bool) {
	if len(q) == 0 || !f.isTail() {
		return w, false
	}
	k := queueKey(to, f, b)
	all := q[k]
	if len(all) == 0 {
		return w, false
	}
	if q[k] = all[1:]; len(all) == 1 {
		delete(q, k)
	}
	return all[0], true
}

// settle counts what never left the queue: fragments of datagrams that were
// discarded, which the translator has counted as drops, and those that wait still.
func (r *replay) settle() {
	left := 0
	for _, all := range r.queue {
		left += len(all)
	}
	s := r.stats()
	for reason := range flow.Reasons() {
		drops := int(s.Outbound.Drops[reason]+s.Inbound.Drops[reason]) - r.reasons[reason]
		n := min(max(drops, 0), left)
		r.reasons[reason] += n
		r.dropped += n
		left -= n
	}
	r.reasons[flow.ReasonFragTimeout] += left
	r.dropped += left
}
