// Package planner is the command capacity: its flags, and what it simulates. The command itself says
// more (go doc ./examples/capacity).
//
//	options, settings   the command line, and the settings of -sweep in it (options.go, settings.go)
//	Site, Traffic       the cluster, its pods, and what they send: of files, built in, or a story's
//	run                 one run: what is read (planner.go), simulated (simulate.go, upgrade.go), found (answer.go)
//
// What a run has found is an [answer.Answer]; package report prints it for people, and the module in
// ../../page draws it.
//
// It is a package so that two commands can be made of it: one that needs nothing but this module,
// and one in a module of its own that also reads files of YAML. A run is one call of
// [Command.Run], and nothing is shared between two of them. It starts as many goroutines as there
// are cores; results do not depend on that, or on the clock.
package planner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/answer"
	"github.com/seed-a61be3fe/natplane/examples/capacity/internal/report"
	"github.com/seed-a61be3fe/natplane/examples/capacity/stories"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// Command is the command capacity.
type Command struct {
	// Cluster reads the files of -cluster.
	Cluster func(files []string) (*Site, error)

	// Workload reads the file of -workload.
	Workload func(file string) (*Traffic, error)

	// HandOver does what a command line with such files asks for where Cluster and Workload are nil,
	// and returns the exit status.
	HandOver func(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error)

	// Page makes ready to draw pages: draw reads what -json prints and writes HTML, and done gives back
	// what Page has taken.
	Page func(ctx context.Context, stderr io.Writer) (draw func(json io.Reader, html io.Writer) error, done func() error, err error)
}

// Site is a cluster and the pods that run in it.
type Site struct {
	Config      overlay.ClusterConfig
	NotModelled []string // what the files say and the cluster is without, a sentence each

	// Start makes a cluster of a changed configuration and starts its pods. It may be called several
	// times at once.
	Start func(overlay.ClusterConfig) (*Running, error)
}

// Running is a cluster whose pods have been started.
type Running struct {
	Cluster *overlay.Cluster
	Hosts   []whatif.Host // the pods
	Pending []string      // pods that found no node, a sentence each
}

// start is Start as [whatif.Plan] has it.
func (s *Site) start(c overlay.ClusterConfig) (*overlay.Cluster, []whatif.Host, error) {
	r, err := s.Start(c)
	if err != nil {
		return nil, nil, err
	}
	return r.Cluster, r.Hosts, nil
}

// Traffic is what the pods send.
type Traffic struct {
	whatif.Workload

	// Locate tells problems that a simulation has with the workload by where they stand in its file;
	// nil if there is none.
	Locate func(error) error
}

// run is one run: what is asked for, and what the simulations have come to.
type run struct {
	options  options
	story    *stories.Story        // nil without one
	config   overlay.ClusterConfig // as it is
	workload whatif.Workload
	locate   func(error) error
	skipped  []string // what of the trace is left out, a sentence each
	omitted  []string // Site.NotModelled
	pending  []string // Running.Pending, of the setting as it is
	nodes    int
	hosts    int

	now         *whatif.Result // of the setting as it is
	course      *answer.Course // likewise
	rows        []whatif.Row   // of the sweep
	best        *whatif.Recommendation
	upgraded    *answer.Upgrade
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
		switch {
		case o.story == listStories:
			return listAll(stdout)
		case (len(o.clusters) > 0 || o.workload != "") && c.HandOver != nil:
			elsewhere, err = c.HandOver(ctx, args, stdout, stderr)
			return err
		}
		return c.work(ctx, o, stdout, stderr)
	})
	return max(status, elsewhere)
}

// listAll lists the stories.
func listAll(stdout io.Writer) error {
	w := bufio.NewWriter(stdout)
	t := page.New(w, stdout).Table("lw")
	for _, s := range stories.All() {
		t.Row(s.Name, s.Title+": "+s.Why)
	}
	t.Print()
	return w.Flush()
}

