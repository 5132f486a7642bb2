// Forking: independent copies of a running cluster. Package snat says what a copy is.

package overlay

import (
	"maps"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Ties are the functions by which a copy of a cluster is tied to what is around it; see [snat.Ties]. Each
// takes the place of that of [ClusterConfig] where there is one; but for Hooks, nil is that of the original,
// which has to answer both then.
type Ties struct {
	snat.Ties
	NetworkPolicy func(snat.NewFlow) bool                      // decides about what pods begin
	NextHop       func(now flow.Time, pkt []byte) flow.Verdict // carries what user-defined routes send on
}

// Fork returns an independent copy of c that goes on as c would, byte for byte: nodes, pods, Services with
// their endpoints and what probes have found, host ports, static egress gateways, and all flows. Nodes and
// pods keep index and addresses, and the next ones get the same in both. It is of one moment, for which all
// who use c wait; see [snat.NAT.Fork] for how long, for what else is promised, and for errors. An
// upgrade that goes on is copied by its own Fork, see package upgrade.
func (c *Cluster) Fork(ties Ties) (*Cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services.mu.Lock()
	defer c.services.mu.Unlock()
	c.pods.mu.RLock()
	defer c.pods.mu.RUnlock()
	to := new(Cluster)
	was := c.state.Load()
	s := c.forkState(to, was, &ties)
	c.services.forkTo(&to.services)
	var err error
	egress := lb.Ties{Ties: snat.Ties{Hooks: s.config.Hooks, Admit: s.admitted.Admit}, Prober: probe.ProberFunc(to.probe)}
	to.egress, err = c.egress.ForkWith(egress, func() (err error) {
		to.nodes, err = c.nodes.ForkWith(snat.Ties{Hooks: s.config.Hooks, Admit: to.admit}, func() (err error) {
			if to.proxy, err = c.proxy.Fork(&to.proxyNotice); err != nil {
				return err
			}
			err = c.gateways.ForkTo(&to.gateways, to.admitGateway, to.countExit, func() error {
				c.forkCounts(to)
				s.machines = was.machines.Fork()
				return nil
			})
			if err != nil {
				to.proxy.Close()
			}
			return err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	to.pods.table = c.pods.table.Fork()
	to.pods.hostPorts = c.pods.hostPorts.Fork(to.proxy)
	to.setState(s)
	return to, nil
}

// forkState returns the copy of a state that belongs to a copy of c, without its machines.
func (c *Cluster) forkState(to *Cluster, was *state, ties *Ties) *state {
	s := *was
	for _, config := range []*ClusterConfig{&s.given, &s.config} {
		config.Hooks = ties.Hooks
		if config.Admit != nil && ties.Admit != nil {
			config.Admit = ties.Admit
		}
		if config.NetworkPolicy != nil && ties.NetworkPolicy != nil {
			config.NetworkPolicy = ties.NetworkPolicy
		}
		if config.NextHop != nil && ties.NextHop != nil {
			config.NextHop = ties.NextHop
		}
	}
	s.config.machine, s.config.exit = nil, nil
	to.watch(&s.config)
	s.admitted = was.admitted.With(s.config.NetworkPolicy, s.config.Admit, s.config.machine, s.config.exit)
	balancer := &s.egress.LoadBalancer
	if balancer.Hooks = s.config.Hooks; s.admitted.LimitsEgress() {
		balancer.Admit = s.admitted.Admit
	}
	if balancer.Prober != nil {
		balancer.Prober = probe.ProberFunc(to.probe)
	}
	s.live = slices.Clone(was.live)
	for i, b := range s.live {
		if b != nil {
			s.live[i] = b.Fork()
		}
	}
	if s.gateways != nil {
		s.gateways = &to.gateways
	}
	return &s
}

// forkTo makes to, which is zero, a copy of s. s.mu must be held.
func (s *services) forkTo(to *services) {
	to.byName, to.order, to.serves = make(map[string]*serviceEntry, len(s.byName)), slices.Clone(s.order), maps.Clone(s.serves)
	for name, e := range s.byName {
		is := *e
		is.endpoints = slices.Clone(e.endpoints)
		to.byName[name] = &is
	}
	to.probes.Store(s.probes.Load())
}

// forkCounts copies what is counted without a lock, and answers that wait.
func (c *Cluster) forkCounts(to *Cluster) {
	if c.proxyNotice.Raised() {
		to.proxyNotice.Raise()
	}
	to.rejects.Notice = &to.proxyNotice
	c.rejects.ForkTo(&to.rejects)
	to.spoofed.Store(c.spoofed.Load())
	c.serviced.ForkTo(&to.serviced)
	for side := range c.stayed {
		to.stayed[side].Store(c.stayed[side].Load())
	}
}
