// Package planner is the command capacity: its flags, what it simulates, and the report about
// that. The command itself says more (go doc ./examples/capacity).
//
//	options     the command line; sweep, the settings that it asks for
//	Site        the cluster and its pods: of files, or built in
//	answer      what the simulations have come to
//	report      the answer for people; document and table, for programs
//
// It is a package so that two commands can be made of it: one that needs nothing but this module,
// and one in a module of its own that also reads what [Command].Open reads. A run is one call of
// [Command.Run], and nothing is shared between two of them. It starts as many goroutines as there
// are cores; results do not depend on that, or on the clock.
package planner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// Command is the command capacity.
type Command struct {
	// Cluster reads the files of -cluster.
	Cluster func(files []string) (*Site, error)

	// Workload reads the file of -workload.
	Workload func(file string) (whatif.Workload, error)

	// HandOver does what a command line with such files asks for where Cluster and Workload are nil,
	// and returns the exit status.
	HandOver func(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error)
}

// Site is a cluster and the pods that run in it.
type Site struct {
	Config      overlay.ClusterConfig
	NotModelled []string // what the files say and the cluster is without, a sentence each

	// Start is that of [whatif.Plan].
	Start func(overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error)
}

// answer is what the simulations of a run have come to.
type answer struct {
	options  options
	config   overlay.ClusterConfig // as it is
	workload whatif.Workload
	skipped  []string // what of the trace is left out, a sentence each
	omitted  []string // Site.NotModelled
	nodes    int
	hosts    int

	now         *whatif.Result // of the setting as it is
	rows        []whatif.Row   // of the sweep
	best        *whatif.Recommendation
	none        string // why there is no recommendation
	interrupted bool
}

// Run is the command: it returns the exit status.
func (c Command) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	parse := func() (err error) {
		o, err = parseOptions(args, stdout)
		return err
	}
	elsewhere := 0
	status := command.Run("capacity", stderr, parse, func() (err error) {
		if (len(o.clusters) > 0 || o.workload != "") && c.HandOver != nil {
			elsewhere, err = c.HandOver(ctx, args, stdout, stderr)
			return err
		}
		return c.work(ctx, o, stdout, stderr)
	})
	return max(status, elsewhere)
}

// work does what the command line asks for and prints the report.
func (c Command) work(ctx context.Context, o options, stdout, stderr io.Writer) error {
	a, site, err := c.prepare(o)
	if err != nil {
		return err
	}
	bar := page.NewBar(stderr)
	err = a.simulate(ctx, site, bar)
	bar.Clear()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(stdout)
	switch {
	case o.json:
		err = a.writeJSON(w)
	case o.csv:
		err = a.writeCSV(w)
	default:
		a.writeText(page.New(w, stdout))
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if a.interrupted {
		return command.ErrInterrupted
	}
	return nil
}

// prepare reads all files, and tries cluster and workload once, so that all that is wrong with
// them is told before anything is simulated.
func (c Command) prepare(o options) (*answer, *Site, error) {
	a, site, err := c.read(o)
	if err != nil {
		return nil, nil, err
	}
	if o.given["seed"] || a.workload.Seed == 0 {
		a.workload.Seed = o.seed
	}
	if o.given["seed"] || a.config.Seed == 0 {
		a.config.Seed = o.seed
	}
	explicit(&a.config)
	if err := a.knownPools(); err != nil {
		return nil, nil, err
	}
	for _, axis := range o.scale.axes() {
		axis[0].Change(&a.config, &a.workload)
	}
	return a, site, a.try(site)
}

// read reads all files. What none of them says is built in.
func (c Command) read(o options) (*answer, *Site, error) {
	a, site := &answer{options: o}, builtIn()
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	if len(o.clusters) > 0 {
		site, err = c.Cluster(o.clusters)
		note(err)
	}
	switch {
	case o.workload != "":
		a.workload, err = c.Workload(o.workload)
		note(err)
	case o.trace == "":
		a.workload = builtInWorkload()
	}
	a.workload.Trace, err = a.readTrace()
	note(err)
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	a.config, a.omitted = site.Config, site.NotModelled
	return a, site, nil
}

// explicit gives a load balancer the one outbound IP that it has by default, without which AKS
// takes no number of ports.
func explicit(c *overlay.ClusterConfig) {
	p := &c.LoadBalancerProfile
	if p.ManagedOutboundIPCount == 0 && len(p.OutboundIPs) == 0 && len(p.OutboundIPPrefixes) == 0 && c.OutboundType == overlay.OutboundLoadBalancer && c.LoadBalancerSKU == 0 {
		p.ManagedOutboundIPCount = 1
	}
}

// knownPools refuses pools that flags name and the cluster has not.
func (a *answer) knownPools() error {
	var names []string
	for i, p := range a.config.NodePools {
		if p.Name == "" {
			p.Name = fmt.Sprintf("nodepool%d", i+1) // overlay.NodePool
			a.config.NodePools = slices.Clone(a.config.NodePools)
			a.config.NodePools[i].Name = p.Name
		}
		names = append(names, p.Name)
	}
	var errs []error
	check := func(option, name string) {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("-%s: the cluster has no pool %q; it has %s", option, name, strings.Join(names, ", ")))
		}
	}
	for _, p := range a.options.scale {
		check("scale", p.name)
	}
	for _, name := range a.options.sweep.pools() {
		check("sweep", name)
	}
	return errors.Join(errs...)
}

