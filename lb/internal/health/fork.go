package health

import (
	"slices"

	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// ForkTo makes to, which is zero, a copy of k, which asks prober, or that of k if it is nil. k
// must be locked.
func (k *Keeper) ForkTo(to *Keeper, prober probe.Prober) {
	to.next.Store(k.next.Load())
	to.now, to.running, to.begun, to.prober = k.now, k.running, k.begun, k.prober
	if k.prober != nil && prober != nil {
		to.prober = prober
	}
	to.monitors, to.order, to.dirty = make(map[string]*probe.Monitor, len(k.monitors)), k.order, slices.Clone(k.dirty)
	for of, m := range k.monitors {
		to.monitors[of] = m.Fork(probe.ProberFunc(to.ask))
	}
	to.members = k.members // made anew with each configuration, and not changed
	to.rules = slices.Clone(k.rules)
	for i := range to.rules {
		r := &to.rules[i]
		r.Members, r.States = slices.Clone(r.Members), slices.Clone(r.States)
	}
}
