//go:build !natplane_invariants

package fragments

// check does nothing in ordinary builds; see invariants_on.go.
func (t *Table) check() {}
