// What is wrong with a configuration, all at once.

package whatif

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
	"github.com/seed-a61be3fe/natplane/internal/problems"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/internal/segments"
	"github.com/seed-a61be3fe/natplane/overlay/whatif/trace"
)

// Bounds of what can be asked for; our choice.
const (
	maxTraffic  = 1000
	maxDuration = 31 * 24 * time.Hour
	maxRate     = 1_000_000 // per second, of a Traffic
	maxPeers    = 1_000_000 // addresses of a Traffic
	maxTables   = 1 << 26   // elements of what is kept for each host and destination, or name
)

// Validate returns every problem of w in one error, or nil. Each problem names field and value,
// and wraps a sentinel of package flow.
func (w Workload) Validate() error {
	var l problems.List
	if len(w.Traffic) == 0 && len(w.Trace) == 0 {
		l.Add("Traffic", problems.None, flow.ErrMissing, "nothing is sent")
	}
	problems.AtMost(&l, "Traffic", len(w.Traffic), "kinds of traffic", maxTraffic)
	names := make(map[string]int)
	for i := range w.Traffic {
		t, at := &w.Traffic[i], problems.Index("Traffic", i)
		if j, twice := names[t.Name]; t.Name == "" {
			l.Add(problems.Field(at, "Name"), problems.None, flow.ErrMissing, "")
		} else if twice {
			l.Add(problems.Field(at, "Name"), t.Name, flow.ErrDuplicateName, "as Traffic[%d]", j)
		} else if t.Name == traceName && len(w.Trace) > 0 {
			l.Add(problems.Field(at, "Name"), t.Name, flow.ErrDuplicateName, "as that of Trace in results")
		} else {
			names[t.Name] = i
		}
		t.validate(&l, at)
	}
	for i := range w.Trace {
		if l.Full() {
			break
		}
		f, at := &w.Trace[i], problems.Index("Trace", i)
		if !flow.IsHost(f.Dst.Addr()) || f.Dst.Port() == 0 {
			l.Add(at+".Dst", f.Dst, flow.ErrAddress, "nor a port of it")
		}
		if i > 0 && f.Start < w.Trace[i-1].Start {
			l.Add(at+".Start", f.Start, flow.ErrOutOfRange, "must not lie before that of Trace[%d], %v", i-1, w.Trace[i-1].Start)
		}
		if f.Start < 0 || f.Duration < 0 {
			l.Add(at, problems.Rawf("%v and %v", f.Start, f.Duration), flow.ErrOutOfRange, "Start and Duration are not negative")
		}
		problems.Constant(&l, at+".End", f.End, trace.Open+1)
	}
	return l.Err()
}

func (t *Traffic) validate(l *problems.List, at string) {
	problems.Between(l, at+".From.Count", t.From.Count, 0, math.MaxInt32)
	if len(t.To) == 0 {
		l.Add(at+".To", problems.None, flow.ErrMissing, "there must be a destination")
	}
	problems.AtMost(l, at+".To", len(t.To), "destinations", 10_000)
	for i := range t.To {
		t.To[i].validate(l, problems.Index(at+".To", i))
	}
	t.Rate.validate(l, at+".Rate")
	t.Class.validate(l, at)
}

func (d *Destination) validate(l *problems.List, at string) {
	switch a := d.Addr.Addr(); {
	case !flow.IsHost(a):
		l.Add(at+".Addr", d.Addr, flow.ErrAddress, "")
	case d.Addr.Port() == 0:
		l.Add(at+".Addr", d.Addr, flow.ErrOutOfRange, "needs a port")
	case problems.Between(l, at+".Addresses", d.Addresses, 0, 1<<16) && !flow.IsHost(plus(a, max(d.Addresses, 1)-1)):
		l.Add(at+".Addresses", d.Addresses, flow.ErrOutOfRange, "there are not so many addresses from %s on", a)
	}
	problems.Between(l, at+".Weight", d.Weight, 0, 1_000_000)
}

// plus returns the n-th address after a; the zero Addr if there is none.
func plus(a netip.Addr, n int) netip.Addr {
	b := a.AsSlice()
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		n += int(b[i])
		b[i] = byte(n)
		n >>= 8
	}
	if n > 0 {
		return netip.Addr{}
	}
	sum, _ := netip.AddrFromSlice(b)
	return sum
}

