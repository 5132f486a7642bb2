package lb

import "slices"

// What can be known of an egress before it runs, and what ports it has given while it does.

// Validate returns nil if NewEgress would accept c as far as this package is concerned, and
// otherwise one error that joins every problem found.
func (c EgressConfig) Validate() error {
	_, _, err := (&egressState{}).next(0, c, nil)
	return err
}

// Allocations returns the ports that each backend has, those of default outbound access
// included, in the order of the backends in force. Ports of the gateway are nobody's own.
// The caller may keep and change the result.
func (e *Egress) Allocations() []Allocation {
	e.mu.RLock()
	all := slices.Clone(e.state.inForce.plan)
	e.mu.RUnlock()
	for i := range all {
		all[i].Ports = slices.Clone(all[i].Ports)
	}
	return all
}
