// Health: what probes and administrative states make of the backends of each rule. Read
// the probe document and the one on administrative states first.

package lb

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/lb/probe"
	"github.com/seed-a61be3fe/natplane/snat"
)

// checkProbes checks the probes and indexes their names.
func (r *resolved) checkProbes() {
	r.probes = index(r, "Probes", r.Probes, func(p probe.Probe) string { return p.Name })
	for i, p := range r.Probes {
		if p.Name == "" {
			p.Name = "?" // which is reported already
		}
		r.Include(problems.Index("Probes", i), p.Validate(r.probeLimits()))
	}
}

// probeLimits are what probes are checked against.
func (c *Config) probeLimits() probe.Limits {
	return probe.Limits{Basic: c.SKU == Basic, Kubernetes: c.KubernetesProbes}
}

// probed is a rule with a probe, as what runs sees it.
type probed struct {
	forward  int          // of the translator
	of       string       // see balancerName
	probe    *probe.Probe // a copy
	basic    bool         // SKU
	backends []probe.Backend
	members  []probe.Member     // by target, as the backends
	states   []snat.TargetState // likewise; in force
	up       int                // members that get new flows by themselves
	dirty    bool               // states is older than members
}

// knownHealth tells what a probe of a load balancer, both by name, has found of a backend, if
// it watches it. nil knows nothing.
type knownHealth func(of, name string, b probe.Backend) (healthy, ok bool)

// verdicts are what a configuration says of health: the rules with a probe, and whom to
// probe.
type verdicts struct {
	prober  probe.Prober
	watches []watches // one for each load balancer
	rules   []probed
}

// watches are what a load balancer watches.
type watches struct {
	of string // see balancerName
	probe.Config
}

// balancerName returns what the probes of a load balancer are known by: its name if it is
// an internal one of an Egress, else "".
func (r *resolved) balancerName() string {
	if r.owner == nil {
		return ""
	}
	return r.Name
}

// apply sets the states of the targets of forwards.
func (v *verdicts) apply(forwards []snat.Forward) {
	for i := range v.rules {
		rule := &v.rules[i]
		for j, s := range rule.states {
			forwards[rule.forward].Targets[j].State = s
		}
	}
}

// judge adds the verdicts on what a load balancer forwards, the first of which has a number in
// the translator, by what is known of the backends.
func (v *verdicts) judge(r *resolved, first int, forwards []forwarded) {
	w := watches{r.balancerName(), probe.Config{
		Limits: r.probeLimits(), Probes: r.Probes, AssumeHealthy: r.AssumeHealthy, FirstResult: r.FirstResult,
	}}
	for i, f := range forwards {
		if f.opening.rule < 0 {
			continue
		}
		l := &r.LoadBalancingRules[f.opening.rule]
		if l.Probe == "" {
			continue
		}
		p := r.Probes[r.probes[l.Probe]]
		admin := r.BackendAddressPools[r.pools[l.BackendAddressPool]].adminStates()
		rule := probed{forward: first + i, of: w.of, probe: &p, basic: r.SKU == Basic}
		for _, b := range f.backends {
			backend := probe.Backend{Name: r.Backends[b].Name, Addr: r.Backends[b].addr(r.is6(f.opening))}
			healthy := r.Prober == nil || r.AssumeHealthy
			if r.Prober != nil && r.former != nil && r.former.known != nil {
				if is, ok := r.former.known(w.of, p.Name, backend); ok {
					healthy = is
				}
			}
			rule.backends = append(rule.backends, backend)
			m := probe.Member{Admin: admin[backend.Name], Healthy: healthy}
			if rule.members = append(rule.members, m); m.Admin == probe.AdminUp || m.Admin == probe.AdminNone && healthy {
				rule.up++
			}
		}
		rule.states = probe.States(nil, rule.basic, rule.probe, rule.members)
		v.rules = append(v.rules, rule)
		w.Watches = append(w.Watches, probe.Watch{Probe: p.Name, Backends: rule.backends})
	}
	v.watches = append(v.watches, w)
}

// health keeps the targets of a running translator as probes say. Its methods may be
// called by any number of goroutines.
type health struct {
	// next is the time of the next attempt, never without one.
	next atomic.Int64

	mu      sync.Mutex // taken before any lock of the translator; guards all below
	now     flow.Time  // the latest moment at which states were set
	running bool       // a configuration is in force
	begun   bool       // so is the time of monitors
	prober  probe.Prober
	// monitors are one for each load balancer, none without prober, by balancerName.
	monitors map[string]*probe.Monitor
	order    []string // of their advance
	rules    []probed
	dirty    []int                // indexes of rules
	members  map[watched][]member // of rules
}

// watched is a backend of a probe, by the probe's name and its load balancer's.
type watched struct {
	of, probe string
	backend   probe.Backend
}

// member is a target of a rule: indexes of both.
type member struct{ rule, target int }

