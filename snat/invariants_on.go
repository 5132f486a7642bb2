//go:build natplane_invariants

package snat

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
