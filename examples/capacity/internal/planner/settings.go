// The settings of -sweep.

package planner

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/lb"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// sweep is what -sweep says: axes, as they are written.
//
//	sweep  = axis { " " axis }
//	axis   = name "=" value { "," value }
//	value  = what the axis has: a number, a range such as 1..8, a duration, on, off, or a name
type sweep struct {
	text string // "" if there is none
	axes []whatif.Axis
}

// Bounds of a sweep. Those of Azure are from "Use a public standard load balancer in AKS" and
// "Quotas, virtual machine size restrictions, and region availability in AKS"; the others are our
// choice.
const (
	maxIPs      = 100
	maxNodes    = overlay.MaxNodesPerPool
	minIdle     = 4 * time.Minute
	maxIdle     = 120 * time.Minute
	maxSettings = 1000
	maxValues   = 100 // of an axis
)

// Names of axes that others know: those of outbound types, and of ports of each node.
const (
	outboundName = "outbound"
	portsName    = "ports"
)

// axisKind is a kind of axis. read returns its values in order, and what is wrong with them.
type axisKind struct {
	name  string
	pools bool   // may be of one pool, as in nodes(pool)
	rule  string // of a value
	read  func(pool string, values []string) (whatif.Axis, []error)
}

var axisKinds = []axisKind{
	{"ips", false, "a number or range, 1 to 100", numbers(1, maxIPs, func(_ string, n []int) whatif.Axis { return whatif.OutboundIPs(n...) })},
	{portsName, false, "auto, or a multiple of 8 up to 64,000", values(ports, func(_ string, n []int) whatif.Axis { return whatif.OutboundPorts(n...) })},
	{"idle", false, "whole minutes, 4m to 120m", values(idle, func(_ string, d []time.Duration) whatif.Axis { return whatif.IdleTimeouts(d...) })},
	{outboundName, false, "an outbound type that needs nothing else: loadBalancer, managedNATGateway or managedNATGatewayV2", values(outbound, func(_ string, t []overlay.OutboundType) whatif.Axis { return whatif.OutboundTypes(t...) })},
	{"nodes", true, "a number or range, 1 to 1000", numbers(1, maxNodes, whatif2(whatif.Nodes))},
	{"surge", true, "a number or percentage, such as 1 or 33%", values(surge, whatif2(whatif.Surge))},
	{"reset", false, "on or off", values(onOff, func(_ string, b []bool) whatif.Axis { return whatif.TCPReset(b...) })},
	{"dns-cache", false, "a duration, 0s for none", values(duration, func(_ string, d []time.Duration) whatif.Axis { return whatif.DNSCache(d...) })},
	{"reuse", false, "on or off", values(onOff, func(_ string, b []bool) whatif.Axis { return whatif.ConnectionReuse(b...) })},
	{"close", false, "on or off", values(onOff, func(_ string, b []bool) whatif.Axis { return whatif.CloseAbandoned(b...) })},
	{"keepalive", false, "a duration, 0s for none", values(duration, func(_ string, d []time.Duration) whatif.Axis { return whatif.KeepAlives(d...) })},
}

// whatif2 turns an axis of pools into what readers take.
func whatif2[T any](axis func(pool string, values ...T) whatif.Axis) func(string, []T) whatif.Axis {
	return func(pool string, values []T) whatif.Axis { return axis(pool, values...) }
}

