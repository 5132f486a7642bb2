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

// run measures one direction and size of batch.
func run(b *testing.B, w *world, t *traffic, f *floor, from flow.Side, size int) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	send := func() { w.send(from, size, pkts, verdicts) }
	if f.work = f.batch; size == 1 {
		f.work = f.chase
	}
	measure(b, t, f, pkts, verdicts, send, float64(w.nat.Stats().Bytes)/float64(w.flows))
}

// measure copies packets in and sends them, 64 an iteration, and measures the
// floor in turns, so that both see the same machine.
func measure(b *testing.B, t *traffic, f *floor, pkts [][]byte, verdicts []flow.Verdict, send func(), bytesPerFlow float64) {
	measureAs(b, flow.Forward, t, f, pkts, verdicts, send, bytesPerFlow)
}

// measureAs is measure for packets of which something else becomes.
func measureAs(b *testing.B, want flow.Action, t *traffic, f *floor, pkts [][]byte, verdicts []flow.Verdict, send func(), bytesPerFlow float64) {
	measureBeside(b, want, t, f, nil, pkts, verdicts, send, bytesPerFlow)
}

// beside returns a function that sends a batch of random established flows.
func (w *world) beside(from flow.Side) func() {
	t, pkts, verdicts := w.traffic(from), buffers(batch), make([]flow.Verdict, batch)
	return func() {
		t.copyIn(pkts)
		w.send(from, batch, pkts, verdicts)
	}
}

// measureBeside is measureAs where in turns something else, unless it is nil, sends
// batches to compare with.
func measureBeside(b *testing.B, want flow.Action, t *traffic, f *floor, beside func(), pkts [][]byte, verdicts []flow.Verdict, send func(), bytesPerFlow float64) {
	const turn = 512 // iterations between two looks at the floor
	var floorTime, copyTime, besideTime time.Duration
	var others, k int // batches of the floor, and of copies alone
	b.ReportAllocs()
	for b.Loop() {
		t.copyIn(pkts)
		send()
		if k++; k%turn == 0 {
			b.StopTimer()
			start := time.Now()
			for range turn / 4 {
				f.work(t, pkts)
			}
			floorTime += time.Since(start)
			start = time.Now()
			for range turn / 4 {
				t.copyIn(pkts)
			}
			copyTime += time.Since(start)
			others += turn / 4
			if beside != nil {
				start = time.Now()
				for range turn / 4 {
					beside()
				}
				besideTime += time.Since(start)
			}
			b.StartTimer()
		}
	}
	perPacket := float64(b.Elapsed()) / float64(b.N) / batch
	b.ReportMetric(perPacket, "ns/op")
	b.ReportMetric(1e3/perPacket, "Mpps")
	if others > 0 {
		fl := float64(floorTime) / float64(others) / batch
		b.ReportMetric(perPacket/fl, "x-floor")
		b.ReportMetric(fl, "floor-ns")
		if beside != nil {
			b.ReportMetric(perPacket/(float64(besideTime)/float64(others)/batch), "x-snat")
		}
		b.ReportMetric(perPacket-float64(copyTime)/float64(others)/batch, "net-ns")
	}
	b.ReportMetric(bytesPerFlow, "B/flow")

	// What comes out is looked at once more, after the clock has stopped.
	t.copyIn(pkts)
	send()
	for i, v := range verdicts {
		if v.Action != want {
			b.Fatalf("packet %d: %v %v", i, v.Action, v.Reason)
		}
	}
	sample(b, pkts)
}

// send takes 64 packets through the doors.
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
