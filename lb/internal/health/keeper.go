package health

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Keeper keeps the targets of a running translator as the verdicts that it has adopted and its
// probes say. It may be used by any number of goroutines; methods that say so want it locked.
type Keeper struct {
	sync.Mutex // taken before any lock of the translator; guards all but next

	// next is the time of the next attempt, never without one.
	next atomic.Int64

	now      flow.Time // the latest moment at which states were set
	running  bool      // a configuration is in force
	begun    bool      // so is the time of monitors
	prober   probe.Prober
	monitors map[string]*probe.Monitor // one for each balancer, none without prober
	order    []string                  // of their advance: balancers
	rules    []Rule
	dirty    []int                // indexes of rules
	members  map[watched][]member // of rules
}

// watched is a backend of a probe, by the probe's name and its balancer.
type watched struct {
	of, probe string
	backend   probe.Backend
}

// member is a target of a rule: indexes of both.
type member struct{ rule, target int }

// never is later than every attempt, and may be the time itself.
const never = math.MaxInt64

// Known tells the health of a backend that a monitor watches. k must be locked.
func (k *Keeper) Known(of, name string, b probe.Backend) (healthy, ok bool) {
	m := k.monitors[of]
	if _, ok = k.members[watched{of, name, b}]; !ok || m == nil {
		return false, false
	}
	return m.Healthy(name, b), true
}

// Adopt makes verdicts what is in force from now on. k must be locked, unless nobody else has it yet.
func (k *Keeper) Adopt(now flow.Time, v Verdicts) {
	k.now, k.prober, k.rules = max(k.now, now), v.Prober, v.Rules
	k.members = map[watched][]member{}
	for i := range k.rules {
		for j, b := range k.rules[i].Backends {
			w := watched{k.rules[i].Of, k.rules[i].Probe.Name, b}
			k.members[w] = append(k.members[w], member{i, j})
		}
	}
	was := k.monitors
	k.monitors, k.order = map[string]*probe.Monitor{}, nil
	for _, w := range v.Watches {
		if k.prober == nil {
			break
		}
		m, err := was[w.Of], error(nil)
		if m == nil {
			m, err = probe.NewMonitor(w.Config, probe.ProberFunc(k.ask))
		}
		if err == nil && k.running {
			err = m.Reconfigure(now, w.Config) // of a new one the time begins now, not when Advance is called next
		}
		if err != nil {
			panic(fmt.Sprintf("lb: valid probes are not: %v", err))
		}
		k.monitors[w.Of], k.order = m, append(k.order, w.Of)
	}
	k.running, k.begun = true, k.running
	k.schedule()
}

// ask asks the prober in force.
func (k *Keeper) ask(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	return k.prober.Probe(at, b, p)
}

// schedule notes when the next attempt is due. k must be locked.
func (k *Keeper) schedule() {
	k.next.Store(int64(k.earliest()))
}

// earliest returns when the next attempt of all monitors is due, or never.
func (k *Keeper) earliest() flow.Time {
	next := flow.Time(never)
	for _, m := range k.monitors {
		if at, ok := m.NextDeadline(); ok {
			next = min(next, at)
		}
	}
	return next
}

// Advance makes the attempts that are due at now, and sets the states of nat's targets
// accordingly.
func (k *Keeper) Advance(now flow.Time, nat *snat.NAT) {
	if k.next.Load() > int64(now) {
		return
	}
	k.Lock()
	defer k.Unlock()
	k.probe(now, nat)
}

// Settle is Advance, before a change at now, for a keeper whose time has begun. k must be locked.
func (k *Keeper) Settle(now flow.Time, nat *snat.NAT) {
	if k.begun {
		k.probe(now, nat)
	}
}