// others names the axes beyond those of the example in the usage.
func others() string {
	var names []string
	for _, k := range axisKinds[3:] {
		name := k.name
		if k.pools {
			name += "(POOL)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// values returns a reader of values that are each read alone.
func values[T comparable](read func(string) (T, bool), axis func(string, []T) whatif.Axis) func(string, []string) (whatif.Axis, []error) {
	return func(pool string, texts []string) (whatif.Axis, []error) {
		var all []T
		var errs []error
		for _, text := range texts {
			v, ok := read(text)
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("%q must be", text))
			case slices.Contains(all, v):
				errs = append(errs, fmt.Errorf("%q is there twice; each value must be another one,", text))
			default:
				all = append(all, v)
			}
		}
		return axis(pool, all), errs
	}
}

// numbers returns a reader of numbers and ranges.
func numbers(least, most int, axis func(string, []int) whatif.Axis) func(string, []string) (whatif.Axis, []error) {
	one := values(func(text string) (int, bool) {
		n, err := strconv.Atoi(text)
		return n, err == nil && least <= n && n <= most
	}, axis)
	return func(pool string, texts []string) (whatif.Axis, []error) {
		var each []string
		for _, text := range texts {
			low, high, isRange := strings.Cut(text, "..")
			from, err1 := strconv.Atoi(low)
			to, err2 := strconv.Atoi(high)
			if !isRange || err1 != nil || err2 != nil || from < least || to > most || to < from || to-from >= maxValues {
				each = append(each, text) // a number, or what is told as it stands
				continue
			}
			for n := from; n <= to; n++ {
				each = append(each, strconv.Itoa(n))
			}
		}
		return one(pool, each)
	}
}

func ports(text string) (int, bool) {
	if text == "auto" {
		return 0, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && n <= lb.PortsPerFrontend && n%8 == 0
}

func idle(text string) (time.Duration, bool) {
	d, err := time.ParseDuration(text)
	return d, err == nil && minIdle <= d && d <= maxIdle && d%time.Minute == 0
}

func duration(text string) (time.Duration, bool) {
	d, err := time.ParseDuration(text)
	return d, err == nil && 0 <= d && d <= maxUntil
}

func onOff(text string) (on, ok bool) { return text == "on", text == "on" || text == "off" }

func surge(text string) (string, bool) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	return text, err == nil && n >= 0 && text[0] != '+'
}

func outbound(text string) (overlay.OutboundType, bool) {
	for _, t := range []overlay.OutboundType{overlay.OutboundLoadBalancer, overlay.OutboundManagedNATGateway, overlay.OutboundManagedNATGatewayV2} {
		if t.String() == text {
			return t, true
		}
	}
	return 0, false
}

// set reads -sweep, and returns every mistake.
func (s *sweep) set(text string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	fields := strings.Fields(text)
	if len(fields) == 0 {
		bad("%q: must have a setting, such as ips=1..8", text)
	}
	seen, settings := make(map[string]bool), 1
	s.text, s.axes = strings.Join(fields, " "), nil
	for _, field := range fields {
		name, list, ok := strings.Cut(field, "=")
		kind, pool, known := kindOf(name)
		switch {
		case !ok:
			bad("%q: must be such as ips=1..8", field)
			continue
		case !known:
			bad("%q: there is no setting %q; there are ips, ports, idle, %s", field, name, others())
			continue
		case seen[name]:
			bad("%q: %s is there twice", field, name)
			continue
		}
		seen[name] = true
		axis, wrong := kind.read(pool, strings.Split(list, ","))
		for _, err := range wrong {
			bad("%q: %w %s", field, err, kind.rule)
		}
		if len(axis) > maxValues {
			bad("%q: has %d values, at most %d", field, len(axis), maxValues)
		}
		at := len(s.axes)
		if kind.name == outboundName {
			at = 0 // ips and idle mean what the outbound type has
		}
		s.axes = slices.Insert(s.axes, at, axis)
		settings = min(settings*max(len(axis), 1), maxSettings+1)
	}
	if settings > maxSettings {
		bad("%q: has more than %d combinations", text, maxSettings)
	}
	return errs
}

// kindOf returns the kind that an axis names, and the pool that it is about.
func kindOf(name string) (kind axisKind, pool string, ok bool) {
	base, rest, about := strings.Cut(name, "(")
	if about {
		if pool, ok = strings.CutSuffix(rest, ")"); !ok || pool == "" {
			return kind, "", false
		}
	}
	for _, k := range axisKinds {
		if k.name == base && (k.pools || !about) {
			return k, pool, true
		}
	}
	return kind, "", false
}

// fieldOf returns the axis of a name in a sweep or setting, as it is written there; "" if there is none.
func fieldOf(text, name string) string {
	for field := range strings.FieldsSeq(text) {
		if strings.HasPrefix(field, name+"=") {
			return field
		}
	}
	return ""
}

// pools returns the pools that the axes name.
func (s *sweep) pools() (names []string) {
	for _, field := range strings.Fields(s.text) {
		name, _, _ := strings.Cut(field, "=")
		if _, pool, _ := kindOf(name); pool != "" {
			names = append(names, pool)
		}
	}
	return names
}
