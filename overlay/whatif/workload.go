// What is sent: workloads as people describe them.

package whatif

import (
	"net/netip"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// Workload is what all hosts send.
type Workload struct {
	// Seed decides all chance: arrivals that are not Even, which host and which destination.
	Seed uint64

	Traffic []Traffic // at most 1,000

	// Trace are conversations that were recorded, to be had again besides Traffic; one of the two
	// there must be. Each begins at its Start and goes on for its Duration, with an exchange at
	// least every minute, and ends as it did. Its host is the one of that name or address. The
	// hosts of a trace from somewhere else are dealt to those that there are, in the order in which
	// they come and far apart, so that all nodes get some. Classes are as by default, sizes so that
	// all bytes are carried as far as packets are large enough.
	Trace []trace.Flow
}

// Traffic is what some hosts send to some destinations in one way.
type Traffic struct {
	Name string // in results; unique

	From Selector      // who sends
	To   []Destination // at least one, at most 10,000
	Rate Rate          // how often

	Class // how
}

// Selector says which hosts.
type Selector struct {
	// Pods is the name of a host, or the group of hosts, as pods of a Deployment are. "" means all
	// hosts.
	Pods string

	// Count takes so many of them, the first in the order of the hosts; 0 means all.
	Count int
}

// Destination is a socket that is talked to.
type Destination struct {
	Addr netip.AddrPort // address and port, both needed

	// Addresses is how many consecutive addresses there are from Addr on, each as likely as the
	// others, 1..65,536; 0 means 1.
	Addresses int

	// Weight is the share of the conversations that it gets, relative to those of the other
	// destinations, 1..1,000,000; 0 means 1.
	Weight int
}

// Rate is how many arrivals there are. Those that are not Even come by chance, independently of
// each other (a Poisson process).
type Rate struct {
	// PerHost is the number of arrivals per second of each host, Total that of all hosts
	// together; one of them is above 0, and together they are at most 1,000,000 a second.
	PerHost, Total float64

	// Daily are factors of the rate by the hour of the day, 24 of them, each in force at the
	// beginning of its hour, and between two in proportion. A simulation begins at midnight. None
	// means a constant rate.
	Daily []float64

	// Bursts change the rate for a while. Where they overlap their factors multiply. With Daily or
	// Bursts nothing arrives after 31 days.
	Bursts []Burst

	// Even spaces arrivals evenly, and lets the hosts take turns.
	Even bool
}

// Burst is a time in which the rate is another.
type Burst struct {
	At     time.Duration // when it begins
	Length time.Duration // how long it lasts, above 0
	Every  time.Duration // how long after its beginning it begins again; 0 means never, else above Length
	Factor float64       // of the rate, 0..1,000,000
}

// at returns the factor at a time.
func (b *Burst) at(t time.Duration) float64 {
	if t -= b.At; t >= 0 && b.Every > 0 {
		t %= b.Every
	}
	if t < 0 || t >= b.Length {
		return 1
	}
	return b.Factor
}

// edge returns when it next begins or ends after a time.
func (b *Burst) edge(at time.Duration) time.Duration {
	into := at - b.At
	if into >= 0 && b.Every > 0 {
		into %= b.Every
	}
	switch {
	case into < 0:
		return b.At
	case into < b.Length:
		return at - into + b.Length
	case b.Every > 0:
		return at - into + b.Every
	}
	return maxDuration
}

// Host is who sends: a pod, or any other source behind a world.
type Host struct {
	Name  string       // unique
	Group string       // that selectors may name, too: its Deployment; may be empty
	Addrs []netip.Addr // at most one per family, at least one
}

// Pods returns the pods of a cluster as hosts, in the order of its nodes and their addresses. The
// group of a pod is its name without what follows the last hyphen, as overlay/manifest names the
// pods of a workload, and StatefulSets do.
func Pods(c *overlay.Cluster) (hosts []Host) {
	for p := range c.Pods() {
		h := Host{Name: p.Name, Addrs: p.Addrs}
		if i := strings.LastIndexByte(p.Name, '-'); i > 0 {
			h.Group = p.Name[:i]
		}
		hosts = append(hosts, h)
	}
	return hosts
}
