package snat

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/deterministic"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// Instances: what they are, and what is checked of each and of all together. Their
// addresses must be theirs alone within their realm, their ports theirs alone, and a
// public address must stand for an own address that is not among those it shares.

// Instance is a backend that owns outside ports: a virtual machine, a node.
type Instance struct {
	Name string // unique, not empty; used in errors and reports

	// Addrs are the instance's own addresses, at most one per family. They
	// are what its packets carry, and the source that pods get towards
	// destinations routed as NodeAddress.
	Addrs []netip.Addr

	// PublicAddrs are public addresses of the instance alone, at most one per
	// family and only where Addrs has one of that family (Azure: instance-level
	// public IP, AKS node public IP). What the instance sends from its own
	// address to a destination routed as Translate leaves from its public
	// address: any protocol, fragments too, ports unchanged, no session, no
	// timeout. What is sent to the public address reaches the instance
	// unasked; filtering is left to others, which is our choice. Sources in
	// Inside share the address: TCP and UDP only, fragments only as
	// Dataplane.Fragments says, in sessions whose outside port is their port at the
	// instance's own address and whose timers are those of the Policy.
	//
	// Of an ICMP error the packet that it quotes gets the other address as well
	// (RFC 5508 REQ-4, REQ-5). A protocol other than TCP, UDP and ICMPv6 keeps its
	// checksum, even one that covers addresses.
	//
	// They take precedence over Ports of the same family, which then are not
	// used. They must not be a frontend, an own address, or lie in an Inside;
	// and the own address they stand for must not lie in the instance's Inside.
	PublicAddrs []netip.Addr

	// Inside are further sources behind this instance, translated to it first
	// (the pods of a node). They must not overlap those of another instance of the
	// same Realm.
	Inside []netip.Prefix

	// Realm is the inside address space that Addrs and Inside lie in, such as the
	// VNI of an overlay network; the default is 0. Addresses of different realms
	// may overlap: [NAT.Realm] is the door of each. Only those of realm 0 are known
	// outside. So in another realm new flows of what is in Inside to destinations
	// routed as NodeAddress are refused, and Route.BothWays is of no effect.
	Realm uint32

	// Ports are the outside ports of the instance in the order in which they
	// are consumed. A port belongs to one instance only. Of each address family
	// and protocol an instance can have 516,096, what eight frontends have from
	// port 1024 on; divide more of them over several instances, and what is
	// behind them likewise.
	Ports []PortRange

	// Deterministic, if not nil, gives every inside address of its family fixed
	// ports, of which no log is needed; what goes beyond them is granted in
	// [Owned].Blocks. Its Inside is the instance's, and Ports must grant all
	// ports of its Outside that are not reserved. An address that is no subscriber
	// of it has no ports (flow.ReasonNoOutbound). Sequential only. A change ends the
	// instance's sessions.
	Deterministic *deterministic.Parameters

	// Policy, if not nil, is the instance's own instead of the Config's.
	// Instances that share a policy share shards, so at most 64 different ones
	// are possible.
	Policy *Policy
}

// maxInstances is the number of instances that flow keys and routes can tell
// apart: their index plus one fits the VNI.
const maxInstances = flow.MaxVNI

// instances checks each instance, and all together.
func (v *validation) instances(all []Instance) {
	names := map[string]bool{}
	for i := range all {
		inst := &all[i]
		if inst.Name == "" {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrMissing, "")
		} else if names[inst.Name] {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrDuplicateName, "")
		}
		names[inst.Name] = true
		v.instance(i, inst)
	}
	v.owners()
	v.overlaps(all)
	if slices.ContainsFunc(all, func(inst Instance) bool { return len(inst.PublicAddrs) > 0 }) {
		v.public(all)
	}
}

