package snat

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/prefixes"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/turns"
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
	// Inside share the address: TCP and UDP, and ICMP and fragments only as
	// Dataplane.ICMP and Dataplane.Fragments say, in sessions whose outside port is their port at the
	// instance's own address and whose timers are those of the Policy.
	//
	// In an ICMP error the address in the quoted packet is exchanged too (RFC 5508
	// REQ-4, REQ-5). A protocol other than TCP, UDP and ICMPv6 keeps its checksum,
	// even one that covers addresses.
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
	// port 1024 on; to use more, divide the ports over several instances, and the
	// sources behind them likewise.
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
// apart: their index plus two fits the VNI. See NoInstance and FloatingSender in
// package routing.
const maxInstances = flow.MaxVNI - 1

// instances checks each instance, and all together.
func (v *validation) instances(all []Instance) {
	names := make(map[string]bool, len(all))
	for i := range all {
		turns.Step(i)
		inst := &all[i]
		if inst.Name == "" {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrMissing, "")
		} else if names[inst.Name] {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrDuplicateName, "")
		}
		names[inst.Name] = true
		v.instance(i, inst)
	}
	v.owners(all)
	v.overlaps(all)
	if slices.ContainsFunc(all, func(inst Instance) bool { return len(inst.PublicAddrs) > 0 }) {
		v.public(all)
	}
}

// instance checks an instance by itself.
func (v *validation) instance(i int, inst *Instance) {
	for range v.onePerFamily(func(j int) string { return fmt.Sprintf("Instances[%d].Addrs[%d]", i, j) }, inst.Addrs) {
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
	for j := range inst.Ports {
		if r := &inst.Ports[j]; v.ports(i, j, r) {
			for proto := TCP; proto <= UDP; proto++ {
				if r.Protocol == All || r.Protocol == proto {
					total[flow.Family(r.Frontend)][proto-TCP] += r.Count
				}
			}
		}
	}
	if n := max(total[0][0], total[0][1], total[1][0], total[1][1]); n > ports.MaxPoolPorts {
		v.Add(fmt.Sprintf("Instances[%d].Ports", i), problems.Rawf("has %d ports", n), flow.ErrTooMany,
			"at most %d for each address family and protocol; divide them over more instances", ports.MaxPoolPorts)
	}
}

// ports checks one range and reports whether it is valid. If so, its ports are granted.
func (v *validation) ports(i, j int, r *PortRange) bool {
	f := v.granted.frontend(i, j, r.Frontend)
	switch {
	case f == nil || !f.host:
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d].Frontend", i, j), r.Frontend, flow.ErrAddress, "")
	case r.Protocol > UDP:
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d].Protocol", i, j), uint8(r.Protocol), flow.ErrOutOfRange, "0..%d", UDP)
	case !r.wholeBlocks():
		v.Add(fmt.Sprintf("Instances[%d].Ports[%d]", i, j), problems.Rawf("%d+%d", r.First, r.Count), ErrPorts, "")
	default:
		v.granted.grant(f, r)
		return true
	}
	return false
}

// owners complains about ports that are granted twice.
func (v *validation) owners(instances []Instance) {
	if !v.granted.twice {
		return
	}
	all := slices.Collect(v.granted.ranges(instances, func(*frontend) bool { return true }))
	slices.SortStableFunc(all, func(a, b grant) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Frontend.Compare(b.Frontend), cmp.Compare(a.First, b.First))
	})
	for k := 1; k < len(all); k++ {
		a, b := &all[k-1], &all[k]
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
	prefix netip.Prefix
	user
}

// overlaps complains about inside prefixes and own addresses of different
// instances of a realm that overlap, and about frontends among them.
func (v *validation) overlaps(instances []Instance) {
	realms, sizes := map[uint32][]owned{}, map[uint32]int{}
	for i := range instances {
		sizes[instances[i].Realm] += len(instances[i].Inside) + len(instances[i].Addrs)
	}
	for i := range instances {
		inst := &instances[i]
		realm := realms[inst.Realm]
		if realm == nil {
			realm = make([]owned, 0, sizes[inst.Realm])
		}
		for j, p := range inst.Inside {
			if p.IsValid() {
				realm = append(realm, owned{p.Masked(), user{i, insideOf, j}})
			}
		}
		for j, a := range inst.Addrs {
			if a.IsValid() {
				realm = append(realm, owned{netip.PrefixFrom(a, a.BitLen()), user{i, addrOf, j}})
			}
		}
		realms[inst.Realm] = realm
	}
	var frontends []owned
	for _, f := range v.granted.all {
		frontends = append(frontends, owned{netip.PrefixFrom(f.addr, f.addr.BitLen()), user{f.instance, frontendOf, f.index}})
	}
	sortOwned(frontends)
	for _, realm := range slices.Sorted(maps.Keys(realms)) {
		if v.Full() {
			return
		}
		all := realms[realm]
		all = append(all, frontendsWithin(all, frontends)...)
		prefixes.Nested(len(all), func(i int) netip.Prefix { return all[i].prefix }, func(open []int, i int) {
			if o := &all[i]; len(open) > 0 {
				if in := &all[open[len(open)-1]]; in.instance != o.instance || o.field == frontendOf {
					v.Add(o.path(), o.prefix, flow.ErrOverlap, "with %s %v", in.path(), in.prefix)
				}
			}
		})
	}
}