// never is later than every attempt, and may be the time itself.
const never = math.MaxInt64

// known tells the health of a backend that a monitor watches. h.mu must be held.
func (h *health) known(of, name string, b probe.Backend) (healthy, ok bool) {
	m := h.monitors[of]
	if _, ok = h.members[watched{of, name, b}]; !ok || m == nil {
		return false, false
	}
	return m.Healthy(name, b), true
}

// adopt makes verdicts what is in force from now on. h.mu must be held.
func (h *health) adopt(now flow.Time, v verdicts) {
	h.now, h.prober, h.rules = max(h.now, now), v.prober, v.rules
	h.members = map[watched][]member{}
	for i := range h.rules {
		for j, b := range h.rules[i].backends {
			k := watched{h.rules[i].of, h.rules[i].probe.Name, b}
			h.members[k] = append(h.members[k], member{i, j})
		}
	}
	was := h.monitors
	h.monitors, h.order = map[string]*probe.Monitor{}, nil
	for _, w := range v.watches {
		if h.prober == nil {
			break
		}
		m, err := was[w.of], error(nil)
		if m == nil {
			m, err = probe.NewMonitor(w.Config, probe.ProberFunc(h.ask))
		}
		if err == nil && h.running {
			err = m.Reconfigure(now, w.Config) // of a new one the time begins now, not when Advance is called next
		}
		if err != nil {
			panic(fmt.Sprintf("lb: valid probes are not: %v", err))
		}
		h.monitors[w.of], h.order = m, append(h.order, w.of)
	}
	h.running, h.begun = true, h.running
	h.schedule()
}

// ask asks the prober in force.
func (h *health) ask(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
	return h.prober.Probe(at, b, p)
}

// schedule notes when the next attempt is due. h.mu must be held.
func (h *health) schedule() {
	h.next.Store(int64(h.earliest()))
}

// earliest returns when the next attempt of all monitors is due, or never.
func (h *health) earliest() flow.Time {
	next := flow.Time(never)
	for _, m := range h.monitors {
		if at, ok := m.NextDeadline(); ok {
			next = min(next, at)
		}
	}
	return next
}

// advance makes the attempts that are due at now, and sets the states of nat's targets
// accordingly.
func (h *health) advance(now flow.Time, nat *snat.NAT) {
	if h.next.Load() > int64(now) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.probe(now, nat)
}

// probe is advance with h.mu held.
func (h *health) probe(now flow.Time, nat *snat.NAT) {
	if len(h.monitors) == 0 || h.next.Load() > int64(now) {
		return
	}
	for at := now; ; { // the attempts of all monitors in the order of their times
		if h.begun {
			if at = h.earliest(); at > now || at == never {
				break
			}
		}
		for _, of := range h.order {
			h.monitors[of].Advance(at, func(c probe.Change) { h.changed(of, c, nat) })
		}
		h.begun = true
	}
	h.flush(nat)
	h.schedule()
}

// changed notes that a backend has become healthy or unhealthy to a load balancer. h.mu must be held.
func (h *health) changed(of string, c probe.Change, nat *snat.NAT) {
	h.now = max(h.now, c.At)
	none := false
	for _, m := range h.members[watched{of, c.Probe, c.Backend}] {
		rule := &h.rules[m.rule]
		rule.members[m.target].Healthy = c.Healthy
		if rule.members[m.target].Admin == probe.AdminNone {
			if rule.up++; !c.Healthy {
				rule.up -= 2
			}
			none = none || rule.up == 0
		}
		if !rule.dirty {
			rule.dirty, h.dirty = true, append(h.dirty, m.rule)
		}
	}
	if none {
		h.flush(nat) // flows may end, whatever comes next
	}
}

// flush sets the states of the targets of rules with news. One call for the news of many
// backends costs little more than one for those of one: each makes a table of who is up.
// h.mu must be held.
func (h *health) flush(nat *snat.NAT) {
	var changes []snat.TargetChange
	for _, i := range h.dirty {
		rule := &h.rules[i]
		rule.dirty = false
		states := probe.States(make([]snat.TargetState, 0, len(rule.states)), rule.basic, rule.probe, rule.members)
		for j, s := range states {
			if s != rule.states[j] {
				changes = append(changes, snat.TargetChange{Forward: rule.forward, Target: j, State: s})
			}
		}
		rule.states = states
	}
	h.dirty = h.dirty[:0]
	if len(changes) == 0 {
		return
	}
	if err := nat.SetTargets(h.now, changes...); err != nil && !errors.Is(err, flow.ErrClosed) {
		panic(fmt.Sprintf("lb: states of targets: %v", err))
	}
}

// earlier returns the earlier of a deadline, if there is one, and of the next attempt.
func (h *health) earlier(at flow.Time, ok bool) (flow.Time, bool) {
	next := h.next.Load()
	if next == never || ok && at <= flow.Time(next) {
		return at, ok
	}
	return flow.Time(next), true
}
