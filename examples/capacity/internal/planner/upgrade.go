// The upgrade of a node pool under the workload.

package planner

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/upgrade"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// upgrading is what -upgrade says, in the style of -sweep, with a value for each name.
type upgrading struct {
	until time.Duration // -until
	text  string        // "" if there is none
	pool  string
	at    time.Duration
	surge string // "" is that of the pool
	how   upgrade.Settings
}

// upgradeKind is a setting of an upgrade. set returns whether it can be.
type upgradeKind struct {
	name, rule string
	set        func(u *upgrading, text string) bool
}

var upgradeKinds = []upgradeKind{
	{"pool", "the name of a node pool", func(u *upgrading, text string) bool { u.pool = text; return text != "" }},
	{"at", "a duration, at least 0s and less than -until", func(u *upgrading, text string) (ok bool) {
		u.at, ok = duration(text)
		return ok && u.at < u.until
	}},
	{"surge", "a number or percentage, such as 1 or 33%", func(u *upgrading, text string) (ok bool) { u.surge, ok = surge(text); return ok }},
	{"unavailable", "a number, 0 to 1000", func(u *upgrading, text string) bool {
		n, err := strconv.Atoi(text)
		u.how.MaxUnavailable = n
		return err == nil && n >= 0 && n <= maxNodes
	}},
	{"drain", "a duration, up to 24h", duringRun(func(u *upgrading) *time.Duration { return &u.how.DrainTime }, 24*time.Hour)},
	{"soak", "a duration, up to 30m", duringRun(func(u *upgrading) *time.Duration { return &u.how.SoakTime }, 30*time.Minute)},
	{"reimage", "a duration, up to 24h", duringRun(func(u *upgrading) *time.Duration { return &u.how.ReimageTime }, 24*time.Hour)},
}

// duringRun reads a duration.
func duringRun(of func(*upgrading) *time.Duration, most time.Duration) func(*upgrading, string) bool {
	return func(u *upgrading, text string) bool {
		d, ok := duration(text)
		*of(u) = d
		return ok && d <= most
	}
}

// upgradeOthers names the settings beyond those of the example in the usage.
func upgradeOthers() string { return "unavailable, drain, soak, reimage" }

// weight is how many simulations the upgrade takes.
func (u *upgrading) weight() float64 {
	if u.pool == "" {
		return 0
	}
	return 1
}

// set reads -upgrade, and returns every mistake.
func (u *upgrading) set(text string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	u.text = strings.Join(strings.Fields(text), " ")
	seen := make(map[string]bool)
	for _, field := range strings.Fields(text) {
		name, value, ok := strings.Cut(field, "=")
		i := slices.IndexFunc(upgradeKinds, func(k upgradeKind) bool { return k.name == name })
		switch {
		case !ok:
			bad("%q: must be such as pool=nodepool1", field)
		case i < 0:
			bad("%q: there is no setting %q; there are pool, at, surge, %s", field, name, upgradeOthers())
		case seen[name]:
			bad("%q: %s is there twice", field, name)
		case !upgradeKinds[i].set(u, value):
			bad("%q: %q must be %s", field, value, upgradeKinds[i].rule)
		}
		seen[name] = true
	}
	if !seen["pool"] {
		bad("%q: must name a pool, such as pool=nodepool1", text)
	}
	return errs
}

// upgradePool simulates the setting as it is with an upgrade.
func (r *run) upgradePool(ctx context.Context, site *Site, done func(float64)) (*answer.Upgrade, error) {
	u := &r.options.upgrade
	config, workload := r.config, r.workload
	if u.surge != "" {
		whatif.Surge(u.pool, u.surge)[0].Change(&config, &workload)
	}
	started, err := site.Start(config)
	if err != nil {
		return nil, err
	}
	defer started.Cluster.Close()
	s, err := whatif.New(whatif.Config{World: started.Cluster, Hosts: started.Hosts, Workload: workload})
	if err != nil {
		return nil, err
	}
	moves := movers{cluster: started.Cluster, sim: s, hosts: started.Hosts}
	found := &answer.Upgrade{Pool: u.pool, BeginSeconds: u.at.Seconds(), Steps: []answer.Step{}, MostNodes: len(started.Cluster.Nodes())}
	var process *upgrade.Upgrade
	for at := time.Duration(0); at < r.options.until; {
		if process == nil && at >= u.at {
			if process, err = upgrade.Start(started.Cluster, flow.At(at), u.pool, u.how); err != nil {
				return nil, err
			}
		}
		next := min(at+time.Minute, r.options.until)
		if process == nil {
			next = min(next, max(u.at, 1))
		} else if due, ok := process.NextDeadline(); ok {
			if due <= flow.At(at) {
				steps, err := process.Advance(flow.At(at))
				if err != nil {
					return nil, err
				}
				for _, step := range steps {
					found.Steps = append(found.Steps, answer.Step{Seconds: step.At.Sub(flow.At(0)).Seconds(), Action: step.Action.String(), Nodes: append([]string{}, step.Nodes...)})
				}
				found.MostNodes = max(found.MostNodes, len(started.Cluster.Nodes()))
				moved, lost, err := moves.follow()
				if err != nil {
					return nil, err
				}
				found.Moved += moved
				found.Lost += lost
				continue
			}
			next = min(next, due.Sub(flow.At(0)))
		}
		s.Advance(next)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at = next
		done(float64(at) / float64(r.options.until))
	}
	if process != nil {
		if _, more := process.NextDeadline(); !more && len(found.Steps) > 0 {
			found.EndSeconds = found.Steps[len(found.Steps)-1].Seconds
		}
	}
	found.Result = answer.ResultOf(s.Result())
	return found, nil
}

// movers lets the hosts of a simulation follow the pods of its cluster.
type movers struct {
	cluster *overlay.Cluster
	sim     *whatif.Simulation
	hosts   []whatif.Host // with the addresses that they have in the simulation
}

// follow gives every host whose pod has moved its new addresses, and returns how many there were and
// how many conversations ended with their pod.
func (m *movers) follow() (moved int, lost uint64, err error) {
	type move struct {
		host int
		to   []whatif.Host
	}
	var all []move
	for i, h := range m.hosts {
		pod, _ := m.cluster.Pod(h.Name) // without addresses while it waits for room
		if !slices.Equal(pod.Addrs, h.Addrs) {
			h.Addrs = pod.Addrs
			all = append(all, move{i, []whatif.Host{h}})
		}
	}
	for _, x := range all { // first all away, for one may get the addresses of another
		n, err := m.sim.Move(x.host, nil)
		if err != nil {
			return 0, 0, err
		}
		lost += uint64(n)
	}
	for _, x := range all {
		if _, err := m.sim.Move(x.host, x.to[0].Addrs); err != nil {
			return 0, 0, err
		}
		if len(m.hosts[x.host].Addrs) > 0 { // not one that has waited
			moved++
		}
		m.hosts[x.host] = x.to[0]
	}
	return moved, lost, nil
}
