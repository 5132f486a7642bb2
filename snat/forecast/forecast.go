package forecast

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/snat"
)

// Source is what can be read: a [snat.NAT], or a load balancer, gateway or cluster, that counts holders
// ([snat.Dataplane].CountHolders).
type Source interface {
	Holders(now flow.Time, by snat.HoldersBy) snat.Holders
	Instances() iter.Seq2[int, snat.InstanceStats]
	Frontends() []snat.FrontendStats
}

// Lifetimes are for how long ports are held without a packet, as the policy of the translator says. One
// that is 0 is not known, and then nothing levels off because of it.
type Lifetimes struct {
	Idle time.Duration // of established TCP connections
	UDP  time.Duration // of UDP flows, after the last datagram; with what holds the port after them
	FIN  time.Duration // after a TCP connection has been closed
	RST  time.Duration // after a TCP connection has been reset
}

// Defaults of a Config; our choice.
const (
	DefaultWindow  = 5 * time.Minute
	DefaultSamples = 8
	DefaultHorizon = 20
	DefaultRows    = 1000
)

// Config says how much is looked at. The zero value of each field is a documented default.
type Config struct {
	// Window is the time that is looked at, 10 s to 7 days; 0 means DefaultWindow. It must be long
	// against the time between two samples, of which at least Samples have to lie in it.
	Window time.Duration

	// Samples is how many samples of a row there must be in the window before anything is said of
	// it, 3 to 1,000; 0 means DefaultSamples.
	Samples int

	// Horizon is how far ahead something is foretold, in times that have been seen of the row, up to
	// 1,000; 0 means DefaultHorizon.
	Horizon int

	// Rows is how many rows are followed, those that hold most, up to 1,000,000; 0 means DefaultRows.
	Rows int

	// Lifetimes tell what levels off.
	Lifetimes Lifetimes

	// IdleAfter is what CountHolders.IdleAfter says; 0 means a minute, as there.
	IdleAfter time.Duration
}

// Row is what is known of an instance and a destination at a moment.
type Row struct {
	Instance string         // "" for all instances together, of shared ports
	Remote   netip.AddrPort // the destination
	Protocol snat.Protocol  // of the destination

	Bar           int    // ports that there are for it
	snat.PortUses        // ports held, by what for
	Created       uint64 // flows so far
	Looked, Idle  int    // active flows that were looked at, and those of them that were idle
}

// Forecast is what has been seen of a translator. Create one with New.
type Forecast struct {
	config Config
	series map[key]*series
	last   flow.Time
	any    bool
}

type key struct {
	instance string
	remote   netip.AddrPort
	protocol snat.Protocol
}

// series is the samples of one row in the window, the earliest first.
type series struct{ samples []sample }

type sample struct {
	at flow.Time
	Row
}

// New returns a Forecast that has seen nothing. The error has all problems of the configuration, and
// wraps sentinels of package flow.
func New(c Config) (*Forecast, error) {
	c.Window, c.Samples, c.Horizon = cmp.Or(c.Window, DefaultWindow), cmp.Or(c.Samples, DefaultSamples), cmp.Or(c.Horizon, DefaultHorizon)
	c.Rows, c.IdleAfter = cmp.Or(c.Rows, DefaultRows), cmp.Or(c.IdleAfter, time.Minute)
	var l problems.List
	problems.Between(&l, "Window", c.Window, 10*time.Second, 7*24*time.Hour)
	problems.Between(&l, "Samples", c.Samples, 3, 1000)
	problems.Between(&l, "Horizon", c.Horizon, 1, 1000)
	problems.Between(&l, "Rows", c.Rows, 1, 1_000_000)
	problems.Between(&l, "IdleAfter", c.IdleAfter, time.Second, 24*time.Hour)
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Idle", c.Lifetimes.Idle}, {"UDP", c.Lifetimes.UDP}, {"FIN", c.Lifetimes.FIN}, {"RST", c.Lifetimes.RST}} {
		problems.Between(&l, "Lifetimes."+t.name, t.d, 0, flow.MaxTimeout)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	return &Forecast{config: c, series: map[key]*series{}}, nil
}

