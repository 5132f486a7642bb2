package snat

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What can be asked of the choice of ports that instances own: Owned.Allocation.
// Package ports carries it out. Read RFC 4787 sections 4.1 and 4.2 and RFC 6056 section 3
// first.

// Allocation says which of its own ports an instance gives to new flows. The zero
// value is what Azure's load balancers do: the lowest port that is free for the
// destination, frontends in the order of Instance.Ports. Identifiers of ICMP
// queries follow it too, except for Parity and Class.
//
// Ports are decided under the lock of the instance's shard, when a mapping or a
// flow begins; established flows pay nothing. A change by [NAT.Reconfigure] books
// all sessions anew, which costs O(sessions).
type Allocation struct {
	// Choice says which of several free ports is taken: LowestPort, the default,
	// RandomPort or PreservePort. A frontend is exhausted before the next is
	// asked, see Pooling.
	Choice PortChoice

	// Parity gives even ports to even source ports and odd ones to odd, as long
	// as the frontend has such a port that is free (RFC 4787 REQ-4); then it
	// gives one of the other parity, which is our choice.
	Parity bool

	// Class says whether source ports below 1,024 get outside ports below 1,024,
	// and others others (RFC 4787 REQ-3 a). The class counts for more than the
	// parity, and the frontend for more than both; that is our choice.
	Class PortClass

	// Pooling says which frontend an inside address appears as.
	Pooling Pooling

	// Quarantine keeps freed ports out of use for a while.
	Quarantine Quarantine

	// Exclude names ports that are given to no new mapping or flow, those that
	// stand for static mappings, probes or services of the frontend itself (RFC
	// 6056 section 3.2). Flows that are on them go on. Ports that are nobody's
	// may be named. They count as held while they have no session.
	Exclude []Exclusion
}

// PortChoice says which of the ports that are free for its destination a new
// flow gets. A flow is refused only if there is none.
type PortChoice uint8

// The choices.
const (
	// DefaultPort stands for LowestPort where instances own ports, and for
	// RandomPort where they share them: what Azure's load balancers and NAT gateways do.
	DefaultPort PortChoice = iota

	// LowestPort takes the first free port in the order of Instance.Ports. Shared
	// ports do not offer it.
	LowestPort

	// RandomPort takes any free port, each with the same chance (RFC 6056 section
	// 3). Numbers come from Dataplane.Seed; each instance has a sequence of its own,
	// from which nothing can be told about others. Of Shared ports it takes one
	// without flows, over all frontends (Azure documents a random port; that the
	// frontend is random as well is our choice), and if all have flows, any that
	// has none to the destination. Cost: independent of how many ports are taken.
	RandomPort

	// PreservePort keeps the source port if it is free, as Linux does, else it
	// takes a random one. Of Shared ports that is one of the source port's class:
	// 1-511, 600-1023 (for 512-1023), or from 1024. The frontend there depends on
	// source and destination address only, and a port of another class, or of
	// another frontend, is never used; where instances own ports, Allocation.Class
	// and Allocation.Pooling decide on both.
	PreservePort
	numPortChoices
)

// PortClass says what the class of the source port, 0 to 1,023 or from 1,024 on,
// means for the outside port.
type PortClass uint8

// The rules.
const (
	AnyClass     PortClass = iota // nothing; the default, Azure
	PreferClass                   // a port of the other class only if the frontend has no free one of the same
	RequireClass                  // a port of the same class or none
	numPortClasses
)

// Pooling says which frontends an inside address is translated to (RFC 4787
// section 4.1). All protocols of an address have the same; IPv4 and IPv6 do not
// share frontends. Paired and PairedSoft keep a record for each subscriber.
type Pooling uint8

// The poolings. A new subscriber, or one that has had no session meanwhile, gets
// the frontend with the fewest subscribers that has ports of the protocol, the
// first such one in the order of Instance.Ports; that is our choice.
const (
	InOrder    Pooling = iota // frontends in the order of Instance.Ports; the default, Azure
	Paired                    // always the same frontend; a flow is refused if that has no port (RFC 7857 section 4)
	PairedSoft                // the same frontend while it has a port, then the ones that follow
	Arbitrary                 // a random frontend for each new mapping, then the ones that follow
	numPoolings
)

// Exclusion is a run of ports of one frontend.
type Exclusion struct {
	Frontend    netip.Addr // whose ports; it need not be anybody's
	Protocol    Protocol   // All is TCP and UDP; Query names identifiers
	First, Last uint16     // 1..65535; a Last of 0 stands for First
}

// Quarantine keeps a port of an instance that has lost its last session from
// everybody for a while, so that late packets for its old owner do not reach a
// new one (RFC 6888 REQ-8). Azure only keeps a port from the destinations of
// closed connections, which Policy.Timeouts says: a port in quarantine has served
// those holds. The default is none. A port in quarantine counts as used
// ([PortUses].Resting).
type Quarantine struct {
	// Hold is how long a port is in quarantine, in whole milliseconds, at most 24
	// days. 0 means not at all; RFC 6888 asks for 120 s.
	Hold time.Duration

	// MaxPorts is how many ports of an instance may be in quarantine at once, for
	// each family and protocol: 1..516,096. One more sets the one free that was
	// freed first. 0 means no limit.
	MaxPorts int

	// ExemptTCP lets TCP ports be used again at once, which RFC 6888 REQ-8 A
	// permits to those who track connections, as we do.
	ExemptTCP bool
}

// allocation checks Owned.Allocation.
func (v *validation) allocation(a *Allocation) {
	problems.Constant(&v.List, "Allocation.Choice", a.Choice, numPortChoices)
	problems.Constant(&v.List, "Allocation.Class", a.Class, numPortClasses)
	problems.Constant(&v.List, "Allocation.Pooling", a.Pooling, numPoolings)
	q := &a.Quarantine
	v.timeout("Allocation.Quarantine.Hold", q.Hold)
	problems.Between(&v.List, "Allocation.Quarantine.MaxPorts", q.MaxPorts, 0, ports.MaxPoolPorts)
	if q.Hold == 0 && (q.MaxPorts != 0 || q.ExemptTCP) {
		v.Add("Allocation.Quarantine.MaxPorts", problems.Rawf("%d, ExemptTCP %v", q.MaxPorts, q.ExemptTCP), flow.ErrOutOfRange, "they need a Hold")
	}
	for i, e := range a.Exclude {
		field := fmt.Sprintf("Allocation.Exclude[%d]", i)
		if !flow.IsHost(e.Frontend) {
			v.Add(field+".Frontend", e.Frontend, flow.ErrAddress, "")
		}
		problems.Constant(&v.List, field+".Protocol", e.Protocol, numProtocolValues)
		if e.First == 0 || e.Last != 0 && e.Last < e.First {
			v.Add(field, problems.Rawf("%d..%d", e.First, e.Last), flow.ErrOutOfRange, "First 1..65535, Last 0 or from First on")
		}
	}
}

// same reports whether two allocations say the same.
func (a *Allocation) same(o *Allocation) bool {
	return a.Choice == o.Choice && a.Parity == o.Parity && a.Class == o.Class && a.Pooling == o.Pooling &&
		a.Quarantine == o.Quarantine && slices.Equal(a.Exclude, o.Exclude)
}

// paired reports whether subscribers have homes.
func (a *Allocation) paired() bool { return a.Pooling == Paired || a.Pooling == PairedSoft }
