package hostports

import (
	"maps"
	"slices"
)

// Fork returns a copy of v.
func (v *Inventory) Fork() Inventory {
	to := Inventory{maps.Clone(v.byPod), maps.Clone(v.byNode), maps.Clone(v.uses), v.inUse, v.next}
	for pod, o := range to.byPod {
		to.byPod[pod] = owned{o.node, slices.Clone(o.all)}
	}
	return to
}
