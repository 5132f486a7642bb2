package snat

import (
	"cmp"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// IP fragments, as they are configured. Package fragments carries that out; package
// dataplane takes them there.

// FragmentMode says what happens to IP fragments.
type FragmentMode uint8

// The fragment modes.
const (
	FragmentsDropped   FragmentMode = iota // as on an Azure load balancer's outbound rule
	FragmentsVirtual                       // translated one by one, in any order, without reassembly
	FragmentsUDP                           // likewise, but only those of UDP, as on an AWS NAT gateway
	FragmentsForwarded                     // likewise, but only those that come in by a [Forward] of all ports, and of its targets' answers, as on an Azure load balancer's HA ports
	numFragmentModes
)

// Fragments says what happens to IP fragments and how much memory they may take.
// The zero value drops them all. The numbers are our choices: RFC 4787 section 11
// and RFC 6146 section 3.4 demand limits and a wait of at least 2 s, and name no
// others.
//
// The oldest give way, so that fragments in order, which complete their datagram within
// moments, pass in the middle of a flood of others (RFC 4787 REQ-14 a). When all
// datagrams, or all bytes, are taken, the instance that has the most gives up its
// oldest; what it sends and what it is sent are counted apart. Datagrams from outside
// whose first fragment has not come belong to no instance yet and count together.
//
// Memory never exceeds MaxDatagrams x (320 + 16 x MaxPerDatagram) bytes, plus 1.5 x
// MaxQueuedBytes, plus 1 MiB; it is taken as it is needed and kept.
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
		{"Fragments.MaxDatagrams", c.MaxDatagrams, 1, 1 << 20},
		{"Fragments.MaxPerSource", c.MaxPerSource, 1, c.MaxDatagrams},
		{"Fragments.MaxPerDatagram", c.MaxPerDatagram, 2, 8192},
		{"Fragments.MaxQueuedBytes", c.MaxQueuedBytes, 64 << 10, 1 << 30},
	} {
		problems.Between(&v.List, f.name, f.value, f.least, f.most)
	}
}
