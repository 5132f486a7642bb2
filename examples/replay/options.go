// The command line: flags, their defaults, and every complaint about them in
// terms of the flags themselves.

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/capture"
)

// options is the command line.
type options struct {
	in        string
	inside    list[netip.Prefix]
	frontends list[netip.Addr]
	preset    string
	ports     int           // 0 is automatic
	idle      time.Duration // 0 is the preset's
	seed      uint64
	extras    command.Extras
	checksums capture.Checksums
	out       string
	json      bool
}

const synopsis = `Usage: replay -in FILE -inside CIDR[,CIDR] -frontend IP[,IP] [flags]

Sends the packets of a capture through the translator and back, counts what
becomes of them and checks that they come back as they were.

`

// parseOptions reads the command line. It returns flag.ErrHelp after it has
// printed the usage to help.
func parseOptions(args []string, help io.Writer) (options, error) {
	var o options
	o.inside.parse, o.frontends.parse = parseInside, parseFrontend
	fs := flag.NewFlagSet("replay", flag.ContinueOnError)
	fs.StringVar(&o.in, "in", "", "the capture: a pcap or pcapng `file` of any link type; - is the standard input")
	fs.Var(&o.inside, "inside", "`CIDR`s of the inside hosts, separated by commas; may be given several times")
	fs.Var(&o.frontends, "frontend", "`IP` addresses that the outside sees, separated by commas; may be given several times")
	fs.StringVar(&o.preset, "preset", command.DefaultPreset, command.PresetUsage())
	fs.IntVar(&o.ports, "ports", 0, "`number` of SNAT ports per inside host, where the preset preallocates them and as it takes it; 0 gives every socket a port of its own, if there are enough")
	fs.DurationVar(&o.idle, "idle", 0, "idle `timeout` of established TCP connections, as the preset takes it; 0 is the preset's")
	fs.Uint64Var(&o.seed, "seed", 0, "`number` that decides what is random in the preset")
	o.extras.Flags(fs, "tcp-reset")
	command.ChecksumsFlag(fs, &o.checksums)
	fs.StringVar(&o.out, "out", "", "write what the outside saw to this `file`: pcap of raw IP with nanoseconds, at the times of the capture; pipes and devices are written through")
	fs.BoolVar(&o.json, "json", false, "print the report as one JSON object")
	if err := command.Parse(fs, args, synopsis, help, "inside", "frontend"); err != nil {
		return o, err
	}
	err := o.validate()
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "out" && o.out == "" {
			err = errors.Join(err, errors.New(`-out "": must not be empty`))
		}
	})
	return o, err
}

// validate returns all mistakes at once, one line each.
func (o *options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.in == "" {
		bad("-in %q: must name a pcap or pcapng file", o.in)
	}
	if len(o.inside.values) == 0 {
		bad("-inside %q: must have at least one CIDR, such as 10.0.0.0/8", &o.inside)
	}
	if len(o.frontends.values) == 0 {
		bad("-frontend %q: must have at least one IP address, such as 198.51.100.7", &o.frontends)
	}
	for i, a := range o.frontends.values {
		if slices.Contains(o.frontends.values[:i], a) {
			bad("-frontend %v: is given twice", a)
		}
		if o.isInside(a) {
			bad("-frontend %v: lies within -inside %v", a, &o.inside)
		}
	}
	if _, err := command.Preset(o.preset); err != nil {
		errs = append(errs, err)
	}
	if o.ports < 0 {
		bad("-ports %d: must not be negative", o.ports)
	}
	if o.idle < 0 {
		bad("-idle %v: must not be negative", o.idle)
	}
	return errors.Join(errs...)
}

// isInside reports whether an address lies within -inside; the zero Addr does not.
func (o *options) isInside(a netip.Addr) bool {
	return slices.ContainsFunc(o.inside.values, func(p netip.Prefix) bool { return p.Contains(a) })
}

// parseInside reads one element of -inside.
func parseInside(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, errors.New("must be a CIDR such as 10.0.0.0/8 or fd00::/8")
	case p.Addr().Is4In6():
		return p, errors.New("must be written as IPv4")
	case p != p.Masked():
		return p, fmt.Errorf("has bits beyond the prefix length; %v has not", p.Masked())
	}
	return p, nil
}

// parseFrontend reads one element of -frontend.
func parseFrontend(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || a.Zone() != "":
		return a, errors.New("must be an IP address such as 198.51.100.7 or 2001:db8::7")
	case !flow.IsHost(a):
		return a, errors.New("must be the address of a single host")
	}
	return a, nil
}

// list is a flag of values separated by commas.
type list[T any] struct {
	parse  func(string) (T, error)
	values []T
	texts  []string
}

// Set adds the values of text.
func (l *list[T]) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		v, err := l.parse(part)
		if err != nil {
			return fmt.Errorf("%q %w", part, err)
		}
		l.values, l.texts = append(l.values, v), append(l.texts, part)
	}
	return nil
}

// String returns the values as they were written.
func (l *list[T]) String() string { return strings.Join(l.texts, ",") }
