// Attribution: who held the ports, who was refused them and because of whom, and whether that had been foretold.

package whatif

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// Holding is what a host, a group of hosts or a destination has had of the ports. See [snat.Holder]. Of a cluster at any
// moment, by node and Service too, attribution.Holding says it.
type Holding struct {
	Name     string        `json:"name"`     // of the host or group, or the address and port; an address of no host as text
	Protocol snat.Protocol `json:"protocol"` // of a destination; All of a host or group

	AtPeak    int     `json:"atPeak"`    // ports held at Result.PeakAt
	Ports     int     `json:"ports"`     // ports held now
	Created   uint64  `json:"created"`   // flows that got a port
	PerSecond float64 `json:"perSecond"` // new flows of late
	Suffered  uint64  `json:"suffered"`  // first packets that were refused
	Blamed    uint64  `json:"blamed"`    // first packets that were refused because of its ports; of a destination 0
}

// Foretold is what was foretold of an instance and a destination, and what has happened.
type Foretold struct {
	Instance string         `json:"instance"` // as Outlook has it
	Remote   netip.AddrPort `json:"remote"`   // the destination
	Protocol snat.Protocol  `json:"protocol"` // of the destination
	Cause    forecast.Cause `json:"cause"`    // when it was first foretold

	SaidAt   time.Duration `json:"saidAtNanoseconds"`   // the sample at which exhaustion was first foretold
	Foretold time.Duration `json:"foretoldNanoseconds"` // for when, then

	// Earliest and Latest are the range that was foretold then, as Outlook has it; Latest is 0 if it had no end.
	Earliest time.Duration `json:"earliestNanoseconds"`
	Latest   time.Duration `json:"latestNanoseconds"` // see Earliest

	// Half is what was foretold at the first sample after half of the way from SaidAt to what was foretold
	// then; 0 if it was no longer foretold, or has not come to that.
	Half time.Duration `json:"halfNanoseconds"`

	Exhausted time.Duration `json:"exhaustedNanoseconds"` // the first sample without a free port, or with a refusal; 0 if there was none
}

// attribution is what a world that counts holders has shown.
type attribution struct {
	forecast *forecast.Forecast // nil if it does not
	atPeak   map[holding]int    // ports held
	foretold []Foretold
	byRow    map[row]int // index of foretold
}

// row names what is foretold of.
type row struct {
	instance string
	remote   netip.AddrPort
	protocol snat.Protocol
}

// holding names who holds: an inside address, or a destination.
type holding struct {
	inside   netip.Addr
	remote   netip.AddrPort
	protocol snat.Protocol
}

// teller is a world that may count holders.
type teller interface {
	Holders(now flow.Time, by snat.HoldersBy) snat.Holders
}

// countHolders begins to follow who holds the ports of a world, if it tells.
func (s *Simulation) countHolders(c forecast.Config) error {
	f, err := forecast.New(c)
	if _, ok := s.world.(teller); ok && err == nil {
		s.seen.forecast, s.seen.byRow = f, map[row]int{}
	}
	return err
}

