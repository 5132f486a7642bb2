package health

import (
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Rule is a rule with a probe, as what runs sees it.
type Rule struct {
	Forward  int          // of the translator
	Of       string       // the balancer
	Probe    *probe.Probe // a copy
	Basic    bool         // SKU
	Backends []probe.Backend
	Members  []probe.Member     // by target, as the backends
	States   []snat.TargetState // likewise; in force
	up       int                // members that get new flows by themselves
	dirty    bool               // States is older than Members
}

// Add adds a target: a backend, by its administrative state and what is known of it.
func (r *Rule) Add(b probe.Backend, m probe.Member) {
	r.Backends, r.Members = append(r.Backends, b), append(r.Members, m)
	if m.Admin == probe.AdminUp || m.Admin == probe.AdminNone && m.Healthy {
		r.up++
	}
}

// Judge says what states the targets have.
func (r *Rule) Judge() { r.States = probe.States(nil, r.Basic, r.Probe, r.Members) }

// Known tells what a probe of a balancer, by name, has found of a backend, if it watches it. nil
// knows nothing.
type Known func(of, name string, b probe.Backend) (healthy, ok bool)

// Verdicts are what a configuration says of health: the rules with a probe, and whom to
// probe.
type Verdicts struct {
	Prober  probe.Prober
	Watches []Watches // one for each balancer
	Rules   []Rule
}

// Watches are what a balancer watches.
type Watches struct {
	Of string
	probe.Config
}

// Apply sets the states of the targets of forwards.
func (v *Verdicts) Apply(forwards []snat.Forward) {
	for i := range v.Rules {
		rule := &v.Rules[i]
		for j, s := range rule.States {
			forwards[rule.Forward].Targets[j].State = s
		}
	}
}
