package probe_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/lb/probe"
)

func backend(i int) probe.Backend {
	return probe.Backend{Name: fmt.Sprintf("vm%d", i), Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 4)})}
}

func backends(n int) (all []probe.Backend) {
	for i := range n {
		all = append(all, backend(i))
	}
	return all
}

// one is a configuration with one probe for one backend.
func one(p probe.Probe) probe.Config {
	p.Name, p.Port = "p", 80
	return probe.Config{Probes: []probe.Probe{p}, Watches: []probe.Watch{{Probe: "p", Backends: backends(1)}}}
}

// play makes an attempt for each letter of answers: Success, Failure, Refusal. It returns
// what the backend is after each: h for healthy, u for unhealthy, in capitals where that
// is a change.
func play(t *testing.T, c probe.Config, answers string) (states string) {
	t.Helper()
	i := 0
	m, err := probe.NewMonitor(c, probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result {
		i++
		return map[byte]probe.Result{'S': probe.Success, 'F': probe.Failure, 'R': probe.Refusal}[answers[i-1]]
	}))
	require.NoError(t, err)
	m.Advance(0, nil)
	for len(states) < len(answers) {
		at, ok := m.NextDeadline()
		require.True(t, ok)
		letter := "u"
		if i > len(states) { // the offset was 0
			at = 0
		}
		changed := false
		m.Advance(at, func(change probe.Change) {
			assert.Equal(t, probe.Change{At: at, Probe: "p", Backend: backend(0), Healthy: m.Healthy("p", backend(0))}, change)
			changed = true
		})
		if m.Healthy("p", backend(0)) {
			letter = "h"
		}
		if changed {
			letter = map[string]string{"h": "H", "u": "U"}[letter]
		}
		states += letter
	}
	return states
}

// Where time ends there are no more attempts, and what is before its beginning is its beginning.
func TestEndsOfTime(t *testing.T) {
	for _, tt := range []struct {
		begin, now flow.Time
		attempts   int
		next       bool
	}{
		{math.MinInt64, 20 * flow.Time(time.Second), 4, true},
		{math.MaxInt64, math.MaxInt64, 0, false},
		{math.MaxInt64 - 12*flow.Time(time.Second), math.MaxInt64 - 1, 2, false},
	} {
		for _, begins := range []func(m *probe.Monitor, c probe.Config){
			func(m *probe.Monitor, _ probe.Config) { m.Advance(tt.begin, nil) },
			func(m *probe.Monitor, c probe.Config) { require.NoError(t, m.Reconfigure(tt.begin, c)) },
		} {
			attempts, c := 0, one(probe.Probe{Interval: 5 * time.Second})
			m, err := probe.NewMonitor(c, probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result {
				attempts++
				require.LessOrEqual(t, attempts, tt.attempts+1)
				return probe.Success
			}))
			require.NoError(t, err)
			begins(m, c)
			m.Advance(tt.now, nil)
			assert.InDelta(t, tt.attempts, attempts, 1, "%v", tt.begin)
			_, ok := m.NextDeadline()
			assert.Equal(t, tt.next, ok, "%v", tt.begin)
		}
	}
}

func TestThresholds(t *testing.T) {
	web := probe.Probe{Protocol: probe.HTTP, RequestPath: "/"}
	assumed, first := one(probe.Probe{}), one(probe.Probe{ProbeThreshold: 5})
	assumed.AssumeHealthy, first.FirstResult = true, true
	for _, tt := range []struct {
		name           string
		config         probe.Config
		answers, state string
	}{
		{"two of each by default; one success at first", one(probe.Probe{}), "FSFSFFSFSS", "uHhhhUuuuH"},
		{"three", one(probe.Probe{NumberOfProbes: 3}), "SFFSFFFSSS", "HhhhhhUuuH"},
		{"the threshold precedes the number", one(probe.Probe{NumberOfProbes: 3, ProbeThreshold: 1}), "SFSF", "HUHU"},
		{"HTTP is refused: at once down, but not up", one(web), "SRSSFRSS", "HUuHhUuH"},
		{"TCP is refused: a failure", one(probe.Probe{}), "SRRSS", "HhUuH"},
		{"assumed healthy", assumed, "FFSS", "hUuH"},
		{"the first result", first, "SFSF", "HUHU"},
	} {
		assert.Equal(t, tt.state, play(t, tt.config, tt.answers), tt.name)
	}
}

