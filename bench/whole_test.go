package bench

import (
	"bufio"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// manyFlows is how many flows more than which need as much memory as is looked for first, and
// for which there is no second memory as large to measure the floor in.
const manyFlows = 16_515_072

// BenchmarkWhole takes all flows of a translator through their life: a SYN each, the rest of the
// handshake, four million segments of random flows either way, of which none is repeated, and at last
// all expire. It reports a flow's set-up and expiry, a packet out and in, the bytes of a flow when all
// are there, and the longest batch and step of expiry. ns/op is all of that but making packets.
// Give it -benchtime 1x; with -flows 103219200, and 16 GiB to spare, these are a hundred million.
func BenchmarkWhole(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("ip=4/flows=%d/batch=%d", flows, batch), func(b *testing.B) {
			if need := uint64(flows) * 150; flows > manyFlows && available() < need {
				b.Skipf("%d MiB of memory are available, and %d needed", available()>>20, need>>20)
			}
			var all whole
			for range b.N {
				all.live(b, flows)
			}
			all.report(b)
		})
	}
}

// whole is what the lives of all flows have taken.
type whole struct {
	setup, out, in, expiry share
	bytes                  float64 // of a flow
}

// share is the time of one kind of work.
type share struct {
	total, longest time.Duration
	floor          time.Duration
	n              int // flows or packets
}

// add notes a call about n flows or packets.
func (s *share) add(took time.Duration, n int) {
	s.total, s.longest, s.n = s.total+took, max(s.longest, took), s.n+n
}

func (s *share) each() float64 { return float64(s.total) / float64(max(s.n, 1)) }

func (a *whole) live(b *testing.B, flows int) {
	c, hosts := config(flows, false)
	w := build(parent{b}, c, hosts, flows, false)
	defer w.nat.Close()
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for k := 0; k < flows; k += batch {
		n := min(batch, flows-k)
		for i := range n {
			pkts[i] = w.packet(pkts[i], k+i, flow.Inside, flow.SYN)
		}
		start := time.Now()
		w.nat.OutboundBatch(w.now, pkts[:n], verdicts)
		a.setup.add(time.Since(start), n)
		forwarded(b, verdicts[:n])
	}
	w.span(b, 0, flows, flow.Outside, flow.SYN|flow.ACK)
	w.span(b, 0, flows, flow.Inside, flow.ACK)
	a.bytes = float64(w.nat.Stats().Bytes) / float64(flows)
	if flows <= manyFlows {
		f, t := newFloor(parent{b}, w.nat.Stats().Bytes), w.fresh(0, flow.Inside)
		established := f.time(t, f.batch)
		a.out.floor, a.in.floor = a.out.floor+established, a.in.floor+established
		a.setup.floor += f.time(t, f.opening)
		a.expiry.floor += f.time(t, f.closing)
		f.mem.Release()
	}
	a.traffic(b, w, flow.Inside, &a.out)
	a.traffic(b, w, flow.Outside, &a.in)
	w.now = w.now.Add(c.IdleTimeout)
	for over := false; !over; {
		start := time.Now()
		over = w.nat.AdvanceStep(w.now, nil)
		a.expiry.add(time.Since(start), 0)
	}
	a.expiry.n += flows
	if n := w.nat.Stats().SessionsActive; n != 0 {
		b.Fatalf("%d sessions left", n)
	}
}

// traffic sends segments of random flows from a side, and looks at some of those that come out.
func (a *whole) traffic(b *testing.B, w *world, from flow.Side, s *share) {
	pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
	for round := range 16 {
		t := w.fresh(uint64(round), from)
		for range t.n / batch {
			start := time.Now()
			t.copyIn(pkts)
			w.send(from, batch, pkts, verdicts)
			s.add(time.Since(start), batch)
			forwarded(b, verdicts)
		}
		sample(b, pkts)
	}
}

// fresh is traffic of other random flows for each round.
func (w *world) fresh(round uint64, from flow.Side) *traffic {
	rng := w.random(100 + round)
	return stream(trafficLen, func(buf []byte, _ int) {
		w.packet(buf, rng.IntN(w.flows), from, flow.ACK|flow.PSH)
	})
}

// time returns how long a kind of floor takes for a thousand packets or flows.
func (f *floor) time(t *traffic, work func(*traffic, [][]byte)) time.Duration {
	pkts := buffers(batch)
	t.copyIn(pkts)
	return took(t.n, func() { work(t, pkts) }) * 1000 / time.Duration(t.n)
}

// report reports what all lives have taken.
func (a *whole) report(b *testing.B) {
	total := a.setup.total + a.out.total + a.in.total + a.expiry.total
	b.ReportMetric(float64(total)/float64(b.N), "ns/op")
	b.ReportMetric(a.setup.each(), "setup-ns")
	b.ReportMetric(a.out.each(), "out-ns")
	b.ReportMetric(a.in.each(), "in-ns")
	b.ReportMetric(a.expiry.each(), "expiry-ns")
	b.ReportMetric(a.bytes, "B/flow")
	b.ReportMetric(float64(a.setup.longest)/1e3, "longest-batch-µs")
	b.ReportMetric(float64(a.expiry.longest)/1e3, "longest-step-µs")
	for name, s := range map[string]*share{"setup": &a.setup, "out": &a.out, "in": &a.in, "expiry": &a.expiry} {
		if s.floor > 0 {
			b.ReportMetric(s.each()*1000*float64(b.N)/float64(s.floor), name+"-x-floor")
		}
	}
}

// available returns how much memory may be taken, in bytes, as Linux says; elsewhere it is said
// to be enough.
func available() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 1 << 62
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if n, _ := fmt.Sscanf(lines.Text(), "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 1 << 62
}
