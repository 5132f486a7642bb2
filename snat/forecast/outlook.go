package forecast

import (
	"fmt"
	"iter"
	"math"
	"net/netip"
	"time"

	"github.com/seed-a61be3fe/natplane/snat"
)

// State is what is to be said of a row.
type State uint8

// The states.
const (
	Unknown    State = iota // too few samples
	Steady                  // no trend, or ports in use become fewer
	LevelsOff               // more and more, up to Level, which is below the bar
	Unsteady                // more and more because there are more and more new flows: nothing is foretold
	Distant                 // more and more, but the bar lies beyond the horizon
	Exhausting              // the bar is reached In
	Exhausted               // the bar is reached
	numStates
)

// stateText says a state in words.
var stateText = [...]string{"too few samples", "no trend", "levels off", "load changes", "distant", "exhausting", "exhausted"}

var _ = [1]struct{}{}[len(stateText)-int(numStates)]

// String returns the state in words.
func (s State) String() string {
	if s >= numStates {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateText[s]
}

// MarshalText returns the state in words.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Cause is what a trend is made of.
type Cause uint8

// The causes.
const (
	NoCause     Cause = iota // there is no trend
	Load                     // more new flows than before
	Established              // connections that stay open and are in use
	Leak                     // connections that stay open and are idle
	Open                     // connections that stay open; whether idle is not known
	DNS                      // lookups, whose ports wait for their timeout: UDP to port 53
	UDP                      // other UDP flows, whose ports wait for their timeout
	HeldFIN                  // ports of connections that have been closed
	HeldRST                  // ports of connections that have been reset
	numCauses
)

// causeText says a cause in words.
var causeText = [...]string{"none", "load", "established connections", "idle connections", "open connections", "DNS", "UDP", "hold after close", "hold after reset"}

var _ = [1]struct{}{}[len(causeText)-int(numCauses)]

// String returns the cause in words.
func (c Cause) String() string {
	if c >= numCauses {
		return fmt.Sprintf("Cause(%d)", uint8(c))
	}
	return causeText[c]
}

// MarshalText returns the cause in words.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Outlook is what is to be said of an instance and a destination.
type Outlook struct {
	Instance string         `json:"instance"` // "" for all instances together, of shared ports
	Remote   netip.AddrPort `json:"remote"`   // the destination
	Protocol snat.Protocol  `json:"protocol"` // of the destination
	Ports    int            `json:"ports"`    // held now
	Bar      int            `json:"bar"`      // that there are
	State    State          `json:"state"`    // what is to be said
	Cause    Cause          `json:"cause"`    // of the trend, if there is any

	// In is when the bar is reached, if State is Exhausting, and from Earliest to Latest the range that it
	// lies in 19 times of 20 if flows go on to come and go as they did; Latest is 0 if there is no end, because a
	// leak may level off before.
	In       time.Duration `json:"inNanoseconds"`
	Earliest time.Duration `json:"earliestNanoseconds"` // see In
	Latest   time.Duration `json:"latestNanoseconds"`   // see In

	Level        int     `json:"level"`        // ports in use in the end, if State is LevelsOff
	Growth       float64 `json:"growth"`       // ports more per second, over the window
	NewPerSecond float64 `json:"newPerSecond"` // new flows, over the window
}

// rank orders states, the worst first.
func (o *Outlook) rank() int { return int(numStates) - int(o.State) }

// A trend is more than this many standard deviations, and a range has so many on each side.
const (
	sureOfTrend = 3
	sureOfRange = 2
)

// outlook says what is to be said of the samples of a row, the earliest first.
func (c *Config) outlook(samples []sample) (o Outlook) {
	first, last := &samples[0], &samples[len(samples)-1]
	o = Outlook{Instance: last.Instance, Remote: last.Remote, Protocol: last.Protocol, Ports: last.Total(), Bar: last.Bar}
	span := last.at.Sub(first.at).Seconds()
	if o.Ports >= o.Bar && o.Bar > 0 {
		o.State = Exhausted
	}
	if len(samples) < c.Samples || span <= 0 || o.Bar == 0 {
		return o
	}
	begun := float64(last.Created - first.Created)
	grown := float64(last.Total() - first.Total())
	deviation := math.Sqrt(min(begun+max(0, begun-grown), float64(first.Total()+last.Total())))
	o.Growth, o.NewPerSecond = grown/span, begun/span
	if grown <= sureOfTrend*deviation {
		o.State = max(o.State, Steady)
		return o
	}
	o.Cause = c.cause(samples, o.NewPerSecond)
	if o.State == Exhausted {
		return o
	}
	if byLoad(samples, grown) {
		o.State, o.Cause = Unsteady, Load
		return o
	}
	low, high, known := c.level(samples, o.Cause, o.NewPerSecond, o.Growth, span)
	if known && high <= float64(o.Bar) {
		o.State, o.Level = LevelsOff, int(math.Ceil(high))
		return o
	}
	free := float64(o.Bar - o.Ports)
	in := free / o.Growth
	if in > float64(c.Horizon)*span {
		o.State = Distant
		return o
	}
	o.State, o.In = Exhausting, seconds(in)
	o.Earliest = seconds(free / ((grown + sureOfRange*deviation) / span))
	if !known || low > float64(o.Bar) {
		o.Latest = seconds(free / ((grown - sureOfRange*deviation) / span)) // grown is more than that
	}
	return o
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cause returns what has grown most.
func (c *Config) cause(samples []sample, rate float64) Cause {
	first, last := &samples[0], &samples[len(samples)-1]
	most, cause := 0, NoCause
	for _, x := range []struct {
		cause Cause
		grown int
	}{
		{Open, last.Active - first.Active}, {HeldFIN, last.HeldFIN - first.HeldFIN}, {HeldRST, last.HeldRST - first.HeldRST}, {UDP, last.HeldUDP - first.HeldUDP},
	} {
		if x.grown > most {
			most, cause = x.grown, x.cause
		}
	}
	switch {
	case last.Protocol != snat.TCP && last.Remote.Port() == 53:
		return DNS
	case last.Protocol != snat.TCP:
		return UDP
	case cause != Open:
		return cause
	}
	// Flows that are younger than IdleAfter cannot be idle: of those that were looked at, at least so many
	// are old. There are more where new flows are closed before they are that old.
	looked, idle, old := 0.0, 0.0, 0.0
	for x := range latter(samples) {
		young := min(1, rate*c.IdleAfter.Seconds()/float64(max(x.Active, 1)))
		looked += float64(x.Looked)
		idle += float64(x.Idle)
		old += float64(x.Looked) * (1 - young)
	}
	switch {
	case looked >= 8 && idle >= looked/2:
		return Leak // whatever their age is
	case old < 8:
		return Open
	case idle >= old/2:
		return Leak
	}
	return Established
}

// byLoad reports whether the rate of new flows has risen, by which half of the growth or more can be
// explained: what is in use is proportional to it.
func byLoad(samples []sample, grown float64) bool {
	first, last := &samples[0], &samples[len(samples)-1]
	middle := &samples[len(samples)/2]
	// As if both halves were equally long.
	half := last.at.Sub(first.at).Seconds() / 2
	a1 := float64(middle.Created-first.Created) * half / middle.at.Sub(first.at).Seconds()
	a2 := float64(last.Created-middle.Created) * half / last.at.Sub(middle.at).Seconds()
	if a2-a1 <= sureOfTrend*math.Sqrt(a1+a2) {
		return false
	}
	mean := float64(first.Total()+last.Total()) / 2
	return mean*4*(a2-a1)/(a1+a2) >= grown/2
}

// latter iterates over the latter half of the samples, of which what was looked at is summed up.
func latter(samples []sample) iter.Seq[*sample] {
	return func(yield func(*sample) bool) {
		for i := len(samples) / 2; i < len(samples); i++ {
			if !yield(&samples[i]) {
				return
			}
		}
	}
}

// level returns between which numbers of ports a trend levels off, and whether that is known.
func (c *Config) level(samples []sample, cause Cause, rate, growth, span float64) (low, high float64, known bool) {
	last := &samples[len(samples)-1]
	total := float64(last.Total())
	exactly := func(level float64, lifetime time.Duration) (low, high float64, known bool) {
		return level, level, lifetime > 0
	}
	switch l := &c.Lifetimes; cause {
	case Leak:
		// It goes on to grow until what has leaked first is as old as may be. That is not older than the window if nothing
		// had leaked before, and as old as it takes to leak all that is idle if nothing else is.
		looked, idle := 0, 0
		for x := range latter(samples) {
			looked += x.Looked
			idle += x.Idle
		}
		age := float64(last.Active) * float64(idle) / float64(max(looked, 1)) / growth
		until := func(age float64) float64 {
			return min(rate*l.Idle.Seconds(), total+growth*max(0, l.Idle.Seconds()-age)) // not more than if all new flows leaked
		}
		return until(max(age, span)), until(span), l.Idle > 0
	case DNS, UDP:
		return exactly(rate*l.UDP.Seconds(), l.UDP)
	case HeldFIN:
		return exactly(total-float64(last.HeldFIN)+rate*l.FIN.Seconds(), l.FIN)
	case HeldRST:
		return exactly(total-float64(last.HeldRST)+rate*l.RST.Seconds(), l.RST)
	}
	return 0, 0, false
}
