package bench

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed-a61be3fe/natplane/flow"
)

// BenchmarkSetup opens connections: a SYN, a port, a session in both indexes. fill is how much of
// each instance's ports is already taken towards the same destination (mode=blocks), or of the ports
// that all share, as those of a NAT gateway (mode=shared), which opens as many with blocks in turns
// and reports the ratio to these as x-blocks.
func BenchmarkSetup(b *testing.B) {
	for _, ip := range []int{4, 6} {
		for _, flows := range flowCounts(b) {
			for _, fill := range numbers(b, *fillsFlag, 1, 99) {
				for _, shared := range []bool{false, true} {
					mode := "blocks"
					if shared {
						mode = "shared"
					}
					b.Run(fmt.Sprintf("ip=%d/flows=%d/fill=%d/mode=%s", ip, flows, fill, mode), func(b *testing.B) {
						// Every instance opens 1 % of its ports; the rest up to fill is established before.
						base := portsPerInstance * (fill - 1) / 100
						var o, beside *opening
						if o = openBlocks(b, flows, ip == 6, base); shared {
							o, beside = openShared(b, flows, ip == 6, base), o
						}
						o.measure(b, beside)
					})
				}
			}
		}
	}
}

// opening opens n flows in each of many rounds, and lets them expire.
type opening struct {
	w      *world
	from   flow.Side
	n      int
	packet func(buf []byte, i int) []byte // the i-th flow's SYN
	keep   func()                         // has all flows that are established send
	kept   flow.Time
}

// openBlocks opens flows of a world where the first base of every instance are established.
func openBlocks(b testing.TB, flows int, is6 bool, base int) *opening {
	w := newPartial(b, flows, is6, base, longestIdle)
	instances := len(w.hosts)
	return &opening{w: w, from: flow.Inside, n: openedPorts * instances, keep: func() { w.keep(b, base) }, packet: func(buf []byte, i int) []byte {
		// Flow after flow in another instance, as arrivals mix.
		return w.packet(buf, i%instances*portsPerInstance+base+i/instances, flow.Inside, flow.SYN)
	}}
}

// openShared is openBlocks for ports that all instances share.
func openShared(b testing.TB, flows int, is6 bool, base int) *opening {
	w := newGatewayWorld(b, flows, is6, base, longestIdle)
	instances := len(w.hosts)
	return &opening{w: &w.world, from: flow.Inside, n: openedPorts * instances, keep: func() { w.keepAll(b) }, packet: func(buf []byte, i int) []byte {
		inst, k := i%instances, base+i/instances
		return tcp(buf, netip.AddrPortFrom(w.hosts[inst].inside, insidePort(k)), gatewayRemote(inst*portsPerInstance+k, is6), flow.SYN)
	}}
}

// open opens the flows, and returns what the translator takes for them.
func (o *opening) open(b testing.TB, pkts [][]byte, verdicts []flow.Verdict) (elapsed time.Duration) {
	for k := 0; k < o.n; k += batch {
		n := min(batch, o.n-k)
		for i := range n {
			pkts[i] = o.packet(pkts[i], k+i)
		}
		start := time.Now()
		o.w.send(o.from, batch, pkts[:n], verdicts[:n])
		elapsed += time.Since(start)
		for i, v := range verdicts[:n] {
			if !v.New {
				b.Fatalf("packet %d: %+v %v", i, v, v.Reason)
			}
		}
	}
	return elapsed
}

// end lets what has been opened expire, and what is established stay.
func (o *opening) end() {
	w := o.w
	w.now = w.now.Add(31 * time.Second) // half-open connections expire
	w.nat.Advance(w.now, nil)
	if w.now.Sub(o.kept) > longestIdle/2 && o.keep != nil {
		o.keep()
		o.kept = w.now
	}
}

// measure reports the time of a new flow, beside the floor and what another one takes, if there is one.
func (o *opening) measure(b *testing.B, beside *opening) {
	pkts, others, verdicts := buffers(batch), buffers(batch), make([]flow.Verdict, batch)
	all := []*opening{o}
	if beside != nil {
		all = append(all, beside)
	}
	for _, o := range all { // the tables grow
		o.open(b, pkts, verdicts)
		o.end()
	}
	f := newFloor(b, o.w.nat.Stats().Bytes)
	t := stream(streamLen(o.n), func(buf []byte, i int) { o.packet(buf, i%o.n) })
	var elapsed, floorTime, besideTime time.Duration
	done := 0
	for ; done < b.N; done += o.n {
		floorTime += took(o.n, func() { f.opening(t, others) })
		elapsed += o.open(b, pkts, verdicts)
		o.end()
		if beside != nil {
			besideTime += beside.open(b, others, verdicts)
			beside.end()
		}
	}
	sample(b, pkts[:min(batch, o.n)])
	perFlow(b, elapsed, done)
	b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
	if beside != nil {
		b.ReportMetric(float64(elapsed)/float64(besideTime)*float64(beside.n)/float64(o.n), "x-blocks")
	}
}

