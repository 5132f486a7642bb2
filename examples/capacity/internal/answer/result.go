// Results of simulations, as data.

package answer

import (
	"cmp"
	"slices"

	"github.com/seed-a61be3fe/natplane/overlay/whatif"
)

// CountsOf returns counts as data.
func CountsOf(c *whatif.Counts) Counts {
	return Counts{
		c.Name, c.Arrivals, c.Cached, c.Waited, c.Conversations, c.Retries, c.Established, c.Exchanges, c.Completed, c.Abandoned,
		c.RefusedPackets, c.Refused, c.RefusedShare(), c.FirstRefused.Seconds(), c.Failed, c.Cut, c.Broken, c.NoPort,
	}
}

// UsesOf returns what ports are in use for as data.
func UsesOf(u whatif.Uses) Uses {
	return Uses{u.Ports, u.Busy, u.Idle, u.UDP, u.UDPWaiting, u.Abandoned, u.HeldFIN, u.HeldRST, u.HeldUDP}
}

// SummaryOf returns what sweeps show of a result.
func SummaryOf(r *whatif.Result) Result {
	all := ResultOf(r)
	all.Traffic, all.Refusals, all.Nodes, all.Frontends, all.Stranded = nil, nil, nil, nil, nil
	all.Groups, all.Hosts, all.Destinations, all.Foretold = nil, nil, nil, nil
	return all
}

// ResultOf returns all of a result, without a course.
func ResultOf(r *whatif.Result) Result {
	d := Result{
		Total: CountsOf(&r.Total), Resets: r.Resets, Peak: UsesOf(r.Peak), PeakSeconds: r.PeakAt.Seconds(),
		Outbound: r.Outbound, Inbound: r.Inbound, OutboundDropped: r.OutboundDropped, InboundDropped: r.InboundDropped,
		Nodes: fillsOf(r.Nodes), Frontends: fillsOf(r.Frontends),
	}
	for i := range r.Traffic {
		d.Traffic = append(d.Traffic, CountsOf(&r.Traffic[i]))
	}
	for _, x := range r.Refusals {
		d.Refusals = append(d.Refusals, Refusal{x.Reason.String(), x.Reason.Sentence(), x.Packets, x.First.Seconds()})
	}
	d.Groups, d.Hosts, d.Destinations = holdingsOf(r.Groups), holdingsOf(r.Hosts), holdingsOf(r.Destinations)
	for i := range d.Destinations {
		d.Destinations[i].Protocol = r.Destinations[i].Protocol.String()
	}
	for _, f := range r.Foretold[:min(len(r.Foretold), most)] {
		d.Foretold = append(d.Foretold, Foretold{
			Node: f.Instance, Destination: f.Remote.String(), Protocol: f.Protocol.String(), Cause: f.Cause.String(), SaidSeconds: f.SaidAt.Seconds(),
			ForetoldSeconds: f.Foretold.Seconds(), EarliestSeconds: f.Earliest.Seconds(), LatestSeconds: f.Latest.Seconds(),
			HalfSeconds: f.Half.Seconds(), ExhaustedSeconds: f.Exhausted.Seconds(),
		})
	}
	for _, s := range r.Stranded {
		d.Stranded = append(d.Stranded, Stranded{s.Name, s.Is6, s.Protocol.String(), s.Failed, s.Free, s.FreeElsewhere})
	}
	if fills := d.Fullest(); len(fills) > 0 {
		d.PeakShare = fills[0].Share()
	}
	for _, f := range slices.Concat(d.Nodes, d.Frontends) {
		d.Peak.Ports = max(d.Peak.Ports, f.PeakPorts)
	}
	return d
}

// PeakOf returns the most ports of a line: of its samples, or the peak of its node or frontend if that is more.
func (r *Result) PeakOf(l *Line) int {
	most := slices.Max(l.Used)
	for _, f := range r.Fullest() {
		if f.Label() == l.Name && f.IPv6 == l.IPv6 && f.Protocol == l.Protocol {
			most = max(most, f.PeakPorts)
		}
	}
	return most
}

func fillsOf(fills []whatif.Fill) (all []Fill) {
	for _, f := range fills {
		all = append(all, Fill{f.Name, f.Frontend, f.Is6, f.Protocol.String(), f.Allocated, f.Peak, f.P99})
	}
	return all
}

// most is how many pods, workloads, destinations and forecasts there are of each; our choice.
const most = 50

func holdingsOf(all []whatif.Holding) (list []Holding) {
	for _, h := range all[:min(len(all), most)] {
		list = append(list, Holding{Name: h.Name, AtPeakPorts: h.AtPeak, Created: h.Created, Suffered: h.Suffered, Blamed: h.Blamed})
	}
	return list
}

// Fullest returns the nodes of a result, or the frontends where ports are shared, the fullest first.
func (r *Result) Fullest() []Fill {
	fills := slices.Clone(r.Nodes)
	if len(fills) == 0 {
		fills = slices.Clone(r.Frontends)
	}
	slices.SortStableFunc(fills, func(a, b Fill) int { return cmp.Compare(b.Share(), a.Share()) })
	return fills
}

// Use is one of the things that ports are in use for.
type Use struct {
	Name  string // for people
	N     int    // flows, or held ports
	Whose string // they are, in words
}

// List returns what ports are in use for, in an order that stays.
func (u Uses) List() []Use {
	return []Use{
		{"held after FIN", u.HeldFIN, "connections that were closed; their ports rest for the same destination"},
		{"held after RST", u.HeldRST, "connections that were reset"},
		{"abandoned", u.Abandoned, "TCP connections that no pod knows any more, until the idle timeout"},
		{"UDP waiting", u.UDPWaiting, "sockets that are closed, until the idle timeout"},
		{"UDP", u.UDP, "sockets that are open"},
		{"held after UDP", u.HeldUDP, "datagram flows that are over"},
		{"idle", u.Idle, "open connections that rest"},
		{"busy", u.Busy, "connections under way"},
	}
}

// Flows returns the sum of all uses, which flows to several destinations that share a port make more
// than the ports.
func (u Uses) Flows() (n int) {
	for _, use := range u.List() {
		n += use.N
	}
	return n
}
