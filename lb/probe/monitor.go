package probe

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/heap"
	"github.com/seed-a61be3fe/natplane/internal/problems"
)

// Config says which probes are sent to which backends. The zero value sends none.
type Config struct {
	Limits  Limits  // what Probes are checked against
	Probes  []Probe // with different names
	Watches []Watch // what several watches say of a probe is joined

	// AssumeHealthy makes backends that are new healthy until their probe has failed
	// often enough. By default they are unhealthy until their first success.
	AssumeHealthy bool

	// FirstResult makes thresholds 1: unhealthy with the first failure, healthy with
	// the next success. The 2023 edition of the probe document says so of the newer
	// platform. By default they are what the probe says.
	FirstResult bool
}

// Watch says who is asked by a probe.
type Watch struct {
	Probe    string    // name of one of Config.Probes
	Backends []Backend // with name and address; one that is listed again is asked once
}

// Validate reports every problem of c, naming field and value.
func (c Config) Validate() error {
	var l problems.List
	names := map[string]bool{}
	for i, p := range c.Probes {
		path := problems.Index("Probes", i)
		l.Include(path, p.Validate(c.Limits))
		if p.Name != "" && names[p.Name] {
			l.Add(path+".Name", p.Name, flow.ErrDuplicateName, "")
		}
		names[p.Name] = true
	}
	for i, w := range c.Watches {
		path := problems.Index("Watches", i)
		if !names[w.Probe] {
			l.Add(path+".Probe", w.Probe, flow.ErrUnknownName, "")
		}
		for j, b := range w.Backends {
			path := problems.Index(path+".Backends", j)
			if b.Name == "" {
				l.Add(path+".Name", b.Name, flow.ErrMissing, "")
			}
			if !b.Addr.IsValid() || b.Addr.IsUnspecified() || b.Addr.IsMulticast() || b.Addr.Is4In6() || b.Addr.Zone() != "" {
				l.Add(path+".Addr", b.Addr, flow.ErrAddress, "")
			}
		}
	}
	return l.Err()
}

// Change is news of a backend: it has become healthy or unhealthy.
type Change struct {
	At      flow.Time // of the attempt that decided
	Probe   string    // name of the probe
	Backend Backend   // whom it was sent to
	Healthy bool      // what it is now
}

// Status is what a probe knows of a backend.
type Status struct {
	Probe     string  // name of the probe
	Backend   Backend // whom it is sent to
	Healthy   bool    // after thresholds
	Attempts  uint64  // since it is watched
	Successes uint64  // of Attempts
	Minute    Minute  // the latest with an attempt in it
}

// Minute counts the attempts of one minute, as the metric DipAvailability wants it.
type Minute struct {
	At                  flow.Time // its beginning, a multiple of a minute
	Attempts, Successes int       // those in it, so far
}

// Availability returns the share of successes in percent, 0 if there was no attempt.
func (m Minute) Availability() float64 {
	return 100 * float64(m.Successes) / float64(max(m.Attempts, 1))
}

// Monitor sends probes in virtual time and remembers what came of them. Its owner calls
// Advance when NextDeadline says so. It is not safe for concurrent use. It has about 200
// bytes for each backend of each probe.
type Monitor struct {
	prober  Prober
	config  Config          // its probes only
	pairs   []pair          // by probe, then by watch, in the order of the configuration
	index   map[key]int     // of pairs
	pending heap.Heap[next] // one for each pair; empty until begun
	begun   bool
}

// key names a pair.
type key struct {
	probe   string
	backend Backend
}

// pair is a probe and one of its backends.
type pair struct {
	key
	at      int    // the probe, in config.Probes
	offset  uint64 // see offsetOf
	healthy bool
	proven  bool // it has been healthy, so thresholds count
	streak  int  // results in a row that contradict healthy
	counts
}

// counts are the numbers of a pair.
type counts struct {
	attempts, successes uint64
	minute              Minute
}

// next is the next attempt of a pair.
type next struct {
	at   flow.Time
	pair int
}

// Before orders attempts by time, and those of one time as the configuration does.
func (n next) Before(o next) bool { return n.at < o.at || n.at == o.at && n.pair < o.pair }

// NewMonitor returns a monitor whose first attempts come with the first call of Advance or
// follow that of Reconfigure, which is when its time begins. The error lists every problem of c. No reference to c is
// kept.
func NewMonitor(c Config, prober Prober) (*Monitor, error) {
	m := &Monitor{prober: prober}
	if err := m.configure(c); err != nil {
		return nil, err
	}
	return m, nil
}

// Reconfigure makes c the configuration of attempts that lie after now; call Advance
// before. The time of a monitor begins with it, if it has not begun. A backend that a probe of the same
// name watched already, by name and address, keeps its state and counts. If the probe has another
// protocol, port or path now, its results in a row are forgotten. Other backends are new. On error
// nothing has changed. Cost: O(backends of all watches).
func (m *Monitor) Reconfigure(now flow.Time, c Config) error {
	if err := m.configure(c); err != nil {
		return err
	}
	m.begun = true
	m.schedule(now)
	return nil
}