// took returns how long work on so many packets takes, of which each call does a batch.
func took(n int, work func()) time.Duration {
	start := time.Now()
	for k := 0; k < n; k += batch {
		work()
	}
	return time.Since(start)
}

// perFlow reports the time per flow of what was measured by hand, because the
// rest of a round is not of interest and a round is many flows.
func perFlow(b *testing.B, elapsed time.Duration, done int) {
	ns := float64(elapsed) / float64(done)
	b.ReportMetric(ns, "ns/op")
	b.ReportMetric(1e3/ns, "Mflows/s")
}

// longestIdle is an idle timeout for flows that stay while others come and go many times.
const longestIdle = flow.MaxTimeout

// keep sends a segment on each of the first k flows of every instance.
func (w *world) keep(b testing.TB, k int) {
	for inst := range w.hosts {
		w.span(b, inst*portsPerInstance, inst*portsPerInstance+k, flow.Inside, flow.ACK)
	}
}

// newPartial establishes the first k flows of every instance, which end after idle.
func newPartial(b testing.TB, flows int, is6 bool, k int, idle time.Duration) *world {
	c, hosts := config(flows, is6)
	c.IdleTimeout = idle
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
			w.establish(b)
			f, t, pkts := newFloor(b, w.nat.Stats().Bytes), w.traffic(flow.Inside), buffers(batch)
			t.copyIn(pkts)
			var elapsed, floorTime, longest time.Duration
			done := 0
			for ; done < b.N; done += flows {
				if done > 0 {
					w.establish(b)
				}
				floorTime += took(flows, func() { f.closing(t, pkts) })
				w.now = w.now.Add(c.IdleTimeout)
				for over := false; !over; {
					start := time.Now()
					over = w.nat.AdvanceStep(w.now, nil)
					step := time.Since(start)
					elapsed, longest = elapsed+step, max(longest, step)
				}
			}
			if n := w.nat.Stats().SessionsActive; n != 0 {
				b.Fatalf("%d sessions left", n)
			}
			perFlow(b, elapsed, done)
			b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
			b.ReportMetric(float64(longest)/1e3, "longest-step-µs")
		})
	}
}

// BenchmarkGrow fills an empty table and reports the longest single batch, which
// includes every pause for growth, and the longest but one in ten thousand: what the
// scheduler of a busy machine takes away is mostly beyond that. B/flow is that of the full table, and
// the floor has its size.
func BenchmarkGrow(b *testing.B) {
	for _, flows := range flowCounts(b) {
		b.Run(fmt.Sprintf("ip=4/flows=%d", flows), func(b *testing.B) {
			var elapsed, floorTime time.Duration
			var all []time.Duration
			var bytes, done int
			pkts, verdicts := buffers(batch), make([]flow.Verdict, batch)
			var f *floor
			for ; done < b.N; done += flows {
				c, hosts := config(flows, false)
				w := build(b, c, hosts, flows, false)
				all = slices.Grow(all, flows/batch+1)
				for k := 0; k < flows; k += batch {
					n := min(batch, flows-k)
					for i := range n {
						pkts[i] = w.packet(pkts[i], k+i, flow.Inside, flow.SYN)
					}
					start := time.Now()
					w.nat.OutboundBatch(w.now, pkts[:n], verdicts)
					call := time.Since(start)
					elapsed, all = elapsed+call, append(all, call)
					forwarded(b, verdicts[:n])
				}
				sample(b, pkts)
				if bytes = w.nat.Stats().Bytes; f == nil {
					f = newFloor(b, bytes)
				}
				t := w.traffic(flow.Inside)
				floorTime += took(flows, func() { f.opening(t, pkts) })
				w.nat.Close()
			}
			perFlow(b, elapsed, done)
			b.ReportMetric(float64(elapsed)/float64(floorTime), "x-floor")
			b.ReportMetric(float64(bytes)/float64(flows), "B/flow")
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)-1])/1e3, "longest-batch-µs")
			b.ReportMetric(float64(all[(len(all)-1)*9999/10000])/1e3, "p99.99-batch-µs")
		})
	}
}

// BenchmarkFloor is what the memory alone costs, for each kind of work; see the package
// comment.
func BenchmarkFloor(b *testing.B) {
	kinds := []struct {
		name string
		work func(f *floor, t *traffic, pkts [][]byte)
	}{{"established", (*floor).batch}, {"new", (*floor).opening}, {"expiry", (*floor).closing}, {"single", (*floor).chase}}
	for _, flows := range flowCounts(b) {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("kind=%s/flows=%d", kind.name, flows), func(b *testing.B) {
				_, hosts := config(flows, false)
				w := &world{flows: flows, hosts: hosts}
				t := w.traffic(flow.Inside)
				f := newFloor(b, flows*96)
				pkts := buffers(batch)
				t.copyIn(pkts)
				for b.Loop() {
					kind.work(f, t, pkts)
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/batch, "ns/op")
			})
		}
	}
}
