// The command line: flags, their defaults, and every complaint about them in
// terms of the flags themselves.

package story

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/egress/internal/sentence"
	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/examples/internal/page"
	"github.com/seed-a61be3fe/natplane/internal/capture"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
)

// options is the command line.
type options struct {
	pcap        string // "" is the built-in capture
	nodes       int
	podsPerNode int
	ips         int
	ports       int // 0 is automatic
	idle        duration
	copies      int // 0 is automatic
	seed        uint64
	out         string // "" writes no captures
	json        bool

	inside        []netip.Prefix // none tells hosts by who begins
	checksums     capture.Checksums
	failOnRefusal bool
	carried       carried // what an AKS cluster does not carry

	clusters []string // files
	explain  []string // packets
	ipv4Only bool     // the cluster of the files has no IPv6

	given map[string]bool // flags on the command line
}

// Limits of the flags. Those of Azure are from "Use a public standard load
// balancer in AKS", "Outbound rules" and "Azure CNI Overlay networking".
const (
	maxPodsPerNode = 250 // pods per node of an overlay cluster
	maxIPs         = 100 // managed outbound IPs
	minIdle        = 4 * time.Minute
	maxIdle        = 120 * time.Minute
	maxCopies      = 1_000_000_000

	// defaultSpan is the virtual time that the built-in conversations fill unless
	// -copies says otherwise: longer than the default idle timeout, so that flows
	// come and go in equal numbers at the end.
	defaultSpan = 40 * time.Minute
)

// podCIDR is the range of the pods; every node takes a /24 of it.
var podCIDR = netip.MustParsePrefix("10.244.0.0/16")

const synopsis = `Usage: egress [flags]

Sends recorded conversations from the pods of a simulated AKS overlay cluster
to the Internet and back, and reports what that does to its SNAT ports. With
-cluster the cluster is that of your files, and with -explain it is told what
would become of a packet; go doc ./examples/egress says more.

`

// parseOptions reads the command line. It returns flag.ErrHelp after it has
// printed the usage to help.
func parseOptions(args []string, help io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("egress", flag.ContinueOnError)
	fs.StringVar(&o.pcap, "pcap", "", "send the conversations of this pcap or pcapng `file` instead of the built-in ones")
	fs.StringVar(&o.pcap, "in", "", "the same `file` as -pcap; - is the standard input")
	fs.Func("inside", "`CIDR`s of the hosts of -pcap that are to be pods, separated by commas; what concerns none of them is left out; by default those that begin conversations; may be given several times", o.addInside)
	command.ChecksumsFlag(fs, &o.checksums)
	fs.IntVar(&o.nodes, "nodes", 3, "`number` of nodes; with -pcap by default 1, or one for each /24 that the hosts are in")
	fs.IntVar(&o.podsPerNode, "pods-per-node", 8, "`number` of pods on every node, 1 to 250; with -pcap by default one for each host")
	fs.IntVar(&o.ips, "ips", 1, "`number` of outbound IPs per family, 1 to 100")
	fs.IntVar(&o.ports, "ports", 0, "SNAT ports per node, a multiple of 8 up to 64,000; 0 lets Azure's table decide by the `number` of nodes")
	o.idle = duration{overlay.DefaultIdleTimeout, page.Short(overlay.DefaultIdleTimeout)}
	fs.Var(&o.idle, "idle", "idle `timeout` of the outbound rule, whole minutes, 4m to 120m")
	fs.IntVar(&o.copies, "copies", 0, "how many `times` all conversations take place; 0 fills 40 minutes, or plays the file of -pcap once")
	fs.Uint64Var(&o.seed, "seed", 1, "`number` that decides which pod says what and when")
	fs.StringVar(&o.out, "out", "", "write inside.pcap and outside.pcap to this `directory`")
	fs.BoolVar(&o.failOnRefusal, "fail-on-refusal", false, "end with status 3 if a connection was refused for want of a SNAT port")
	fs.BoolVar(&o.carried.icmp, "icmp", false, "translate ICMP echo, which the outbound rule of a cluster does not")
	fs.BoolVar(&o.carried.fragments, "fragments", false, "translate fragments, which the outbound rule of a cluster does not")
	fs.Func("cluster", "`file` with what is to be simulated: Kubernetes manifests, what az prints, or a cluster file; a directory is all its files *.yaml, *.yml and *.json, and - the standard input; may be given several times", add(&o.clusters))
	fs.Func("explain", "say what would become of this `packet` instead, such as 'tcp pod/NAME > 203.0.113.80:443' or 'tcp 203.0.113.9 > lb/NAME'; may be given several times", add(&o.explain))
	fs.BoolVar(&o.json, "json", false, "print the report as one JSON object")
	if err := command.Parse(fs, args, synopsis, help, "inside", "cluster", "explain"); err != nil {
		return o, err
	}
	o.given = make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	if o.pcap != "" && !o.given["nodes"] {
		o.nodes = 1 // until the hosts are known
	}
	errs := []error{o.validate(), o.excluded()}
	if o.pcap == "" && len(o.inside) > 0 {
		errs = append(errs, errors.New("-inside: needs -pcap"))
	}
	if o.given["pcap"] && o.given["in"] {
		errs = append(errs, errors.New("-in and -pcap are the same: give one of them"))
	}
	for _, name := range []string{"pcap", "in", "out"} {
		if o.given[name] && fs.Lookup(name).Value.String() == "" {
			errs = append(errs, fmt.Errorf("-%s %q: must not be empty", name, ""))
		}
	}
	return o, errors.Join(errs...)
}