// foresee takes a sample of who holds ports, and notes what is foretold and what has happened.
func (s *Simulation) foresee(o *observation) {
	source, ok := s.world.(forecast.Source)
	if !ok || o.forecast == nil || o.forecast.Last() >= s.now && s.now > s.begin {
		return
	}
	rows := forecast.Read(s.now, source)
	if len(rows) == 0 && len(o.foretold) == 0 {
		return // nobody holds any, or nobody counts
	}
	o.forecast.Feed(s.now, rows)
	at := s.now.Sub(s.begin)
	refused := map[row]bool{}
	for _, h := range source.Holders(s.now, snat.HoldersByInstanceDestination).Rows {
		refused[row{h.Instance, h.Remote, h.Protocol}] = h.Suffered > 0
	}
	for _, x := range o.forecast.Outlooks() {
		k := row{x.Instance, x.Remote, x.Protocol}
		i, known := o.byRow[k]
		if !known && x.State != forecast.Exhausting && x.State != forecast.Exhausted && !refused[k] {
			continue
		}
		if !known {
			i = len(o.foretold)
			o.byRow[k] = i
			o.foretold = append(o.foretold, Foretold{Instance: x.Instance, Remote: x.Remote, Protocol: x.Protocol, Cause: x.Cause})
		}
		f := &o.foretold[i]
		switch {
		case f.Exhausted > 0:
		case x.State == forecast.Exhausted || refused[k]:
			f.Exhausted = max(at, 1)
		case x.State == forecast.Exhausting && f.Foretold == 0:
			f.SaidAt, f.Foretold, f.Cause = at, at+x.In, x.Cause
			f.Earliest = at + x.Earliest
			if x.Latest > 0 {
				f.Latest = at + x.Latest
			}
		case x.State == forecast.Exhausting && f.Half == 0 && at >= (f.SaidAt+f.Foretold)/2:
			f.Half = at + x.In
		}
	}
}

// holdAtPeak notes who holds ports now, when most are in use.
func (s *Simulation) holdAtPeak(o *observation) {
	w, ok := s.world.(teller)
	if !ok || o.forecast == nil {
		return
	}
	o.atPeak = map[holding]int{}
	for _, by := range []snat.HoldersBy{snat.HoldersByInside, snat.HoldersByDestination} {
		for _, h := range w.Holders(s.now, by).Rows {
			o.atPeak[holdingOf(&h)] += h.Ports
		}
	}
}

func holdingOf(h *snat.Holder) holding { return holding{h.Inside, h.Remote, h.Protocol} }

// attributeTo puts into a result who held ports, if the world counts that.
func (s *Simulation) attributeTo(r *Result, o *observation) {
	w, ok := s.world.(teller)
	if !ok || o.forecast == nil {
		return
	}
	hosts, groups := map[string]*Holding{}, map[string]*Holding{}
	for _, h := range w.Holders(s.now, snat.HoldersByInside).Rows {
		name, group := h.Inside.String(), ""
		if i, ok := s.byAddr[addrOf(h.Inside)]; ok {
			name, group = s.hosts[i].name, s.hosts[i].group
		}
		o.sum(hosts, name, &h)
		if group != "" {
			o.sum(groups, group, &h)
		}
	}
	for _, h := range w.Holders(s.now, snat.HoldersByDestination).Rows {
		x := Holding{Name: h.Remote.String(), Protocol: h.Protocol}
		o.add(&x, &h)
		r.Destinations = append(r.Destinations, x)
	}
	slices.SortFunc(r.Destinations, Holding.compare)
	r.Hosts, r.Groups = sorted(hosts), sorted(groups)
	r.Outlooks, r.Foretold = o.forecast.Outlooks(), slices.Clone(o.foretold)
}

// sum adds a row to the holding with a name.
func (o *observation) sum(all map[string]*Holding, name string, h *snat.Holder) {
	x := all[name]
	if x == nil {
		x = &Holding{Name: name}
		all[name] = x
	}
	o.add(x, h)
}

// add adds a row to a holding.
func (o *observation) add(x *Holding, h *snat.Holder) {
	x.AtPeak += o.atPeak[holdingOf(h)]
	x.Ports += h.Ports
	x.Created += h.Created
	x.PerSecond += h.PerSecond
	x.Suffered += h.Suffered
	x.Blamed += h.Blamed
}

// compare orders holdings, those that held most at the peak first.
func (h Holding) compare(o Holding) int {
	return cmp.Or(cmp.Compare(o.AtPeak, h.AtPeak), cmp.Compare(o.Blamed, h.Blamed), cmp.Compare(o.Suffered, h.Suffered),
		strings.Compare(h.Name, o.Name), cmp.Compare(h.Protocol, o.Protocol))
}

func sorted(all map[string]*Holding) (list []Holding) {
	for _, h := range all {
		list = append(list, *h)
	}
	slices.SortFunc(list, Holding.compare)
	return list
}
