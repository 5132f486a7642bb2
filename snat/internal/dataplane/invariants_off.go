//go:build !natplane_invariants

package dataplane

// strict says that faults panic. Tests set it.
var strict = false

// audit does nothing in ordinary builds; see invariants_on.go.
type audit struct{}

func (audit) step(*shard) {}

// check does nothing in ordinary builds; see invariants_on.go.
func (*shard) check() {}
