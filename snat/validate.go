package snat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// What is wrong with a configuration. Every complaint names the field and its
// value as the user wrote them and wraps one of these.
var (
	ErrName       = errors.New("name is empty or not unique")
	ErrAddress    = errors.New("not the address of a single host")
	ErrPrefix     = flow.ErrPrefix
	ErrOverlap    = errors.New("overlaps inside addresses of an instance")
	ErrPorts      = errors.New("ports are not whole blocks of 8 within 8..65535")
	ErrOwned      = errors.New("ports are granted already")
	ErrPublic     = errors.New("cannot be a public address here")
	ErrOutOfRange = flow.ErrOutOfRange
	ErrTooMany    = flow.ErrTooMany
	ErrFixed      = errors.New("cannot be changed by Reconfigure")
	ErrShared     = errors.New("does not go together with Shared ports")
)

// ErrClosed is returned by Reconfigure after Close.
var ErrClosed = errors.New("snat: the translator has been closed")

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
	if len(c.Instances) > maxInstances {
		v.add("Instances: %d: %w: at most %d", len(c.Instances), ErrTooMany, maxInstances)
		return v.err()
	}
	names := map[string]bool{}
	for i := range c.Instances {
		inst := &c.Instances[i]
		if inst.Name == "" || names[inst.Name] {
			v.add("Instances[%d].Name %q: %w", i, inst.Name, ErrName)
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
			v.add("Routes[%d].Prefix %v: %w", i, r.Prefix, ErrPrefix)
		}
		if r.Action >= numRouteActions {
			v.add("Routes[%d].Action %d: %w: 0..%d", i, r.Action, ErrOutOfRange, Blackhole)
		}
		v.route(i, &r)
	}
	switch c.Ports.(type) {
	case nil, *Owned, *Shared:
	default:
		v.add("Ports %T: %w: *Owned or *Shared", c.Ports, ErrOutOfRange)
	}
	v.policy("", &c.Policy)
	v.icmp(c)
	v.allocation(c)
	v.limits(c)
	v.blocks(c)
	v.holdSYN(&c.Config)
	if n := len(c.policies()); n > flow.MaxShards {
		v.add("Instances: %d different policies: %w: at most %d", n, ErrTooMany, flow.MaxShards)
	}
	if c.ReclaimGrace < 0 || c.ReclaimGrace > flow.MaxTimeout || c.ReclaimGrace%flow.Tick != 0 {
		v.add("ReclaimGrace %v: %w", c.ReclaimGrace, flow.ErrTimeout)
	}
	v.inventory(c)
	v.behavior("TCP", ports.TCPIndex, c.TCP)
	v.behavior("UDP", ports.UDPIndex, c.UDP)
	v.hairpin(c)
	v.fragments(c.Fragments)
	v.log(&c.Log)
	if err := (flow.Config{Shards: c.Shards}).Validate(); err != nil {
		v.errs = append(v.errs, err)
	}
	return v.err()
}

// validation collects complaints.
type validation struct {
	errs   []error
	grants []grant
}

// grant is a valid port range of one protocol and where it stands.
type grant struct {
	PortRange
	instance, index int
}

// maxComplaints bounds the length of an error.
const maxComplaints = 100

func (v *validation) add(format string, args ...any) {
	if len(v.errs) < maxComplaints {
		v.errs = append(v.errs, fmt.Errorf(format, args...))
	}
}

func (v *validation) err() error {
	if len(v.errs) == 0 {
		return nil
	}
	return fmt.Errorf("snat: %w", errors.Join(v.errs...))
}

