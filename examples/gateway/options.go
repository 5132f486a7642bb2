// The command line: flags, their defaults, and every complaint about them in
// terms of the flags themselves.

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/examples/internal/command"
	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// options is the command line.
type options struct {
	insideDev, outsideDev string
	inside                []netip.Prefix
	frontends             []netip.Addr
	preset                string
	forwards              []forward
	ports                 int           // per family and protocol; 0 is all
	idle                  time.Duration // 0 is the preset's
	seed                  uint64
	extras                command.Extras
	selftest              bool
}

const maxDevice = 15 // bytes of an interface's name in Linux

const synopsis = `Usage: gateway -inside-dev DEVICE -outside-dev DEVICE -inside CIDR[,CIDR] -frontend IP[,IP] [flags]
       gateway -selftest [-preset NAME]

A live NAT router between two TUN devices; it needs Linux and root.

`

// parseOptions reads the command line. It returns flag.ErrHelp after it has
// printed the usage to help.
func parseOptions(args []string, help io.Writer) (options, error) {
	o := options{preset: command.DefaultPreset}
	var errs []error
	bad := func(name, value string, format string, args ...any) {
		errs = append(errs, fmt.Errorf("-%s %q: %s", name, value, fmt.Sprintf(format, args...)))
	}
	given := map[string]bool{}
	fs := flag.NewFlagSet("gateway", flag.ContinueOnError)
	// text defines a flag whose mistakes are collected; set must call bad itself.
	text := func(name, usage string, set func(value string)) {
		fs.Func(name, usage, func(value string) error {
			given[name] = true
			set(value)
			return nil
		})
	}
	text("inside-dev", "TUN `device` towards the inside hosts", func(v string) { o.insideDev = v })
	text("outside-dev", "TUN `device` towards the Internet", func(v string) { o.outsideDev = v })
	text("inside", "addresses of the inside hosts, a list of `CIDRs` separated by commas, IPv4 and IPv6", func(v string) {
		o.inside = nil
		for part := range strings.SplitSeq(v, ",") {
			switch p, err := netip.ParsePrefix(part); {
			case err != nil:
				bad("inside", v, "%q is not an address range such as 10.0.0.0/24", part)
			case p.Addr().Is4In6():
				bad("inside", v, "%v is IPv4 in the form of IPv6: write the IPv4 range", p)
			case p.Masked() != p:
				bad("inside", v, "%v has host bits: %v is the range", p, p.Masked())
			default:
				o.inside = append(o.inside, p)
			}
		}
	})
	text("frontend", "public addresses, a list of `IPs` separated by commas; ports are taken from the first, then from the next", func(v string) {
		o.frontends = nil
		for part := range strings.SplitSeq(v, ",") {
			switch a, err := netip.ParseAddr(part); {
			case err != nil || !usable(a):
				bad("frontend", v, "%q is not the address of a single host", part)
			case slices.Contains(o.frontends, a):
				bad("frontend", v, "%v is named twice", a)
			default:
				o.frontends = append(o.frontends, a)
			}
		}
	})
	text("forward", "`rule` FRONTEND:PORT=BACKEND:PORT[,BACKEND:PORT...]: what comes to a socket of a frontend goes on to inside hosts, TCP and UDP, new connections spread over them by a hash; may be given several times", func(v string) {
		f, err := parseForward(v)
		if err != nil {
			bad("forward", v, "%v", err)
			return
		}
		o.forwards = append(o.forwards, f)
	})
	text("preset", command.PresetUsage()+"\n(default "+command.DefaultPreset+")", func(v string) {
		o.preset = v
		if _, err := command.Preset(v); err != nil {
			errs = append(errs, err)
		}
	})
	text("ports", "`number` of SNAT ports of the inside, per address family, where the preset preallocates them and as it takes it (default: all ports of the frontends)", func(v string) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			bad("ports", v, "must be a positive number")
			return
		}
		o.ports = n
	})
	text("idle", "idle `timeout` of established TCP connections such as 30m, as the preset takes it (default: the preset's)", func(v string) {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			bad("idle", v, "must be a positive duration")
			return
		}
		o.idle = d
	})
	o.seed = rand.Uint64()
	text("seed", "`number` that decides what is random in the preset (default: one that nobody can guess)", func(v string) {
		n, err := strconv.ParseUint(v, 0, 64)
		if err != nil {
			bad("seed", v, "must be a number from 0 to 2^64-1")
			return
		}
		o.seed = n
	})
	o.extras.Flags(fs, "reset")
	fs.BoolVar(&o.selftest, "selftest", false, "make two hosts, move real traffic through the gateway, report, and go")
	if err := command.Parse(fs, args, synopsis, help, "forward"); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		errs = append(errs, err)
	}
	if o.selftest {
		fs.Visit(func(f *flag.Flag) {
			if f.Name != "selftest" && f.Name != "preset" {
				errs = append(errs, fmt.Errorf("-%s: not with -selftest, which brings its own network", f.Name))
			}
		})
		return o, errors.Join(errs...)
	}
	for _, name := range []string{"inside-dev", "outside-dev", "inside", "frontend"} {
		if !given[name] {
			errs = append(errs, fmt.Errorf("-%s: missing", name))
		}
	}
	for _, dev := range []struct{ flag, name string }{{"inside-dev", o.insideDev}, {"outside-dev", o.outsideDev}} {
		if given[dev.flag] && !isDevice(dev.name) {
			bad(dev.flag, dev.name, "must be the name of a network device, 1 to %d bytes", maxDevice)
		}
	}
	if given["inside-dev"] && o.insideDev == o.outsideDev {
		bad("outside-dev", o.outsideDev, "must be another device than -inside-dev")
	}
	if errs = append(append(errs, o.conflicts()...), o.forwardConflicts()...); len(errs) == 0 {
		_, err := o.config()
		return o, err
	}
	return o, errors.Join(errs...)
}

// isDevice reports whether Linux would accept the name of a device.
func isDevice(name string) bool {
	return name != "" && len(name) <= maxDevice && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r%")
}

// usable reports whether a translator accepts an address as a frontend.
func usable(a netip.Addr) bool {
	c := snat.Config{Instances: []snat.Instance{{Name: "any", Ports: []snat.PortRange{{Frontend: a, First: lb.FirstPort, Count: snat.BlockSize}}}}}
	return c.Validate() == nil
}

// conflicts returns what is wrong with good values together.
func (o *options) conflicts() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range o.frontends {
		for _, p := range o.inside {
			if p.Contains(a) {
				bad("-frontend %v: lies in -inside %v", a, p)
			}
		}
	}
	if len(o.inside) == 0 || len(o.frontends) == 0 {
		return errs // and that is complained about
	}
	for _, is6 := range []bool{false, true} {
		family := map[bool]string{false: "IPv4", true: "IPv6"}[is6]
		hosts := slices.ContainsFunc(o.inside, func(p netip.Prefix) bool { return p.Addr().Is6() == is6 })
		all := o.frontendsOf(is6)
		switch n := len(all); {
		case hosts && n == 0:
			bad("-frontend: -inside has %s hosts, but there is no %s frontend", family, family)
		case !hosts && n > 0:
			bad("-inside: there are no %s hosts for -frontend %v", family, all[0])
		}
	}
	return errs
}

// frontendsOf returns the frontends of one address family.
func (o *options) frontendsOf(is6 bool) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(o.frontends), func(a netip.Addr) bool { return a.Is6() != is6 })
}
