package snat

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/turns"
)

// What a translator is told. Each type stands in a file of its own, with what is checked of
// it; validation.go has the order, and what must go together.

// Config describes a translator. The zero value of every field is a documented
// default; New copies what it keeps. [NAT.Reconfigure] lists the fields that cannot
// change later.
type Config struct {
	// Instances are the backends whose packets are translated, at most 16,777,214.
	Instances []Instance

	// Routes say what happens to new flows by their destination. None means that all
	// are translated.
	Routes []Route

	// RememberEntries remembers flows that public addresses of instances carry one to one as if
	// Admit were asked about them, and of TCP, too, so that what answers those that have
	// begun outside can be told where a Route has PassOn, also one that comes later. A flow is forgotten
	// when there has been no packet for 4 minutes, and there is an end of room, as with Admit. false, the
	// default, remembers what Admit needs. Cost: one or two locks and look-ups a packet of such an address.
	RememberEntries bool

	// Forwards say which ports of frontends are not for outbound flows but for inbound
	// ones, and whom they reach, at most 16,777,214. They need Owned ports, without
	// Hairpin.
	Forwards []Forward

	// Ports says who has the outside ports, and how they are given to flows: *Owned,
	// where each instance has its own, or *Shared. nil is &Owned{}, an Azure load
	// balancer. A copy of a Config has the same one.
	Ports Ports

	// Policy is that of all instances that have none of their own.
	Policy

	// Dataplane is how the translator runs and what it carries besides TCP and UDP.
	Dataplane
}

// Ports says who has the outside ports: an [Owned] or a [Shared].
type Ports interface{ isPorts() }

// Owned says that every instance has ports of its own, those of Instance.Ports, and how
// it gives them to flows. The zero value is what an Azure load balancer does.
type Owned struct {
	// TCP and UDP say how flows are mapped and filtered, and when they share
	// ports.
	TCP, UDP Behavior

	// Allocation says which of its ports an instance gives to new flows. The zero
	// value is Azure's: the lowest port that is free.
	Allocation Allocation

	// Blocks lets inside addresses have ports in blocks only; the zero value does
	// not.
	Blocks PortBlocks

	// Limits bound what one inside address may use; the zero value does not.
	Limits Limits

	// Hairpin lets hosts of the inside reach each other by their outside sockets
	// (RFC 4787 REQ-9): TCP, UDP and, with ICMP.Errors, errors about them. The
	// source that the receiver sees is the sender's outside socket, and its
	// filter decides as if the packet came from outside. A packet is counted in
	// both directions. What a host sends to its own mapping, and fragments, are
	// dropped; so is everything to a public address. It needs ShareNever for
	// both protocols. The default is to drop them all as
	// [flow.ReasonHairpin], as Azure does.
	Hairpin bool
}

func (*Owned) isPorts() {}

func (*Shared) isPorts() {}

// Dataplane is what every layer hands down to the translator unchanged, whatever the
// product: how it runs, what it carries besides TCP and UDP, and whom it tells. The
// zero value is what Azure does, in silence.
type Dataplane struct {
	// Shards is the number of locks, 1..64. 0 means 8; more are made if there
	// are more different policies. What becomes of packets does not depend on it,
	// except where Policy.ResetRate is reached. Each takes memory from when the first instance
	// is placed there; forwards, [Shared] ports and [NAT.Snapshot] need all of them.
	Shards int

	// Seed decides everything that is random. The same seed and the same
	// calls give the same bytes.
	Seed uint64

	// DistributionKey is the key of the hash by which forwards spread new flows over
	// targets. 0, the default, is a fixed one, so that the spread does not depend on
	// Seed unless asked to.
	DistributionKey uint64

	// HashKey is the key of the hash that finds sessions and all other records.
	// Nothing that can be seen depends on it, except how long things take. 0, the
	// default, draws a secret one from the system: who knows the key can choose
	// packets whose records collide, and then the NAT is slow and may refuse them
	// ([flow.ReasonMemory]). Any other value makes that repeatable, too.
	HashKey uint64

	// ICMP says what happens to ICMP and ICMPv6. The zero value drops it.
	ICMP ICMP

	// Fragments says what happens to IP fragments; the zero value drops them.
	Fragments Fragments

	// HoldSYN says what becomes of unsolicited SYNs from the outside; the zero
	// value drops them silently.
	HoldSYN HoldSYN

	// Lenient says which malformed packets pass nevertheless; the zero value is
	// none.
	Lenient Leniency

	// ReclaimGrace is how long flows may go on that use ports which a
	// [NAT.Reconfigure] takes away from their instance. Meanwhile no mapping begins on
	// these ports, but one that is there keeps its port for further sessions, from
	// either side; they are shown as AwaitingRemoval. If another instance gets them,
	// their flows end at once. 0, the default, ends
	// them at once in every case. In both cases the end is silent. Azure does
	// not publish what it does; that flows are dropped without RST, and when, is
	// our choice. Whole milliseconds, at most 24 days.
	ReclaimGrace time.Duration

	// CountTraffic counts packets, bytes and SYNs by frontend, protocol and
	// direction, for [NAT.Traffic]. It costs each translated packet 5 to 30
	// nanoseconds, so it is off unless set.
	CountTraffic bool

	// CountHolders has it counted who holds outside ports, for [NAT.Holders]; the zero value does not.
	CountHolders CountHolders

	// Admit, if not nil, is asked about every flow that would begin a session,
	// whoever begins it: [flow.ReasonNone] admits it, and any other reason, such as
	// [flow.ReasonNSGInbound], is what the packet is dropped for, silently unless
	// [ICMP].Refusals or a Policy answers that reason. It is asked before anything is
	// taken, so the flow may still find no port; a host that tries again is asked
	// again, and a hairpin in each direction. Packets of sessions, answers and ICMP
	// errors are not asked about, so another Admit by [NAT.Reconfigure] is for new
	// flows only. A SYN after the end of a connection begins a new one on its sockets,
	// and is asked about; what is refused leaves the closed connection as it is.
	//
	// What is translated 1:1, or passes as it is, has no session. Of TCP only SYNs are asked
	// about there. Of UDP, queries and other protocols, which have ports 0, each flow is asked
	// about and then remembered: what belongs to it in either direction passes until there
	// has been no packet for 4 minutes (the idle timeout of Azure's instance-level public
	// IPs), and so do ICMP errors about it, or about TCP; others are asked about as ICMP
	// with port 0. Fragments after the first pass. Beyond 4 Mi such flows further ones are
	// not remembered, and asked about packet by packet; see [NAT.Remembers].
	//
	// It must answer by its argument alone, may be called by many goroutines at once,
	// mostly under the lock of a shard, and must neither panic nor call back into the
	// translator.
	Admit func(NewFlow) flow.Reason

	// Log says which events Hooks.Event is told of.
	Log Log

	// Hooks are called when something happens; nil ones cost nothing.
	Hooks Hooks
}

