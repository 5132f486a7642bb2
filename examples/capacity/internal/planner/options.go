// The command line: flags, their defaults, and every complaint about them in terms of the flags
// themselves.

package planner

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/capacity/stories"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// options is the command line.
type options struct {
	clusters []string // files
	workload string   // a file, or ""
	trace    string   // likewise
	inside   []netip.Prefix

	until     time.Duration
	sweep     sweep
	warmUp    time.Duration // before the settings of the sweep; 0 means that they are there from the beginning
	recommend bool
	headroom  int // per cent
	cuts      bool
	scale     scale
	seed      uint64
	upgrade   upgrading
	story     string // a name, listStories, or ""
	html      string // a file, or ""
	json, csv bool

	given map[string]bool // flags on the command line
}

const (
	defaultUntil    = time.Hour
	maxUntil        = 31 * 24 * time.Hour // whatif.Plan
	defaultHeadroom = 20                  // our choice
	maxHeadroom     = 90                  // whatif.Wish

	// listStories is the -story that lists them all.
	listStories = "list"

	// storySweep is the sweep of a run without flags.
	storySweep = "ports=auto,2048 idle=4m,30m reuse=off,on"
)

// private are the insides of captures unless -inside says otherwise: RFC 1918 and RFC 4193.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
}

const synopsis = `Usage: capacity [flags]

Sends the traffic of a described workload, or of a trace, through a simulated AKS
cluster in virtual time, and reports what is refused, when, who holds the SNAT
ports, what other settings would change and which one is the cheapest that
refuses and cuts nothing. Without flags it tells a story; go doc
./examples/capacity says more.

`

// parseOptions reads the command line. It returns flag.ErrHelp after it has printed the usage to
// help.
func parseOptions(args []string, help io.Writer) (options, error) {
	o := options{until: defaultUntil}
	fs := flag.NewFlagSet("capacity", flag.ContinueOnError)
	fs.Func("cluster", "`file` with the cluster and its pods: Kubernetes manifests, what az prints, or a cluster file; a directory is all its files *.yaml, *.yml and *.json, and - the standard input; may be given several times", func(text string) error {
		o.clusters = append(o.clusters, text)
		return filled(text)
	})
	text := func(to *string) func(string) error {
		return func(s string) error { *to = s; return filled(s) }
	}
	fs.Func("workload", "`file` with what the pods send; - is the standard input", text(&o.workload))
	fs.Func("trace", "`file` with what hosts have sent: flow logs in CSV, of Azure (NSG, VNet) or of Hubble, or a capture; - is the standard input", text(&o.trace))
	var inside, sweep, scale string
	fs.StringVar(&inside, "inside", "", "`CIDR`s of the hosts of a capture, separated by commas (default the private addresses)")
	fs.DurationVar(&o.until, "until", defaultUntil, "how `long` the simulated traffic goes on, up to 744h")
	fs.StringVar(&sweep, "sweep", "", "`settings` to try all combinations of, such as 'ips=1..8 ports=auto,1024,2048 idle=4m,10m,30m'; also "+others())
	fs.DurationVar(&o.warmUp, "warm-up", 0, "how `long` the cluster goes on as it is before it is changed to the settings of -sweep (default: not at all)")
	fs.BoolVar(&o.recommend, "recommend", false, "find the cheapest setting of a Standard load balancer that refuses and cuts nothing: the fewest outbound IPs, then the fewest ports, then the longest idle timeout of 4, 5, 10, 15, 20, 30, 45, 60, 90 and 120 minutes")
	fs.IntVar(&o.headroom, "headroom", defaultHeadroom, "`percent` of a node's ports that -recommend keeps free at the peak, 0 to 90")
	fs.BoolVar(&o.cuts, "accept-cuts", false, "let -recommend take idle timeouts that cut connections, because they rest for longer")
	fs.StringVar(&scale, "scale", "", "`pool=nodes` to begin with another number of nodes; several separated by commas")
	fs.Uint64Var(&o.seed, "seed", 1, "`number` that decides all chance")
	var upgrade string
	fs.StringVar(&upgrade, "upgrade", "", "`settings` of an upgrade of a node pool under the workload, such as 'pool=nodepool1 at=10m surge=33%'; also "+upgradeOthers())
	fs.Func("story", "`name` of an advice of the field to show, with the numbers before and after; list lists them all", text(&o.story))
	fs.Func("html", "`file` to write a page with plots to, besides the report", text(&o.html))
	fs.BoolVar(&o.json, "json", false, "print the report as one JSON object")
	fs.BoolVar(&o.csv, "csv", false, "print a line for each setting, with a header")
	if err := command.Parse(fs, args, synopsis, help, "cluster"); err != nil {
		return o, err
	}
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if o.story == listStories {
		return o, o.validateList()
	}
	errs := []error{o.validateStory()}
	switch s := stories.Named(o.story); {
	case s != nil:
		o.until = s.Until
		sweep, o.given["sweep"] = s.Sweep, true
	case o.builtIn() && !o.given["sweep"] && !o.given["recommend"] && !o.given["upgrade"] && !o.given["warm-up"]:
		sweep, o.recommend = storySweep, true
		o.given["sweep"] = true
	}
	o.upgrade.until = o.until
	errs = append(errs, o.validate())
	for _, list := range []struct {
		option, text string
		read         func(string) []error
	}{{"inside", inside, o.addInside}, {"sweep", sweep, o.sweep.set}, {"scale", scale, o.scale.set}, {"upgrade", upgrade, o.upgrade.set}} {
		if !o.given[list.option] {
			continue
		}
		for _, err := range list.read(list.text) {
			errs = append(errs, fmt.Errorf("-%s %w", list.option, err))
		}
	}
	return o, errors.Join(errs...)
}

