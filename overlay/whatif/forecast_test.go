package whatif_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/internal/pkttest"
	"github.com/seed-a61be3fe/natplane/overlay/whatif"
	"github.com/seed-a61be3fe/natplane/snat"
	"github.com/seed-a61be3fe/natplane/snat/forecast"
)

// foresee simulates a load of one kind, and what is beside it, on a translator with 1,024 ports.
func foresee(t *testing.T, p snat.Policy, c forecast.Config, rate whatif.Rate, class whatif.Class, to whatif.Destination, every time.Duration, beside ...whatif.Traffic) *whatif.Simulation {
	t.Helper()
	inside := netip.MustParseAddr("10.0.0.4")
	n, err := snat.New(snat.Config{
		Instances: []snat.Instance{{
			Name: "vm", Addrs: []netip.Addr{inside},
			Ports: []snat.PortRange{{Frontend: netip.MustParseAddr("198.51.100.1"), First: 1024, Count: 1024}},
		}},
		Policy: p, Dataplane: snat.Dataplane{CountHolders: snat.CountHolders{On: true}},
	})
	require.NoError(t, err)
	t.Cleanup(n.Close)
	s, err := whatif.New(whatif.Config{
		World: n, Hosts: []whatif.Host{{Name: "vm", Group: "shop", Addrs: []netip.Addr{inside}}}, SampleInterval: every, Step: 100 * time.Millisecond,
		Forecast: c, Workload: whatif.Workload{Seed: 5, Traffic: append([]whatif.Traffic{{Name: "load", To: []whatif.Destination{to}, Rate: rate, Class: class}}, beside...)},
	})
	require.NoError(t, err)
	return s
}

// What is foretold at half-time comes within a few per cent, for the cause that there is, and what is
// not going to happen is not foretold: the closed forms agree.
func TestForecastAgainstSimulation(t *testing.T) {
	pkttest.OneGoroutine(t)
	name := whatif.Destination{Addr: netip.MustParseAddrPort("203.0.113.53:53")}
	lifetimes := forecast.Azure(4 * time.Minute)
	long := forecast.Azure(30 * time.Minute)
	for _, x := range []struct {
		name   string
		policy snat.Policy
		lives  forecast.Lifetimes
		class  whatif.Class
		to     whatif.Destination
		hold   time.Duration // of a port, all in all; 0 is for ever
		cause  forecast.Cause
	}{
		{"leak", snat.Policy{IdleTimeout: 30 * time.Minute}, long, whatif.Class{End: whatif.Abandoned}, internet, 30 * time.Minute, forecast.Leak},
		{"hold after close", snat.Policy{}, lifetimes, whatif.Class{}, internet, 240 * time.Second, forecast.HeldFIN},
		{"DNS", snat.Policy{}, lifetimes, whatif.Class{Kind: whatif.Lookup}, name, 240 * time.Second, forecast.DNS},
		{"growth", snat.Policy{IdleTimeout: 30 * time.Minute}, long, whatif.Class{Requests: 10000, Pause: 5 * time.Second}, internet, 0, forecast.Established},
	} {
		t.Run(x.name, func(t *testing.T) {
			rate := 2.0
			if x.hold > 0 {
				rate = 1.5 * whatif.Sustained(1024, 0, x.hold)
			}
			s := foresee(t, x.policy, forecast.Config{Lifetimes: x.lives}, whatif.Rate{Total: rate, Even: true}, x.class, x.to, 5*time.Second)
			after := time.Duration(1024 / rate * float64(time.Second))
			s.Advance(after / 2)
			half := s.Result().Outlooks
			require.Len(t, half, 1)
			assert.Equal(t, forecast.Exhausting, half[0].State)
			assert.Equal(t, x.cause, half[0].Cause)
			assert.InEpsilon(t, after.Seconds(), (after/2 + half[0].In).Seconds(), 0.04)
			assert.LessOrEqual(t, half[0].Earliest, half[0].In)
			assert.LessOrEqual(t, half[0].In, half[0].Latest)
			s.Advance(after + after/10)
			r := s.Result()
			require.NotZero(t, r.Total.Refused)
			require.Len(t, r.Foretold, 1)
			told := r.Foretold[0]
			assert.InEpsilon(t, r.Total.FirstRefused.Seconds(), told.Half.Seconds(), 0.05)
			assert.InDelta(t, r.Total.FirstRefused.Seconds(), told.Exhausted.Seconds(), 6)
			assert.Equal(t, forecast.Exhausted, r.Outlooks[0].State)
			assert.Equal(t, "shop", r.Groups[0].Name)
			assert.Equal(t, r.Total.RefusedPackets, r.Groups[0].Suffered)
			assert.Equal(t, r.Total.RefusedPackets, r.Groups[0].Blamed)
			assert.Equal(t, x.to.Addr.String(), r.Destinations[0].Name)
			assert.InDelta(t, 1024, r.Destinations[0].AtPeak, 110)

			if x.hold == 0 {
				return
			}
			// A rate that is sustained is not foretold to exhaust anything, neither on the way up nor then.
			s = foresee(t, x.policy, forecast.Config{Lifetimes: x.lives}, whatif.Rate{Total: rate / 2, Even: true}, x.class, x.to, 5*time.Second)
			s.Advance(x.hold / 2)
			up := s.Result().Outlooks[0]
			assert.Equal(t, forecast.LevelsOff, up.State)
			s.Advance(3 * x.hold)
			r = s.Result()
			assert.Zero(t, r.Total.Refused)
			assert.Empty(t, r.Foretold)
			assert.Equal(t, forecast.Steady, r.Outlooks[0].State)
			assert.InEpsilon(t, r.Outlooks[0].Ports, up.Level, 0.05)
		})
	}
}