func (v *validation) instance(i int, inst *Instance) {
	var families [2]bool
	for j, a := range inst.Addrs {
		if !flow.IsHost(a) {
			v.add("Instances[%d].Addrs[%d] %v: %w", i, j, a, ErrAddress)
			continue
		}
		if f := family(a); families[f] {
			v.add("Instances[%d].Addrs[%d] %v: %w: one address per family", i, j, a, ErrTooMany)
		} else {
			families[f] = true
		}
	}
	if inst.Policy != nil {
		v.policy(fmt.Sprintf("Instances[%d].Policy.", i), inst.Policy)
	}
	for j, p := range inst.Inside {
		if !p.IsValid() || p.Masked() != p || p.Addr().Is4In6() {
			v.add("Instances[%d].Inside[%d] %v: %w", i, j, p, ErrPrefix)
		}
	}
	var total [2][ports.NumProtocols]int
	for j, r := range inst.Ports {
		if !v.ports(i, j, r) {
			continue
		}
		for _, proto := range r.protocols() {
			total[family(r.Frontend)][proto-TCP] += r.Count
		}
	}
	if n := max(total[0][0], total[0][1], total[1][0], total[1][1]); n > ports.MaxPoolPorts {
		v.add("Instances[%d].Ports: %d ports: %w: at most %d for each address family and protocol; divide them over more instances", i, n, ErrTooMany, ports.MaxPoolPorts)
	}
}

// policy checks a policy whose fields are named with a prefix.
func (v *validation) policy(prefix string, p *Policy) {
	if p.IdleTimeout < 0 || p.IdleTimeout > flow.MaxTimeout || p.IdleTimeout%flow.Tick != 0 {
		v.add("%sIdleTimeout %v: %w", prefix, p.IdleTimeout, flow.ErrTimeout)
	}
	if err := p.Timeouts.Validate(); err != nil {
		v.add("%sTimeouts: %w", prefix, err)
	}
	if !p.TCPRules.Valid() {
		v.add("%sTCPRules %d: %w: RFCRules or ConntrackRules", prefix, p.TCPRules, ErrOutOfRange)
	}
	if p.ResetUnknown >= numResetUnknowns {
		v.add("%sResetUnknown %d: %w: 0..%d", prefix, p.ResetUnknown, ErrOutOfRange, numResetUnknowns-1)
	}
	if p.ResetSYN >= numResetUnknowns {
		v.add("%sResetSYN %d: %w: 0..%d", prefix, p.ResetSYN, ErrOutOfRange, numResetUnknowns-1)
	}
	for _, f := range []struct {
		name  string
		value int
	}{{"ResetRate", p.ResetRate}, {"ResetBurst", p.ResetBurst}} {
		if f.value < 0 || f.value > maxResetRate {
			v.add("%s%s %d: %w: 0..%d", prefix, f.name, f.value, ErrOutOfRange, maxResetRate)
		}
	}
	v.udpPorts(prefix, &p.UDPPorts)
	if p.EnforceMinimums {
		v.minimums(prefix, p)
	}
	if p.UDPRefresh >= numUDPRefreshes {
		v.add("%sUDPRefresh %d: %w: 0..%d", prefix, p.UDPRefresh, ErrOutOfRange, numUDPRefreshes-1)
	}
}

// ports checks one range and reports whether it is valid.
func (v *validation) ports(i, j int, r PortRange) bool {
	if !flow.IsHost(r.Frontend) {
		v.add("Instances[%d].Ports[%d].Frontend %v: %w", i, j, r.Frontend, ErrAddress)
		return false
	}
	if r.Protocol > UDP {
		v.add("Instances[%d].Ports[%d].Protocol %d: %w: 0..%d", i, j, r.Protocol, ErrOutOfRange, UDP)
		return false
	}
	if r.First < BlockSize || r.First%BlockSize != 0 || r.Count <= 0 || r.Count%BlockSize != 0 || int(r.First)+r.Count > 65536 {
		v.add("Instances[%d].Ports[%d] %d+%d: %w", i, j, r.First, r.Count, ErrPorts)
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
			v.add("Instances[%d].Ports[%d] %v %d+%d: %w: Instances[%d].Ports[%d] %d+%d", b.instance, b.index, b.Frontend,
				b.First, b.Count, ErrOwned, a.instance, a.index, a.First, a.Count)
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
		if len(v.errs) >= maxComplaints {
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
			v.add("Instances[%d].%s %v: %w: Instances[%d].%s %v", o.instance, o.field, o.prefix, ErrOverlap,
				open[n-1].instance, open[n-1].field, open[n-1].prefix)
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

// family returns 0 for IPv4, 1 for IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
