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

	// WarmUp, if not 0, is how long all settings of a sweep are the same: so long Cluster and Workload
	// are simulated as they are, once. Then each setting goes on in a copy whose cluster is
	// reconfigured at that moment. Less than Until; see [Sweep].
	WarmUp time.Duration

	// Start makes a cluster of a changed configuration and starts its pods, and returns who of them
	// sends. It may be called several times at once. What it returns is closed after use.
	Start func(overlay.ClusterConfig) (*overlay.Cluster, []Host, error)

	Step, SampleInterval time.Duration // those of [Config]

	// Together runs tasks, at the same time as far as it wants to, and returns when all are done:
	// who has several cores starts a goroutine for each of them. nil runs one after the other.
	// Results do not depend on it.
	Together func(tasks []func())

	// Progress, if not nil, is told how much of the simulated time of a sweep has passed, 0..1,
	// now and then, by one task at a time; of a recommendation, which does not know how many simulations
	// it takes, an estimate that does not fall.
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
	duration(&l, "WarmUp", p.WarmUp, 0)
	if p.WarmUp >= p.Until && p.WarmUp > 0 && p.Until > 0 {
		l.Add("WarmUp", p.WarmUp, flow.ErrOutOfRange, "must be below Until %v", p.Until)
	}
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
//
// With a WarmUp a row is what happens if an operator changes the plan's cluster to that of the
// setting at that moment, exactly. As an answer to what the setting would do if it had always been so
// it is an assumption, which gets better with the time that follows: flows of the warm-up keep their
// ports as far as the change lets them, counts include them, and refusals of the warm-up are those of
// all rows. Settings may change then what [overlay.Cluster.Reconfigure] can change of a cluster that
// runs, as long as no host loses its pod; the error of a row says what else it changes. Functions of
// the cluster's configuration, such as NextHop, are asked by several copies at once, and Hooks are
// told of the warm-up only.
func Sweep(ctx context.Context, p Plan, settings []Setting) ([]Row, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	rows := make([]Row, len(settings))
	for i := range settings {
		rows[i].Setting = settings[i].Name
	}
	t := tally{tell: p.Progress, planned: p.WarmUp + time.Duration(len(settings))*(p.Until-p.WarmUp)}
	begin := p.begin
	if p.WarmUp > 0 {
		w, err := p.warm(ctx, t.add)
		switch {
		case err != nil && ctx.Err() == nil:
			return nil, err
		case err != nil:
			for i := range rows {
				rows[i].Err = err
			}
			return rows, nil
		}
		defer w.close()
		begin = w.fork
	}
	tasks := make([]func(), len(settings))
	for i := range settings {
		tasks[i] = func() {
			rows[i].Result, rows[i].Err = p.simulate(ctx, begin, settings[i].Change, func(more time.Duration, _ *Simulation) bool {
				t.add(more)
				return true
			})
		}
	}
	p.together(tasks)
	return rows, nil
}

// tally tells how much of the simulated time has passed.
type tally struct {
	tell func(share float64)

	mu      sync.Mutex
	planned time.Duration // guarded by mu
	passed  time.Duration // guarded by mu
	told    float64       // guarded by mu
}

// add adds virtual time that has passed in one of the simulations.
func (t *tally) add(more time.Duration) {
	if t.tell == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passed += more
	t.told = max(t.told, min(1, float64(t.passed)/float64(t.planned)))
	t.tell(t.told)
}

// plan notes that there will be so much time, where that was not known at first.
func (t *tally) plan(total time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.planned = max(t.planned, total)
}

// running is a simulation on its way through its own cluster.
type running struct {
	*Simulation
	cluster *overlay.Cluster
	at      time.Duration // how far it has come
}

// begin makes the cluster and the simulation of a change, which may be nil.
func (p *Plan) begin(change func(*overlay.ClusterConfig, *Workload)) (*running, error) {
	config, workload := p.changed(change)
	cluster, hosts, err := p.Start(config)
	if err != nil {
		return nil, err
	}
	s, err := New(Config{World: cluster, Hosts: hosts, Workload: workload, Step: p.Step, SampleInterval: p.SampleInterval})
	if err != nil {
		cluster.Close()
		return nil, err
	}
	return &running{s, cluster, 0}, nil
}

// changed returns copies of cluster and workload with a change.
func (p *Plan) changed(change func(*overlay.ClusterConfig, *Workload)) (overlay.ClusterConfig, Workload) {
	config, workload := p.Cluster, p.Workload
	if change != nil {
		change(&config, &workload)
	}
	return config, workload
}

func (r *running) close() { r.cluster.Close() }

// advance goes on until a time. After each piece of it it asks whether to go on.
func (r *running) advance(ctx context.Context, until time.Duration, goOn func(more time.Duration, s *Simulation) bool) error {
	for r.at < until {
		more := min(piece, until-r.at)
		r.Advance(r.at + more)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !goOn(more, r.Simulation) {
			return nil
		}
		r.at += more
	}
	return nil
}

// simulate runs the plan with a change, from where begin begins.
func (p *Plan) simulate(ctx context.Context, begin func(change func(*overlay.ClusterConfig, *Workload)) (*running, error), change func(*overlay.ClusterConfig, *Workload), goOn func(more time.Duration, s *Simulation) bool) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := begin(change)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.advance(ctx, p.Until, goOn); err != nil {
		return nil, err
	}
	return r.Result(), nil
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
