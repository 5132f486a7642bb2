// Package attribution says who of a cluster holds outbound ports, who begins flows, who is refused
// them and because of whom: by node, pod, Service, workload and destination.
//
// It refuses to know how that is counted: [snat.NAT.Holders] does, without a walk over the flows, if
// Dataplane.CountHolders of the cluster's configuration is on. Here inside addresses get names.
//
// Terminology:
//   - Workload: what pods belong to, such as a Deployment; whoever asks says which.
//   - Suffered, blamed: as [snat.Holder] has them. What a pod does counts for its node, its
//     workload, and each Service that it is an endpoint of.
//
// Nothing here has state; all may be called by many goroutines at once, while traffic flows.
package attribution

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/overlay"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Holding is what somebody has of the ports. That of a simulated workload is a whatif.Holding: without what ports are
// held for, but with what was held at the peak.
type Holding struct {
	Name     string        // of a node, pod, Service or workload; an address and port, or that of no pod now
	Protocol snat.Protocol // of a destination; else All

	Ports         int     // pairs of outside port and remote that are held, by what for:
	snat.PortUses         // Resting and Excluded are 0
	Created       uint64  // flows that got a port
	PerSecond     float64 // new flows of late; see [snat.CountHolders].Window
	Suffered      uint64  // packets that were refused
	Blamed        uint64  // packets that were refused because of its ports; of destinations 0
}

// Report is who has what of a cluster's outbound ports at a moment. Lists begin with who holds most; who has
// held ports in the past is in them, too.
type Report struct {
	Nodes        []Holding // by name
	Pods         []Holding // with addresses that no pod has now, those of nodes among them
	Services     []Holding // a pod counts for each Service that it serves
	Workloads    []Holding // without pods that have none
	Destinations []Holding // by remote address and port, and protocol

	// Stranded are nodes that have refused flows while others have free ports.
	Stranded []snat.StrandedPorts

	// Uncounted are ports that Destinations leave out; see [snat.Holders].
	Uncounted int
}

// Of returns the report of a cluster at now, which must not lie before the time of the latest packet; an empty one
// but for Stranded unless holders are counted. workload returns what a pod belongs to, by its name, or "" for
// nothing; it may be nil. A pod's past goes to whoever has its address now. Cost: that of [snat.NAT.Holders], and
// O(pods + endpoints of Services).
func Of(c *overlay.Cluster, now flow.Time, workload func(pod string) string) Report {
	pods := map[netip.Addr]string{}
	for p := range c.Pods() {
		for _, a := range p.Addrs {
			pods[a] = p.Name
		}
	}
	serves := map[string][]string{}
	for _, s := range c.Services() {
		for _, e := range s.Endpoints {
			if e.Pod != "" && !slices.Contains(serves[e.Pod], s.Name) { // once for both families and all ports
				serves[e.Pod] = append(serves[e.Pod], s.Name)
			}
		}
	}
	var nodes, byPod, services, workloads, destinations sums
	for _, h := range c.Holders(now, snat.HoldersByInstance).Rows {
		nodes.add(h.Instance, &h)
	}
	for _, h := range c.Holders(now, snat.HoldersByInside).Rows {
		pod, known := pods[h.Inside]
		byPod.add(cmp.Or(pod, h.Inside.String()), &h)
		if !known {
			continue
		}
		for _, s := range serves[pod] {
			services.add(s, &h)
		}
		if workload != nil {
			if w := workload(pod); w != "" {
				workloads.add(w, &h)
			}
		}
	}
	towards := c.Holders(now, snat.HoldersByDestination)
	for _, h := range towards.Rows {
		destinations.add(h.Remote.String(), &h)
	}
	return Report{
		Nodes: nodes.list(), Pods: byPod.list(), Services: services.list(), Workloads: workloads.list(), Destinations: destinations.list(),
		Stranded: c.Stranded(), Uncounted: towards.Uncounted,
	}
}

// who tells holdings apart.
type who struct {
	name     string
	protocol snat.Protocol
}

// sums are holdings by name.
type sums map[who]*Holding

func (s *sums) add(name string, h *snat.Holder) {
	k := who{name, h.Protocol}
	if *s == nil {
		*s = sums{}
	}
	x := (*s)[k]
	if x == nil {
		x = &Holding{Name: name, Protocol: h.Protocol}
		(*s)[k] = x
	}
	x.Ports += h.Ports
	x.PortUses = x.PortUses.Add(h.PortUses)
	x.Created += h.Created
	x.PerSecond += h.PerSecond
	x.Suffered += h.Suffered
	x.Blamed += h.Blamed
}

func (s sums) list() []Holding {
	all := make([]Holding, 0, len(s))
	for _, x := range s {
		all = append(all, *x)
	}
	return Top(all, len(all), MostPorts)
}

// Measure is by what holdings are compared.
type Measure uint8

// The measures.
const (
	MostPorts    Measure = iota // held now
	MostNew                     // flows per second
	MostSuffered                // refusals
	MostBlamed                  // refusals
	numMeasures
)

// of returns the measure of a holding.
func (m Measure) of(s *Holding) float64 {
	return [...]float64{MostPorts: float64(s.Ports), MostNew: s.PerSecond, MostSuffered: float64(s.Suffered), MostBlamed: float64(s.Blamed)}[m]
}

// Top returns the k holdings with most of a measure, the most first, ties by name; none if k is 0 or less. It leaves
// all as it is. It panics unless by is one of the constants.
func Top(all []Holding, k int, by Measure) []Holding {
	if by >= numMeasures {
		panic("attribution: unknown Measure")
	}
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(by.of(&b), by.of(&a)), strings.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol))
	})
	return sorted[:max(0, min(k, len(sorted)))]
}
