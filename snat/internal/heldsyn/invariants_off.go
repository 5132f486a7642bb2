//go:build !natplane_invariants

package heldsyn

// check does nothing in ordinary builds; see invariants_on.go.
func (h *Table) check() {}
