package whatif

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-a61be3fe/natplane/flow"
)

// slowly is the twin of following: it walks from second to second, and looks at every burst in each.
func slowly(st *stream, at time.Duration, left float64) flow.Time {
	for at < maxDuration {
		end, rate := at-at%time.Second+time.Second, st.total*st.rate.daily(at)
		for i := range st.rate.Bursts {
			b := &st.rate.Bursts[i]
			rate *= b.at(at)
			end = min(end, b.edge(at))
		}
		if some := rate * (end - at).Seconds(); some < left {
			left, at = left-some, end
			continue
		}
		return flow.Time(at) + flow.Time(left/rate*float64(time.Second))
	}
	return never
}

// Arrivals come when a walk by seconds says, whatever the hours of the day and the bursts.
func TestArrivalsAgainstTwin(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		st := stream{total: math.Pow(10, 3*rng.Float64()-3), rate: Rate{Total: 1, Even: true}}
		if rng.IntN(4) > 0 {
			for range 24 {
				st.rate.Daily = append(st.rate.Daily, []float64{0, rng.Float64(), 5 * rng.Float64()}[rng.IntN(3)])
			}
		}
		for range rng.IntN(5) {
			length := time.Millisecond + time.Duration(rng.Int64N(int64(time.Hour)))
			b := Burst{At: time.Duration(rng.Int64N(int64(24 * time.Hour))), Length: length, Factor: []float64{0, 0.5, 20}[rng.IntN(3)]}
			if rng.IntN(2) == 0 {
				b.Every = length + time.Minute + time.Duration(rng.Int64N(int64(5*time.Hour)))
			}
			st.rate.Bursts = append(st.rate.Bursts, b)
		}
		s := new(Simulation)
		at := flow.Time(0)
		for range 200 {
			want := slowly(&st, time.Duration(at), 1)
			got := s.following(&st, at)
			require.InDelta(t, float64(want), float64(got), float64(10*time.Microsecond), "seed %d after %v", seed, time.Duration(at))
			require.GreaterOrEqual(t, got, at)
			if at = got; at == never || at > flow.Time(3*24*time.Hour) {
				break
			}
		}
	}
}

// A rate near zero with a thousand bursts is looked through for a month at once.
func TestArrivalsThatHardlyCome(t *testing.T) {
	st := stream{total: 1e-9, rate: Rate{Total: 1e-9, Even: true}}
	for range 24 {
		st.rate.Daily = append(st.rate.Daily, 1e-3)
	}
	for i := range 1000 {
		st.rate.Bursts = append(st.rate.Bursts, Burst{At: time.Duration(i) * time.Second, Length: time.Minute, Factor: 0.9})
	}
	s := new(Simulation)
	for range 20 { // with a walk by seconds a minute
		assert.Equal(t, never, s.following(&st, 0))
	}
}
