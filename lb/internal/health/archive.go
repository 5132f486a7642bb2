package health

import (
	"io"

	"github.com/seed-a61be3fe/natplane/internal/snapshot"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// Archive writes k, which is locked; or, if a is read, it makes k, which is zero, one that has adopted v,
// goes on as the one that was written, and has found of everybody what that had. Then the states of v's
// rules are those that were in force.
func (k *Keeper) Archive(a *snapshot.Archive, v Verdicts) {
	a.Section("health")
	if !a.Writing() {
		k.Adopt(0, v)
	}
	snapshot.Num(a, &k.now)
	a.Bool(&k.begun)
	a.Check(k.now >= 0, "states were set at %v", k.now)
	snapshot.Same(a, "the number of load balancers with probes", len(k.order))
	for i, of := range k.order {
		a.Nest(k.monitors[of].Snapshot, func(r io.Reader) (err error) {
			m, err := probe.RestoreMonitor(v.Watches[i].Config, probe.ProberFunc(k.ask), r)
			if err == nil {
				k.monitors[of] = m
			}
			return err
		})
	}
	if a.Writing() || !a.OK() {
		return
	}
	for i := range k.rules {
		rule := &k.rules[i]
		was := *rule
		rule.Backends, rule.Members, rule.up = nil, nil, 0
		for j, b := range was.Backends {
			m := was.Members[j]
			if healthy, ok := k.Known(rule.Of, rule.Probe.Name, b); ok {
				m.Healthy = healthy
			}
			rule.Add(b, m)
		}
		rule.Judge()
	}
	k.schedule()
}