// configure checks c and takes it over, with what is known of its pairs.
func (m *Monitor) configure(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	old := *m
	m.config, m.pairs, m.index = c, nil, map[key]int{}
	m.config.Probes, m.config.Watches = slices.Clone(c.Probes), nil
	watched := map[string][]Backend{}
	for _, w := range c.Watches {
		watched[w.Probe] = append(watched[w.Probe], w.Backends...)
	}
	for i, p := range m.config.Probes {
		for _, b := range watched[p.Name] {
			k := key{p.Name, b}
			if _, again := m.index[k]; again {
				continue
			}
			now := pair{key: k, at: i, offset: offsetOf(k), healthy: c.AssumeHealthy, proven: c.AssumeHealthy}
			if j, known := old.index[k]; known {
				was := &old.pairs[j]
				now.healthy, now.proven, now.counts = was.healthy, was.proven, was.counts
				if sameQuestion(p, old.config.Probes[was.at]) {
					now.streak = was.streak
				}
			}
			m.index[k] = len(m.pairs)
			m.pairs = append(m.pairs, now)
		}
	}
	return nil
}

// sameQuestion reports whether two probes ask a backend for the same.
func sameQuestion(p, q Probe) bool {
	return p.Protocol == q.Protocol && p.Port == q.Port && p.RequestPath == q.RequestPath
}

// offsetOf returns the hash that decides on the times of a pair's attempts.
func offsetOf(k key) uint64 {
	return xxhash.Sum64String(k.probe + "\x00" + k.backend.Name + "\x00" + k.backend.Addr.String())
}

// schedule makes the first attempt after a time the next one of each pair. Where time ends before
// that there is none.
func (m *Monitor) schedule(after flow.Time) {
	m.pending = m.pending[:0]
	for i := range m.pairs {
		p := &m.pairs[i]
		interval := flow.Time(m.config.Probes[p.at].interval())
		at := flow.Time(p.offset%uint64(interval/flow.Time(time.Millisecond))) * flow.Time(time.Millisecond)
		if at <= after {
			at += ((after-at)/interval + 1) * interval
		}
		if at >= 0 { // else beyond the last time there is
			m.pending.Push(next{at, i})
		}
	}
}

// Advance makes all attempts whose time has come by now, in the order of their times, and
// of one time in that of the configuration. It calls changed, unless nil, for each
// backend that becomes healthy or unhealthy, at once, before the next attempt. changed
// must not call the monitor. The first call begins the time of the monitor: attempts
// before that now are not made up for. Cost: O(log backends) for each attempt, and what the
// prober takes.
func (m *Monitor) Advance(now flow.Time, changed func(Change)) {
	if !m.begun {
		m.begun = true
		m.schedule(max(now, 0) - 1)
	}
	for len(m.pending) > 0 && m.pending[0].at <= now {
		n := &m.pending[0]
		p := &m.pairs[n.pair]
		probe := &m.config.Probes[p.at]
		at, result := n.at, m.prober.Probe(n.at, p.backend, probe)
		p.count(at, result)
		if p.judge(result, probe, m.config.FirstResult) && changed != nil {
			changed(Change{at, probe.Name, p.backend, p.healthy})
		}
		if n.at += flow.Time(probe.interval()); n.at < at { // beyond the last time there is
			m.pending.Pop()
			continue
		}
		m.pending.Down()
	}
}

// count counts an attempt.
func (p *pair) count(at flow.Time, r Result) {
	if minute := at - at%flow.Time(time.Minute); p.attempts == 0 || p.minute.At != minute {
		p.minute = Minute{At: minute}
	}
	p.attempts++
	p.minute.Attempts++
	if r == Success {
		p.successes++
		p.minute.Successes++
	}
}

// judge draws a conclusion from a result, and reports whether it is another than before.
func (p *pair) judge(r Result, probe *Probe, first bool) (changed bool) {
	if r >= numResults {
		panic(fmt.Sprintf("probe: unhandled result %d", r))
	}
	if (r == Success) == p.healthy {
		p.streak = 0
		return false
	}
	p.streak++
	atOnce := first || r == Success && !p.proven || r == Refusal && probe.Protocol != TCP
	if !atOnce && p.streak < probe.threshold() {
		return false
	}
	p.healthy, p.proven, p.streak = !p.healthy, true, 0
	return true
}

// NextDeadline returns the time of the next attempt; ok is false if there will be none.
// Before the first call of Advance it is 0: the time of the monitor has not begun.
func (m *Monitor) NextDeadline() (at flow.Time, ok bool) {
	if !m.begun {
		return 0, len(m.pairs) > 0
	}
	if len(m.pending) == 0 {
		return 0, false
	}
	return m.pending[0].at, true
}

// Healthy reports whether a probe, by its name, has found a backend healthy. It is false
// for one that it is not sent to.
func (m *Monitor) Healthy(probe string, b Backend) bool {
	i, ok := m.index[key{probe, b}]
	return ok && m.pairs[i].healthy
}

// Statuses iterates over what is known of all backends, by probe, then by watch, in the
// order of the configuration. Nothing may change meanwhile.
func (m *Monitor) Statuses() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for i := range m.pairs {
			p := &m.pairs[i]
			if !yield(Status{p.probe, p.backend, p.healthy, p.attempts, p.successes, p.minute}) {
				return
			}
		}
	}
}