func sortOwned(all []owned) {
	slices.SortStableFunc(all, func(a, b owned) int { return a.prefix.Compare(b.prefix) })
}

// frontendsWithin returns the frontends, which are sorted, that lie in prefixes of a
// realm, which it sorts. Cost: O(n log n) for these, and a search among the frontends for
// each.
func frontendsWithin(realm, frontends []owned) (within []owned) {
	sortOwned(realm)
	var last netip.Prefix
	for _, o := range realm {
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
	return within
}

// public complains about public addresses that are not the instance's alone, or
// stand for nothing.
func (v *validation) public(instances []Instance) {
	users, next := users{}, 0
	for i := range instances {
		users.inside(i, &instances[i])
		for ; next < len(v.granted.all) && v.granted.all[next].instance == i; next++ {
			f := &v.granted.all[next]
			users.put(netip.PrefixFrom(f.addr, f.addr.BitLen()), i, frontendOf, f.index)
		}
	}
	for i := range instances {
		inst, path := &instances[i], fmt.Sprintf("Instances[%d].PublicAddrs", i)
		for j, a := range v.onePerFamily(func(j int) string { return problems.Index(path, j) }, inst.PublicAddrs) {
			complain := func(format string, args ...any) {
				v.Add(problems.Index(path, j), a, ErrPublic, format, args...)
			}
			if user, ok := users.Of(a); ok {
				complain("it is in use by %s", user.in(instances))
			}
			users.put(netip.PrefixFrom(a, a.BitLen()), i, publicOf, j)
			own := slices.IndexFunc(inst.Addrs, func(b netip.Addr) bool { return b.IsValid() && flow.Family(b) == flow.Family(a) })
			if own < 0 {
				complain("Addrs has no address of its family")
				continue
			}
			for k, p := range inst.Inside {
				if p.Contains(inst.Addrs[own]) {
					complain("what it stands for, Addrs[%d] %v, lies in Inside[%d] %v", own, inst.Addrs[own], k, p)
				}
			}
		}
	}
}

// users are those that use addresses.
type users struct{ prefixes.Names[user] }

// user is a field of an instance that has addresses.
type user struct {
	instance int
	field    string // one of those below
	index    int
}

// The fields of an instance that have addresses.
const (
	addrOf     = "Addrs[%d]"
	insideOf   = "Inside[%d]"
	publicOf   = "PublicAddrs[%d]"
	frontendOf = "Ports[%d].Frontend"
)

// path returns where it stands.
func (u *user) path() string { return fmt.Sprintf("Instances[%d]."+u.field, u.instance, u.index) }

// in returns where it stands and what it says.
func (u *user) in(instances []Instance) string {
	inst := &instances[u.instance]
	var value any
	switch u.field {
	case addrOf:
		value = inst.Addrs[u.index]
	case insideOf:
		value = inst.Inside[u.index]
	case publicOf:
		value = inst.PublicAddrs[u.index]
	case frontendOf:
		value = inst.Ports[u.index].Frontend
	}
	return fmt.Sprintf("%s %v", u.path(), value)
}

// put notes who uses a prefix, unless somebody does already.
func (u *users) put(p netip.Prefix, instance int, field string, index int) {
	u.Put(p, user{instance, field, index})
}

// inside notes what an instance has inside.
func (u *users) inside(i int, inst *Instance) {
	for j, a := range inst.Addrs {
		u.put(netip.PrefixFrom(a, a.BitLen()), i, addrOf, j)
	}
	for j, p := range inst.Inside {
		u.put(p, i, insideOf, j)
	}
}

// onePerFamily checks addresses at paths, of which there may be one per family, and
// ranges over those that are right.
func (v *validation) onePerFamily(path func(i int) string, addrs []netip.Addr) iter.Seq2[int, netip.Addr] {
	return func(yield func(int, netip.Addr) bool) {
		var families [2]bool
		for i, a := range addrs {
			switch {
			case !flow.IsHost(a):
				v.Add(path(i), a, flow.ErrAddress, "")
			case families[flow.Family(a)]:
				v.Add(path(i), a, flow.ErrTooMany, "one address per family")
			default:
				families[flow.Family(a)] = true
				if !yield(i, a) {
					return
				}
			}
		}
	}
}