// The attempts of a backend are an interval apart, whenever it all begins, and after
// changes to others.
func TestTimes(t *testing.T) {
	times := func(begin flow.Time) (all []flow.Time) {
		c := one(probe.Probe{Interval: 10 * time.Second})
		m, err := probe.NewMonitor(c, probe.ProberFunc(func(at flow.Time, b probe.Backend, _ *probe.Probe) probe.Result {
			if b == backend(0) {
				all = append(all, at)
			}
			return probe.Success
		}))
		require.NoError(t, err)
		at, ok := m.NextDeadline()
		assert.True(t, ok)
		assert.Zero(t, at, "its time has not begun")
		m.Advance(begin, nil)
		m.Advance(begin.Add(25*time.Second), nil)
		c.Watches[0].Backends = backends(9)
		require.NoError(t, m.Reconfigure(begin.Add(25*time.Second), c))
		m.Advance(begin.Add(time.Minute), nil)
		return all
	}
	const late = flow.Time(7*time.Hour + 3*time.Second + 1)
	early, later := times(0), times(late)
	assert.Len(t, early, 6)
	assert.Len(t, later, 6)
	for i := range early {
		assert.Zero(t, later[i].Sub(early[i])%(10*time.Second))
		assert.Zero(t, early[i].Duration()%time.Millisecond)
		if i > 0 {
			assert.Equal(t, 10*time.Second, early[i].Sub(early[i-1]))
		}
	}
	assert.GreaterOrEqual(t, later[0], late)
}

// Without Interval the attempts are 15 seconds apart.
func TestDefaultInterval(t *testing.T) {
	var all []flow.Time
	m, err := probe.NewMonitor(one(probe.Probe{}), probe.ProberFunc(func(at flow.Time, _ probe.Backend, _ *probe.Probe) probe.Result {
		all = append(all, at)
		return probe.Success
	}))
	require.NoError(t, err)
	m.Advance(0, nil)
	m.Advance(flow.At(time.Minute), nil)
	require.GreaterOrEqual(t, len(all), 4)
	for i := range all[1:] {
		assert.Equal(t, 15*time.Second, all[i+1].Sub(all[i]))
	}
}

// Probes of many backends are spread over the interval.
func TestOffsets(t *testing.T) {
	c := one(probe.Probe{Interval: 5 * time.Second})
	c.Watches[0].Backends = backends(1000)
	bySecond := map[flow.Time]int{}
	m, err := probe.NewMonitor(c, probe.ProberFunc(func(at flow.Time, _ probe.Backend, _ *probe.Probe) probe.Result {
		bySecond[at/flow.Time(time.Second)]++
		return probe.Success
	}))
	require.NoError(t, err)
	m.Advance(0, nil)
	m.Advance(flow.Time(5*time.Second)-1, nil)
	assert.Len(t, bySecond, 5)
	for _, n := range bySecond {
		assert.InDelta(t, 200, n, 60)
	}
}

func TestMonitorProblems(t *testing.T) {
	c := probe.Config{Limits: probe.Limits{Basic: true},
		Probes:  []probe.Probe{{Name: "a", Port: 1}, {Name: "a", Port: 2, Protocol: probe.HTTPS, RequestPath: "/"}},
		Watches: []probe.Watch{{Probe: "b"}, {Probe: "a", Backends: []probe.Backend{{}, backend(1)}}}}
	_, err := probe.NewMonitor(c, nil)
	assert.EqualError(t, err, "Probes[1].Name \"a\": duplicate name\nProbes[1].Protocol Https: not supported: Basic has Tcp and Http\n"+
		"Watches[0].Probe \"b\": unknown name\nWatches[1].Backends[0].Addr invalid IP: not the address of a single host\nWatches[1].Backends[0].Name \"\": missing")
	m, err := probe.NewMonitor(one(probe.Probe{}), nil)
	require.NoError(t, err)
	assert.Error(t, m.Reconfigure(0, c))
	assert.Len(t, slices.Collect(m.Statuses()), 1, "nothing has changed")
}

