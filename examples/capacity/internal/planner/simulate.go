// The simulations of a run: as it is with its course, all settings, the search for a recommendation
// and an upgrade, at the same time as far as there are cores.

package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// simulate sends the workload through the cluster as it is and under all settings, and searches
// for a recommendation meanwhile. When ctx ends it keeps what is done by then; the error is
// command.ErrInterrupted if that is nothing.
func (r *run) simulate(ctx context.Context, site *Site, bar *page.Bar) error {
	shown := newProgress(bar)
	plan := whatif.Plan{Cluster: r.config, Workload: r.workload, Until: r.options.until, Start: site.start, Together: together}
	settings, cannot := r.settings()
	asItIsDone, upgradeDone := shown.part(1), shown.part(r.options.upgrade.weight())
	var asItIs, upgrade error
	own := []func(){func() { r.now, r.course, asItIs = r.observed(ctx, site, asItIsDone) }}
	if r.options.upgrade.pool != "" {
		own = append(own, func() { r.upgraded, upgrade = r.upgradePool(ctx, site, upgradeDone) })
	}
	swept := plan
	swept.WarmUp = r.options.warmUp
	swept.Progress = shown.part(float64(len(settings)))
	swept.Together = func(tasks []func()) {
		tasks = append(slices.Clip(own), tasks...)
		own = nil
		together(tasks)
	}
	needed, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var search sync.WaitGroup
	var best error
	if r.options.recommend {
		searched := plan
		searched.Progress = shown.part(searchWeight)
		search.Go(func() {
			r.best, best = whatif.Recommend(needed, searched, whatif.Wish{Headroom: float64(r.options.headroom) / 100, NoCuts: !r.options.cuts})
			searched.Progress(1)
		})
	}
	rows, err := whatif.Sweep(ctx, swept, settings)
	swept.Together(nil) // what is left of our own
	if err = cmp.Or(err, asItIs); err != nil {
		giveUp()
	}
	search.Wait()
	r.interrupted = ctx.Err() != nil
	switch {
	case err != nil:
		return command.Failed(ctx, err)
	case errors.Is(best, whatif.ErrNoSetting):
		r.none = best.Error()
	case best != nil && !r.interrupted:
		return fmt.Errorf("-recommend: %w", best)
	}
	if upgrade != nil && !r.interrupted {
		return fmt.Errorf("-upgrade: %w", upgrade)
	}
	for _, at := range slices.Sorted(maps.Keys(cannot)) {
		rows = slices.Insert(rows, at, cannot[at])
	}
	r.rows = rows
	return nil
}

// settings returns the settings of the sweep that can be, and the rows of the others by where they stand:
// those that give ports to nodes which have none of their own.
func (r *run) settings() (can []whatif.Setting, cannot map[int]whatif.Row) {
	if len(r.options.sweep.axes) == 0 {
		return nil, nil
	}
	cannot = make(map[int]whatif.Row)
	for i, s := range whatif.Grid(r.options.sweep.axes...) {
		field := fieldOf(s.Name, portsName)
		if err := r.ownPortsWith(s); field != "" && field != portsName+"=auto" && err != nil {
			cannot[i] = whatif.Row{Setting: s.Name, Err: fmt.Errorf("%s %w", field, err)}
			continue
		}
		can = append(can, s)
	}
	return can, cannot
}

// searchWeight is how many simulations a search is taken for until it is over; our choice.
const searchWeight = 5

// progress puts several parts of the work on one bar. Its parts may be told of by several goroutines.
type progress struct {
	bar    *page.Bar
	mu     sync.Mutex
	weight float64
	done   float64 // of weight; guarded by mu, as bar is
}

func newProgress(bar *page.Bar) *progress { return &progress{bar: bar} }

// part adds a part of the work, and returns whom to tell how much of it is done, 0..1. All parts are
// there before the first is told of.
func (p *progress) part(weight float64) func(share float64) {
	p.weight += weight
	before := 0.0
	return func(share float64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if share > before {
			p.done += (share - before) * weight
			before = share
		}
		p.bar.Show(min(p.done/p.weight, 1))
	}
}

// together runs tasks on all cores.
func together(tasks []func()) {
	var all sync.WaitGroup
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), len(tasks)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(tasks)); i = next.Add(1) - 1 {
				tasks[i]()
			}
		})
	}
	all.Wait()
}