// settings is a Config taken apart by who has the ports.
type settings struct {
	Config
	Owned          // zero if they are shared
	shared *Shared // nil if instances own them
}

// settings takes c apart.
func (c Config) settings() settings {
	s := settings{Config: c}
	switch p := c.Ports.(type) {
	case *Owned:
		if p != nil {
			s.Owned = *p
		}
	case *Shared:
		s.shared = cmp.Or(p, &Shared{})
	}
	return s
}

// clone returns a copy of c that shares no memory with it. Instances that are the same in was share
// what is theirs with that, where nobody changes it any more.
func (c settings) clone(was *settings) settings {
	former := make(map[string]*Instance, len(was.Instances))
	for i := range was.Instances {
		former[was.Instances[i].Name] = &was.Instances[i]
	}
	c.Ports = nil // it has been taken apart
	if c.shared != nil {
		s := *c.shared
		s.Frontends = slices.Clone(s.Frontends)
		c.shared = &s
	}
	c.Allocation.Exclude = slices.Clone(c.Allocation.Exclude)
	c.Instances, c.Routes = slices.Clone(c.Instances), slices.Clone(c.Routes)
	c.ICMP.RouterAddrs = slices.Clone(c.ICMP.RouterAddrs)
	c.Forwards = slices.Clone(c.Forwards)
	for i := range c.Forwards {
		c.Forwards[i] = c.Forwards[i].clone()
	}
	for i := range c.Instances {
		turns.Step(i)
		inst, old := &c.Instances[i], former[c.Instances[i].Name]
		if old == nil {
			old = &Instance{}
		}
		inst.Addrs, inst.PublicAddrs = copied(inst.Addrs, old.Addrs), copied(inst.PublicAddrs, old.PublicAddrs)
		inst.Inside, inst.Ports = copied(inst.Inside, old.Inside), copied(inst.Ports, old.Ports)
		inst.Deterministic = inst.Deterministic.Clone()
		if inst.Policy != nil {
			p := *inst.Policy
			inst.Policy = &p
		}
	}
	return c
}

// copied returns a copy of a list: another one that is equal, or one that is new.
func copied[T comparable](list, other []T) []T {
	if len(list) == len(other) && slices.Equal(list, other) {
		return other
	}
	return slices.Clone(list)
}

// policies returns the different policies of c, that of c itself first, then those of
// instances.
func (c *Config) policies() []Policy {
	all := []Policy{c.Policy}
	var seen map[Policy]bool
	add := func(p *Policy) {
		if p == nil {
			return
		}
		if seen == nil { // most configurations have one policy
			seen = map[Policy]bool{c.Policy: true}
		}
		if !seen[*p] {
			seen[*p] = true
			all = append(all, *p)
		}
	}
	for i := range c.Instances {
		add(c.Instances[i].Policy)
	}
	for i := range c.Forwards {
		add(c.Forwards[i].Policy)
	}
	return all
}

// deterministic reports whether an instance has a deterministic mapping.
func (c *Config) deterministic() bool {
	return slices.ContainsFunc(c.Instances, func(inst Instance) bool { return inst.Deterministic != nil })
}
