package snat

import (
	"cmp"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Reconfiguration: what may change, and the report. Package dataplane carries it out.

// Reconfigure replaces the configuration while traffic flows, and reports what
// that changed. It takes effect at now, at one moment for all instances: each
// packet is judged by the old configuration or by the new one. All that was due
// at now ends first, by the old one. An error names every bad field; then nothing
// has changed. Shards, Seed, HashKey, TCP, UDP, Hairpin, ICMP, Lenient, Fragments,
// HoldSYN, Blocks and Log cannot be changed (because what was made under one rule would
// contradict another). With Shared ports, Ports and Policy cannot be changed either.
// There must not be more different policies than shards.
//
// Instances are identified by Name and frontends by address, so counters and
// peaks survive, and instances keep their index ([flow.Verdict].Instance) as long
// as they exist; a new one gets the lowest index that is free.
//
//   - A flow on a port that its instance keeps survives untouched, if its inside
//     address still belongs to the instance, in the same realm, and is not
//     translated 1:1 now, and, for a flow that was translated to its node on the
//     way or in the end, the node's own and public addresses are the same. That
//     its destination is routed differently now does not matter.
//   - A flow on a port that its instance loses is cut: it ends without a RST
//     (Azure: flows on reclaimed ports time out and must be made again). A port
//     that another instance gets is free for that one at once. Only with
//     ReclaimGrace, and only on a port that nobody gets, it goes on until it ends
//     or the grace does. No mapping begins on such a port, but one that has it
//     keeps it for further sessions, as long as its instance has any ports at
//     all: a UDP socket has it for all its destinations. A port that its instance
//     gets back in time is as before.
//   - All flows of an instance that is removed are cut, and where ports are Shared also those
//     of one whose addresses change.
//   - A changed policy applies to running sessions at once. A session that has been
//     idle longer than it now may, ends at now.
//
// Cost: O(instances + ports), and O(sessions) of the shards with instances whose
// ports, addresses or policies change, and with Forwards, if any changes, of all. Packets wait
// meanwhile for what changes only: for the instances that do and their sessions, and all
// sessions of shards whose policies change. now must not lie before that of an earlier call.
// Hooks run during the call; those of config are in force from the first flow that is cut.
func (n *NAT) Reconfigure(now flow.Time, config Config) (Change, error) {
	c := config.settings()
	n.control.Lock()
	defer n.control.Unlock()
	if n.plane.Closed() {
		return Change{}, flow.ErrClosed
	}
	if err := n.refusal(&c); err != nil {
		return Change{}, err
	}
	was := n.config
	n.config = c.clone()
	rebook := !c.Allocation.same(&was.Allocation) || c.Limits != was.Limits || c.deterministic() != was.deterministic()
	var change Change
	for _, row := range n.plane.Reconfigure(now, n.compiled(), rebook) {
		change.Instances = append(change.Instances, InstanceChange(row))
	}
	return change, nil
}

// CheckReconfigure returns what [NAT.Reconfigure] would refuse config for now, and nil if
// nothing. It changes nothing. Cost: O(instances + ports).
func (n *NAT) CheckReconfigure(config Config) error {
	c := config.settings()
	n.control.Lock()
	defer n.control.Unlock()
	if n.plane.Closed() {
		return flow.ErrClosed
	}
	return n.refusal(&c)
}

// refusal returns why a configuration cannot come into force. The caller holds control.
func (n *NAT) refusal(c *settings) error {
	var wrong problems.List
	wrong.Include("", c.validate())
	wrong.Include("", n.validateChange(c))
	return wrong.Err()
}

// validateChange complains about what cannot change.
func (n *NAT) validateChange(c *settings) error {
	var v validation
	if was := cmp.Or(n.config.Shards, flow.DefaultShards); cmp.Or(c.Shards, flow.DefaultShards) != was {
		v.Add("Shards", c.Shards, ErrFixed, "it is %d", was)
	}
	for _, f := range []struct {
		name    string
		is, was any // comparable
	}{
		{"Seed", c.Seed, n.config.Seed}, {"HashKey", c.HashKey, n.config.HashKey}, {"Ports.TCP", c.TCP, n.config.TCP}, {"Ports.UDP", c.UDP, n.config.UDP},
		{"Ports.Hairpin", c.Hairpin, n.config.Hairpin}, {"Fragments", c.Fragments, n.config.Fragments},
		{"HoldSYN", c.HoldSYN, n.config.HoldSYN}, {"Ports.Blocks", c.Blocks, n.config.Blocks}, {"Log", c.Log, n.config.Log},
		{"Lenient", c.Lenient, n.config.Lenient},
	} {
		if f.is != f.was {
			v.Add(f.name, f.is, ErrFixed, "it is %+v", f.was)
		}
	}
	if !c.ICMP.same(&n.config.ICMP) {
		v.Add("ICMP", c.ICMP, ErrFixed, "it is %+v", n.config.ICMP)
	}
	n.validateShared(&v, c)
	if k := len(c.policies()); k > n.plane.NumShards() {
		v.Add("Instances", problems.Rawf("has %d different policies", k), flow.ErrTooMany, "at most %d, the number of shards", n.plane.NumShards())
	}
	return v.Err()
}

// validateShared complains about what cannot change where instances share ports.
func (n *NAT) validateShared(v *validation, c *settings) {
	was := &n.config
	switch {
	case was.shared == nil && c.shared == nil:
		return
	case was.shared == nil || c.shared == nil || !was.shared.same(c.shared):
		v.Add("Ports", problems.None, ErrFixed, "where they are Shared, nor from or to that")
	}
	if c.Policy != was.Policy {
		v.Add("Policy", problems.None, ErrFixed, "where ports are Shared")
	}
}
