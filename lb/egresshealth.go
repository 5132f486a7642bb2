// Health of an egress's backends, for people.

package lb

import "github.com/seed-a61be3fe/natplane/snat"

// Healthy reports whether rules of EgressConfig.LoadBalancer with a probe of that name send new
// flows to a backend: what the probe had found, and administrative states said, when Advance was
// last called. ok is false if no rule has such a probe for the backend. Cost: O(rules with
// probes, and the backends of one).
func (e *Egress) Healthy(probe, backend string) (healthy, ok bool) {
	return e.health.of("", probe, backend)
}

// InternalHealthy is Healthy for an internal load balancer, by its name.
func (e *Egress) InternalHealthy(name, probe, backend string) (healthy, ok bool) {
	if name == "" {
		return false, false
	}
	return e.health.of(name, probe, backend)
}

// of reports what Healthy does for the load balancer with a balancerName.
func (h *health) of(balancer, probe, backend string) (healthy, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.rules {
		r := &h.rules[i]
		if r.of != balancer || r.probe.Name != probe {
			continue
		}
		for j, b := range r.backends {
			if b.Name == backend {
				return r.states[j] == snat.TargetUp, true
			}
		}
	}
	return false, false
}
