package snat

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Ties are the functions by which a copy of a translator is tied to what is around it. The
// zero Ties are those of a copy that nobody watches.
type Ties struct {
	// Admit takes the place of [Dataplane].Admit, where the original has one; nil is that of
	// the original, which answers by its argument alone.
	Admit func(NewFlow) flow.Reason

	// Hooks are those of the copy. It has none of the original's.
	Hooks Hooks
}

// Fork returns an independent copy of n: what it does from then on, and all that can be seen
// of it, is byte for byte what n would do. It chooses the same ports, instances and sessions keep
// their indexes and IDs, and what waits to be emitted waits in both. The two share no memory that
// changes, and Close of either leaves the other whole. No hook is told of a Fork.
//
// The copy is that of one moment, also while other goroutines use n: they wait for as long as
// the memory takes to be copied ([Stats].Bytes; about 12 ms per 100 MB), whichever lock of n they want.
// The memory of the copy is taken before, which they do not wait for: 12 ms per 100 MB, 20 times as
// much where a virtual machine has to find it first, and nothing where a copy that has been closed has
// left it. What that leaves goes back to the system after two garbage collections.
// Of a batch that is on its way then, it has some packets and not others; packets that need no lock
// (translated 1:1, or dropped before an instance is known) may count in n and not in the copy. What
// Advance has taken out and not emitted yet is emitted by n alone.
//
// The random events of both are alike, as all is that Seed decides. Where only one of the two has
// an Event hook, [NAT.NextDeadline] may differ, for the records of deterministic mappings: if n
// has none, the first Advance of the copy tells them. Fork fails with [flow.ErrClosed] if n is closed, and with [flow.ErrMemory] if the
// system has none left. Cost: that of copying, and O(instances + ports).
func (n *NAT) Fork(ties Ties) (*NAT, error) { return n.ForkWith(ties, func() error { return nil }) }

// ForkWith is Fork that calls also at the moment of the copy, while everybody who uses n waits:
// other translators are copied there that have to be of the same moment. also must not use n. Its
// error is that of ForkWith, and then there is no copy.
func (n *NAT) ForkWith(ties Ties, also func() error) (*NAT, error) {
	n.control.Lock()
	defer n.control.Unlock()
	to := &NAT{config: n.config, grants: n.grants, queries: n.queries}
	c := &to.config
	c.Forwards = slices.Clone(c.Forwards)
	for i := range c.Forwards {
		c.Forwards[i] = c.Forwards[i].clone()
	}
	if c.Hooks = ties.Hooks; c.Admit != nil && ties.Admit != nil {
		c.Admit = ties.Admit
	}
	if err := n.plane.Fork(&to.plane, admission(c.Admit), to.hooks(), also); err != nil {
		return nil, err
	}
	return to, nil
}