func TestMonitorOfNothing(t *testing.T) {
	m, err := probe.NewMonitor(probe.Config{}, nil)
	require.NoError(t, err)
	m.Advance(flow.At(time.Hour), nil)
	_, ok := m.NextDeadline()
	assert.False(t, ok)
	assert.False(t, m.Healthy("p", backend(0)))
	for range m.Statuses() {
		t.Fatal("a status")
	}
}

func TestStatuses(t *testing.T) {
	m, err := probe.NewMonitor(one(probe.Probe{Interval: 10 * time.Second}), probe.ProberFunc(func(at flow.Time, _ probe.Backend, _ *probe.Probe) probe.Result {
		return map[bool]probe.Result{true: probe.Success}[at < flow.At(90*time.Second)]
	}))
	require.NoError(t, err)
	m.Advance(0, nil)
	m.Advance(flow.At(2*time.Minute)-1, nil)
	for s := range m.Statuses() {
		assert.Equal(t, probe.Status{Probe: "p", Backend: backend(0), Healthy: false, Attempts: 12, Successes: 9,
			Minute: probe.Minute{At: flow.At(time.Minute), Attempts: 6, Successes: 3}}, s)
		assert.Equal(t, 50., s.Minute.Availability())
	}
	assert.Zero(t, probe.Minute{}.Availability())
}

// A prober must know its results.
func TestUnknownResult(t *testing.T) {
	m, err := probe.NewMonitor(one(probe.Probe{}), probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result { return 3 }))
	require.NoError(t, err)
	assert.PanicsWithValue(t, "probe: unhandled result 3", func() { m.Advance(0, nil); m.Advance(flow.At(time.Minute), nil) })
}

// twin is the dull monitor: it looks at every backend in every millisecond, and keeps all
// results of each.
type twin struct {
	config  probe.Config
	answer  probe.ProberFunc
	offset  map[[2]string]flow.Time
	results map[[2]string][]probe.Result // since the probe asks for the same
	state   map[[2]string]bool
	seen    map[[2]string]bool // it was healthy
}

func (w *twin) reconfigure(c probe.Config) {
	question := func(c probe.Config, name string) string {
		for _, p := range c.Probes {
			if p.Name == name {
				return fmt.Sprint(p.Protocol, p.Port, p.RequestPath)
			}
		}
		return ""
	}
	state, seen, results := map[[2]string]bool{}, map[[2]string]bool{}, map[[2]string][]probe.Result{}
	for _, watch := range c.Watches {
		for _, b := range watch.Backends {
			k := [2]string{watch.Probe, b.Name}
			state[k], seen[k] = c.AssumeHealthy, c.AssumeHealthy
			if was, known := w.state[k]; known {
				state[k], seen[k] = was, w.seen[k]
				if question(c, watch.Probe) == question(w.config, watch.Probe) {
					results[k] = w.results[k]
				}
			}
		}
	}
	w.config, w.state, w.seen, w.results = c, state, seen, results
}

// advance plays the milliseconds after one time and until another.
func (w *twin) advance(after, until flow.Time) (changes []probe.Change) {
	const ms = flow.Time(time.Millisecond)
	for at := (after/ms + 1) * ms; at <= until; at += ms {
		for i := range w.config.Probes {
			p := &w.config.Probes[i]
			done := map[string]bool{}
			for _, watch := range w.config.Watches {
				for _, b := range watch.Backends {
					k := [2]string{p.Name, b.Name}
					if watch.Probe != p.Name || done[b.Name] || (at-w.offset[k]%flow.Time(p.Interval))%flow.Time(p.Interval) != 0 {
						continue
					}
					done[b.Name] = true
					if w.attempt(k, at, b, p) {
						changes = append(changes, probe.Change{At: at, Probe: p.Name, Backend: b, Healthy: w.state[k]})
					}
				}
			}
		}
	}
	return changes
}

func (w *twin) attempt(k [2]string, at flow.Time, b probe.Backend, p *probe.Probe) bool {
	r := w.answer(at, b, p)
	w.results[k] = append(w.results[k], r)
	threshold := p.ProbeThreshold
	if threshold == 0 {
		threshold = p.NumberOfProbes
	}
	if threshold == 0 {
		threshold = 2
	}
	if w.config.FirstResult || r == probe.Success && !w.seen[k] {
		threshold = 1
	}
	if (r == probe.Success) == w.state[k] {
		return false
	}
	last := w.results[k][max(0, len(w.results[k])-threshold):]
	same := 0
	for _, x := range last {
		if (x == probe.Success) != w.state[k] {
			same++
		}
	}
	if same < threshold && !(r == probe.Refusal && p.Protocol != probe.TCP) {
		return false
	}
	w.state[k], w.seen[k], w.results[k] = !w.state[k], true, nil
	return true
}

