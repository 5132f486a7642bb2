// Snapshots: what runs, written to a stream, and made again from that. The archive holds what the
// configuration does not say, which is what has come of changes and of probes (inForce); then
// come the translators, which package snat writes.

package lb

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/snat"
)

// snapshotVersion is that of the layouts of all snapshots of this package.
const snapshotVersion = 1

// Config returns the configuration in force. The caller may keep and change it.
func (l *LoadBalancer) Config() Config {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.config.clone()
}

// Snapshot writes l to w as it is at one moment, such that [Restore] makes a load balancer of it that goes
// on as l would, probes included. See [snat.NAT.Snapshot] for what is promised, for how long others wait, for
// errors and cost.
func (l *LoadBalancer) Snapshot(w io.Writer) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.health.Lock()
	defer l.health.Unlock()
	a := snapshot.NewWriter(w, "lb.LoadBalancer", snapshotVersion)
	l.config.archive(a)
	l.inForce.archive(a, l.config.Shards)
	if l.health.Archive(a, health.Verdicts{}); a.Close() != nil {
		return a.Err()
	}
	return l.nat.Snapshot(w)
}

// notStored are the fields of configurations by which the one that restores may differ.
var notStored = []string{"Shards", "HashKey", "Prober"}

// archive writes what c is, or compares it.
func (c *Config) archive(a *snapshot.Archive) {
	a.Config(c, notStored...)
	probes := c.Prober != nil
	if a.Bool(&probes); probes != (c.Prober != nil) {
		a.Fail(fmt.Errorf("%w: Prober is nil in one of them", flow.ErrOtherConfig))
	}
}

// Restore returns the load balancer that r has a snapshot of, which goes on as the one that wrote it
// would. c is the configuration that was in force then, as [LoadBalancer.Config] returns it; its functions
// and Prober take the place of those that there were, and Shards may be another number. r is read to the
// end of the snapshot and no further. Errors are those of c and of [snat.Restore]; then there is nothing.
func Restore(c Config, r io.Reader) (*LoadBalancer, error) {
	l, err := restore(c.clone(), r)
	if err != nil {
		return nil, fmt.Errorf("load balancer %q: %w", c.Name, err)
	}
	return l, nil
}

func restore(c Config, r io.Reader) (*LoadBalancer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	a := snapshot.NewReader(r, "lb.LoadBalancer", snapshotVersion)
	c.archive(a)
	l := &LoadBalancer{config: c, own: ownAddrsOf(c.Backends)}
	former := inForceBefore(a, &c, nil)
	if !a.OK() {
		return nil, a.Err()
	}
	next, t, err := c.compile(former)
	former.check(a, &next, err)
	if l.health.Archive(a, next.health); a.Close() != nil {
		return nil, a.Err()
	}
	next.health.Apply(t.Forwards)
	l.inForce = next
	l.nat, err = snat.Restore(t, r)
	return l, err
}

// Snapshot writes g to w as it is at one moment, such that [RestoreGateway] makes a gateway of it that goes
// on as g would. See [snat.NAT.Snapshot]. The gateway of an [Egress] is written with that; alone it
// wraps [ErrUnsupported].
func (g *Gateway) Snapshot(w io.Writer) error {
	if g.config == nil {
		return fmt.Errorf("NAT gateway: Snapshot: %w: an Egress has it", ErrUnsupported)
	}
	a := snapshot.NewWriter(w, "lb.Gateway", snapshotVersion)
	if a.Config(g.config, notStored...); a.Close() != nil {
		return a.Err()
	}
	return g.nat.Snapshot(w)
}

// RestoreGateway returns the gateway that r has a snapshot of. c is the configuration that it was made
// with. See [Restore].
func RestoreGateway(c GatewayConfig, r io.Reader) (*Gateway, error) {
	c = c.clone()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	a := snapshot.NewReader(r, "lb.Gateway", snapshotVersion)
	if a.Config(&c, notStored...); a.Close() != nil {
		return nil, fmt.Errorf("NAT gateway %q: %w", c.Name, a.Err())
	}
	g, err := c.restore(r)
	if err == nil {
		g.config = &c
	}
	return g, err
}

