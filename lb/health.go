// Health: which rules have which probes for whom. Who keeps the targets of the translator as
// probes say is internal/health. Read the probe document and the one on administrative states first.

package lb

import (
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/internal/health"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// checkProbes checks the probes and indexes their names.
func (r *resolved) checkProbes() {
	r.probes = index(r, "Probes", r.Probes, func(p probe.Probe) string { return p.Name })
	for i, p := range r.Probes {
		if p.Name == "" {
			p.Name = "?" // which is reported already
		}
		r.Include(problems.Index("Probes", i), p.Validate(r.probeLimits()))
	}
}

// probeLimits are what probes are checked against.
func (c *Config) probeLimits() probe.Limits {
	return probe.Limits{Basic: c.SKU == Basic, Kubernetes: c.KubernetesProbes}
}

// balancerName returns what the probes of a load balancer are known by: its name if it is
// an internal one of an Egress, else "".
func (r *resolved) balancerName() string {
	if r.owner == nil {
		return ""
	}
	return r.Name
}

// judge adds to verdicts those on what r forwards, the first of which has a number in the
// translator, by what is known of the backends.
func (r *resolved) judge(v *health.Verdicts, first int, forwards []forwarded) {
	w := health.Watches{Of: r.balancerName(), Config: probe.Config{
		Limits: r.probeLimits(), Probes: r.Probes, AssumeHealthy: r.AssumeHealthy, FirstResult: r.FirstResult,
	}}
	for i, f := range forwards {
		if f.opening.rule < 0 {
			continue
		}
		l := &r.LoadBalancingRules[f.opening.rule]
		if l.Probe == "" {
			continue
		}
		p := r.Probes[r.probes[l.Probe]]
		admin := r.BackendAddressPools[r.pools[l.BackendAddressPool]].adminStates()
		rule := health.Rule{Forward: first + i, Of: w.Of, Probe: &p, Basic: r.SKU == Basic}
		for _, b := range f.backends {
			backend := probe.Backend{Name: r.Backends[b].Name, Addr: r.Backends[b].addr(r.is6(f.opening))}
			healthy := r.Prober == nil || r.AssumeHealthy
			if r.Prober != nil && r.former != nil && r.former.known != nil {
				if is, ok := r.former.known(w.Of, p.Name, backend); ok {
					healthy = is
				}
			}
			rule.Add(backend, probe.Member{Admin: admin[backend.Name], Healthy: healthy})
		}
		rule.Judge()
		v.Rules = append(v.Rules, rule)
		w.Watches = append(w.Watches, probe.Watch{Probe: p.Name, Backends: rule.Backends})
	}
	v.Watches = append(v.Watches, w)
}
