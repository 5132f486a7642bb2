package snat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/enum"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/turns"
)

// Forwards: what a frontend's port is for that no instance owns, and what is checked of
// them. Package forwards has the tables that packets read.

// Forward sends what comes to ports of a frontend on to targets inside: a load-balancing
// rule, an inbound NAT rule, or high-availability ports. The source of the packets stays,
// the destination becomes the target's socket. The target's answers leave with the frontend
// as their source, out of the same session, whose kind is [flow.KindForwarded].
//
// A flow begins with any TCP segment that is no RST, or any UDP datagram, and stays with
// its target whatever becomes of the other targets. Sessions are not limited in number but
// by memory. Ports of a forward are not handed out: a block of eight in which an
// instance has ports has no forward.
//
// Two forwards may lead to one socket of a target, if their policies are the same: an answer
// goes back by the forward that its flow has come by. A remote's socket comes to it by one of
// them at a time; what it sends to the other one is dropped as [flow.ReasonMappingConflict],
// but a SYN takes the place of a closed connection.
//
// Where the configuration changes, a flow is that of the forward which has its frontend's port from
// then on, with that one's timers, on its target still, which need not be one any more; a SYN after
// its end goes to one that is, at its port of then. It ends if no forward has the port, or if its
// target's socket answers for a forward by then which has another policy, or another port of the
// frontend.
//
// UDP sessions of a forward have the timeout Timeouts.UDP, whether there was an answer or
// not, and no [Policy].UDPPorts.
type Forward struct {
	// Frontend is the address that clients send to. It may have ports that
	// instances own.
	Frontend netip.Addr

	// Protocol is TCP, UDP, or All, the default, which is both.
	Protocol Protocol

	// FirstPort and LastPort are the frontend's ports, 1..65535. FirstPort 0, the
	// default, is all ports; then no instance has ports of the frontend and protocol,
	// and other forwards may only if this one and they all have Floating; they precede
	// it. LastPort 0 is FirstPort alone.
	FirstPort, LastPort uint16

	// Targets are those that new flows are spread over, at most 65,535. None means
	// that new flows are dropped as [flow.ReasonNoTarget].
	Targets []Target

	// Distribution says which fields of a new flow decide its target.
	Distribution Distribution

	// Floating leaves the destination alone: the target owns the frontend address
	// (Azure: floating IP, direct server return). Answers come from the frontend's
	// socket then, by whatever realm, and pass unchanged if there is a session;
	// fragments get another identification, as all do.
	Floating bool

	// FromInside lets packets of the inside to the frontend come in by the forward, as
	// at an internal load balancer; else they are dropped as [flow.ReasonHairpin].
	// A flow whose target is its sender is dropped as [flow.ReasonTargetLoop] (Azure:
	// it times out).
	FromInside bool

	// Policy, if not nil, is the forward's own instead of the Config's. See
	// Instance.Policy about their number, in which these count.
	Policy *Policy
}

// Target is one of those that a Forward sends flows to.
type Target struct {
	Instance string      // its name
	Addr     netip.Addr  // one of the instance's inside addresses, of the frontend's family
	Port     uint16      // 1..65535; 0, the default, is the frontend's port, the only choice where there are several ports or Floating
	State    TargetState // zero is TargetUp
}

// TargetState says what a target gets.
type TargetState uint8

// The states of a target.
const (
	TargetUp   TargetState = iota // new flows
	TargetDown                    // no new flows; TCP connections stay until they are closed; a UDP flow moves to another target with its next packet from outside, or ends if there is none
	TargetGone                    // nothing: its flows of this forward end at once, silently
	numTargetStates
)

// Distribution says which fields of a new flow decide its target. The destination and the
// protocol of the five are the forward's own most of the time; they count because a forward
// may have several.
type Distribution uint8

// The distributions.
const (
	FiveTuple        Distribution = iota // addresses, ports and protocol; Azure: Default
	SourceIP                             // addresses; Azure: SourceIP
	SourceIPProtocol                     // addresses and protocol; Azure: SourceIPProtocol
	numDistributions
)

var (
	targetStateNames  = [...]string{"TargetUp", "TargetDown", "TargetGone"}
	distributionNames = [...]string{"FiveTuple", "SourceIP", "SourceIPProtocol"}
)

var (
	_ = [1]struct{}{}[len(targetStateNames)-int(numTargetStates)]
	_ = [1]struct{}{}[len(distributionNames)-int(numDistributions)]
)