// Config returns the resources in force. The caller may keep and change them.
func (e *Egress) Config() EgressConfig {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.state.given.clone()
}

// Snapshot writes e to w with its NAT gateway, both as they are at one moment, such that [RestoreEgress]
// makes an egress of it that goes on as e would, probes included, and draws the same addresses. See
// [snat.NAT.Snapshot] for what is promised, for how long others wait, for errors and cost.
func (e *Egress) Snapshot(w io.Writer) error {
	return e.SnapshotWith(w, func() error { return nil })
}

// SnapshotWith is Snapshot that calls also at the moment of which the snapshot is, when all of it has been
// written; see [snat.NAT.SnapshotWith].
func (e *Egress) SnapshotWith(w io.Writer, also func() error) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.health.Lock()
	defer e.health.Unlock()
	a := snapshot.NewWriter(w, "lb.Egress", snapshotVersion)
	s := &e.state
	s.archive(a)
	if e.health.Archive(a, health.Verdicts{}); a.Close() != nil {
		return a.Err()
	}
	return e.nat.SnapshotWith(w, func() error {
		if g := e.gateway.Load().Gateway; g != nil {
			return g.nat.SnapshotWith(w, also)
		}
		return also()
	})
}

// archive writes what is in force, or reads what has come of changes.
func (s *egressState) archive(a *snapshot.Archive) {
	s.given.LoadBalancer.archive(a)
	a.Config(&s.given, append([]string{"LoadBalancer"}, notStored...)...)
	a.Section("egress")
	snapshot.Num(a, &s.draws)
	a.Addr(&s.address)
	a.Check(!s.address.IsValid() || s.address.Is4(), "the address %v of default outbound access", s.address)
	if !a.Writing() {
		s.rules = map[string]string{}
	}
	for _, pool := range s.given.LoadBalancer.BackendAddressPools {
		rule := s.rules[pool.Name]
		if a.Text(&rule, maxName); rule != "" && !a.Writing() {
			s.rules[pool.Name] = rule
		}
	}
	if a.Writing() {
		s.inForce.archive(a, s.given.LoadBalancer.Shards)
		return
	}
	s.inForce = *inForceBefore(a, &s.given.LoadBalancer, s.given.InternalLoadBalancers)
	s.resolved = new(resolved) // there is something in force
}

// RestoreEgress returns the egress that r has a snapshot of. c is what was in force then, as
// [Egress.Config] returns it. See [Restore].
func RestoreEgress(c EgressConfig, r io.Reader) (*Egress, error) {
	e, err := restoreEgress(c.clone(), r)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return e, nil
}

func restoreEgress(c EgressConfig, r io.Reader) (*Egress, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	a := snapshot.NewReader(r, "lb.Egress", snapshotVersion)
	former := egressState{given: c}
	if former.archive(a); !a.OK() {
		return nil, a.Err()
	}
	state, t, err := former.next(0, c, nil)
	if former.inForce.check(a, &state.inForce, err); a.OK() {
		a.Check(state.draws == former.draws && state.address == former.address, "it has drawn what fits nobody")
	}
	e := &Egress{state: state, fragments: c.LoadBalancer.Fragments.Mode != snat.FragmentsDropped}
	if e.health.Archive(a, state.inForce.health); a.Close() != nil {
		return nil, a.Err()
	}
	state.inForce.health.Apply(t.Forwards)
	if e.nat, err = snat.Restore(t, r); err != nil {
		return nil, err
	}
	g := &attached{}
	if c.NATGateway != nil {
		g = state.config.newAttached(state.admit)
		g.place()
		if g.Gateway, err = g.config.restore(r); err != nil {
			e.nat.Close()
			return nil, err
		}
	}
	e.gateway.Store(g)
	return e, nil
}

