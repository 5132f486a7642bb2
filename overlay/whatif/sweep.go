// Sweeps: one workload under many settings.

package whatif

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// Plan is what is simulated under each of several settings. Cluster, Start, Workload and Until must
// be given.
type Plan struct {
	Cluster  overlay.ClusterConfig // as it is; settings change copies of it
	Workload Workload              // likewise
	Until    time.Duration         // how long each simulation lasts, above 0 and at most 31 days

	// Start makes a cluster of a changed configuration and starts its pods, and returns who of them
	// sends. It may be called several times at once. What it returns is closed after use.
	Start func(overlay.ClusterConfig) (*overlay.Cluster, []Host, error)

	Step, SampleInterval time.Duration // those of [Config]

	// Together runs tasks, at the same time as far as it wants to, and returns when all are done:
	// who has several cores starts a goroutine for each of them. nil runs one after the other.
	// Results do not depend on it.
	Together func(tasks []func())

	// Progress, if not nil, is told how much of the simulated time of a sweep has passed, 0..1,
	// now and then, by one task at a time.
	Progress func(share float64)
}

// Setting is a change of cluster and workload. The maps and slices of what it gets are shared: it
// replaces them.
type Setting struct {
	Name   string                                  // in results
	Change func(*overlay.ClusterConfig, *Workload) // nil changes nothing
}

// Row is the result of one setting.
type Row struct {
	Setting string  // its name
	Result  *Result // nil if there is an error
	Err     error   // why there is no result: the cluster cannot be made, or the sweep has been given up
}

// piece is how much virtual time passes between two looks at a context.
const piece = time.Minute

func (p *Plan) validate() error {
	var l problems.List
	if p.Start == nil {
		l.Add("Start", problems.None, flow.ErrMissing, "")
	}
	duration(&l, "Until", p.Until, 1)
	l.Include("Workload", p.Workload.Validate())
	return l.Err()
}

// together runs tasks.
func (p *Plan) together(tasks []func()) {
	if p.Together != nil {
		p.Together(tasks)
		return
	}
	for _, t := range tasks {
		t()
	}
}

// Sweep simulates a plan under each setting, and returns a row for each, in their order. When ctx
// ends the rows that are not done have its error, and all others their results. The error is about
// the plan itself.
func Sweep(ctx context.Context, p Plan, settings []Setting) ([]Row, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	rows := make([]Row, len(settings))
	tasks := make([]func(), len(settings))
	var mu sync.Mutex
	var passed time.Duration // of all, guarded by mu
	for i := range settings {
		tasks[i] = func() {
			rows[i].Setting = settings[i].Name
			rows[i].Result, rows[i].Err = p.simulate(ctx, settings[i].Change, func(more time.Duration, _ *Simulation) bool {
				if p.Progress != nil {
					mu.Lock()
					defer mu.Unlock()
					passed += more
					p.Progress(float64(passed) / float64(p.Until) / float64(len(settings)))
				}
				return true
			})
		}
	}
	p.together(tasks)
	return rows, nil
}

// simulate runs the plan with a change. After each piece of time it asks whether to go on.
func (p *Plan) simulate(ctx context.Context, change func(*overlay.ClusterConfig, *Workload), goOn func(more time.Duration, s *Simulation) bool) (r *Result, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config, workload := p.Cluster, p.Workload
	if change != nil {
		change(&config, &workload)
	}
	cluster, hosts, err := p.Start(config)
	if err != nil {
		return nil, err
	}
	defer cluster.Close()
	s, err := New(Config{World: cluster, Hosts: hosts, Workload: workload, Step: p.Step, SampleInterval: p.SampleInterval})
	if err != nil {
		return nil, err
	}
	for at := time.Duration(0); at < p.Until; {
		next := min(at+piece, p.Until)
		s.Advance(next)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !goOn(next-at, s) {
			break
		}
		at = next
	}
	return s.Result(), nil
}

// Axis is one dimension of a grid: values of one setting.
type Axis []Setting

// Grid returns all combinations of axes, the last one changing fastest. Their names are joined by
// blanks, and their changes made in the order of the axes.
func Grid(axes ...Axis) []Setting {
	all := []Setting{{}}
	for _, axis := range axes {
		var next []Setting
		for _, s := range all {
			for _, v := range axis {
				next = append(next, s.and(v))
			}
		}
		all = next
	}
	return all
}

// and returns a setting that makes both changes.
func (s Setting) and(o Setting) Setting {
	if s.Name == "" && s.Change == nil {
		return o
	}
	return Setting{s.Name + " " + o.Name, func(c *overlay.ClusterConfig, w *Workload) {
		for _, change := range []func(*overlay.ClusterConfig, *Workload){s.Change, o.Change} {
			if change != nil {
				change(c, w)
			}
		}
	}}
}

// ErrNoSetting says that no setting is as it is wished for.
var ErrNoSetting = errors.New("no setting that does")
