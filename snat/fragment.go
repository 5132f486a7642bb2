package snat

// IP fragments. Read RFC 4787 section 11 (fragments in any order), RFC 3128 and
// RFC 5722 (tiny and overlapping ones), RFC 6864 section 5.3.1 and RFC 7739
// (identifications) first.
//
// Only the first fragment of a datagram has ports. It goes the way of any
// packet, and what becomes of it becomes of the others: the table (fragtable.go)
// remembers its verdict, its rewrite and the identification the datagram leaves
// with. Fragments that come before it wait there. The transport checksum covers
// the whole datagram, but a change of address and port changes it by the same
// amount whatever the rest is, so that the first fragment is all it takes.

import (
	"cmp"
	"encoding/binary"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
)

// FragmentMode says what happens to IP fragments.
type FragmentMode uint8

// The fragment modes.
const (
	FragmentsDropped FragmentMode = iota // as on an Azure load balancer's outbound rule
	FragmentsVirtual                     // translated one by one, in any order, without reassembly
	FragmentsUDP                         // likewise, but only those of UDP, as on an AWS NAT gateway
	numFragmentModes
)

// Fragments says what happens to IP fragments and how much memory they may take.
// The zero value drops them all. The numbers are our choices: RFC 4787 section 11
// and RFC 6146 section 3.4 demand limits and a wait of at least 2 s, and name no
// others.
//
// The oldest give way, so that fragments in order, which complete their datagram within
// moments, pass in the middle of a flood of others (RFC 4787 REQ-14 a). Where all
// datagrams, or all bytes, are taken, it is the instance that has most of them whose
// oldest gives way, of what it sends and of what it is sent apart; datagrams from
// outside that wait for their first, which tells whose they are, count together.
//
// Memory never exceeds 320 bytes and 16 for each of MaxPerDatagram times
// MaxDatagrams, 1.5 times MaxQueuedBytes, and 1 MiB; it is taken as it is needed
// and kept.
//
// A fragment that comes before the first of its datagram gets the verdict
// [flow.Queued]: the translator has copied it. When the first one arrives, the
// queue leaves by the sink of [NAT.Advance], translated, in the order of offsets;
// [NAT.NextDeadline] then tells the time of that arrival, so a driver that heeds
// it sends them right behind the first. (One sink for all that leaves by itself
// keeps the doors one packet in, one verdict out.) If the first one does not
// come, they are counted as drops with [flow.ReasonFragTimeout].
//
// Translated fragments leave with new identifications. An IPv4 one returns at the
// earliest after 65,536 fragmented datagrams of the same addresses and protocol,
// fewer where such triples share one of 2,048 counters; an IPv6 one after 2^32.
// Whole packets keep theirs.
type Fragments struct {
	Mode FragmentMode

	// Lifetime is how long fragments wait for the first of their datagram, how
	// long the first one's verdict then serves the others, and how long copies
	// of a complete datagram's fragments are recognised. 0 means 5 s; 2 s..2 min.
	Lifetime time.Duration

	// MaxDatagrams is the number of datagrams known at a time. 0 means 4,096;
	// 1..1,048,576. When there are as many, a complete or discarded one is
	// forgotten for a new one, else of the instance that has most the one that has
	// waited longest for its first fragment, else the oldest that has it but is not
	// complete. This last one does not give way for a datagram of the same instance
	// whose first fragment has not come; such a fragment is dropped.
	MaxDatagrams int

	// MaxPerSource is the number of datagrams of one source that may wait for
	// their first fragment, and the number of those that have it but are not
	// complete. 0 means 256; 1..MaxDatagrams. A further one takes the place of the
	// oldest.
	MaxPerSource int

	// MaxPerDatagram is the number of fragments of one datagram. 0 means 128,
	// enough for 64 KiB at an MTU of 576 bytes; 2..8,192.
	MaxPerDatagram int

	// MaxQueuedBytes is the memory for fragments that wait, in units of 256
	// bytes that hold 252. 0 means 4 MiB; 64 KiB..1 GiB. Where it is taken, of the
	// instance that has most the datagram that has waited longest gives way.
	MaxQueuedBytes int
}

// Our choices where a field of Fragments is zero.
const (
	fragmentLifetime       = 5 * time.Second
	fragmentMaxDatagrams   = 4096
	fragmentMaxPerSource   = 256
	fragmentMaxPerDatagram = 128
	fragmentMaxQueued      = 4 << 20
)