// try starts the cluster as it is, and makes a simulation of the workload.
func (a *answer) try(site *Site) error {
	cluster, hosts, err := site.Start(a.config)
	if err != nil {
		return err
	}
	defer cluster.Close()
	a.nodes, a.hosts = len(cluster.Nodes()), len(hosts)
	_, err = whatif.New(whatif.Config{World: cluster, Hosts: hosts, Workload: a.workload})
	if err == nil || a.options.workload == "" {
		return err
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, fmt.Errorf("-workload %s: %s", a.options.workload, line))
	}
	return errors.Join(errs...)
}

// simulate sends the workload through the cluster as it is and under all settings, and searches
// for a recommendation meanwhile. When ctx ends it keeps what is done by then; the error is
// command.ErrInterrupted if that is nothing.
func (a *answer) simulate(ctx context.Context, site *Site, bar *page.Bar) error {
	plan := whatif.Plan{
		Cluster: a.config, Workload: a.workload, Until: a.options.until, Start: site.Start,
		Together: together, Progress: bar.Show,
	}
	settings := []whatif.Setting{{Name: "as it is"}}
	if len(a.options.sweep.axes) > 0 {
		settings = append(settings, whatif.Grid(a.options.sweep.axes...)...)
	}
	needed, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var search sync.WaitGroup
	var best error
	if a.options.recommend {
		search.Go(func() {
			a.best, best = whatif.Recommend(needed, plan, whatif.Wish{Headroom: float64(a.options.headroom) / 100, NoCuts: !a.options.cuts})
		})
	}
	rows, err := whatif.Sweep(ctx, plan, settings)
	if err == nil {
		err = rows[0].Err
	}
	if err != nil {
		giveUp()
	}
	search.Wait()
	a.interrupted = ctx.Err() != nil
	switch {
	case err != nil:
		return command.Failed(ctx, err)
	case errors.Is(best, whatif.ErrNoSetting):
		a.none = best.Error()
	case best != nil && !a.interrupted:
		return fmt.Errorf("-recommend: %w", best)
	}
	a.now, a.rows = rows[0].Result, rows[1:]
	return nil
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

// fullest returns the nodes of a result, the fullest first.
func fullest(r *whatif.Result) []whatif.Fill {
	fills := slices.Clone(r.Nodes)
	if len(fills) == 0 { // ports are shared
		fills = slices.Clone(r.Frontends)
	}
	slices.SortStableFunc(fills, func(a, b whatif.Fill) int {
		switch s, t := a.Share(), b.Share(); {
		case s > t:
			return -1
		case s < t:
			return 1
		}
		return 0
	})
	return fills
}

// peak returns the highest share of a node's ports that was in use, 0..1.
func peak(r *whatif.Result) float64 {
	if fills := fullest(r); len(fills) > 0 {
		return fills[0].Share()
	}
	return 0
}

// idleTimeout returns the one that is in force.
func idleTimeout(c *overlay.ClusterConfig) time.Duration {
	switch c.OutboundType {
	case overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2:
		return max(c.NATGatewayProfile.IdleTimeout, minIdle)
	case overlay.OutboundUserAssignedNATGateway:
		return max(c.NATGatewayProfile.NATGateway.IdleTimeout, minIdle)
	}
	if c.LoadBalancerProfile.IdleTimeout == 0 {
		return overlay.DefaultIdleTimeout
	}
	return c.LoadBalancerProfile.IdleTimeout
}
