// What a cluster says of its ports and flows, in the shape that the report uses.

package story

import (
	"net/netip"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
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
type portUsage struct {
	allocated, peak int
	uses            snat.PortUses // ports in use
}

func (u portUsage) used() int { return u.uses.Total() }

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

// busier returns what has more ports in use.
func busier(a, b portUsage) portUsage {
	if b.used() > a.used() {
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
	highest []nodeUsage // per node: each protocol as it was when most of its ports were in use
}

// observe returns a function that takes a sample of o.
func (h *history) observe(o observer) func(flow.Time) {
	return func(now flow.Time) {
		u := o.usage()
		s := sample{at: now, used: make([]int, len(u.nodes))}
		for i, n := range u.nodes {
			s.used[i] = max(n.tcp.used(), n.udp.used())
			if h.highest == nil {
				h.highest = make([]nodeUsage, len(u.nodes))
			}
			top := &h.highest[i]
			top.tcp, top.udp = busier(top.tcp, n.tcp), busier(top.udp, n.udp)
		}
		h.samples = append(h.samples, s)
	}
}

// historyLength is the number of parts that the history of a run is shown in.
const historyLength = 50

// over returns the used ports of one node over virtual time: the highest sample of
// each part of it, and where there is none the one before.
func (h *history) over(node int) []int {
	top, end := make([]int, historyLength), h.samples[len(h.samples)-1].at
	next, last := 0, 0 // sample
	for part := range top {
		until := flow.Time(float64(end) * float64(part+1) / historyLength)
		for top[part] = last; next < len(h.samples) && (h.samples[next].at < until || part == historyLength-1); next++ {
			last = h.samples[next].used[node]
			top[part] = max(top[part], last)
		}
	}
	return top
}

// sparkline draws values against a full scale.
func sparkline(values []int, full int) string {
	levels := []rune(" ▁▂▃▄▅▆▇█")
	line := make([]rune, len(values))
	for i, n := range values {
		level := 0
		if n > 0 && full > 0 {
			level = min(len(levels)-1, 1+n*(len(levels)-1)/(full+1))
		}
		line[i] = levels[level]
	}
	return string(line)
}
