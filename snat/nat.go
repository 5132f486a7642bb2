package snat

import (
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/compiled"
	"github.com/seed-a61be3fe/natplane/snat/internal/dataplane"
)

// NAT translates the packets of a set of instances. See the package comment for
// the way of a packet. A NAT is safe for concurrent use.
type NAT struct {
	plane   dataplane.NAT // by value, so that a door is one call
	queries bool          // ICMP.Queries, which never changes

	// control is held by whatever changes the configuration. It is taken before all locks
	// of the dataplane.
	control sync.Mutex
	config  settings // in force, with the states of targets; guarded by control
	// grants are what the Ports of config.Instances have been compiled to; guarded by control.
	grants [][]compiled.Grant
}

var _ flow.Translator = (*NAT)(nil)

// New returns a NAT for a configuration, or an error that names every bad field, or
// says that the system has no memory ([flow.ErrMemory]). No goroutine stays: one that touches
// memory ahead of use ends by itself. Close returns its memory.
func New(config Config) (*NAT, error) {
	c := config.settings()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &NAT{config: c.clone(&settings{}), queries: c.ICMP.Queries}
	if err := n.plane.Init(n.config.fixed(n.config.shards()), n.compiled(&settings{})); err != nil {
		return nil, err
	}
	return n, nil
}

// Config returns the configuration in force, with the states that targets have by [NAT.SetTargets]: what
// [New] or Restore was given, or [NAT.Reconfigure] last. Ports is an *Owned where it was nil. The caller may keep and
// change it. Cost: O(size of the configuration); traffic does not wait.
func (n *NAT) Config() Config {
	n.control.Lock()
	defer n.control.Unlock()
	c := n.config.clone(&settings{})
	if c.Config.Ports = &c.Owned; c.shared != nil {
		c.Config.Ports = c.shared
	}
	return c.Config
}

// Close returns the memory of n to the system. It may be called at any time, and
// twice. Afterwards every packet is dropped ([flow.ReasonClosed]), Advance has nothing
// to do, Reconfigure fails ([flow.ErrClosed]), and of what can be observed only the counts of
// Stats are left. No hook is told of the sessions that end so.
func (n *NAT) Close() {
	n.control.Lock()
	defer n.control.Unlock()
	n.plane.Close()
}