// String returns the name of the constant, or "snat.TargetState(n)".
func (s TargetState) String() string { return enum.Name(s, targetStateNames[:]) }

// String returns the name of the constant, or "snat.Distribution(n)".
func (d Distribution) String() string { return enum.Name(d, distributionNames[:]) }

// maxTargets is the most targets of a forward.
const maxTargets = 65_535

// ports returns the first and the last port of f.
func (f *Forward) ports() (first, last uint16) {
	switch {
	case f.FirstPort == 0:
		return 1, 65535
	case f.LastPort == 0:
		return f.FirstPort, f.FirstPort
	}
	return f.FirstPort, f.LastPort
}

// protocols returns the transport protocols of f.
func (f *Forward) protocols() []Protocol { return PortRange{Protocol: f.Protocol}.protocols() }

// clone returns a copy of f that shares no memory with it.
func (f Forward) clone() Forward {
	f.Targets = slices.Clone(f.Targets)
	if f.Policy != nil {
		p := *f.Policy
		f.Policy = &p
	}
	return f
}

// forward checks one forward, except for its targets.
func (v *validation) forward(i int, f *Forward, users *users, instances []Instance) {
	path := fmt.Sprintf("Forwards[%d].", i)
	if !flow.IsHost(f.Frontend) {
		v.Add(path+"Frontend", f.Frontend, flow.ErrAddress, "")
	} else if user, ok := users.Of(f.Frontend); ok {
		v.Add(path+"Frontend", f.Frontend, flow.ErrOverlap, "with %s", user.in(instances))
	}
	if f.Protocol > UDP {
		v.Add(path+"Protocol", uint8(f.Protocol), flow.ErrOutOfRange, "0..%d", UDP)
	}
	if f.LastPort != 0 && (f.FirstPort == 0 || f.FirstPort > f.LastPort) {
		v.Add(path+"FirstPort", f.FirstPort, flow.ErrOutOfRange, "1..%d, which is LastPort", f.LastPort)
	}
	problems.AtMost(&v.List, path+"Targets", len(f.Targets), "elements", maxTargets)
	problems.Constant(&v.List, path+"Distribution", f.Distribution, numDistributions)
	if f.Policy != nil {
		v.policy(path+"Policy.", f.Policy)
	}
}

// targets checks the targets of a forward, by the indexes of the instances of each name.
func (v *validation) targets(i int, f *Forward, instances []Instance, by map[string]int) {
	first, last := f.ports()
	path := func(j int) string { return fmt.Sprintf("Forwards[%d].Targets[%d].", i, j) }
	seen := make(map[Target]int, len(f.Targets))
	for j := range f.Targets {
		turns.Step(j)
		t := &f.Targets[j]
		at, known := by[t.Instance]
		switch {
		case !known:
			v.Add(path(j)+"Instance", t.Instance, flow.ErrUnknownName, "")
		case !t.Addr.IsValid() || !instances[at].has(t.Addr):
			v.Add(path(j)+"Addr", t.Addr, ErrTarget, "it is no inside address of %q", t.Instance)
		case flow.IsHost(f.Frontend) && t.Addr.Is4() != f.Frontend.Is4():
			v.Add(path(j)+"Addr", t.Addr, ErrTarget, "it is not of the family of %v", f.Frontend)
		}
		if t.Port != 0 && (first != last || f.Floating && t.Port != first) {
			v.Add(path(j)+"Port", t.Port, flow.ErrOutOfRange, "0 where there are several ports, or with Floating")
		}
		if t.State >= numTargetStates {
			problems.Constant(&v.List, path(j)+"State", t.State, numTargetStates)
		}
		same := Target{Instance: t.Instance, Addr: t.Addr}
		if f.Floating {
			same.Addr = netip.Addr{} // what an instance owns is the frontend, once
		}
		if k, ok := seen[same]; ok {
			v.Add(path(j)+"Addr", t.Addr, ErrTarget, "Targets[%d] is the same", k)
		}
		seen[same] = j
	}
}

// has reports whether an address is one of the instance's inside addresses.
func (i *Instance) has(a netip.Addr) bool {
	return slices.Contains(i.Addrs, a) || slices.ContainsFunc(i.Inside, func(p netip.Prefix) bool { return p.Contains(a) })
}

// portSpan is a range of ports of one protocol that a forward takes up, at a frontend or,
// for its answers, at an address of an instance.
type portSpan struct {
	instance    string // empty at a frontend
	addr        netip.Addr
	protocol    Protocol
	first, last uint16
	forward     int // its index; that of a grant below 0
	field       string
}

