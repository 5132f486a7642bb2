package snat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What can be wrong with a configuration besides what [flow] names. Every problem names
// the path of the field and its value as the user wrote them and wraps one of these, or
// one of package flow's.
var (
	ErrPorts  = errors.New("ports are not whole blocks of 8 within 8..65535")
	ErrOwned  = errors.New("ports are granted already")
	ErrPublic = errors.New("cannot be a public address here")
	ErrFixed  = errors.New("cannot be changed by Reconfigure")
	ErrShared = errors.New("does not go together with Shared ports")
)

// maxInstances is the number of instances that flow keys and routes can tell
// apart: their index plus one fits the VNI.
const maxInstances = flow.MaxVNI

// Validate reports every problem of c in one error.
func (c Config) Validate() error {
	s := c.settings()
	return s.validate()
}

func (c *settings) validate() error {
	var v validation
	if !problems.AtMost(&v.List, "Instances", len(c.Instances), "elements", maxInstances) {
		return v.Err()
	}
	names := map[string]bool{}
	for i := range c.Instances {
		inst := &c.Instances[i]
		if inst.Name == "" {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrMissing, "")
		} else if names[inst.Name] {
			v.Add(fmt.Sprintf("Instances[%d].Name", i), inst.Name, flow.ErrDuplicateName, "")
		}
		names[inst.Name] = true
		v.instance(i, inst)
	}
	v.owners()
	v.overlaps(c.Instances)
	if slices.ContainsFunc(c.Instances, func(inst Instance) bool { return len(inst.PublicAddrs) > 0 }) {
		v.public(c.Instances)
	}
	for i, r := range c.Routes {
		if !r.Prefix.IsValid() || r.Prefix.Masked() != r.Prefix {
			v.Add(fmt.Sprintf("Routes[%d].Prefix", i), r.Prefix, flow.ErrPrefix, "")
		}
		if r.Action >= numRouteActions {
			v.Add(fmt.Sprintf("Routes[%d].Action", i), uint8(r.Action), flow.ErrOutOfRange, "0..%d", Blackhole)
		}
		v.route(i, &r)
	}
	switch c.Ports.(type) {
	case nil, *Owned, *Shared:
	default:
		v.Add("Ports", problems.Rawf("%T", c.Ports), flow.ErrOutOfRange, "*Owned or *Shared")
	}
	v.policy("", &c.Policy)
	v.Include("", c.Dataplane.Validate())
	v.Include("Ports", c.Owned.Validate())
	v.queries(c)
	v.instancesInBlocks(c)
	v.heldUnanswered(&c.Config)
	problems.AtMost(&v.List, "Instances", len(c.policies()), "different policies", flow.MaxShards)
	v.inventory(c)
	return v.Err()
}

// Validate reports every problem of o in one error, by paths from o on.
func (o Owned) Validate() error {
	var v validation
	v.behavior("TCP", ports.TCPIndex, o.TCP)
	v.behavior("UDP", ports.UDPIndex, o.UDP)
	v.allocation(&o.Allocation)
	v.blocks(&o)
	v.limits(&o.Limits)
	v.hairpin(&o)
	return v.Err()
}

// Validate reports every problem of d in one error, as far as it does not depend on
// what the rest of a configuration says.
func (d Dataplane) Validate() error {
	var v validation
	v.Include("", flow.Config{Shards: d.Shards}.Validate())
	v.icmp(&d.ICMP)
	v.fragments(d.Fragments)
	v.holdSYN(d.HoldSYN)
	v.timeout("ReclaimGrace", d.ReclaimGrace)
	v.log(&d.Log)
	return v.Err()
}

// validation is what is known of a configuration while it is checked.
type validation struct {
	problems.List
	grants []grant
}

// grant is a valid port range of one protocol and where it stands.
type grant struct {
	PortRange
	instance, index int
}

// timeout checks an idle timeout, of which 0 means a default.
func (v *validation) timeout(path string, d time.Duration) {
	if d < 0 || d > flow.MaxTimeout || d%flow.Tick != 0 {
		v.Add(path, d, flow.ErrTimeout, "")
	}
}

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

// policy checks a policy whose fields are named with a prefix.
func (v *validation) policy(prefix string, p *Policy) {
	v.timeout(prefix+"IdleTimeout", p.IdleTimeout)
	v.Include(prefix+"Timeouts", p.Timeouts.Validate())
	if !p.TCPRules.Valid() {
		v.Add(prefix+"TCPRules", uint8(p.TCPRules), flow.ErrOutOfRange, "RFCRules or ConntrackRules")
	}
	problems.Constant(&v.List, prefix+"ResetUnknown", p.ResetUnknown, numResetUnknowns)
	problems.Constant(&v.List, prefix+"ResetSYN", p.ResetSYN, numResetUnknowns)
	for _, f := range []struct {
		name  string
		value int
	}{{"ResetRate", p.ResetRate}, {"ResetBurst", p.ResetBurst}} {
		problems.Between(&v.List, prefix+f.name, f.value, 0, maxResetRate)
	}
	v.udpPorts(prefix, &p.UDPPorts)
	if p.EnforceMinimums {
		v.minimums(prefix, p)
	}
	problems.Constant(&v.List, prefix+"UDPRefresh", p.UDPRefresh, numUDPRefreshes)
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

// protocols returns the transport protocols that the range covers.
func (r PortRange) protocols() []Protocol {
	if r.Protocol == All {
		return []Protocol{TCP, UDP}
	}
	return []Protocol{r.Protocol}
}