// filled returns c with every zero field filled in.
func (c Fragments) filled() Fragments {
	c.Lifetime = cmp.Or(c.Lifetime, fragmentLifetime)
	c.MaxDatagrams = cmp.Or(c.MaxDatagrams, fragmentMaxDatagrams)
	c.MaxPerSource = cmp.Or(c.MaxPerSource, min(fragmentMaxPerSource, c.MaxDatagrams))
	c.MaxPerDatagram = cmp.Or(c.MaxPerDatagram, fragmentMaxPerDatagram)
	c.MaxQueuedBytes = cmp.Or(c.MaxQueuedBytes, fragmentMaxQueued)
	return c
}

// fragments checks the limits on fragments.
func (v *validation) fragments(c Fragments) {
	problems.Constant(&v.List, "Fragments.Mode", c.Mode, numFragmentModes)
	c = c.filled()
	if c.Lifetime < 2*time.Second || c.Lifetime > 2*time.Minute {
		v.Add("Fragments.Lifetime", c.Lifetime, flow.ErrOutOfRange, "2s..2m")
	}
	for _, f := range []struct {
		name               string
		value, least, most int
	}{
		{"MaxDatagrams", c.MaxDatagrams, 1, 1 << 20},
		{"MaxPerSource", c.MaxPerSource, 1, c.MaxDatagrams},
		{"MaxPerDatagram", c.MaxPerDatagram, 2, 8192},
		{"MaxQueuedBytes", c.MaxQueuedBytes, 64 << 10, 1 << 30},
	} {
		problems.Between(&v.List, "Fragments."+f.name, f.value, f.least, f.most)
	}
}

// undecided is the action of a fragment, or of a packet that is to be hairpinned,
// between parsing and what decides on it. No door returns it.
const undecided flow.Action = 0xff

// refuseFragment is the end of a fragment where the parser hands over: dropped,
// or undecided if there is a table to decide.
func (n *NAT) refuseFragment(from flow.Side, v *flow.Verdict) bool {
	if n.closed.Load() {
		return n.dropEarly(from, flow.ReasonClosed, v)
	}
	if n.fragments == nil {
		return n.dropEarly(from, flow.ReasonFragment, v)
	}
	v.Action = undecided
	return false
}

// fragment decides on the fragment p, or on a packet that is to be hairpinned. No
// lock may be held.
func (n *NAT) fragment(from flow.Side, r *routes, now flow.Time, p *wire.Packet) flow.Verdict {
	if p.Flags&wire.Fragmented == 0 {
		return n.hairpin(r, now, p)
	}
	k, reason := fragmentKey(from, r, p)
	if reason == flow.ReasonNone && p.Flags&wire.NonFirst != 0 {
		if c := n.unfitAt(p); c != nil {
			reason = c.reason // nobody is told (RFC 1812 section 4.3.2.7)
		}
	}
	if reason != flow.ReasonNone {
		return n.dropFragments(from, reason, 1)
	}
	f := n.fragments
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire(now, expireAtDoor)
	e, id := extentOf(p), f.find(&k)
	if id != 0 && f.over(now, id) {
		f.end(now, id)
		id = 0
	}
	if p.Flags&wire.NonFirst == 0 {
		reason = f.first(from, r, now, id, &k, e, p)
	} else {
		reason = f.other(now, id, &k, e, p)
	}
	if reason != flow.ReasonNone {
		return n.dropFragments(from, reason, 1)
	}
	return f.verdict
}

// dropFragments counts fragments that are dropped.
func (n *NAT) dropFragments(from flow.Side, reason flow.Reason, count int) flow.Verdict {
	n.early[from][reason].Add(uint64(count))
	return flow.Verdict{Action: flow.Drop, Reason: reason}
}

// outsideRealm is the VNI in the keys of fragments from outside; instances have
// lower ones.
const outsideRealm = flow.MaxVNI

// fragmentKey returns what the fragments of one datagram have in common and
// those of others do not: side and instance, addresses, identification, and over
// IPv4 the protocol (RFC 791 section 3.2, RFC 8200 section 4.5). The ports of the
// key hold the identification.
func fragmentKey(from flow.Side, r *routes, p *wire.Packet) (k flow.Key6, reason flow.Reason) {
	t := addresses(p, from)
	k.Src, k.Dst = t.inside, t.remote
	var inst, target, id uint32
	if f, ok := p.Fragment(); ok {
		inst, target, id = r.inside6.get(t.inside), r.outside6.get(t.inside), f.ID()
	} else {
		own := uint32(t.inside[0])
		inst, target, id = r.inside4.get(own), r.outside4.get(own), uint32(p.IPv4().ID())
		k.VNIProto = uint32(p.Proto)
	}
	realm := uint32(outsideRealm)
	switch {
	case from == flow.Outside && target == 0:
		return k, flow.ReasonNotOurs
	case from == flow.Outside:
		k.Src, k.Dst = k.Dst, k.Src
	case inst == 0:
		return k, r.stranger(&t)
	default:
		realm, _ = unpack(inst)
	}
	k.VNIProto |= realm << 8
	k.SrcPort, k.DstPort = uint16(id>>16), uint16(id)
	return k, flow.ReasonNone
}

