// The running load balancer: a translator whose ports the planner has dealt out.

package lb

import (
	"fmt"
	"slices"
	"sync"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/snat"
)

// LoadBalancer carries packets between the backends of a [Config] and the
// Internet. It has the doors and the observation of a [snat.NAT]: instance i is
// Config.Backends[i] until backends are removed, and the frontends are those of
// the configuration. It is safe for concurrent use.
type LoadBalancer struct {
	translator

	health health.Keeper

	mu      sync.RWMutex // taken before any lock of health and nat; guards all below
	config  Config       // a copy
	inForce inForce
	own     ownAddrs
}

// New returns the load balancer that c describes. The error joins every problem
// of c, as Config.Validate reports them, or is what snat.New says about the fields
// that are only passed on to it. No goroutine stays; Close returns its memory.
func New(c Config) (*LoadBalancer, error) {
	inForce, config, err := c.compile(nil)
	if err != nil {
		return nil, err
	}
	nat, err := snat.New(config)
	if err != nil {
		return nil, fmt.Errorf("load balancer %q: %w", c.Name, err)
	}
	l := &LoadBalancer{translator: translator{observation{nat}}, config: c.clone(), inForce: inForce, own: ownAddrsOf(c.Backends)}
	l.health.Adopt(0, inForce.health)
	return l, nil
}

// Reconfigure replaces the configuration at now, while traffic flows, and reports
// what that changed. Backends are identified by name and frontends by address. Each
// backend gets as many ports as Plan says, and keeps those it has as far as possible,
// so Allocations may differ from Plan: only what is added or missing is laid out
// anew. Flows on ports that stay go on untouched; flows on lost ports end silently: at once, or
// with ReclaimGrace when that ends, unless a rule or another backend needs the port sooner.
// Ports that nobody has had, or whose grace is over, are given away first. Growing across a
// tier of automatic allocation ends the flows on the upper half of each backend's ports;
// shrinking ends none, nor does a further frontend (outbound connections document; which half
// is our choice). See [snat.NAT.Reconfigure], also for what cannot change.
//
// A member of the pool of an inbound NAT rule keeps its frontend port. A backend that a probe
// watches already keeps what the probe has found of it. Flows of a rule stay on their
// backend as long as both are there, whoever else comes and goes. The SKU cannot change,
// and there cannot be more different idle timeouts and reset settings than the translator
// has begun with shards: 8, Dataplane.Shards, or as many as it had then.
//
// The error joins every problem of c; then nothing has changed.
func (l *LoadBalancer) Reconfigure(now flow.Time, c Config) (snat.Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.health.Lock()
	defer l.health.Unlock()
	l.health.Settle(now, l.nat)
	former := l.inForce
	former.now, former.known = now, l.health.Known
	next, config, err := c.compile(&former)
	if err != nil {
		return snat.Change{}, err
	}
	change, err := l.nat.Reconfigure(now, config)
	if err != nil {
		return snat.Change{}, fmt.Errorf("load balancer %q: %w", c.Name, err)
	}
	l.health.Adopt(now, next.health)
	l.config, l.inForce, l.own = c.clone(), next, ownAddrsOf(c.Backends)
	return change, nil
}

// Advance makes the probes that are due by now, each at its time, and expires what is due; resets go
// to emit. The first call makes no probe from before its now, so begin at the start of the
// simulation. See [snat.NAT.Advance].
func (l *LoadBalancer) Advance(now flow.Time, emit flow.Sink) {
	l.health.Advance(now, l.nat)
	l.nat.Advance(now, emit)
}

// AdvanceStep makes the probes that are due at now, does a bounded piece of what else
// Advance does, and reports whether all is done.
func (l *LoadBalancer) AdvanceStep(now flow.Time, emit flow.Sink) (done bool) {
	l.health.Advance(now, l.nat)
	return l.nat.AdvanceStep(now, emit)
}

// NextDeadline returns when Advance is to be called next, and false if nothing is waiting
// to expire or to be probed. The first probes follow the first call of Advance. See
// [snat.NAT.NextDeadline].
func (l *LoadBalancer) NextDeadline() (flow.Time, bool) {
	return l.health.Earlier(l.nat.NextDeadline())
}

// PortMappings returns the frontend ports of the inbound NAT rules in force, as
// [Config.PortMappings] does: whose they have been stays. The caller may keep and change
// the result.
func (l *LoadBalancer) PortMappings() []PortMapping {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.inForce.balancers[0].ports)
}

// Allocations returns what each backend got, in the order of Config.Backends. The
// caller may keep and change the result.
func (l *LoadBalancer) Allocations() []Allocation {
	l.mu.RLock()
	all := slices.Clone(l.inForce.plan)
	l.mu.RUnlock()
	for i := range all {
		all[i].Ports = slices.Clone(all[i].Ports)
	}
	return all
}