// observed simulates the setting as it is, and samples its course.
func (r *run) observed(ctx context.Context, site *Site, done func(float64)) (*whatif.Result, *answer.Course, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	config := r.config
	config.Dataplane.CountHolders.On = true // which changes nothing else
	started, err := site.Start(config)
	if err != nil {
		return nil, nil, err
	}
	defer started.Cluster.Close()
	s, err := whatif.New(whatif.Config{
		World: started.Cluster, Hosts: started.Hosts, Workload: r.workload,
		Forecast: forecast.Config{Lifetimes: lifetimes(&r.config)},
	})
	if err != nil {
		return nil, nil, err
	}
	rec := newRecorder(started.Cluster, s, r.options.until)
	for at := time.Duration(0); at < r.options.until; {
		at = rec.next(at)
		s.Advance(at)
		rec.look(at)
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		done(float64(at) / float64(r.options.until))
	}
	return s.Result(), rec.course(), nil
}

const (
	samples  = 120 // of a course
	looks    = 10  // at how full nodes are, for each sample
	mostLine = 12  // lines of a course
)

// recorder samples the course of a simulation. The most of several looks counts for each sample, so that no
// rush is missed between two.
type recorder struct {
	world whatif.World
	sim   *whatif.Simulation
	until time.Duration
	looks int
	taken answer.Course
	lines map[lineKey]int // index of taken.Nodes
	most  []int           // used, of each line since the sample before
	total uint64          // conversations refused by then
}

// lineKey names a line: an instance by index, or a frontend.
type lineKey struct {
	instance int
	frontend string
	is6      bool
	protocol string
}

func newRecorder(w whatif.World, s *whatif.Simulation, until time.Duration) *recorder {
	return &recorder{world: w, sim: s, until: until, lines: make(map[lineKey]int)}
}

// next returns when the look after one is due.
func (c *recorder) next(at time.Duration) time.Duration {
	c.looks++
	return max(at+1, time.Duration(float64(c.until)*float64(c.looks)/(samples*looks)))
}

// look looks at the world, and every so often takes a sample.
func (c *recorder) look(at time.Duration) {
	shared := true
	for i, n := range c.world.Instances() {
		for _, p := range n.Pools {
			shared = false
			c.add(lineKey{instance: i, is6: p.Is6, protocol: p.Protocol.String()}, n.Name, p.Allocated, p.Used)
		}
	}
	if shared {
		for _, f := range c.world.Frontends() {
			c.add(lineKey{frontend: f.Frontend.String(), is6: f.Frontend.Is6(), protocol: f.Protocol.String()}, f.Frontend.String(), f.Allocated, f.Used)
		}
	}
	if c.looks%looks != 0 && at < c.until {
		return
	}
	m := c.sim.Moment()
	c.taken.Seconds = append(c.taken.Seconds, at.Seconds())
	c.taken.Refused = append(c.taken.Refused, m.Total.Refused-c.total)
	c.taken.Uses = append(c.taken.Uses, answer.UsesOf(m.Uses))
	c.total = m.Total.Refused
	for i := range c.taken.Nodes {
		l := &c.taken.Nodes[i]
		l.Used = append(l.Used, c.most[i])
		c.most[i] = 0
		for len(l.Allocated) < len(l.Used) { // unless it has come just now
			l.Allocated = append(l.Allocated, l.Allocated[len(l.Allocated)-1])
		}
	}
}

// add adds a look at one line.
func (c *recorder) add(k lineKey, name string, allocated, used int) {
	i, ok := c.lines[k]
	if !ok {
		i = len(c.taken.Nodes)
		c.lines[k] = i
		n := len(c.taken.Seconds)
		c.taken.Nodes = append(c.taken.Nodes, answer.Line{Name: name, IPv6: k.is6, Protocol: k.protocol, Allocated: make([]int, n), Used: make([]int, n)})
		c.most = append(c.most, 0)
	}
	l := &c.taken.Nodes[i]
	if n := len(c.taken.Seconds); len(l.Allocated) == n {
		l.Allocated = append(l.Allocated, allocated)
	} else {
		l.Allocated[n] = allocated
	}
	c.most[i] = max(c.most[i], used)
}

// course returns the samples, of the fullest nodes.
func (c *recorder) course() *answer.Course {
	share := func(l *answer.Line) (most float64) {
		for i, n := range l.Used {
			if l.Allocated[i] > 0 {
				most = max(most, float64(n)/float64(l.Allocated[i]))
			}
		}
		return most
	}
	slices.SortStableFunc(c.taken.Nodes, func(a, b answer.Line) int { return cmp.Compare(share(&b), share(&a)) })
	c.taken.Nodes = c.taken.Nodes[:min(len(c.taken.Nodes), mostLine)]
	return &c.taken
}
