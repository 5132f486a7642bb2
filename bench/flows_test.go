package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// BenchmarkSetup opens connections: a SYN, a port, a session in both indexes.
// fill is how much of each instance's ports is already taken towards the same
// destination.
func BenchmarkSetup(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			for _, fill := range numbers(b, *fillsFlag, 1, 99) {
				b.Run(fmt.Sprintf("ip=%d/flows=%d/fill=%d", ip, flows, fill), func(b *testing.B) {
					setup(b, flows, ip == 6, fill)
				})
			}
		}
	}
}

func setup(b *testing.B, flows int, is6 bool, fill int) {
	// Every instance opens 1 % of its ports; the rest up to fill is established
	// before.
	const opened = openedPorts
	base := portsPerInstance * (fill - 1) / 100
	w := newPartial(b, flows, is6, base)
	instances := len(w.hosts)
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	t, f := w.traffic(flow.Inside), newFloor(b, w.nat.Stats().Bytes)
	var elapsed, floorTime time.Duration
	done := 0
	for done < b.N {
		start := time.Now()
		for k := 0; k < opened*instances; k += batch {
			f.opening(t, pkts)
		}
		floorTime += time.Since(start)
		for k := 0; k < opened*instances; k += batch {
			n := min(batch, opened*instances-k)
			for i := range n {
				// Flow after flow in another instance, as arrivals mix.
				inst, port := (k+i)%instances, base+(k+i)/instances
				pkts[i] = w.packet(pkts[i], inst*portsPerInstance+port, flow.Inside, flow.SYN)
			}
			start = time.Now()
			w.nat.OutboundBatch(w.now, pkts[:n], verdicts)
			elapsed += time.Since(start)
			done += n
			for i, v := range verdicts[:n] {
				if !v.New {
					b.Fatalf("packet %d: %+v %v", i, v, v.Reason)
				}
			}
		}
		w.now = w.now.Add(31 * time.Second) // half-open connections expire
		w.nat.Advance(w.now, nil)
	}
	sample(b, pkts)
	perFlow(b, elapsed, done)
	b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
}

// perFlow reports the time per flow of what was measured by hand, because the
// rest of a round is not of interest and a round is many flows.
func perFlow(b *testing.B, elapsed time.Duration, done int) {
	ns := float64(elapsed) / float64(done)
	b.ReportMetric(ns, "ns/op")
	b.ReportMetric(1e3/ns, "Mflows/s")
}

// newPartial establishes the first k flows of every instance.
func newPartial(b testing.TB, flows int, is6 bool, k int) *world {
	c, hosts := config(flows, is6)
	w := build(b, c, hosts, flows, is6)
	for inst := range hosts {
		first := inst * portsPerInstance
		w.span(b, first, first+k, flow.Inside, flow.SYN)
		w.span(b, first, first+k, flow.Outside, flow.SYN|flow.ACK)
		w.span(b, first, first+k, flow.Inside, flow.ACK)
	}
	return w
}

// BenchmarkExpire lets a full table expire: sessions end, their ports become
// free for their destination.
func BenchmarkExpire(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("ip=4/flows=%d", flows), func(b *testing.B) {
			c, hosts := config(flows, false)
			w := build(b, c, hosts, flows, false)
			var elapsed, longest time.Duration
			done := 0
			for done < b.N {
				w.establish(b)
				w.now = w.now.Add(c.IdleTimeout)
				for over := false; !over; {
					start := time.Now()
					over = w.nat.AdvanceStep(w.now, nil)
					took := time.Since(start)
					elapsed += took
					longest = max(longest, took)
				}
				done += flows
			}
			if n := w.nat.Stats().SessionsActive; n != 0 {
				b.Fatalf("%d sessions left", n)
			}
			perFlow(b, elapsed, done)
			b.ReportMetric(float64(longest.Microseconds()), "longest-step-µs")
		})
	}
}

// BenchmarkGrow fills an empty table and reports the longest single batch, which
// includes every pause for growth.
func BenchmarkGrow(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("ip=4/flows=%d", flows), func(b *testing.B) {
			var elapsed, longest time.Duration
			done := 0
			pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
			for done < b.N {
				c, hosts := config(flows, false)
				w := build(b, c, hosts, flows, false)
				for k := 0; k < flows; k += batch {
					for i := range batch {
						pkts[i] = w.packet(pkts[i], (k+i)%flows, flow.Inside, flow.SYN)
					}
					start := time.Now()
					w.nat.OutboundBatch(w.now, pkts, verdicts)
					took := time.Since(start)
					elapsed += took
					longest = max(longest, took)
				}
				done += flows
				w.nat.Close()
			}
			perFlow(b, elapsed, done)
			b.ReportMetric(float64(longest.Microseconds()), "longest-batch-µs")
		})
	}
}

// BenchmarkFloor is what the memory alone costs, for each kind of work; see the package
// comment.
func BenchmarkFloor(b *testing.B) {
	kinds := []struct {
		name string
		work func(f *floor, t *traffic, pkts [][]byte)
	}{{"established", (*floor).batch}, {"new", (*floor).opening}, {"single", (*floor).chase}}
	for _, flows := range flowCounts(b) {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("kind=%s/flows=%d", kind.name, flows), func(b *testing.B) {
				_, hosts := config(flows, false)
				w := &world{flows: flows, hosts: hosts}
				t := w.traffic(flow.Inside)
				f := newFloor(b, flows*96)
				pkts := buffers(batch)
				for b.Loop() {
					kind.work(f, t, pkts)
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/batch, "ns/op")
			})
		}
	}
}
