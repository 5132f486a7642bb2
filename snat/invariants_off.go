//go:build !natplane_invariants

package snat

// check does nothing in ordinary builds; see invariants_on.go.
func (sh *shard) check() {}

// checkInventory does nothing in ordinary builds; see invariants_on.go.
func (n *NAT) checkInventory() {}