// Beside connections that are closed it cannot be seen how long a leak has been there. One that the idle timeout ends below the
// bar is told as such in the range that has no end, and one that goes beyond has a range that what comes lies in.
func TestForecastOfALeakBesideConnections(t *testing.T) {
	for _, x := range []struct {
		leaks  float64 // a second, for 30 minutes each, beside 240 ports that are held
		enough bool
	}{{0.4, true}, {0.7, false}} {
		s := foresee(t, snat.Policy{IdleTimeout: 30 * time.Minute}, forecast.Config{Lifetimes: forecast.Azure(30 * time.Minute)},
			whatif.Rate{Total: x.leaks, Even: true}, whatif.Class{End: whatif.Abandoned}, internet, 5*time.Second,
			whatif.Traffic{Name: "closed", To: []whatif.Destination{internet}, Rate: whatif.Rate{Total: 1, Even: true}})
		told := map[time.Duration]forecast.Outlook{}
		for at := 12 * time.Minute; at <= 45*time.Minute && s.Result().Total.Refused == 0; at += time.Minute {
			s.Advance(at)
			if r := s.Result(); r.Total.Refused == 0 && r.Outlooks[0].State == forecast.Exhausting {
				told[at] = r.Outlooks[0]
			}
		}
		total := s.Result().Total
		assert.Equal(t, x.enough, total.Refused == 0)
		assert.Greater(t, len(told), 3)
		for at, o := range told {
			assert.Equal(t, forecast.Leak, o.Cause)
			if assert.Equal(t, x.enough, o.Latest == 0, "%v: %+v", at, o); !x.enough {
				assert.Less(t, at+o.Earliest, total.FirstRefused+5*time.Second)
				assert.Greater(t, at+o.Latest, total.FirstRefused-5*time.Second)
			}
		}
	}
}

// In the morning of a daily curve there are more and more flows each hour: that is said, and no moment is made up.
func TestForecastOfADay(t *testing.T) {
	pkttest.OneGoroutine(t)
	curve := make([]float64, 24)
	for h := range curve {
		curve[h] = 0.2 + 0.8*float64(min(h, 24-h))/12
	}
	c := forecast.Config{Window: 2 * time.Hour, Lifetimes: forecast.Azure(0)}
	s := foresee(t, snat.Policy{}, c, whatif.Rate{Total: 3, Daily: curve}, whatif.Class{}, internet, time.Minute)
	seen := map[forecast.State]int{}
	for hour := 2; hour <= 24; hour++ {
		s.Advance(time.Duration(hour) * time.Hour)
		o := s.Result().Outlooks[0]
		seen[o.State]++
		if o.State == forecast.Unsteady {
			assert.Equal(t, forecast.Load, o.Cause)
			assert.LessOrEqual(t, hour, 13)
		}
	}
	assert.Empty(t, s.Result().Foretold)
	assert.Greater(t, seen[forecast.Unsteady], 5, "%v", seen)
	assert.Zero(t, seen[forecast.Exhausting]+seen[forecast.Exhausted], "%v", seen)
}
