// Forwards: sockets of frontends that inside hosts serve.

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/snat"
)

// forward is the value of a -forward: where clients send to, and who gets it.
type forward struct {
	frontend netip.AddrPort
	backends []netip.AddrPort
}

// String returns the text that parseForward reads.
func (f forward) String() string {
	backends := make([]string, len(f.backends))
	for i, b := range f.backends {
		backends[i] = b.String()
	}
	return fmt.Sprintf("%v=%s", f.frontend, strings.Join(backends, ","))
}

// parseForward reads FRONTEND:PORT=BACKEND:PORT[,BACKEND:PORT...].
func parseForward(text string) (f forward, err error) {
	from, to, ok := strings.Cut(text, "=")
	if !ok {
		return f, errors.New("must be FRONTEND:PORT=BACKEND:PORT[,BACKEND:PORT...]")
	}
	if f.frontend, err = parseSocket(from); err != nil {
		return f, err
	}
	if !usable(f.frontend.Addr()) {
		return f, fmt.Errorf("%v is not the address of a single host", f.frontend.Addr())
	}
	for part := range strings.SplitSeq(to, ",") {
		switch b, err := parseSocket(part); {
		case err != nil:
			return f, err
		case b.Addr().Is4() != f.frontend.Addr().Is4():
			return f, fmt.Errorf("%v is not of the family of %v", b, f.frontend)
		case slices.ContainsFunc(f.backends, func(o netip.AddrPort) bool { return o.Addr() == b.Addr() }):
			return f, fmt.Errorf("%v is named twice", b.Addr())
		default:
			f.backends = append(f.backends, b)
		}
	}
	return f, nil
}

func parseSocket(text string) (netip.AddrPort, error) {
	s, err := netip.ParseAddrPort(text)
	if err != nil || s.Port() == 0 || s.Addr().Is4In6() || s.Addr().Zone() != "" {
		return s, fmt.Errorf("%q is not a socket such as 192.0.2.1:80 or [2001:db8::1]:80", text)
	}
	return s, nil
}

// forwardConflicts returns what is wrong with good forwards together, and with -inside.
func (o *options) forwardConflicts() (errs []error) {
	bad := func(f forward, format string, args ...any) {
		errs = append(errs, fmt.Errorf("-forward %q: %s", f, fmt.Sprintf(format, args...)))
	}
	inside := func(a netip.Addr) bool {
		return slices.ContainsFunc(o.inside, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	served := map[netip.AddrPort]netip.AddrPort{} // backend to frontend
	for i, f := range o.forwards {
		if inside(f.frontend.Addr()) {
			bad(f, "%v lies in -inside", f.frontend.Addr())
		}
		if slices.ContainsFunc(o.forwards[:i], func(g forward) bool { return g.frontend == f.frontend }) {
			bad(f, "%v is forwarded already", f.frontend)
		}
		for _, b := range f.backends {
			if other, taken := served[b]; !inside(b.Addr()) {
				bad(f, "%v does not lie in -inside", b.Addr())
			} else if taken && other != f.frontend {
				bad(f, "%v serves %v, and nobody could tell whose its answers are", b, other)
			}
			served[b] = f.frontend
		}
	}
	return errs
}

// addForwards adds the forwards to a translator's configuration, each for TCP and UDP, and
// spread over its backends by addresses, ports and protocol.
func (o *options) addForwards(c *snat.Config) error {
	if len(o.forwards) > 0 && !takesForwards(c) {
		return fmt.Errorf("-forward %q: not with preset %s, whose hosts share all ports, or reach each other by them", o.forwards[0], o.preset)
	}
	for _, f := range o.forwards {
		to := snat.Forward{Frontend: f.frontend.Addr(), FirstPort: f.frontend.Port()}
		for _, b := range f.backends {
			to.Targets = append(to.Targets, snat.Target{Instance: c.Instances[0].Name, Addr: b.Addr(), Port: b.Port()})
		}
		c.Forwards = append(c.Forwards, to)
	}
	return nil
}

// takesForwards reports whether a preset's translator can have forwards.
func takesForwards(c *snat.Config) bool {
	switch ports := c.Ports.(type) {
	case *snat.Shared:
		return false
	case *snat.Owned:
		return !ports.Hairpin
	}
	return true
}

// freePorts returns all SNAT ports of a frontend but the blocks of eight with a forward.
func (o *options) freePorts(frontend netip.Addr) (ranges []snat.PortRange) {
	blocks := map[int]bool{}
	for _, f := range o.forwards {
		if f.frontend.Addr() == frontend {
			blocks[int(f.frontend.Port())/snat.BlockSize] = true
		}
	}
	for first := lb.FirstPort; first < lb.FirstPort+lb.PortsPerFrontend; first += snat.BlockSize {
		switch n := len(ranges); {
		case blocks[first/snat.BlockSize]:
		case n > 0 && int(ranges[n-1].First)+ranges[n-1].Count == first:
			ranges[n-1].Count += snat.BlockSize
		default:
			ranges = append(ranges, snat.PortRange{Frontend: frontend, First: uint16(first), Count: snat.BlockSize})
		}
	}
	return ranges
}
