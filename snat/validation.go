package snat

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/internal/turns"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
)

// The order in which a configuration is checked, and what must go together. What a type
// says by itself is checked beside it.

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
	v.instances(c.Instances)
	for i := range c.Routes {
		v.route(i, &c.Routes[i])
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
	problems.AtMost(&v.List, "Instances", len(c.policies()), "different policies, those of Forwards included", flow.MaxShards)
	v.forwards(c)
	v.shared(c)
	return v.Err()
}

// queries checks what ICMP wants of queries: their timeouts, and how they are mapped.
func (v *validation) queries(c *settings) {
	i := &c.ICMP
	if c.shared != nil && (i.QueryPerDestination || i.RandomIDs) {
		v.Add("ICMP.QueryPerDestination", problems.Rawf("%v, ICMP.RandomIDs %v", i.QueryPerDestination, i.RandomIDs), ErrShared, "")
	}
	if !i.Queries && !i.PublicAddrs || i.AllowShortTimeout {
		return
	}
	short := func(prefix string, p *Policy) {
		if d := p.Timeouts.ICMP; d > 0 && d < minQueryTimeout {
			v.Add(prefix+"Timeouts.ICMP", d, flow.ErrOutOfRange, "below %v only with ICMP.AllowShortTimeout", minQueryTimeout)
		}
	}
	short("", &c.Policy)
	for k := range c.Instances {
		if p := c.Instances[k].Policy; p != nil {
			short(fmt.Sprintf("Instances[%d].Policy.", k), p)
		}
	}
}

// heldUnanswered checks that nobody answers what HoldSYN holds.
func (v *validation) heldUnanswered(c *Config) {
	h := c.HoldSYN
	if h.Max > 0 && slices.ContainsFunc(c.policies(), func(p Policy) bool { return p.ResetSYN == ResetSender }) {
		v.Add("HoldSYN.Max", h.Max, flow.ErrOutOfRange, "not with Policy.ResetSYN %v", ResetSender)
	}
}

// hairpin checks what Owned.Hairpin needs.
func (v *validation) hairpin(c *Owned) {
	if !c.Hairpin {
		return
	}
	for protocol, b := range [ports.NumProtocols]Behavior{ports.TCPIndex: c.TCP, ports.UDPIndex: c.UDP} {
		if b = b.filled(protocol); b.Share < numPortShares && b.Share != ShareNever {
			v.Add("Hairpin", c.Hairpin, ErrAmbiguous, "where %s.Share is %v: it must be ShareNever, or a host could get the port that it sends to",
				[ports.NumProtocols]string{ports.TCPIndex: "TCP", ports.UDPIndex: "UDP"}[protocol], b.Share)
		}
	}
}

// instancesInBlocks checks what Owned.Blocks wants of instances' ports, and the
// deterministic mappings of instances.
func (v *validation) instancesInBlocks(c *settings) {
	size := c.Blocks.Size
	if !c.Blocks.valid() {
		size = 0
	}
	for i := range c.Instances {
		inst := &c.Instances[i]
		if inst.Deterministic != nil && c.shared != nil {
			v.Add(fmt.Sprintf("Instances[%d].Deterministic", i), problems.None, ErrShared, "")
		} else if inst.Deterministic != nil {
			v.pooling("Ports", &c.Owned)
			v.deterministicInstance(i, inst)
		}
		for j, r := range inst.Ports {
			if size > 0 && (r.Protocol != All || int(r.First)%size != 0 || r.Count%size != 0) {
				v.Add(fmt.Sprintf("Instances[%d].Ports[%d]", i, j), problems.Rawf("%d+%d", r.First, r.Count), ErrPorts,
					"whole blocks of %d (Ports.Blocks.Size) and of Protocol All", size)
			}
		}
	}
}

// pooling checks that Owned, at a path, pairs subscribers, who otherwise could have no
// ports of their own.
func (v *validation) pooling(path string, c *Owned) {
	if !c.Allocation.paired() {
		v.Add(problems.Field(path, "Allocation.Pooling"), c.Allocation.Pooling, flow.ErrOutOfRange, "Blocks and Deterministic need Paired or PairedSoft")
	}
}

