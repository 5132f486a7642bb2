// The sampler: metrics over time, in grains of a minute as Azure Monitor keeps
// them.

package monitor

import (
	"cmp"
	"fmt"
	"iter"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// Grain is the length of time that Azure Monitor's samples of these metrics stand
// for (load balancer diagnostics document).
const Grain = time.Minute

// defaultGrains is how many grains a Sampler keeps unless told otherwise: our
// choice, an hour.
const defaultGrains = 60

// Sampler keeps metrics by grain. The caller decides when to sample: at least once
// in every grain that matters, as Azure does once a minute. It starts no goroutine
// and is not safe for concurrent use; the load balancer that it reads may be in use
// meanwhile.
type Sampler struct {
	read   func() []Sample
	keep   int
	series []*series // in the order of appearance
	byKey  map[seriesKey]*series
	last   flow.Time
	begun  bool
}

type seriesKey struct {
	Metric
	Dimensions
}

// series is one metric with one set of dimensions.
type series struct {
	seriesKey
	count  float64 // of a metric that counts events, when last read
	points []Point // ascending, at most Sampler.keep
}

// Point is what the samples of one series in some time amount to.
type Point struct {
	At    flow.Time // beginning of the time
	Sum   float64   // of the samples; of a metric that counts events, these
	Count int       // samples
	Min   float64   // lowest sample
	Max   float64   // highest sample
}

// Average returns the mean of the samples, 0 if there are none.
func (p Point) Average() float64 { return p.Sum / float64(max(p.Count, 1)) }

// NewSampler returns a sampler of what read returns, such as the method value
// lb.LoadBalancer.Metrics. It keeps the latest grains of each series, 60 if grains is
// 0, which is our choice. It panics if grains is negative.
func NewSampler(read func() []Sample, grains int) *Sampler {
	if grains < 0 {
		panic(fmt.Sprintf("monitor: a sampler of %d grains", grains))
	}
	return &Sampler{read: read, keep: cmp.Or(grains, defaultGrains), byKey: map[seriesKey]*series{}}
}

// Sample reads all metrics at now, which must not lie before that of an earlier
// call. The value of a gauge is one sample of the grain that now lies in. Events
// since the call before are counted in the grain that now lies in, whenever they
// happened, which is our choice; those before the first call are not counted. A
// count that went down, because its source has been replaced, begins again at 0.
// Cost: that of reading, and a map look-up for each series.
func (s *Sampler) Sample(now flow.Time) {
	if now < s.last {
		panic(fmt.Sprintf("monitor: sampling at %v after %v", now, s.last))
	}
	at := now - now%flow.Time(Grain)
	for _, sample := range s.read() {
		key := seriesKey{sample.Metric, sample.Dimensions}
		v := s.byKey[key]
		if v == nil {
			v = &series{seriesKey: key}
			if !s.begun {
				v.count = sample.Value
			}
			s.byKey[key] = v
			s.series = append(s.series, v)
		}
		value := sample.Value
		if key.counts() {
			if value < v.count {
				v.count = 0
			}
			value, v.count = value-v.count, value
		}
		if n := len(v.points); n == 0 || v.points[n-1].At != at {
			if n == s.keep {
				v.points = append(v.points[:0], v.points[1:]...)
			}
			v.points = append(v.points, Point{At: at, Min: value, Max: value})
		}
		v.points[len(v.points)-1].add(Point{Sum: value, Count: 1, Min: value, Max: value})
	}
	s.last, s.begun = now, true
}

func (p *Point) add(q Point) {
	p.Sum += q.Sum
	p.Count += q.Count
	p.Min = min(p.Min, q.Min)
	p.Max = max(p.Max, q.Max)
}

// Series iterates over all series in the order of their first appearance; the Value
// of each is the Sum of its last point, or the Average if it is a gauge. width is
// the time of each point, whole grains; grains without samples are left out. The
// points belong to the caller.
//
// A wider point has all the samples of its time. Its Average is right for gauges
// and its Sum for Total metrics. The Sum of a gauge is not: over 5 minutes with a
// sample in each it is 5 times the ports there are, and Azure's charts show just
// that (load balancer diagnostics document).
//
// Series panics if width is not a positive multiple of [Grain].
func (s *Sampler) Series(width time.Duration) iter.Seq2[Sample, []Point] {
	if width <= 0 || width%Grain != 0 {
		panic(fmt.Sprintf("monitor: points of %v, not of whole minutes", width))
	}
	return func(yield func(Sample, []Point) bool) {
		for _, v := range s.series {
			points := v.wide(flow.Time(width))
			last := points[len(points)-1]
			value := last.Sum
			if v.Aggregation() == Average {
				value = last.Average()
			}
			if !yield(Sample{v.Metric, v.Dimensions, value}, points) {
				return
			}
		}
	}
}

// wide joins the points of a series to wider ones.
func (v *series) wide(width flow.Time) (points []Point) {
	for _, p := range v.points {
		p.At -= p.At % width
		if n := len(points); n > 0 && points[n-1].At == p.At {
			points[n-1].add(p)
		} else {
			points = append(points, p)
		}
	}
	return points
}