// extent is the part of its datagram that a fragment holds.
type extent struct {
	start, end uint16
	more       bool // it is not the last
}

// extentOf returns the extent of a fragment.
func extentOf(p *wire.Packet) extent {
	if f, ok := p.Fragment(); ok {
		const header = 8
		return extent{uint16(f.Offset()), uint16(f.Offset() + len(f) - header), f.More()}
	}
	h := p.IPv4()
	return extent{uint16(h.FragmentOffset()), uint16(h.FragmentOffset() + len(h) - h.HeaderLen()), h.Flags()&wire.IPv4MF != 0}
}

// translateFirst sends a first fragment the way of a whole packet.
func (n *NAT) translateFirst(from flow.Side, r *routes, now flow.Time, p *wire.Packet) (v flow.Verdict) {
	for caughtUp := false; ; r = n.renew(now).realm(r.id) {
		l := lane{p: *p, caughtUp: caughtUp}
		if n.icmp.Errors && n.icmp.isErrorMessage(p) { // never half translated
			return n.dropFragments(from, flow.ReasonFragment, 1)
		}
		if n.fragments.limits.Mode == FragmentsUDP && p.Proto != wire.ProtoUDP {
			return n.dropFragments(from, flow.ReasonFragment, 1)
		}
		l.p.Flags &^= wire.Fragmented // for the part that only looks at addresses and ports
		if from == flow.Inside && !n.parseOutbound(r, &l, wire.OK, &v) || from == flow.Outside && !n.parseInbound(r, &l, wire.OK, &v) {
			if v.Action == undecided {
				n.dropEarly(from, flow.ReasonHairpin, &v)
			}
			return v
		}
		l.p.Flags |= wire.Fragmented
		if n.special {
			n.prepare(from, &l)
		}
		sh := &n.shards[l.shard]
		sh.Lock()
		inForce := n.inForce(r, now)
		if inForce {
			sh.carry(from, r, now, &l, &v)
		}
		sh.Unlock()
		switch {
		case inForce && v.Action != undecided:
			return v
		case inForce:
			n.catchUp(now)
			caughtUp = true
		}
	}
}

// corrupt reports whether a segment's checksum is known to be wrong. That of a
// fragment is not known.
func corrupt(p *wire.Packet) bool { return p.Flags&wire.Fragmented == 0 && !wire.VerifyL4(p) }

// fragmentRewrite is what happens to each fragment of a datagram.
type fragmentRewrite struct {
	addr     [2]uint64 // the new source from inside, the new destination from outside
	id       uint32
	instance uint32 // whose it is
}

// apply rewrites address and identification of a fragment.
func (w *fragmentRewrite) apply(from flow.Side, p *wire.Packet) {
	if f, ok := p.Fragment(); ok {
		at := ip6Src
		if from == flow.Outside {
			at = ip6Dst
		}
		binary.BigEndian.PutUint64(p.B[at:], w.addr[0])
		binary.BigEndian.PutUint64(p.B[at+8:], w.addr[1])
		f.SetID(w.id)
		return
	}
	h := p.IPv4()
	at := ip4Src
	if from == flow.Outside {
		at = ip4Dst
	}
	d := wire.Delta32(binary.BigEndian.Uint32(h[at:]), uint32(w.addr[0])).Add(wire.Delta16(h.ID(), uint16(w.id)))
	binary.BigEndian.PutUint32(h[at:], uint32(w.addr[0]))
	h.SetID(uint16(w.id))
	binary.BigEndian.PutUint16(h[ip4Checksum:], d.ApplyIPv4(h.Checksum()))
}

// FragmentStats is what fragments hold at the moment.
type FragmentStats struct {
	Datagrams   int // known, complete and discarded ones included
	Queued      int // fragments that wait for their first, or for Advance to emit them
	QueuedBytes int // memory of the queued fragments; at most MaxQueuedBytes
}
