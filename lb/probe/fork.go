package probe

import (
	"maps"
	"slices"
)

// Fork returns an independent copy of m, which asks prober. Cost: O(backends of all watches).
func (m *Monitor) Fork(prober Prober) *Monitor {
	return &Monitor{
		prober: prober, config: m.config, pairs: slices.Clone(m.pairs), index: maps.Clone(m.index),
		pending: slices.Clone(m.pending), begun: m.begun,
	}
}
