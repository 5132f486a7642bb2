// What the flows of each node take of its machine: the limits of package ceilings, and the
// ports by which Windows nodes translate their pods. Who counts is internal/machine.

package overlay

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay/ceilings"
	"github.com/seed-a61be3fe/natplane/overlay/internal/machine"
	"github.com/seed-a61be3fe/natplane/snat"
)

// bounds reports whether anything but outbound ports bounds the flows of nodes.
func (c *ClusterConfig) bounds() bool {
	return c.Ceilings != ceilings.Limits{} || slices.ContainsFunc(c.NodePools, func(p NodePool) bool { return p.podPorts() > 0 })
}

// podPorts is how many ports a node of the pool has for what its pods send to one destination;
// 0 is as many as there are.
func (p *NodePool) podPorts() int {
	if p.OSType == Windows && !p.DisableOutboundNAT {
		return windowsNATPorts
	}
	return 0
}

// watch makes translators of a configuration with defaults tell what begins and ends, and ask
// about it, if anything bounds that.
func (c *Cluster) watch(cfg *ClusterConfig) {
	if !cfg.bounds() {
		return
	}
	unmasked := cfg.unmasked() // where nothing is remembered, so that nothing can be told to be new
	cfg.machine = func(f snat.NewFlow) flow.Reason {
		if slices.ContainsFunc(unmasked, func(p netip.Prefix) bool { return p.Contains(f.Remote.Addr()) }) {
			return flow.ReasonNone
		}
		return c.state.Load().machines.Admit(f)
	}
	cfg.exit = func(node string) flow.Reason {
		s := c.state.Load()
		if i, ok := s.byName[node]; ok {
			return s.machines.AdmitExit(i)
		}
		return flow.ReasonNone
	}
	told := cfg.Hooks
	cfg.Hooks.SessionCreated = func(now flow.Time, instance uint32, s flow.Info) {
		c.state.Load().machines.Count(&s, 1)
		if told.SessionCreated != nil {
			told.SessionCreated(now, instance, s)
		}
	}
	cfg.Hooks.SessionExpired = func(at flow.Time, instance uint32, s flow.Info) {
		c.state.Load().machines.Count(&s, -1)
		if told.SessionExpired != nil {
			told.SessionExpired(at, instance, s)
		}
	}
	cfg.Hooks.SessionCut = func(at flow.Time, instance uint32, s flow.Info, cause snat.CutCause) {
		c.state.Load().machines.Count(&s, -1)
		if told.SessionCut != nil {
			told.SessionCut(at, instance, s, cause)
		}
	}
}

// setMachines gives each node of a state its machine: the one that it has in a former one, or
// one without flows.
func (s *state) setMachines(former *state) {
	if s.machines = nil; !s.config.bounds() {
		return
	}
	s.machines = machine.NewSet(func(a netip.Addr) (node int, own, ok bool) {
		if node, ok = s.byAddr[a]; ok {
			return node, true, true
		}
		node, _, ok = s.places.Locate(a)
		return node, false, ok
	})
	for i, n := range s.byIndex {
		if n == nil {
			continue
		}
		m := new(machine.Machine)
		if former != nil && former.has(n.Name) {
			if had := former.machines.Of(former.byName[n.Name]); had != nil {
				m = had
			}
		}
		s.machines.Add(i, m, machine.Limits{Limits: s.config.Ceilings, PodPorts: s.config.pool(n.Pool).podPorts()})
	}
}

// countExit notes that a node has so many flows more, or fewer, of those that leave by a static gateway.
func (c *Cluster) countExit(node string, by int) {
	s := c.state.Load()
	if i, ok := s.byName[node]; ok {
		s.machines.CountExit(i, by)
	}
}

// recount counts the flows that there are, from the beginning: after other limits, which may
// count what has not been counted. What begins or ends meanwhile may be counted wrongly. c.mu
// must be held.
func (c *Cluster) recount() {
	next := *c.state.Load()
	next.setMachines(nil)
	for _, sessions := range []iter.Seq[flow.Info]{c.egress.Sessions(), c.nodes.Sessions()} {
		for info := range sessions {
			if info.Class != flow.ClassTCPResetSent && info.Class != flow.ClassUDPHeld { // which have been told to be over
				next.machines.Count(&info, 1)
			}
		}
	}
	for _, g := range next.config.StaticGatewayConfigurations {
		for _, e := range c.gateways.Exits(g.Name) {
			next.machines.CountExit(next.byName[e.Node], e.Sessions)
		}
	}
	c.setState(&next)
}

// asksDNS drops a packet that nodes have sent to the network if it is a query of Azure DNS too many.
func (c *Cluster) asksDNS(now flow.Time, s *state, pkt []byte, v *flow.Verdict) {
	if v.Action != flow.Forward && v.Action != flow.Bypass {
		return
	}
	if why := s.machines.Asks(now, pkt); why != flow.ReasonNone {
		n := &c.serviced[flow.Inside]
		if v.Action == flow.Bypass {
			n.WasBypassed.Add(1)
		} else {
			n.WasForwarded.Add(1)
		}
		n.Drops[why].Add(1)
		*v = flow.Verdict{Action: flow.Drop, Reason: why, Instance: v.Instance}
	}
}

// countsDNS reports whether queries of Azure DNS are bounded.
func (c *ClusterConfig) countsDNS() bool {
	return c.Ceilings.DNSQueries > 0 || c.Ceilings.DNSPending > 0
}