// instance checks an instance by itself.
func (v *validation) instance(i int, inst *Instance) {
	var families [2]bool
	for j, a := range inst.Addrs {
		if !flow.IsHost(a) {
			v.Add(fmt.Sprintf("Instances[%d].Addrs[%d]", i, j), a, flow.ErrAddress, "")
			continue
		}
		if f := flow.Family(a); families[f] {
			v.Add(fmt.Sprintf("Instances[%d].Addrs[%d]", i, j), a, flow.ErrTooMany, "one address per family")
		} else {
			families[f] = true
		}
	}
	if inst.Policy != nil {
		v.policy(fmt.Sprintf("Instances[%d].Policy.", i), inst.Policy)
	}
	for j, p := range inst.Inside {
		if !p.IsValid() || p.Masked() != p || p.Addr().Is4In6() {
			v.Add(fmt.Sprintf("Instances[%d].Inside[%d]", i, j), p, flow.ErrPrefix, "")
		}
	}
	var total [2][ports.NumProtocols]int
	for j, r := range inst.Ports {
		if !v.ports(i, j, r) {
			continue
		}
		for _, proto := range r.protocols() {
			total[flow.Family(r.Frontend)][proto-TCP] += r.Count
		}
	}
	if n := max(total[0][0], total[0][1], total[1][0], total[1][1]); n > ports.MaxPoolPorts {
		v.Add(fmt.Sprintf("Instances[%d].Ports", i), problems.Rawf("has %d ports", n), flow.ErrTooMany,
			"at most %d for each address family and protocol; divide them over more instances", ports.MaxPoolPorts)
	}
}

// ports checks one range and reports whether it is valid.
func (v *validation) ports(i, j int, r PortRange) bool {
	if !flow.IsHost(r.Frontend) {
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d].Frontend", i, j), r.Frontend, flow.ErrAddress, "")
		return false
	}
	if r.Protocol > UDP {
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d].Protocol", i, j), uint8(r.Protocol), flow.ErrOutOfRange, "0..%d", UDP)
		return false
	}
	if r.First < BlockSize || r.First%BlockSize != 0 || r.Count <= 0 || r.Count%BlockSize != 0 || int(r.First)+r.Count > 65536 {
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d]", i, j), problems.Rawf("%d+%d", r.First, r.Count), ErrPorts, "")
		return false
	}
	for _, proto := range r.protocols() {
		g := grant{PortRange: r, instance: i, index: j}
		g.Protocol = proto
		v.grants = append(v.grants, g)
	}
	return true
}

// owners complains about ports that are granted twice.
func (v *validation) owners() {
	slices.SortStableFunc(v.grants, func(a, b grant) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Frontend.Compare(b.Frontend), cmp.Compare(a.First, b.First))
	})
	for k := 1; k < len(v.grants); k++ {
		a, b := &v.grants[k-1], &v.grants[k]
		if a.Protocol == b.Protocol && a.Frontend == b.Frontend && int(a.First)+a.Count > int(b.First) {
			if b.instance < a.instance || b.instance == a.instance && b.index < a.index {
				a, b = b, a
			}
			v.Add(fmt.Sprintf("Instances[%d].Ports[%d]", b.instance, b.index), problems.Rawf("%v %d+%d", b.Frontend, b.First, b.Count), ErrOwned,
				"by Instances[%d].Ports[%d] %d+%d", a.instance, a.index, a.First, a.Count)
		}
	}
}

// owned is a prefix of an instance and where it stands.
type owned struct {
	prefix   netip.Prefix
	instance int
	field    string
	frontend bool
}

// overlaps complains about inside prefixes and own addresses of different
// instances of a realm that overlap, and about frontends among them.
func (v *validation) overlaps(instances []Instance) {
	var frontends []owned
	realms, seen := map[uint32][]owned{}, map[netip.Addr]bool{}
	for i := range instances {
		inst := &instances[i]
		for j, p := range inst.Inside {
			if p.IsValid() {
				realms[inst.Realm] = append(realms[inst.Realm], owned{p.Masked(), i, fmt.Sprintf("Inside[%d]", j), false})
			}
		}
		for j, a := range inst.Addrs {
			if a.IsValid() {
				realms[inst.Realm] = append(realms[inst.Realm], owned{netip.PrefixFrom(a, a.BitLen()), i, fmt.Sprintf("Addrs[%d]", j), false})
			}
		}
		for j, r := range inst.Ports {
			if a := r.Frontend; a.IsValid() && !seen[a] {
				seen[a] = true
				frontends = append(frontends, owned{netip.PrefixFrom(a, a.BitLen()), i, fmt.Sprintf("Ports[%d].Frontend", j), true})
			}
		}
	}
	sortOwned(frontends)
	for _, realm := range slices.Sorted(maps.Keys(realms)) {
		if v.Full() {
			return
		}
		v.overlapping(realms[realm], frontends)
	}
}

func sortOwned(all []owned) {
	slices.SortStableFunc(all, func(a, b owned) int { return a.prefix.Compare(b.prefix) })
}