// add returns what collects the values of a flag.
func add(to *[]string) func(string) error {
	return func(text string) error {
		if text == "" {
			return errors.New("must not be empty")
		}
		*to = append(*to, text)
		return nil
	}
}

// excluded returns the flags that have no meaning beside others.
func (o *options) excluded() error {
	var errs []error
	if len(o.clusters) > 0 {
		for _, name := range []string{"nodes", "ips", "ports", "idle"} {
			if o.given[name] {
				errs = append(errs, fmt.Errorf("-%s: with -cluster the files say that", name))
			}
		}
	}
	if len(o.explain) > 0 {
		for _, name := range []string{"pcap", "in", "out", "copies", "fail-on-refusal"} {
			if o.given[name] {
				errs = append(errs, fmt.Errorf("-%s: with -explain no traffic is played", name))
			}
		}
	}
	for _, text := range o.explain {
		if _, err := sentence.Parse(text, sentence.AnyName); err != nil {
			errs = append(errs, fmt.Errorf("-explain: %w", err))
		}
	}
	return errors.Join(errs...)
}

// take takes over from a cluster of files what flags say of others.
func (o *options) take(site *Site) {
	config := site.Config()
	o.nodes, o.ipv4Only = len(site.Nodes()), config.IPFamilies != "ipv4,ipv6"
	o.ports = config.LoadBalancerProfile.AllocatedOutboundPorts
	idle := cmp.Or(config.LoadBalancerProfile.IdleTimeout, overlay.DefaultIdleTimeout)
	switch config.OutboundType {
	case overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2:
		idle = cmp.Or(config.NATGatewayProfile.IdleTimeout, minIdle)
	case overlay.OutboundUserAssignedNATGateway:
		idle = cmp.Or(config.NATGatewayProfile.NATGateway.IdleTimeout, minIdle)
	}
	o.idle = duration{idle, page.Short(idle)}
}

// addInside reads -inside.
func (o *options) addInside(text string) error {
	for _, part := range strings.Split(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return fmt.Errorf("%q is no CIDR such as 10.0.0.0/8", part)
		}
		o.inside = append(o.inside, p.Masked())
	}
	return nil
}

// validate returns all mistakes at once, one line each.
func (o *options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	between := func(name string, value, lo, hi int, what string) bool {
		ok := lo <= value && value <= hi
		if !ok {
			bad("-%s %d: must be %s to %s%s", name, value, page.Count(lo), page.Count(hi), what)
		}
		return ok
	}

	nodes := between("nodes", o.nodes, 1, overlay.NodesPerPodCIDR(podCIDR),
		fmt.Sprintf(", the number of /24 blocks in the pod CIDR %v", podCIDR))
	between("pods-per-node", o.podsPerNode, 1, maxPodsPerNode, "")
	ips := between("ips", o.ips, 1, maxIPs, "")
	ports := between("ports", o.ports, 0, lb.PortsPerFrontend, " (0 is automatic)")
	if ports && o.ports%8 != 0 {
		bad("-ports %d: must be a multiple of 8, because Azure grants ports in blocks of 8", o.ports)
		ports = false
	}
	if d := o.idle.Duration; d < minIdle || d > maxIdle || d%time.Minute != 0 {
		bad("-idle %s: must be whole minutes, 4m to 120m", o.idle.text)
	}
	between("copies", o.copies, 0, maxCopies, " (0 is automatic)")
	if nodes && ips && ports && o.ports > 0 {
		// AKS also counts the node that an upgrade adds.
		if c := (lb.Capacity{Nodes: o.nodes + 1, Ports: o.ports, Frontends: o.ips}); c.Check() != nil {
			remedy := fmt.Sprintf(", or -ips %d or more", c.MinFrontends())
			if c.MinFrontends() > maxIPs {
				remedy = fmt.Sprintf("; not even -ips %d suffices", maxIPs)
			}
			bad("-ports %d: %s and 1 for upgrades need %s ports, -ips %d has %s: use -ports %d or fewer%s",
				o.ports, page.Plural(o.nodes, "node"), page.Count(c.Required()), o.ips, page.Count(c.Available()), c.MaxPorts(), remedy)
		}
	}
	return errors.Join(errs...)
}

// duration is a flag that remembers how it was written.
type duration struct {
	time.Duration
	text string
}

// Set parses a duration such as 30m.
func (d *duration) Set(text string) (err error) {
	d.text = text
	d.Duration, err = time.ParseDuration(text)
	return err
}

// String returns the duration as it was written.
func (d *duration) String() string { return d.text }

// automaticCopies returns how many copies the command line asks for.
func (o *options) automaticCopies(conversations, pods int) int {
	switch {
	case o.copies > 0:
		return o.copies
	case o.pcap != "":
		return 1
	}
	wanted := pods * int(defaultSpan/pace) // conversations
	return (wanted + conversations - 1) / conversations
}
