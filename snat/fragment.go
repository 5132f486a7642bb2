package snat

// IP fragments. Read RFC 4787 section 11 (fragments in any order), RFC 3128 and
// RFC 5722 (tiny and overlapping ones), RFC 6864 section 5.3.1 and RFC 7739
// (identifications) first.
//
// Only the first fragment of a datagram has ports. It goes the way of any
// packet, and what becomes of it becomes of the others: the table (package fragments)
// remembers its verdict, its rewrite and the identification the datagram leaves
// with. Fragments that come before it wait there. The transport checksum covers
// the whole datagram, but a change of address and port changes it by the same
// amount whatever the rest is, so that the first fragment is all it takes.

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/wire"
	"github.com/seed-a61be3fe/natplane/snat/internal/fragments"
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
	Mode FragmentMode // which are carried; zero is none

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

// refuseFragment is the end of a fragment where the parser hands over: dropped,
// or undecided if there is a table to decide.
func (n *NAT) refuseFragment(from flow.Side, v *flow.Verdict) bool {
	if n.closed.Load() {
		return n.dropEarly(from, flow.ReasonClosed, v)
	}
	if n.fragments.table == nil {
		return n.dropEarly(from, flow.ReasonFragment, v)
	}
	v.Action = undecided
	return false
}

// setFragments prepares for fragments, those that come and those that an MTU makes.
func (n *NAT) setFragments(c *Config) {
	f := &n.fragments
	if c.Fragments.Mode == FragmentsDropped && c.ICMP.MTU == 0 {
		return
	}
	f.ids = fragments.NewIDs(c.Seed)
	if c.Fragments.Mode == FragmentsDropped {
		return
	}
	limits := c.Fragments.filled()
	f.udpOnly = limits.Mode == FragmentsUDP
	f.table = fragments.New(fragments.Config{
		Limits: fragments.Limits{
			Lifetime: flow.Time(limits.Lifetime), MaxDatagrams: limits.MaxDatagrams, MaxPerSource: limits.MaxPerSource,
			MaxPerDatagram: limits.MaxPerDatagram, MaxQueuedBytes: limits.MaxQueuedBytes,
		},
		Hasher: n.table.Hasher(), IDs: f.ids, Recall: n.messages.Errors, Notice: &n.notice,
		Dropped: func(from flow.Side, reason flow.Reason, count int) { n.dropFragments(from, reason, count) },
		Carried: n.countFragment,
	})
}

// fragment decides on the fragment p. No lock may be held.
func (n *NAT) fragment(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	sender, reason := r.senderOf(from, p)
	if reason == flow.ReasonNone && p.Flags&wire.NonFirst != 0 {
		if c := n.router.Unfit(p); c != nil {
			reason = c.Reason // nobody is told (RFC 1812 section 4.3.2.7)
		}
	}
	if reason != flow.ReasonNone {
		*v = n.dropFragments(from, reason, 1)
		return
	}
	n.fragments.table.Decide(now, from, sender, p, v, func() { n.translateFirst(from, r, now, p, v) })
}

// dropFragments counts fragments that are dropped.
func (n *NAT) dropFragments(from flow.Side, reason flow.Reason, count int) flow.Verdict {
	n.early[from][reason].Add(uint64(count))
	return flow.Verdict{Action: flow.Drop, Reason: reason}
}

// senderOf returns the instance that a fragment from inside comes from, or why a
// fragment is dropped whatever datagram it belongs to.
func (r *routes) senderOf(from flow.Side, p *wire.Packet) (sender uint32, reason flow.Reason) {
	var inst, target uint32
	switch v4 := p.Flags&wire.V6 == 0; {
	case from == flow.Outside && v4:
		target = r.outside4.Get(p.IPv4().Dst())
	case from == flow.Outside:
		target = r.outside6.Get(words(p.B[ip6Dst:]))
	case v4:
		inst = r.inside4.Get(p.IPv4().Src())
	default:
		inst = r.inside6.Get(words(p.B[ip6Src:]))
	}
	switch {
	case from == flow.Outside && target == 0:
		if t := addresses(p, from); r.tracks && r.homeOf(&t) != 0 {
			return 0, flow.ReasonNone
		}
		return 0, flow.ReasonNotOurs
	case from == flow.Outside:
		return 0, flow.ReasonNone
	case inst == 0:
		t := addresses(p, from)
		return 0, r.stranger(&t)
	}
	sender, _ = unpack(inst)
	return sender, flow.ReasonNone
}

// translateFirst sends a first fragment the way of a whole packet.
func (n *NAT) translateFirst(from flow.Side, r *routes, now flow.Time, p *wire.Packet, v *flow.Verdict) {
	if n.messages.CarriesError(p) || // never half translated
		n.fragments.udpOnly && p.Proto != wire.ProtoUDP {
		*v = n.dropFragments(from, flow.ReasonFragment, 1)
		return
	}
	*v = flow.Verdict{}
	n.pass(from, r, now, &lane{p: *p, first: true}, wire.OK, v)
}

// parseFirst is parse for a first fragment. Like a whole packet it has addresses and
// ports, which is all that parsing looks at.
func (n *NAT) parseFirst(from flow.Side, r *routes, l *lane, v *flow.Verdict) bool {
	l.p.Flags &^= wire.Fragmented
	defer func() { l.p.Flags |= wire.Fragmented }()
	return n.parse(from, r, l, wire.OK, v)
}

// corrupt reports whether a segment's checksum is known to be wrong. That of a
// fragment is not known.
func corrupt(p *wire.Packet) bool { return p.Flags&wire.Fragmented == 0 && !wire.VerifyL4(p) }

// advanceFragments does a bounded piece of what is due of fragments and emits some of
// those that have waited. It reports whether nothing is left.
func (n *NAT) advanceFragments(now flow.Time, emit flow.Sink) (done bool) {
	if emit == nil {
		return n.fragments.table.Advance(now, emitStep, nil)
	}
	return n.fragments.table.Advance(now, emitStep, func(d fragments.Departure) {
		v := d.Verdict
		if n.routed {
			n.hop(n.routes.Load(), d.From, d.At, d.Packet, &v)
		}
		if v.Action == flow.Forward || v.Action == flow.Bypass {
			emit(flow.Emission{At: d.At, To: v.To, Instance: v.Instance, Packet: d.Packet})
		}
	})
}

// emitStep is how many fragments leave in one step.
const emitStep = 64
