package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

// options is the command line.
type options struct {
	target string      // host and port; "" is the demonstration
	host   string      // of target
	probe  probe.Probe // what is asked, of the port of target
	count  int         // attempts to each address; 0 is without end
	speed  float64     // of the monitor's clock, by the real one
}

const synopsis = `Usage: probe -target HOST:PORT [flags]
       probe

Health probes as an Azure load balancer sends them, to a real service, or to one of
this program's own that falls ill for a while.

`

// parseOptions reads the command line. It returns flag.ErrHelp after it has printed the
// usage to help.
func parseOptions(args []string, help io.Writer) (options, error) {
	o := options{probe: probe.Probe{Name: "probe"}}
	fs := flag.NewFlagSet("probe", flag.ContinueOnError)
	fs.StringVar(&o.target, "target", "", "`HOST:PORT` to ask; IPv6 addresses in brackets")
	protocol := fs.String("protocol", "tcp", "how to ask: tcp, http or https")
	path := fs.String("path", "", "what http and https ask for (default /)")
	fs.DurationVar(&o.probe.Interval, "interval", 5*time.Second, "time between attempts, whole seconds, at least 5s")
	fs.IntVar(&o.probe.ProbeThreshold, "threshold", probe.DefaultThreshold, "results in a row that change a state")
	fs.IntVar(&o.count, "count", 0, "attempts to each address, then end; 0 is until Ctrl-C")
	fs.Float64Var(&o.speed, "speed", 1, "let time pass faster: 10 makes the interval a tenth of what it says")
	if err := command.Parse(fs, args, synopsis, help); err != nil {
		return o, err
	}
	var errs []error
	switch strings.ToLower(*protocol) {
	case "tcp":
	case "http":
		o.probe.Protocol = probe.HTTP
	case "https":
		o.probe.Protocol = probe.HTTPS
	default:
		errs = append(errs, fmt.Errorf("-protocol %q: tcp, http or https", *protocol))
	}
	if o.probe.RequestPath = *path; *path == "" && o.probe.Protocol != probe.TCP {
		o.probe.RequestPath = "/"
	}
	if o.count < 0 {
		errs = append(errs, fmt.Errorf("-count %d: 0 or more", o.count))
	}
	if !(0 < o.speed && o.speed <= 1000) {
		errs = append(errs, fmt.Errorf("-speed %v: above 0, at most 1000", o.speed))
	}
	if o.target == "" {
		if fs.NFlag() > 0 {
			errs = append(errs, errors.New("-target is missing; the demonstration takes no flags"))
		}
		return o, errors.Join(errs...)
	}
	var port string
	var err error
	if o.host, port, err = net.SplitHostPort(o.target); err != nil {
		return o, errors.Join(append(errs, fmt.Errorf("-target %q: not HOST:PORT", o.target))...)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return o, errors.Join(append(errs, fmt.Errorf("-target %q: %q is no port number", o.target, port))...)
	}
	o.probe.Port = uint16(number)
	return o, errors.Join(append(errs, o.probe.Validate(probe.Limits{}))...)
}