func (a *portSpan) compare(b *portSpan) int {
	return cmp.Or(cmp.Compare(a.instance, b.instance), a.addr.Compare(b.addr), cmp.Compare(a.protocol, b.protocol),
		cmp.Compare(a.first, b.first), cmp.Compare(a.forward, b.forward))
}

// clashes calls clash for each span that overlaps one before it, which is of another
// forward or a grant. It sorts the spans.
func clashes(all []portSpan, clash func(span, other *portSpan)) {
	slices.SortFunc(all, func(a, b portSpan) int { return a.compare(&b) })
	var open *portSpan // the one that reaches furthest
	for k := range all {
		s := &all[k]
		if open == nil || open.instance != s.instance || open.addr != s.addr || open.protocol != s.protocol {
			open = s
			continue
		}
		if s.first <= open.last && s.forward != open.forward {
			if a, b := s, open; a.forward < b.forward {
				clash(b, a)
			} else {
				clash(a, b)
			}
		}
		if s.last > open.last {
			open = s
		}
	}
}

// forwardedPorts complains about ports of frontends that two forwards have, or that lie
// in a block of eight where an instance has ports.
func (v *validation) forwardedPorts(all []Forward, instances []Instance) {
	var spans []portSpan
	frontends := map[netip.Addr]bool{}
	for i := range all {
		f := &all[i]
		frontends[f.Frontend] = true
		for _, proto := range f.protocols() {
			first, last := f.ports()
			spans = append(spans, portSpan{addr: f.Frontend, protocol: proto, first: first / BlockSize * BlockSize, last: last | (BlockSize - 1), forward: i})
		}
	}
	for k := range v.granted.all {
		f := &v.granted.all[k]
		f.forwarded = frontends[f.addr]
	}
	for g := range v.granted.ranges(instances, func(f *frontend) bool { return f.forwarded }) {
		spans = append(spans, portSpan{
			addr: g.Frontend, protocol: g.Protocol, first: g.First, last: uint16(int(g.First) + g.Count - 1), forward: -1,
			field: fmt.Sprintf("Instances[%d].Ports[%d] %d+%d", g.instance, g.index, g.First, g.Count),
		})
	}
	clashes(spans, func(span, other *portSpan) {
		if other.forward < 0 {
			v.Add(fmt.Sprintf("Forwards[%d].FirstPort", span.forward), all[span.forward].FirstPort, ErrOwned, "by %s", other.field)
		}
	})
	// Those with all ports that float go together with others that float.
	for _, ofAll := range []bool{false, true} {
		spans = spans[:0]
		for i := range all {
			f := &all[i]
			if f.Floating && (f.FirstPort == 0) != ofAll {
				continue
			}
			for _, proto := range f.protocols() {
				first, last := f.ports()
				spans = append(spans, portSpan{addr: f.Frontend, protocol: proto, first: first, last: last, forward: i})
			}
		}
		clashes(spans, func(span, other *portSpan) {
			v.Add(fmt.Sprintf("Forwards[%d].FirstPort", span.forward), all[span.forward].FirstPort, ErrOwned, "by Forwards[%d]", other.forward)
		})
	}
}

// backends complains about sockets that get the flows of two forwards without Floating whose
// policies differ, so that answers would have to be sought in several places.
func (v *validation) backends(c *Config) {
	policy := func(i int) Policy {
		if p := c.Forwards[i].Policy; p != nil {
			return *p
		}
		return c.Policy
	}
	differ := false
	for i := range c.Forwards {
		differ = differ || policy(i) != policy(0)
	}
	var spans []portSpan
	for i := range c.Forwards {
		f := &c.Forwards[i]
		for j := range f.Targets {
			if f.Floating || !differ {
				break
			}
			for _, proto := range f.protocols() {
				t := &f.Targets[j]
				first, last := f.ports()
				if t.Port != 0 {
					first, last = t.Port, t.Port
				}
				spans = append(spans, portSpan{
					instance: t.Instance, addr: t.Addr, protocol: proto, first: first, last: last, forward: i,
					field: fmt.Sprintf("Forwards[%d].Targets[%d]", i, j),
				})
			}
		}
	}
	clashes(spans, func(span, other *portSpan) {
		if policy(span.forward) != policy(other.forward) {
			v.Add(span.field, problems.Rawf("%v %v", span.addr, span.protocol), ErrTarget, "%s has the same socket, and another Policy", other.field)
		}
	})
}
