package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

const batch = 64

// BenchmarkOutbound sends segments of random established connections from the
// inside.
func BenchmarkOutbound(b *testing.B) { established(b, flow.Inside) }

// BenchmarkInbound sends segments of random established connections from the
// outside.
func BenchmarkInbound(b *testing.B) { established(b, flow.Outside) }

func established(b *testing.B, from flow.Side) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			var w *world
			var t *traffic
			var f *floor
			for _, size := range []int{1, batch} {
				b.Run(fmt.Sprintf("ip=%d/flows=%d/batch=%d", ip, flows, size), func(b *testing.B) {
					if w == nil {
						w = newWorld(parent{b}, flows, ip == 6)
						t = w.traffic(from)
						f = newFloor(parent{b}, w.nat.Stats().Bytes)
					}
					run(b, w, t, f, from, size)
				})
			}
			if w != nil {
				w.nat.Close()
				f.mem.Release()
			}
		}
	}
}

// parent is a TB whose cleanups are left to the caller: worlds are shared by
// sub-benchmarks.
type parent struct{ *testing.B }

// Cleanup does nothing.
func (parent) Cleanup(func()) {}

// run measures batches of packets and the floor, in turns, so that both see the
// same machine.
func run(b *testing.B, w *world, t *traffic, f *floor, from flow.Side, size int) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	const turn = 1 << 15
	var floorTime time.Duration
	var floorPackets, sinceFloor int
	b.ReportAllocs()
	done := 0
	for b.Loop() {
		// One iteration is one packet; a batch is done at every 64th.
		if done%batch == 0 {
			t.copyIn(pkts)
			w.send(from, size, pkts, verdicts)
			if sinceFloor += batch; sinceFloor >= turn {
				b.StopTimer()
				start := time.Now()
				for range turn / 4 / batch {
					f.batch(t, pkts)
				}
				floorTime += time.Since(start)
				floorPackets += turn / 4
				sinceFloor = 0
				b.StartTimer()
			}
		}
		done++
	}
	for i, v := range verdicts {
		if v.Action != flow.Forward {
			b.Fatalf("packet %d: %v %v", i, v.Action, v.Reason)
		}
	}
	perPacket := float64(b.Elapsed()) / float64(b.N)
	if floorPackets > 0 {
		fl := float64(floorTime) / float64(floorPackets)
		b.ReportMetric(perPacket/fl, "x-floor")
		b.ReportMetric(fl, "floor-ns")
	}
	b.ReportMetric(1e3/perPacket, "Mpps")
	b.ReportMetric(float64(w.nat.Stats().Bytes)/float64(w.flows), "B/flow")
}

func (w *world) send(from flow.Side, size int, pkts [][]byte, verdicts []flow.Verdict) {
	switch {
	case size == 1 && from == flow.Inside:
		for i, p := range pkts {
			verdicts[i] = w.nat.Outbound(w.now, p)
		}
	case size == 1:
		for i, p := range pkts {
			verdicts[i] = w.nat.Inbound(w.now, p)
		}
	case from == flow.Inside:
		w.nat.OutboundBatch(w.now, pkts, verdicts)
	default:
		w.nat.InboundBatch(w.now, pkts, verdicts)
	}
}