// Sample reads the rows of a source at now, which must lie after that of the call before.
func (f *Forecast) Sample(now flow.Time, from Source) { f.Feed(now, Read(now, from)) }

// Read returns the rows of a source that hold ports, those that hold most first.
func Read(now flow.Time, from Source) (rows []Row) {
	holders := from.Holders(now, snat.HoldersByInstanceDestination).Rows
	if len(holders) == 0 {
		return nil // nobody counts them, perhaps, and then this costs nothing
	}
	type pool struct {
		instance string
		is6      bool
		protocol snat.Protocol
	}
	bars := map[pool]int{}
	for _, inst := range from.Instances() {
		for _, p := range inst.Pools {
			bars[pool{inst.Name, p.Is6, p.Protocol}] += p.Allocated - p.AwaitingRemoval
		}
	}
	for _, front := range from.Frontends() {
		bars[pool{"", front.Frontend.Is6(), front.Protocol}] += front.Allocated - front.AwaitingRemoval
	}
	for _, h := range holders {
		if h.Ports > 0 {
			rows = append(rows, Row{
				Instance: h.Instance, Remote: h.Remote, Protocol: h.Protocol, Bar: bars[pool{h.Instance, h.Remote.Addr().Is6(), h.Protocol}],
				PortUses: h.PortUses, Created: h.Created, Looked: h.Looked, Idle: h.Idle,
			})
		}
	}
	return rows
}

// Feed is Sample for rows that have been read; the first Config.Rows are followed. A row that is missing
// holds nothing, and begins anew when it comes back.
func (f *Forecast) Feed(now flow.Time, rows []Row) {
	if f.any && now <= f.last {
		panic("forecast: a sample that is not later than the one before")
	}
	f.last, f.any = now, true
	for i := range rows[:min(len(rows), f.config.Rows)] {
		r := &rows[i]
		k := key{r.Instance, r.Remote, r.Protocol}
		s := f.series[k]
		if s == nil {
			s = &series{}
			f.series[k] = s
		}
		if n := len(s.samples); n > 0 && s.samples[n-1].Created > r.Created {
			s.samples = nil // another translator, or forgotten in between
		}
		s.samples = append(s.samples, sample{now, *r})
	}
	for k, s := range f.series {
		first := slices.IndexFunc(s.samples, func(x sample) bool { return x.at >= now.Add(-f.config.Window) })
		if s.samples[len(s.samples)-1].at != now || first < 0 {
			delete(f.series, k)
			continue
		}
		s.samples = slices.Delete(s.samples, 0, first)
	}
}

// Last returns the time of the latest sample, 0 before the first.
func (f *Forecast) Last() flow.Time { return f.last }

// Fork returns an independent copy.
func (f *Forecast) Fork() *Forecast {
	to := *f
	to.series = make(map[key]*series, len(f.series))
	for k, s := range f.series {
		to.series[k] = &series{slices.Clone(s.samples)}
	}
	return &to
}

// Outlooks returns what is to be said of all rows as of the latest sample: those that are exhausted or going to
// be first, the soonest first, then those that hold most of their bar. It changes nothing.
func (f *Forecast) Outlooks() []Outlook {
	all := make([]Outlook, 0, len(f.series))
	for _, s := range f.series {
		all = append(all, f.config.outlook(s.samples))
	}
	slices.SortFunc(all, func(a, b Outlook) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.In, b.In), cmp.Compare(b.Ports*max(a.Bar, 1), a.Ports*max(b.Bar, 1)),
			strings.Compare(a.Instance, b.Instance), a.Remote.Compare(b.Remote), cmp.Compare(a.Protocol, b.Protocol))
	})
	return all
}

// Azure returns the lifetimes of ports of a load balancer with an idle timeout; 0 is snat.DefaultIdleTimeout.
func Azure(idle time.Duration) Lifetimes {
	t := snat.AzureTimeouts(idle)
	return Lifetimes{Idle: t.TCPEstablished, UDP: t.UDP + t.UDPHeld, FIN: t.TCPTimeWait, RST: t.TCPReset}
}