// overlapping is overlaps for what lies in one realm. Cost: O(n log n) for these, and
// a search among the frontends for each.
func (v *validation) overlapping(all, frontends []owned) {
	sortOwned(all)
	within := all[:len(all):len(all)]
	var last netip.Prefix
	for _, o := range all {
		p := o.prefix
		if last.IsValid() && last.Overlaps(p) {
			continue // the frontends in it are known
		}
		last = p
		k, _ := slices.BinarySearchFunc(frontends, p.Addr(), func(f owned, a netip.Addr) int { return f.prefix.Addr().Compare(a) })
		for ; k < len(frontends) && p.Contains(frontends[k].prefix.Addr()); k++ {
			within = append(within, frontends[k])
		}
	}
	if len(within) > len(all) {
		sortOwned(within)
	}
	// Sorted like this, a prefix can only lie inside one that is still open.
	var open []owned
	for _, o := range within {
		for len(open) > 0 && !open[len(open)-1].prefix.Overlaps(o.prefix) {
			open = open[:len(open)-1]
		}
		if n := len(open); n > 0 && (open[n-1].instance != o.instance || o.frontend) {
			v.Add(fmt.Sprintf("Instances[%d].%s", o.instance, o.field), o.prefix, flow.ErrOverlap,
				"with Instances[%d].%s %v", open[n-1].instance, open[n-1].field, open[n-1].prefix)
		}
		open = append(open, o)
	}
}

// public complains about public addresses that are not the instance's alone, or
// stand for nothing.
func (v *validation) public(instances []Instance) {
	var users users
	for i := range instances {
		users.add(i, &instances[i])
	}
	for i := range instances {
		inst := &instances[i]
		var families [2]bool
		for j, a := range inst.PublicAddrs {
			complain := func(err error, format string, args ...any) {
				v.Add(fmt.Sprintf("Instances[%d].PublicAddrs[%d]", i, j), a, err, format, args...)
			}
			if !flow.IsHost(a) {
				complain(flow.ErrAddress, "")
				continue
			}
			if f := flow.Family(a); families[f] {
				complain(flow.ErrTooMany, "one address per family")
				continue
			} else {
				families[f] = true
			}
			if user := users.of(a); user != "" {
				complain(ErrPublic, "it is in use by %s", user)
			}
			users.use(netip.PrefixFrom(a, a.BitLen()), "Instances[%d].PublicAddrs[%d] %v", i, j, a)
			own := slices.IndexFunc(inst.Addrs, func(b netip.Addr) bool { return b.IsValid() && flow.Family(b) == flow.Family(a) })
			if own < 0 {
				complain(ErrPublic, "Addrs has no address of its family")
				continue
			}
			for k, p := range inst.Inside {
				if p.Contains(inst.Addrs[own]) {
					complain(ErrPublic, "what it stands for, Addrs[%d] %v, lies in Inside[%d] %v", own, inst.Addrs[own], k, p)
				}
			}
		}
	}
}

// users says which field of a configuration uses an address.
type users struct {
	fields map[netip.Prefix]string
	bits   [129]bool // lengths of the prefixes in fields
}

// add notes all that an instance uses, except for its public addresses.
func (u *users) add(i int, inst *Instance) {
	u.addInside(i, inst)
	for j, r := range inst.Ports {
		u.use(netip.PrefixFrom(r.Frontend, r.Frontend.BitLen()), "Instances[%d].Ports[%d].Frontend %v", i, j, r.Frontend)
	}
}

// addInside notes what an instance has inside.
func (u *users) addInside(i int, inst *Instance) {
	for j, a := range inst.Addrs {
		u.use(netip.PrefixFrom(a, a.BitLen()), "Instances[%d].Addrs[%d] %v", i, j, a)
	}
	for j, p := range inst.Inside {
		u.use(p.Masked(), "Instances[%d].Inside[%d] %v", i, j, p)
	}
}

// use notes the first user of a prefix.
func (u *users) use(p netip.Prefix, format string, args ...any) {
	if u.fields == nil {
		u.fields = map[netip.Prefix]string{}
	}
	if _, ok := u.fields[p]; !ok && p.IsValid() {
		u.fields[p], u.bits[p.Bits()] = fmt.Sprintf(format, args...), true
	}
}

// of returns the user of an address, or "".
func (u *users) of(a netip.Addr) string {
	for n := a.BitLen(); n >= 0; n-- {
		if u.bits[n] {
			if p, err := a.Prefix(n); err == nil && u.fields[p] != "" {
				return u.fields[p]
			}
		}
	}
	return ""
}
