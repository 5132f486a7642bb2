// Health of an egress's backends, for people.

package lb

// Healthy reports whether rules of EgressConfig.LoadBalancer with a probe of that name send new
// flows to a backend: what the probe had found, and administrative states said, when Advance was
// last called. ok is false if no rule has such a probe for the backend. Cost: O(rules with
// probes, and the backends of one).
func (e *Egress) Healthy(probe, backend string) (healthy, ok bool) {
	return e.health.Of("", probe, backend)
}

// InternalHealthy is Healthy for an internal load balancer, by its name.
func (e *Egress) InternalHealthy(name, probe, backend string) (healthy, ok bool) {
	if name == "" {
		return false, false
	}
	return e.health.Of(name, probe, backend)
}