// probe is Advance with k locked.
func (k *Keeper) probe(now flow.Time, nat *snat.NAT) {
	if len(k.monitors) == 0 || k.next.Load() > int64(now) {
		return
	}
	for at := now; ; { // the attempts of all monitors in the order of their times
		if k.begun {
			if at = k.earliest(); at > now || at == never {
				break
			}
		}
		for _, of := range k.order {
			k.monitors[of].Advance(at, func(c probe.Change) { k.changed(of, c, nat) })
		}
		k.begun = true
	}
	k.flush(nat)
	k.schedule()
}

// changed notes that a backend has become healthy or unhealthy to a balancer. k must be locked.
func (k *Keeper) changed(of string, c probe.Change, nat *snat.NAT) {
	k.now = max(k.now, c.At)
	none := false
	for _, m := range k.members[watched{of, c.Probe, c.Backend}] {
		rule := &k.rules[m.rule]
		rule.Members[m.target].Healthy = c.Healthy
		if rule.Members[m.target].Admin == probe.AdminNone {
			if rule.up++; !c.Healthy {
				rule.up -= 2
			}
			none = none || rule.up == 0
		}
		if !rule.dirty {
			rule.dirty, k.dirty = true, append(k.dirty, m.rule)
		}
	}
	if none {
		k.flush(nat) // flows may end, whatever comes next
	}
}

// flush sets the states of the targets of rules with news. One call for the news of many
// backends costs little more than one for those of one: each makes a table of who is up.
// k must be locked.
func (k *Keeper) flush(nat *snat.NAT) {
	var changes []snat.TargetChange
	for _, i := range k.dirty {
		rule := &k.rules[i]
		rule.dirty = false
		states := probe.States(make([]snat.TargetState, 0, len(rule.States)), rule.Basic, rule.Probe, rule.Members)
		for j, s := range states {
			if s != rule.States[j] {
				changes = append(changes, snat.TargetChange{Forward: rule.Forward, Target: j, State: s})
			}
		}
		rule.States = states
	}
	k.dirty = k.dirty[:0]
	if len(changes) == 0 {
		return
	}
	if err := nat.SetTargets(k.now, changes...); err != nil && !errors.Is(err, flow.ErrClosed) {
		panic(fmt.Sprintf("lb: states of targets: %v", err))
	}
}

// Earlier returns the earlier of a deadline, if there is one, and of the next attempt.
func (k *Keeper) Earlier(at flow.Time, ok bool) (flow.Time, bool) {
	next := k.next.Load()
	if next == never || ok && at <= flow.Time(next) {
		return at, ok
	}
	return flow.Time(next), true
}

// Of reports whether rules of a balancer with a probe, by name, send new flows to a backend, by name.
// ok is false if no rule has such a probe for the backend.
func (k *Keeper) Of(balancer, name, backend string) (healthy, ok bool) {
	k.Lock()
	defer k.Unlock()
	for i := range k.rules {
		r := &k.rules[i]
		if r.Of != balancer || r.Probe.Name != name {
			continue
		}
		for j, b := range r.Backends {
			if b.Name == backend {
				return r.States[j] == snat.TargetUp, true
			}
		}
	}
	return false, false
}

// Rules returns the rules in force, for reading. k must be locked.
func (k *Keeper) Rules() []Rule { return k.rules }

// Probes reports whether anybody is probed. k must be locked.
func (k *Keeper) Probes() bool { return len(k.monitors) > 0 }

// Availability returns what a rule's probe has found of each backend lately, in percent and in the order
// of Rule.Backends, whatever administrative states say. k must be locked. Cost: O(backends of all probes).
func (k *Keeper) Availability() func(r *Rule, backend int) float64 {
	found := map[watched]probe.Minute{}
	for of, m := range k.monitors {
		for s := range m.Statuses() {
			found[watched{of, s.Probe, s.Backend}] = s.Minute
		}
	}
	return func(r *Rule, backend int) float64 {
		return found[watched{r.Of, r.Probe.Name, r.Backends[backend]}].Availability()
	}
}