// builtIn reports whether cluster and workload are the built-in ones.
func (o *options) builtIn() bool { return len(o.clusters) == 0 && o.workload == "" && o.trace == "" }

// filled refuses an empty value.
func filled(text string) error {
	if text == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// addInside reads -inside.
func (o *options) addInside(text string) (errs []error) {
	for part := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: is no CIDR such as 10.0.0.0/8", part))
			continue
		}
		o.inside = append(o.inside, p.Masked())
	}
	return errs
}

// validateList returns an error for each flag besides -story list.
func (o *options) validateList() error {
	var errs []error
	for _, other := range slices.Sorted(maps.Keys(o.given)) {
		if other != "story" {
			errs = append(errs, fmt.Errorf("-%s: not with -story %s", other, listStories))
		}
	}
	return errors.Join(errs...)
}

// validateStory returns all mistakes about the -story that is shown.
func (o *options) validateStory() error {
	if o.story == "" {
		return nil
	}
	var errs []error
	if stories.Named(o.story) == nil {
		errs = append(errs, fmt.Errorf("-story %q: must be list, or one of %s", o.story, strings.Join(stories.Names(), ", ")))
	}
	for _, other := range []string{"cluster", "workload", "trace", "inside", "scale", "sweep", "until", "upgrade", "warm-up"} {
		if o.given[other] {
			errs = append(errs, fmt.Errorf("-%s: a story has its own", other))
		}
	}
	return errors.Join(errs...)
}

// validate returns all mistakes that parsing does not see, one line each.
func (o *options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.until <= 0 || o.until > maxUntil {
		bad("-until %v: must be above 0 and at most 744h", o.until)
	}
	switch {
	case !o.given["warm-up"]:
	case !o.given["sweep"] && o.story == "":
		bad("-warm-up: needs -sweep")
	case o.warmUp < 0 || o.warmUp >= o.until:
		bad("-warm-up %v: must be 0s or more, and less than -until", o.warmUp)
	}
	if o.headroom < 0 || o.headroom > maxHeadroom {
		bad("-headroom %d: must be 0 to %d", o.headroom, maxHeadroom)
	}
	if o.given["headroom"] && !o.recommend {
		bad("-headroom: needs -recommend")
	}
	if o.given["accept-cuts"] && !o.recommend {
		bad("-accept-cuts: needs -recommend")
	}
	if o.given["inside"] && o.trace == "" && o.story == "" {
		bad("-inside: needs -trace")
	}
	if len(o.clusters) > 0 && o.workload == "" && o.trace == "" && o.story == "" {
		bad("-cluster: needs -workload or -trace, which say what is sent")
	}
	if info, err := os.Stat(o.html); o.html != "" && err == nil && !info.Mode().IsRegular() {
		bad("-html %s: must be a file", o.html)
	}
	if info, err := os.Stat(filepath.Dir(o.html)); o.html != "" && (err != nil || !info.IsDir()) {
		bad("-html %s: there is no directory %s", o.html, filepath.Dir(o.html))
	}
	if o.html != "" && slices.Contains(append([]string{o.workload, o.trace}, o.clusters...), o.html) {
		bad("-html %s: it is read as well", o.html)
	}
	if o.json && o.csv {
		bad("-csv: with -json there is one object")
	}
	stdin := 0
	for _, name := range append([]string{o.workload, o.trace}, o.clusters...) {
		if name == "-" {
			stdin++
		}
	}
	if stdin > 1 {
		bad("-: the standard input can be one file only")
	}
	return errors.Join(errs...)
}

// scale is the numbers of nodes of -scale, by pool.
type scale []pool

type pool struct {
	name  string
	nodes int
}

// set reads -scale, and returns every mistake.
func (s *scale) set(text string) (errs []error) {
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(text, ",") {
		name, number, ok := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(number)
		switch {
		case !ok || name == "":
			errs = append(errs, fmt.Errorf("%q: must be such as nodepool1=80", part))
		case err != nil || n < 1 || n > maxNodes:
			errs = append(errs, fmt.Errorf("%q: nodes must be 1 to %d", part, maxNodes))
		case seen[name]:
			errs = append(errs, fmt.Errorf("%q: %s is there twice", part, name))
		default:
			*s = append(*s, pool{name, n})
		}
		seen[name] = true
	}
	return errs
}

// axes returns the changes of -scale.
func (s scale) axes() (all []whatif.Axis) {
	for _, p := range s {
		all = append(all, whatif.Nodes(p.name, p.nodes))
	}
	return all
}
