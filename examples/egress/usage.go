// What a cluster says of its ports and flows, in the shape that the report uses.

package main

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
)

// usage is the state of the cluster at one moment, with counters since the
// beginning of the run.
type usage struct {
	created, active, expired int // flows
	successful, failed       int // SNAT connections
	frontends                []frontendUsage
	nodes                    []nodeUsage
}

// frontendUsage is the ports of one outbound IP, TCP and UDP added up, their
// peaks included.
type frontendUsage struct {
	ip netip.Addr
	portUsage
}

// nodeUsage is the ports of one node. Each protocol has its own inventory in
// each family; what counts is the fullest.
type nodeUsage struct {
	name          string
	addr          netip.Addr // IPv4
	flows, failed int        // since the beginning
	tcp, udp      portUsage  // of the fuller family
}

// portUsage counts SNAT ports.
type portUsage struct{ allocated, used, peak int }

// share returns how full an inventory has been, 0 to 1.
func (u portUsage) share() float64 {
	if u.allocated == 0 {
		return 0
	}
	return float64(u.peak) / float64(u.allocated)
}

// fuller returns the inventory of a and b that has been fuller.
func fuller(a, b portUsage) portUsage {
	if b.share() > a.share() || a.allocated == 0 {
		return b
	}
	return a
}

// observer is what can be asked for its usage at any time.
type observer interface{ usage() usage }

// sample is one look at the cluster.
type sample struct {
	at   flow.Time
	used []int // per node: ports in use in its fullest inventory
}

// history is the samples of a run.
type history struct {
	samples []sample
}

// observe returns a function that takes a sample of o.
func (h *history) observe(o observer) func(flow.Time) {
	return func(now flow.Time) {
		u := o.usage()
		s := sample{at: now, used: make([]int, len(u.nodes))}
		for i, n := range u.nodes {
			s.used[i] = max(n.tcp.used, n.udp.used)
		}
		h.samples = append(h.samples, s)
	}
}

// sparkline draws the used ports of one node over virtual time, each character
// the highest sample of its part, against a full scale.
func (h *history) sparkline(node, full int) string {
	const width = 30
	levels := []rune(" ▁▂▃▄▅▆▇█")
	line := make([]rune, width)
	end := h.samples[len(h.samples)-1].at
	top := make([]int, width)
	for _, s := range h.samples {
		at := min(width-1, int(float64(s.at)/float64(max(1, end))*width))
		top[at] = max(top[at], s.used[node])
	}
	for i, n := range top {
		level := 0
		if n > 0 && full > 0 {
			level = min(len(levels)-1, 1+n*(len(levels)-1)/(full+1))
		}
		line[i] = levels[level]
	}
	return string(line)
}