// restore returns the gateway that c describes.
func (c *GatewayConfig) restore(r io.Reader) (*Gateway, error) {
	t, groups, err := c.compile()
	if err != nil {
		return nil, err
	}
	nat, err := snat.Restore(t, r)
	if err != nil {
		return nil, fmt.Errorf("NAT gateway %q: %w", c.Name, err)
	}
	return &Gateway{translator{observation{nat}}, groups, nil}, nil
}

// What a snapshot may have at most.
const (
	maxName     = 1 << 10
	maxMappings = 1 << 22
	maxResting  = 1 << 24
)

// archive writes or reads what has come of changes. What reads has names and numbers already, those of
// balancers and of the plan. asked is how many shards the configuration asks for.
func (f *inForce) archive(a *snapshot.Archive, asked int) {
	a.Section("ports")
	needs := f.shards // because of policies
	if needs == cmp.Or(asked, flow.DefaultShards) {
		needs = 0
	}
	if snapshot.Num(a, &needs); a.Check(needs >= 0 && needs <= flow.MaxShards, "%d policies", needs) && !a.Writing() {
		f.policies, f.shards = needs, flow.MaxShards // a new translator can have any that there can be
	}
	for i := range f.plan {
		snapshot.Slice(a, &f.plan[i].Ports, maxRanges, func(r *snat.PortRange) {
			a.Addr(&r.Frontend)
			snapshot.Num(a, &r.Protocol)
			snapshot.Num(a, &r.First)
			snapshot.Num(a, &r.Count)
			a.Check(r.Count > 0 && r.Count <= 1<<16-int(r.First), "%d ports from %d on", r.Count, r.First)
		})
	}
	for i := range f.balancers {
		for _, all := range []*[]PortMapping{&f.balancers[i].ports, &f.balancers[i].vacated} {
			snapshot.Slice(a, all, maxMappings, func(m *PortMapping) {
				a.Text(&m.InboundNATRule, maxName)
				a.Text(&m.Backend, maxName)
				snapshot.Num(a, &m.FrontendPort)
			})
		}
	}
	snapshot.Slice(a, &f.resting, maxResting, func(r *restingBlock) {
		a.Text(&r.backend, maxName)
		snapshot.Num(a, &r.protocol)
		a.Addr(&r.frontend)
		snapshot.Num(a, &r.block)
		snapshot.Num(a, &r.until)
		a.Check(r.protocol == snat.TCP || r.protocol == snat.UDP, "a block of protocol %d", r.protocol)
	})
}

// inForceBefore reads what was in force of load balancers: c and those beside it.
func inForceBefore(a *snapshot.Archive, c *Config, beside []InternalLoadBalancer) *inForce {
	f := &inForce{exact: true, plan: make([]Allocation, len(c.Backends)), dropsHAPortsFragments: c.DropHAPortsFragments}
	for i, b := range c.Backends {
		f.plan[i].Instance = b.Name
	}
	f.balancers = []balancerInForce{{name: c.Name}}
	for _, b := range beside {
		f.balancers = append(f.balancers, balancerInForce{beside: true, name: b.Name})
	}
	f.archive(a, c.Shards)
	return f
}

// check refuses what was read as f if what follows from it, next, is not the same.
func (f *inForce) check(a *snapshot.Archive, next *inForce, err error) {
	if err != nil {
		a.Refuse("ports that cannot be: %v", err)
		return
	}
	for i := range f.balancers {
		is, was := &next.balancers[i], &f.balancers[i]
		a.Check(slices.Equal(is.ports, was.ports) && slices.Equal(is.vacated, was.vacated), "ports of inbound NAT rules that cannot be")
	}
	a.Check(len(next.resting) == len(f.resting), "blocks that rest, and nothing may")
}
