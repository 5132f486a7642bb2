// Forking: independent copies of what runs. Package snat says what a copy is.

package lb

import (
	"maps"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Ties are the functions by which a copy is tied to what is around it; see [snat.Ties]. Where
// there are network security groups they decide for the copy, too, and not Admit.
type Ties struct {
	snat.Ties

	// Prober is asked by the copy's probes, if the original has one; nil is that of the original,
	// which has to answer both then.
	Prober probe.Prober
}

// Fork returns an independent copy of l, of one moment, that goes on as l would, probes
// included: what they have found, their counts, and the times of the next attempts are those of
// l. The copy is reconfigured on its own. See [snat.NAT.Fork] for what is promised, for how long
// others wait, and for errors.
func (l *LoadBalancer) Fork(ties Ties) (*LoadBalancer, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	l.health.Lock()
	defer l.health.Unlock()
	if l.inForce.security != nil {
		ties.Admit = nil
	}
	nat, err := l.nat.Fork(ties.Ties)
	if err != nil {
		return nil, err
	}
	to := &LoadBalancer{translator: translator{observation{nat}}, config: l.config, inForce: l.inForce, own: l.own}
	if to.config.Hooks = ties.Hooks; to.config.Admit != nil && ties.Admit != nil {
		to.config.Admit = ties.Admit
	}
	if to.config.Prober != nil && ties.Prober != nil {
		to.config.Prober = ties.Prober
	}
	to.inForce.health = health.Verdicts{}
	l.health.ForkTo(&to.health, ties.Prober)
	return to, nil
}

// Fork returns an independent copy of g, of one moment, that goes on as g would. See
// [snat.NAT.Fork]. The gateway of an [Egress] is copied with that; a copy of it alone has no
// Egress, but asks that of the original which flows begin unless it is given an Admit.
func (g *Gateway) Fork(ties snat.Ties) (*Gateway, error) {
	if g.security != nil {
		ties.Admit = nil
	}
	nat, err := g.nat.Fork(ties)
	if err != nil {
		return nil, err
	}
	return &Gateway{translator{observation{nat}}, g.security, g.config}, nil
}

// Fork returns an independent copy of e with its NAT gateway, both of the same moment, that goes
// on as e would, probes included. The copy is reconfigured on its own, and draws the same
// addresses. See [snat.NAT.Fork] for what is promised, for how long others wait, and for errors.
func (e *Egress) Fork(ties Ties) (*Egress, error) {
	return e.ForkWith(ties, func() error { return nil })
}

// ForkWith is Fork that calls also at the moment of the copy; see [snat.NAT.ForkWith].
func (e *Egress) ForkWith(ties Ties, also func() error) (*Egress, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	e.health.Lock()
	defer e.health.Unlock()
	to := &Egress{state: e.state, fragments: e.fragments}
	s, d := &to.state, &to.state.config.LoadBalancer.Dataplane
	if s.inForce.security == nil && s.admit != nil && ties.Admit != nil {
		d.Admit, s.admit = ties.Admit, ties.Admit
	}
	if d.Hooks = ties.Hooks; s.config.LoadBalancer.Prober != nil && ties.Prober != nil {
		s.config.LoadBalancer.Prober = ties.Prober
	}
	s.given.LoadBalancer.Admit, s.given.LoadBalancer.Hooks, s.given.LoadBalancer.Prober = d.Admit, d.Hooks, s.config.LoadBalancer.Prober
	s.inForce.health, s.rules = health.Verdicts{}, maps.Clone(s.rules)
	gateway, was := &attached{}, e.gateway.Load()
	nat, err := e.nat.ForkWith(snat.Ties{Admit: s.admit, Hooks: ties.Hooks}, func() (err error) {
		if gateway, err = was.fork(s.admit, ties.Hooks); err != nil {
			return err
		}
		if err = also(); err != nil && gateway.Gateway != nil {
			gateway.Close()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	to.observation = observation{nat}
	to.gateway.Store(gateway)
	e.health.ForkTo(&to.health, ties.Prober)
	return to, nil
}

// fork returns a copy of a gateway, or of none, for which admit says which flows begin.
func (g *attached) fork(admit func(snat.NewFlow) flow.Reason, hooks snat.Hooks) (*attached, error) {
	if g.Gateway == nil {
		return &attached{}, nil
	}
	to := &attached{config: g.config, sides: g.sides}
	to.admitBy(admit)
	to.config.Admit = to.ask
	to.config.Hooks = hooks
	var err error
	to.Gateway, err = g.Gateway.Fork(snat.Ties{Admit: to.ask, Hooks: hooks})
	return to, err
}
