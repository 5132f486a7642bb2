//go:build natplane_invariants

package snat

import (
	"fmt"
)

// strict says that faults panic; see invariants_off.go.
var strict = true

// audit checks a shard at steps of Advance: at every one while there is little to
// recount, else after as many as keep its cost bearable.
type audit struct{ skip int }

func (a *audit) step(sh *shard) {
	if a.skip--; a.skip >= 0 {
		return
	}
	size := sh.Len() + sh.CheckCost()
	a.skip = size / 256
	sh.Check(sh.counters.tombstones, sh.counters.holds)
}

// check panics if held SYNs are too many, out of order or held twice. mu must be
// held.
func (h *heldSYNs) check() {
	if len(h.all) > h.max {
		panic(fmt.Sprintf("snat: %d SYNs are held, at most %d may", len(h.all), h.max))
	}
	for i := range h.all {
		if i > 0 && h.all[i].due < h.all[i-1].due {
			panic(fmt.Sprintf("snat: held SYN %d is due at %v, the one before at %v", i, h.all[i].due, h.all[i-1].due))
		}
		if at, _ := h.find(&h.all[i].connection); at != i {
			panic(fmt.Sprintf("snat: SYN %d is held twice", i))
		}
	}
}