// shared checks c's Shared ports.
func (v *validation) shared(c *settings) {
	inv := c.shared
	if inv == nil {
		v.Include("Timeouts", c.ValidateTimeouts(c.Timeouts))
		for i := range c.Instances {
			if p := c.Instances[i].Policy; p != nil {
				v.Include(fmt.Sprintf("Instances[%d].Policy.Timeouts", i), c.ValidateTimeouts(p.Timeouts))
			}
		}
		return
	}
	for i := range c.Instances {
		if n := len(c.Instances[i].Ports); n > 0 {
			v.Add(fmt.Sprintf("Instances[%d].Ports", i), problems.Rawf("has %d ranges", n), ErrShared, "")
		}
		if c.Instances[i].Policy != nil {
			v.Add(fmt.Sprintf("Instances[%d].Policy", i), problems.None, ErrShared, "")
		}
	}
	var families [2]int
	for i, a := range inv.Frontends {
		if !flow.IsHost(a) {
			v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, flow.ErrAddress, "")
			continue
		}
		families[flow.Family(a)]++
		if slices.Index(inv.Frontends, a) < i {
			v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, ErrOwned, "")
		}
		for j := range c.Instances {
			if inst := &c.Instances[j]; slices.Contains(inst.Addrs, a) || slices.Contains(inst.PublicAddrs, a) ||
				slices.ContainsFunc(inst.Inside, func(p netip.Prefix) bool { return p.Contains(a) }) {
				v.Add(fmt.Sprintf("Ports.Frontends[%d]", i), a, flow.ErrOverlap, "with Instances[%d]", j)
			}
		}
	}
	if n := max(families[0], families[1]); len(inv.Frontends) == 0 || n > ports.MaxSharedFrontends {
		v.Add("Ports.Frontends", problems.Rawf("has %d addresses", n), flow.ErrOutOfRange, "1..%d of each family", ports.MaxSharedFrontends)
	}
	if d := inv.withDefaults(); d.FirstPort > d.LastPort {
		v.Add("Ports.FirstPort", d.FirstPort, flow.ErrOutOfRange, "at most LastPort %d", d.LastPort)
	}
	if inv.Choice >= numPortChoices || inv.Choice == LowestPort {
		v.Add("Ports.Choice", uint8(inv.Choice), flow.ErrOutOfRange, "0..%d without LowestPort (%d)", numPortChoices-1, LowestPort)
	}
	problems.Between(&v.List, "Ports.FlowsPerDestination", inv.FlowsPerDestination, 0, 65536)
	problems.Between(&v.List, "Ports.MaxFlows", inv.MaxFlows, 0, math.MaxInt32)
}

// Validate reports every problem of o in one error, by paths from o on.
func (o Owned) Validate() error {
	var v validation
	v.behavior("TCP", ports.TCPIndex, o.TCP)
	v.behavior("UDP", ports.UDPIndex, o.UDP)
	v.allocation(&o.Allocation)
	v.blocks(&o.Blocks)
	if o.Blocks.Size != 0 {
		v.pooling("", &o)
	}
	v.limits(&o.Limits)
	v.hairpin(&o)
	return v.Err()
}

// ValidateTimeouts reports every problem of timeouts where instances own their ports:
// nobody would see to a hold of UDP ports.
func (Owned) ValidateTimeouts(t flow.Timeouts) error {
	var v validation
	v.Include("", t.Validate())
	if t.UDPHeld != 0 {
		v.Add("UDPHeld", t.UDPHeld, flow.ErrOutOfRange, "it needs Shared ports")
	}
	return v.Err()
}

// forwards checks all forwards, of instances that have been checked.
func (v *validation) forwards(c *settings) {
	if len(c.Forwards) == 0 {
		return
	}
	switch {
	case c.shared != nil:
		v.Add("Forwards", problems.Rawf("has %d elements", len(c.Forwards)), ErrShared, "")
	case c.Hairpin:
		v.Add("Forwards", problems.Rawf("has %d elements", len(c.Forwards)), flow.ErrConflict, "with Ports.Hairpin")
	}
	if !problems.AtMost(&v.List, "Forwards", len(c.Forwards), "elements", maxInstances) {
		return
	}
	var users users
	by := make(map[string]int, len(c.Instances))
	for i := range c.Instances {
		turns.Step(i)
		inst := &c.Instances[i]
		users.inside(i, inst)
		for j, a := range inst.PublicAddrs {
			users.put(netip.PrefixFrom(a, a.BitLen()), i, publicOf, j)
		}
		by[inst.Name] = i
	}
	for i := range c.Forwards {
		if v.Full() {
			return
		}
		v.forward(i, &c.Forwards[i], &users, c.Instances)
		if p := c.Forwards[i].Policy; p != nil {
			v.Include(fmt.Sprintf("Forwards[%d].Policy.Timeouts", i), c.ValidateTimeouts(p.Timeouts))
		}
		v.targets(i, &c.Forwards[i], c.Instances, by)
	}
	v.forwardedPorts(c.Forwards, c.Instances)
	v.backends(&c.Config)
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
	v.countHolders(&d.CountHolders)
	return v.Err()
}
