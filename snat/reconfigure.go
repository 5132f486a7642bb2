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
// HoldSYN, CountHolders, Blocks and Log cannot be changed (because what was made under one rule would
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
//     its destination is routed differently now does not matter until it closes: a SYN on
//     the sockets of a closed connection, though they keep their port, begins a new flow,
//     and goes where those go now.
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
	n.control.Lock()
	defer n.control.Unlock()
	c, err := n.check(config)
	if err != nil {
		return Change{}, err
	}
	return n.apply(now, c), nil
}

// Checked is a configuration that a NAT has accepted. It is put into force once.
type Checked struct{ config settings }

// CheckReconfigure returns config as [NAT.ReconfigureChecked] takes it, or what [NAT.Reconfigure]
// would refuse it for. It changes nothing, and keeps nothing of config. Cost: O(instances + ports).
func (n *NAT) CheckReconfigure(config Config) (*Checked, error) {
	n.control.Lock()
	defer n.control.Unlock()
	return n.check(config)
}

// ReconfigureChecked is Reconfigure with a configuration that n has checked, whatever has come into
// force since: what can be wrong with one depends on what never changes. The only error is
// [flow.ErrClosed].
func (n *NAT) ReconfigureChecked(now flow.Time, c *Checked) (Change, error) {
	n.control.Lock()
	defer n.control.Unlock()
	if n.plane.Closed() {
		return Change{}, flow.ErrClosed
	}
	return n.apply(now, c), nil
}

// check returns a configuration that can come into force. The caller holds control.
func (n *NAT) check(config Config) (*Checked, error) {
	if n.plane.Closed() {
		return nil, flow.ErrClosed
	}
	c := config.settings()
	if err := n.refusal(&c); err != nil {
		return nil, err
	}
	return &Checked{c.clone(&n.config)}, nil
}

// apply puts a configuration into force. The caller holds control.
func (n *NAT) apply(now flow.Time, checked *Checked) (change Change) {
	was := n.config
	c := &checked.config
	rebook := !c.Allocation.same(&was.Allocation) || c.Limits != was.Limits || c.deterministic() != was.deterministic()
	n.config = *c
	for _, row := range n.plane.Reconfigure(now, n.compiled(&was), rebook) {
		change.Instances = append(change.Instances, InstanceChange(row))
	}
	return change
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
		{"Lenient", c.Lenient, n.config.Lenient}, {"CountHolders", c.CountHolders, n.config.CountHolders},
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