// The monitor and its twin, through random configurations.
func FuzzTwin(f *testing.F) {
	for seed := range uint64(6) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		answer := probe.ProberFunc(func(at flow.Time, b probe.Backend, p *probe.Probe) probe.Result {
			return probe.Result(rand.New(rand.NewPCG(uint64(at), uint64(b.Addr.As4()[3])*100+uint64(p.Port))).IntN(3))
		})
		random := func() (c probe.Config) {
			c.AssumeHealthy, c.FirstResult = r.IntN(2) == 0, r.IntN(4) == 0
			for i := range 1 + r.IntN(3) {
				p := probe.Probe{Name: string(rune('a' + i)), Port: uint16(80 + r.IntN(2)), NumberOfProbes: r.IntN(4), ProbeThreshold: r.IntN(3), Interval: time.Duration(5+r.IntN(3)) * time.Second}
				if r.IntN(2) == 0 {
					p.Protocol, p.RequestPath = probe.HTTP, "/"
				}
				c.Probes = append(c.Probes, p)
				for range r.IntN(3) {
					w := probe.Watch{Probe: p.Name}
					for range r.IntN(5) {
						w.Backends = append(w.Backends, backend(r.IntN(6)))
					}
					c.Watches = append(c.Watches, w)
				}
			}
			return c
		}
		c := random()
		m, err := probe.NewMonitor(c, answer)
		require.NoError(t, err)
		w := &twin{answer: answer, offset: map[[2]string]flow.Time{}}
		for _, name := range []string{"a", "b", "c"} {
			for _, b := range backends(6) {
				w.offset[[2]string{name, b.Name}] = probe.OffsetOf(name, b)
			}
		}
		w.reconfigure(c)
		now := flow.Time(r.Int64N(1e9))
		var got []probe.Change
		note := func(c probe.Change) { got = append(got, c) }
		m.Advance(now, note)
		want := w.advance(now-1, now)
		for range 12 {
			before := now
			now += flow.Time(r.Int64N(40e9))
			m.Advance(now, note)
			want = append(want, w.advance(before, now)...)
			require.Equal(t, want, got, "seed %d", seed)
			for s := range m.Statuses() {
				require.Equal(t, w.state[[2]string{s.Probe, s.Backend.Name}], s.Healthy)
				require.Equal(t, s.Healthy, m.Healthy(s.Probe, s.Backend))
			}
			if r.IntN(2) == 0 {
				c = random()
				require.NoError(t, m.Reconfigure(now, c))
				w.reconfigure(c)
			}
		}
	})
}

// A change that happens is told; attempts without one allocate nothing.
func TestAdvanceDoesNotAllocate(t *testing.T) {
	c := one(probe.Probe{Interval: 5 * time.Second})
	c.Watches[0].Backends = backends(50)
	m, err := probe.NewMonitor(c, probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result { return probe.Success }))
	require.NoError(t, err)
	now := flow.At(0)
	m.Advance(now, nil)
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		now = now.Add(5 * time.Second)
		m.Advance(now, nil)
	}))
}

func BenchmarkMonitor(b *testing.B) {
	var c probe.Config
	for i := range 10 {
		name := fmt.Sprint("p", i)
		c.Probes = append(c.Probes, probe.Probe{Name: name, Port: 80, Interval: 5 * time.Second})
		c.Watches = append(c.Watches, probe.Watch{Probe: name, Backends: backends(1000)})
	}
	m, err := probe.NewMonitor(c, probe.ProberFunc(func(flow.Time, probe.Backend, *probe.Probe) probe.Result { return probe.Success }))
	require.NoError(b, err)
	now := flow.Time(0)
	m.Advance(now, nil)
	for b.Loop() { // ten thousand attempts
		now = now.Add(5 * time.Second)
		m.Advance(now, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10_000, "ns/attempt")
}
