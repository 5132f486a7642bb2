// What is in force in an egress, and what follows when another configuration comes.

package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/snat"
)

// egressState is what is in force.
type egressState struct {
	given    EgressConfig                   // in force
	config   EgressConfig                   // the same with the rules that were drawn first
	resolved *resolved                      // config.LoadBalancer; not changed any more
	admit    func(snat.NewFlow) flow.Reason // says which flows begin; nil lets all
	inForce  inForce                        // plan by backend; of load balancer and default outbound access

	// address is that of default outbound access, the zero Addr while nobody has
	// it; draws counts the addresses and rules that were drawn.
	address netip.Addr
	draws   uint64

	// rules are the load-balancing rules that Basic pools have drawn, by pool.
	rules map[string]string
}

// next returns the state that follows s when c comes into force at now, and its
// translator. known is what is known of the health of backends. next keeps no reference
// to c.
func (s *egressState) next(now flow.Time, c EgressConfig, known health.Known) (egressState, snat.Config, error) {
	next := egressState{config: c.clone(), draws: s.draws, rules: map[string]string{}}
	next.given = next.config
	r, err := next.config.resolve()
	if err != nil {
		return egressState{}, snat.Config{}, err
	}
	if next.drawRules(s.rules) {
		ordered := next.config.LoadBalancer.lookUp(nil)
		if err := ordered.Err(); err != nil {
			panic(fmt.Sprintf("lb: valid resources in another order are not: %v", err))
		}
		ordered.security, ordered.beside = r.security, r.beside
		r = ordered
	}
	for _, b := range r.balancers() {
		b.indexMembers()
	}
	if s.resolved != nil {
		former := s.inForce
		former.now, former.known = now, known
		r.follow(&former)
	}
	var p problems.List
	r.checkFixed()
	next.resolved = r
	next.inForce = *r.newInForce()
	// Ports are those without gateway, so that flows go on when one is attached.
	without := next.config
	without.NATGateway = nil
	if members := without.byDefault(r); len(members) > 0 {
		next.address = s.address
		if !next.config.mayUse(r, s.address) {
			if next.address, err = next.draw(r); err != nil {
				return egressState{}, snat.Config{}, err
			}
		}
		p.Include("", next.layOutDefault(r, members))
	}
	t := r.translator(&next.inForce)
	r.report(&p)
	if err := p.Err(); err != nil {
		return egressState{}, snat.Config{}, err
	}
	next.inForce.resting = r.restAfter(next.inForce.plan)
	r.follow(nil)
	t.Routes, next.admit, t.RememberEntries = next.config.passOn(t.Routes), t.Admit, true
	return next, t, nil
}

// drawRules decides which rule each pool of a Basic load balancer uses: one that
// was drawn stays as long as it exists. They come first, so that the planner takes
// them for the oldest; then drawRules returns true.
func (s *egressState) drawRules(kept map[string]string) (reordered bool) {
	c := &s.config.LoadBalancer
	if c.SKU != Basic || c.BasicFrontend != SeededRule {
		return false
	}
	for _, pool := range c.BackendAddressPools {
		var rules []string
		for _, l := range c.LoadBalancingRules {
			if l.BackendAddressPool == pool.Name {
				rules = append(rules, l.Name)
			}
		}
		if name, ok := kept[pool.Name]; ok && slices.Contains(rules, name) {
			s.rules[pool.Name] = name
		} else if len(rules) > 0 {
			s.rules[pool.Name] = rules[s.random().IntN(len(rules))]
		}
	}
	drawn := func(l LoadBalancingRule) bool { return s.rules[l.BackendAddressPool] == l.Name }
	c.LoadBalancingRules = slices.Clone(c.LoadBalancingRules)
	slices.SortStableFunc(c.LoadBalancingRules, func(a, b LoadBalancingRule) int {
		switch {
		case drawn(a) == drawn(b):
			return 0
		case drawn(a):
			return -1
		}
		return 1
	})
	c.BasicFrontend = OldestRule
	return true
}

// random returns the generator of the next draw.
func (s *egressState) random() *rand.Rand {
	s.draws++
	return rand.New(rand.NewPCG(s.config.LoadBalancer.Seed, s.draws))
}