// work does what the command line asks for and prints the report.
func (c Command) work(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	r, site, err := c.prepare(o)
	if err != nil {
		return err
	}
	var draw func(io.Reader, io.Writer) error
	if o.html != "" { // before the simulations, for it may fail
		var done func() error
		if draw, done, err = c.Page(ctx, stderr); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
	}
	bar := page.NewBar(stderr)
	err = r.simulate(ctx, site, bar)
	bar.Clear()
	if err != nil {
		return err
	}
	a := r.answer()
	if draw != nil {
		if err := writePage(o.html, a, draw); err != nil {
			return fmt.Errorf("-html %s: %w", o.html, err)
		}
	}
	w := bufio.NewWriter(stdout)
	switch {
	case o.json:
		err = a.WriteJSON(w)
	case o.csv:
		err = a.WriteCSV(w)
	default:
		report.Write(page.New(w, stdout), a)
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if r.interrupted {
		return command.ErrInterrupted
	}
	return nil
}

// prepare reads all files, and tries cluster and workload once, so that all that is wrong with
// them is told before anything is simulated.
func (c Command) prepare(o options) (*run, *Site, error) {
	r, site, err := c.read(o)
	if err != nil {
		return nil, nil, err
	}
	if o.given["seed"] || r.workload.Seed == 0 {
		r.workload.Seed = o.seed
	}
	if o.given["seed"] || r.config.Seed == 0 {
		r.config.Seed = o.seed
	}
	explicit(&r.config)
	if err := errors.Join(r.knownPools(), r.ownPorts()); err != nil {
		return nil, nil, err
	}
	for _, axis := range o.scale.axes() {
		axis[0].Change(&r.config, &r.workload)
	}
	return r, site, r.try(site)
}

// read reads all files. What none of them says is built in.
func (c Command) read(o options) (*run, *Site, error) {
	r, site := &run{options: o}, builtIn()
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
	case o.story != "":
		r.story = stories.Named(o.story)
		r.workload = r.story.Workload
		r.story.Site(&site.Config)
	case o.workload != "":
		var t *Traffic
		if t, err = c.Workload(o.workload); err == nil {
			r.workload, r.locate = t.Workload, t.Locate
		}
		note(err)
	case o.trace == "":
		r.workload = builtInWorkload()
	}
	r.workload.Trace, err = r.readTrace()
	note(err)
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	r.config, r.omitted = site.Config, site.NotModelled
	return r, site, nil
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
func (r *run) knownPools() error {
	var names []string
	for i, p := range r.config.NodePools {
		if p.Name == "" {
			p.Name = fmt.Sprintf("nodepool%d", i+1) // overlay.NodePool
			r.config.NodePools = slices.Clone(r.config.NodePools)
			r.config.NodePools[i].Name = p.Name
		}
		names = append(names, p.Name)
	}
	var errs []error
	check := func(option, name string) {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("-%s: the cluster has no pool %q; it has %s", option, name, strings.Join(names, ", ")))
		}
	}
	for _, p := range r.options.scale {
		check("scale", p.name)
	}
	for _, name := range r.options.sweep.pools() {
		check("sweep", name)
	}
	if u := &r.options.upgrade; u.pool != "" {
		check("upgrade", u.pool)
	}
	return errors.Join(errs...)
}

// ownPorts refuses flags about ports of nodes where nodes have none: -sweep if that is so under all its
// settings.
func (r *run) ownPorts() error {
	var errs []error
	if field := fieldOf(r.options.sweep.text, portsName); field != "" {
		settings := whatif.Grid(r.options.sweep.axes...)
		if !slices.ContainsFunc(settings, func(s whatif.Setting) bool { return r.ownPortsWith(s) == nil }) {
			errs = append(errs, fmt.Errorf("-sweep %q: %w", field, r.ownPortsWith(settings[0])))
		}
	}
	if r.options.recommend {
		if err := ownPorts(&r.config); err != nil {
			errs = append(errs, fmt.Errorf("-recommend: %w", err))
		}
	}
	return errors.Join(errs...)
}

// ownPortsWith is ownPorts of the cluster with a setting.
func (r *run) ownPortsWith(s whatif.Setting) error {
	config, workload := r.config, r.workload
	s.Change(&config, &workload)
	return ownPorts(&config)
}

// ownPorts returns why the nodes of a cluster have no ports of their own; nil if they have.
func ownPorts(c *overlay.ClusterConfig) error {
	is := "the outbound type is " + c.OutboundType.String()
	switch {
	case c.OutboundType != overlay.OutboundLoadBalancer:
	case c.LoadBalancerSKU != lb.Standard:
		is = "that of the cluster is of SKU " + c.LoadBalancerSKU.String()
	default:
		return nil
	}
	return errors.New("needs a Standard load balancer, whose nodes have ports of their own; " + is)
}

// try starts the cluster as it is, and makes a simulation of the workload.
func (r *run) try(site *Site) error {
	started, err := site.Start(r.config)
	if err != nil {
		return err
	}
	defer started.Cluster.Close()
	r.nodes, r.hosts, r.pending = len(started.Cluster.Nodes()), len(started.Hosts), started.Pending
	_, err = whatif.New(whatif.Config{World: started.Cluster, Hosts: started.Hosts, Workload: r.workload})
	if err == nil {
		return nil
	}
	if r.locate != nil {
		err = r.locate(err)
	}
	return r.locateTrace(err)
}