func (r *Rate) validate(l *problems.List, at string) {
	number(l, at+".PerHost", r.PerHost, 0, maxRate)
	number(l, at+".Total", r.Total, 0, maxRate)
	if r.PerHost == 0 && r.Total == 0 {
		l.Add(at, problems.None, flow.ErrMissing, "PerHost or Total must be above 0")
	} else if r.PerHost != 0 && r.Total != 0 {
		l.Add(at+".Total", r.Total, flow.ErrConflict, "with PerHost %v", r.PerHost)
	}
	if len(r.Daily) != 0 && len(r.Daily) != 24 {
		l.Add(at+".Daily", problems.Rawf("%d factors", len(r.Daily)), flow.ErrOutOfRange, "must be 24, or none")
	}
	for i, f := range r.Daily {
		number(l, problems.Index(at+".Daily", i), f, 0, 1_000_000)
	}
	problems.AtMost(l, at+".Bursts", len(r.Bursts), "bursts", 1000)
	for i := range r.Bursts {
		b, at := &r.Bursts[i], problems.Index(at+".Bursts", i)
		duration(l, at+".At", b.At, 0)
		duration(l, at+".Length", b.Length, time.Millisecond)
		if duration(l, at+".Every", b.Every, 0) && b.Every != 0 && b.Every <= b.Length {
			l.Add(at+".Every", b.Every, flow.ErrOutOfRange, "must be above Length %v", b.Length)
		}
		number(l, at+".Factor", b.Factor, 0, 1_000_000)
	}
}

func (c *Class) validate(l *problems.List, at string) {
	problems.Constant(l, at+".Kind", c.Kind, numKinds)
	problems.Constant(l, at+".End", c.End, numEnds)
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"RTT", c.RTT}, {"Think", c.Think}, {"Pause", c.Pause}, {"KeepAlive", c.KeepAlive},
		{"ConnectTimeout", c.ConnectTimeout}, {"Retry.Backoff", c.Retry.Backoff}, {"PoolIdle", c.PoolIdle},
		{"CacheTTL", c.CacheTTL}, {"Interval", c.Interval}, {"Duration", c.Duration},
	} {
		duration(l, problems.Field(at, d.name), d.d, 0)
	}
	problems.Between(l, at+".RequestBytes", c.RequestBytes, 0, segments.MaxPayload)
	problems.Between(l, at+".AnswerBytes", c.AnswerBytes, 0, segments.MaxPayload)
	problems.Between(l, at+".Requests", c.Requests, 0, 1_000_000)
	number(l, at+".Unanswered", c.Unanswered, 0, 1)
	problems.Between(l, at+".Retry.Attempts", c.Retry.Attempts, 0, 1000)
	if c.Retry.Factor != 0 {
		number(l, at+".Retry.Factor", c.Retry.Factor, 1, 100)
	}
	problems.Between(l, at+".PoolSize", c.PoolSize, 0, 10_000)
	problems.Between(l, at+".Names", c.Names, 0, 10_000)
	c.fit(l, at)
}

// fit refuses fields that mean nothing with the Kind.
func (c *Class) fit(l *problems.List, at string) {
	tcp := []Kind{PerRequest, Pool}
	for _, f := range []struct {
		name string
		set  bool
		of   []Kind
	}{
		{"Requests", c.Requests != 0, tcp[:1]}, {"Pause", c.Pause != 0, tcp[:1]},
		{"KeepAlive", c.KeepAlive != 0, tcp}, {"End", c.End != 0, tcp}, {"ConnectTimeout", c.ConnectTimeout != 0, tcp},
		{"PoolSize", c.PoolSize != 0, tcp[1:]}, {"PoolIdle", c.PoolIdle != 0, tcp[1:]},
		{"CacheTTL", c.CacheTTL != 0, []Kind{Lookup}}, {"Names", c.Names != 0, []Kind{Lookup}},
		{"Interval", c.Interval != 0, []Kind{Media}}, {"Duration", c.Duration != 0, []Kind{Media}},
		{"Unanswered", c.Unanswered != 0, []Kind{PerRequest, Pool, Lookup}},
		{"Think", c.Think != 0, []Kind{PerRequest, Pool, Lookup}},
		{"Retry", c.Retry != Retry{}, []Kind{PerRequest, Pool, Lookup}},
	} {
		if f.set && c.Kind < numKinds && !slices.Contains(f.of, c.Kind) {
			l.Add(problems.Field(at, f.name), problems.None, flow.ErrConflict, "means nothing with Kind %v", c.Kind)
		}
	}
}

func duration(l *problems.List, at string, d, least time.Duration) bool {
	if d < least || d > maxDuration {
		l.Add(at, d, flow.ErrOutOfRange, "%v..%v", least, maxDuration)
		return false
	}
	return true
}

func number(l *problems.List, at string, x, least, most float64) {
	if !(x >= least && x <= most) { // nor NaN
		l.Add(at, x, flow.ErrOutOfRange, "%v..%v", least, most)
	}
}
