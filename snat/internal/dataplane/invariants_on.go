//go:build natplane_invariants

package dataplane

import (
	"fmt"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat/internal/ports"
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
	a.skip = size / 64
	sh.check()
}

// check panics if anything that the shard counts or finds is not as its sessions say.
func (sh *shard) check() {
	sh.Check(sh.counters.Tombstones, sh.counters.Holds)
	r := sh.nat.routes.Load()
	for _, id := range sh.all() {
		s := sh.At(id)
		if s.Kind() != flow.KindForwarded {
			continue
		}
		number, t := r.Forwarding(id, s), ports.TupleOf(id, s)
		if number == 0 {
			panic(fmt.Sprintf("snat: session %v has no forward", sh.Info(id)))
		}
		f := r.Forwards.Get(number)
		if at := r.ShardOf(number, &t); int(at) != sh.number {
			panic(fmt.Sprintf("snat: session %v is in shard %d, not %d", sh.Info(id), sh.number, at))
		}
		if floating := t.Inside == ports.OutsideOf(id, s); floating != f.Floating {
			panic(fmt.Sprintf("snat: session %v floats: %v", sh.Info(id), floating))
		}
		if !f.Floating && !r.Forwards.Answers(socketOf(id, s, s.Key.VNI(), number)) {
			panic(fmt.Sprintf("snat: nobody knows the answers of session %v", sh.Info(id)))
		}
		if first := sh.forwardedOf(&t, s.Key.VNI()); first != id {
			panic(fmt.Sprintf("snat: sessions %v and %v are answered alike", sh.Info(id), sh.Info(first)))
		}
		if !f.Floating && !r.IsTargeted(r.Instances[s.Key.VNI()]) {
			panic(fmt.Sprintf("snat: nobody looks for the answers of session %v", sh.Info(id)))
		}
	}
}
