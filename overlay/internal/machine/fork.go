package machine

import (
	"maps"
	"slices"
)

// Fork returns a copy of s, with counts of its own.
func (s *Set) Fork() *Set {
	if s == nil {
		return nil
	}
	to := &Set{s.place, slices.Clone(s.nodes)}
	for i := range to.nodes {
		if m := s.nodes[i].Machine; m != nil {
			to.nodes[i].Machine = m.fork()
		}
	}
	return to
}

func (m *Machine) fork() *Machine {
	to := new(Machine)
	m.mu.Lock()
	defer m.mu.Unlock()
	to.connections.Store(m.connections.Load())
	to.to, to.dns = maps.Clone(m.to), m.dns
	to.dns.wait = slices.Clone(m.dns.wait)
	return to
}
